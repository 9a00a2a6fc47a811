"""SSIM as a loss (Wang et al., IEEE TIP 2004): 11x11 Gaussian windows, sigma 1.5, in the frame.

Only four local means are needed, those of x, y, x^2 + y^2 and x y, and the derivatives by them have
a closed form: fewer filters and passes over memory than differentiating a forward pass takes. A
local mean along one axis is a product with a band matrix, a block of the band at a time; a strip of
rows goes through all of it while it is in the cache.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SIDE = 11
"""Rows and columns of a window."""
_MARGIN = SIDE - 1
_SIGMA = 1.5
_C1, _C2 = 0.01**2, 0.03**2
_STRIP_VALUES = {"cpu": 100_000, "cuda": 4_000_000}
"""Values of a strip of rows."""
_BLOCK = 64
"""Columns of a product."""


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


@cache
def _band(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the (n, n + SIDE - 1) matrix that takes the means of n windows along an axis."""
    band = torch.zeros(n, n + _MARGIN, dtype=torch.float64)
    for first in range(n):
        band[first, first : first + SIDE] = _window()
    return band.to(device, dtype)


def _filter(maps: Tensor) -> Tensor:
    """Return the local means (..., h, w) of maps (..., h + SIDE - 1, w + SIDE - 1)."""
    height, width = (side - _MARGIN for side in maps.shape[-2:])
    down = torch.matmul(_band(height, maps.dtype, maps.device), maps).flatten(0, -2)
    means = down.new_empty(len(down), width)
    for first in range(0, width, _BLOCK):
        band = _band(min(_BLOCK, width - first), maps.dtype, maps.device)
        part = down[:, first : first + band.shape[1]]
        torch.mm(part, band.T, out=means[:, first : first + len(band)])
    return means.view(*maps.shape[:-2], height, width)


def _compare(x: Tensor, y: Tensor, by_means: Tensor) -> Tensor:
    """Return the sum of the SSIM of planes (n, h + SIDE - 1, w + SIDE - 1).

    by_means (3, n, h, w) takes its derivatives by the means of x, x y and x^2 + y^2.
    """
    maps = x.new_empty(4, *x.shape)
    maps[0], maps[1] = x, y
    torch.mul(x, y, out=maps[2])
    torch.mul(x, x, out=maps[3]).addcmul_(y, y)
    m, n, product, squares = _filter(maps)
    mn, mm_nn = m * n, torch.addcmul(m * m, n, n)
    a1, a2 = mn + _C1 / 2, product.sub_(mn).add_(_C2 / 2)
    b1, b2 = mm_nn + _C1, squares.sub_(mm_nn).add_(_C2)
    scale = torch.mul(b1, b2).reciprocal_().mul_(4)
    by_m, by_product, by_squares = by_means
    torch.mul(a1, scale, out=by_product)
    values = a2 * by_product
    total: Tensor = values.sum()
    torch.div(values, b2, out=by_squares).neg_()
    torch.mul(a2.sub_(a1), n, out=by_m)
    by_m.addcmul_(b2.sub_(b1), values.mul_(m), value=-0.5).mul_(scale)
    return total


class _Ssim(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, y):  # type: ignore[no-untyped-def]
        xs, ys = (v.flatten(0, 1).contiguous() for v in (x, y))
        planes, height, width = xs.shape
        n = max(SIDE, _STRIP_VALUES[x.device.type] // (planes * width))
        # The window is symmetric: with zeros around, the filter is its own transpose.
        by_means = x.new_zeros(3, planes, height + _MARGIN, width + _MARGIN)
        inner = by_means[..., _MARGIN:-_MARGIN, _MARGIN:-_MARGIN]
        total = x.new_zeros(())
        for first in range(0, height - _MARGIN, n):
            rows = slice(first, first + n + _MARGIN)
            total += _compare(xs[:, rows], ys[:, rows], inner[:, :, first : first + n])
        n_values = planes * (height - _MARGIN) * (width - _MARGIN)
        if ctx.needs_input_grad[0]:
            by_x = torch.empty_like(xs)
            for first in range(0, height, n):
                part, by_product, by_squares = _filter(by_means[:, :, first : first + n + _MARGIN])
                here = slice(first, first + n)
                part.addcmul_(by_squares, xs[:, here], value=2).addcmul_(by_product, ys[:, here])
                torch.div(part, n_values, out=by_x[:, here])
            ctx.save_for_backward(by_x.view(x.shape))
        return total / n_values

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        (by_x,) = ctx.saved_tensors
        return grad * by_x, None
