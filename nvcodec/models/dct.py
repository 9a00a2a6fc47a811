"""Pictures as DCT coefficients of square blocks: flat parts of them are cheap, edges are not."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor


def inverse_dct(coefficients: Tensor, side: int) -> Tensor:
    """Return pictures (..., C, h side, w side) from coefficients (..., C side^2, h, w).

    Frequency (u, v), down and across, of a channel is number u side + v of its side^2; its value
    counts side / (1 + u + v) times: what training changes with even steps are low frequencies
    first, as natural pictures have them.
    """
    *rest, n, height, width = coefficients.shape
    basis = _basis(side, coefficients.device, coefficients.dtype)
    flat = coefficients.reshape(-1, side * side, height * width)
    # Sums of large and small waves need more than the 8 bits of bfloat16.
    with torch.autocast(coefficients.device.type, enabled=False):
        pixels = (basis @ flat).view(-1, side * side, height, width)
    pictures = torch.pixel_shuffle(pixels, side)
    return pictures.view(*rest, n // (side * side), height * side, width * side)


def dct_weights(side: int) -> Tensor:
    """Return how much a value of each frequency (side, side) counts."""
    n = torch.arange(side, dtype=torch.float64)
    return side / (1 + n[:, None] + n)


@lru_cache(16)
def _basis(side: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the pixels (side^2) of every frequency (side^2) with a value of 1."""
    # Not an inference tensor: training uses it as well.
    with torch.inference_mode(False):
        n = torch.arange(side, dtype=torch.float64)
        waves = torch.cos((2 * n[:, None] + 1) * n * (math.pi / (2 * side)))
        waves *= torch.where(n == 0, 1 / side, 2 / side).sqrt()
        basis = torch.einsum("yu,xv,uv->yxuv", waves, waves, dct_weights(side))
        return basis.reshape(side * side, side * side).to(device, dtype)
