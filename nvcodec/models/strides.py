"""Upsampling factors for frames of any size."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement


def solve_strides(
    height: int, width: int, n_cells: int = 12, factors: tuple[int, ...] = (5, 4, 3, 2)
) -> tuple[int, ...]:
    """Choose upsampling factors, largest first, for frames of this size.

    Prefers little padding, a coarsest grid of about n_cells (HNeRV's best embedding has 2x4; NeRV
    starts from 9x16) and a small last factor.
    """
    best: tuple[float, tuple[int, ...]] | None = None
    for n_stages in range(1, 7):
        for strides in combinations_with_replacement(factors, n_stages):
            total = math.prod(strides)
            grid_h, grid_w = -(-height // total), -(-width // total)
            padding = grid_h * grid_w * total**2 / (height * width) - 1
            score = 16 * padding + abs(math.log2(grid_h * grid_w / n_cells)) + 0.1 * strides[-1]
            if best is None or score < best[0]:
                best = (score, strides)
    assert best is not None
    return best[1]


def grid_size(strides: tuple[int, ...], height: int, width: int) -> tuple[int, int]:
    """Return the height and width of the coarsest grid: the frame's, divided and rounded up."""
    total = math.prod(strides)
    return -(-height // total), -(-width // total)


def narrow(width: int, percent: int, lower_width: int) -> int:
    """Return max(round(100 width / percent), lower_width); ties round to even, in integers."""
    quotient, rest = divmod(width * 100, percent)
    twice = 2 * rest - percent
    quotient += twice > 0 or (twice == 0 and quotient % 2 == 1)
    return max(quotient, lower_width)


def narrow_by_root(width: int, stride: int, lower_width: int) -> int:
    """Return max(round(width / sqrt(stride)), lower_width); ties round to even, in integers."""
    # The floor of twice the quotient decides: halves occur only where the stride is a square.
    twice = math.isqrt(4 * width**2 // stride)
    quotient = (twice + 1) // 2
    tie = twice % 2 == 1 and stride * twice**2 == 4 * width**2
    return max(quotient - (tie and quotient % 2 == 1), lower_width)
