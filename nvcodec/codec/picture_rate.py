"""Code length of pictures whose symbols are coded around what their neighbours predict.

What `bitstream.prediction` does in integers, with gradients: the network learns canvases that are
cheap to predict. The neighbours are rounded, as a decoder sees them, with the gradient of the
identity; the symbol itself may carry noise.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.bitstream.prediction import ACTIVITY, LEVEL_EDGES, N_LEVELS, NEIGHBOURS
from nvcodec.codec.rate_model import laplace_nats

_BEFORE, _AFTER = 2, 1
"""Columns that a prediction sees on both sides; rows are seen as far above as columns before."""


def picture_nats(symbols: Tensor, rounded: Tensor, weights: Tensor, scales: Tensor) -> Tensor:
    """Return the code length in nats (scalar) of pictures (..., H, W).

    weights (6,) predict from `rounded`, the same pictures as a decoder sees them; scales
    (N_LEVELS,) are the Laplace scales of the activity levels.
    """
    mean, level = _context(rounded, weights)
    nats: Tensor = _Nats.apply(symbols - mean, scales, level)  # type: ignore[no-untyped-call]
    return nats


@torch.no_grad()
def first_prediction(rounded: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights and scales that suit rounded pictures (..., H, W)."""
    columns = torch.stack([_shifted(rounded, *place).flatten() for place in NEIGHBOURS]).double()
    ridge = 1e-3 * torch.eye(len(NEIGHBOURS), dtype=torch.float64, device=rounded.device)
    weights = torch.linalg.solve(columns @ columns.T + ridge, columns @ rounded.flatten().double())
    weights = weights.to(rounded)
    mean, level = _context(rounded, weights)
    error = (rounded - mean).abs().flatten()
    total = error.new_zeros(N_LEVELS).index_add(0, level.flatten(), error)
    count = torch.bincount(level.flatten(), minlength=N_LEVELS)
    scales = torch.where(count > 0, total / count.clamp_min(1), error.mean())
    return weights, scales.clamp_min(0.1)


def _context(rounded: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of every symbol and its activity level."""
    shape = rounded.shape
    pictures = F.pad(rounded.reshape(-1, 1, *shape[-2:]), (_BEFORE, _AFTER, _BEFORE, 0))
    mean = F.conv2d(pictures, _kernel(weights)).view(shape)
    counts = torch.tensor(ACTIVITY, dtype=rounded.dtype, device=rounded.device)
    with torch.no_grad():
        activity = F.conv2d(pictures.abs(), _kernel(counts)).view(shape)
        edges = torch.tensor(LEVEL_EDGES, dtype=rounded.dtype, device=rounded.device) - 0.5
        level = torch.bucketize(activity, edges)
    return mean, level


def _kernel(weights: Tensor) -> Tensor:
    width = _BEFORE + 1 + _AFTER
    places = [(_BEFORE + dy) * width + _BEFORE + dx for dy, dx in NEIGHBOURS]
    flat = weights.new_zeros((_BEFORE + 1) * width)
    index = torch.tensor(places, device=weights.device)
    return flat.index_put((index,), weights).view(1, 1, _BEFORE + 1, width)


def _shifted(x: Tensor, dy: int, dx: int) -> Tensor:
    """Return the values at a place before each of x (..., H, W); 0 outside."""
    height, width = x.shape[-2:]
    padded = F.pad(x, (_BEFORE, _AFTER, _BEFORE, 0))
    top, left = _BEFORE + dy, _BEFORE + dx
    return padded[..., top : top + height, left : left + width]


class _Nats(torch.autograd.Function):
    """Sum of Laplace code lengths; entry i has the scale scales[row[i]]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Tensor, row: Tensor) -> Tensor:
        nats, slope, scale_slope = laplace_nats(x, scales, row)
        ctx.save_for_backward(slope, scale_slope, row)
        ctx.n_rows = len(scales)
        return nats.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slope, scale_slope, row = ctx.saved_tensors
        zeros = torch.zeros(ctx.n_rows, dtype=slope.dtype, device=slope.device)
        to_scales = zeros.index_add(0, row.flatten(), scale_slope.flatten())
        return gradients[0] * slope, gradients[0] * to_scales, None
