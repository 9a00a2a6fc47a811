"""SSIM as a loss (Wang et al., IEEE TIP 2004): 11x11 Gaussian windows, sigma 1.5, in the frame.

Only four local means are needed, those of x, y, x^2 + y^2 and x y, and the derivatives by them have
a closed form: fewer filters and passes over memory than differentiating a forward pass takes.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 11
"""Rows and columns of a window."""
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Return the mean SSIM of x and y (B, C, H, W) in [0, 1]; y is given no gradient.

    H and W are at least SIDE.
    """
    result: Tensor = _Ssim.apply(x, y)  # type: ignore[no-untyped-call]
    return result


@cache
def _window() -> Tensor:
    offset = torch.arange(SIDE, dtype=torch.float64) - SIDE // 2
    weights = torch.exp(-(offset**2) / (2 * _SIGMA**2))
    return weights / weights.sum()


def _filter(*maps: Tensor, pad: int) -> tuple[Tensor, ...]:
    """Return the local means of maps (B, C, H, W) padded with zeros; pad SIDE - 1 transposes 0."""
    together = torch.cat(maps).contiguous(memory_format=torch.channels_last)
    n = together.shape[1]
    window = _window().to(together)
    rows, columns = window.view(1, 1, SIDE, 1), window.view(1, 1, 1, SIDE)
    down = F.conv2d(together, rows.repeat(n, 1, 1, 1), padding=(pad, 0), groups=n)
    means = F.conv2d(down, columns.repeat(n, 1, 1, 1), padding=(0, pad), groups=n)
    return means.chunk(len(maps))


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):  # type: ignore[no-untyped-def]
        m, n, squares, product = _filter(x, y, x * x + y * y, x * y, pad=0)
        mn, mm_nn = m * n, m * m + n * n
        a1, a2 = 2 * mn + _C1, 2 * (product - mn) + _C2
        b1, b2 = mm_nn + _C1, squares - mm_nn + _C2
        scale = 1 / (b1 * b2)
        values = a1 * a2 * scale
        if ctx.needs_input_grad[0]:
            by_m = 2 * scale * (n * (a2 - a1) - m * values * (b2 - b1))
            parts = _filter(by_m, -values / b2, 2 * scale * a1, pad=SIDE - 1)
            by_mean, by_squares, by_product = parts
            by_x = by_mean + 2 * x * by_squares + y * by_product
            ctx.save_for_backward(by_x / values.numel())
        return values.mean()

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (by_x,) = ctx.saved_tensors
        return grad * by_x, None
