"""Code length of pictures whose symbols are coded around what their neighbours predict.

What `bitstream.prediction` does in integers, with gradients: the network learns canvases that are
cheap to predict. The code length is that of what is rounded, its slope that of the values before:
see `Quantizer.bits`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.bitstream.prediction import ACTIVITY, LEVEL_EDGES, LEVEL_OF, N_LEVELS, NEIGHBOURS
from nvcodec.codec.rate_model import laplace_nats

_BEFORE, _AFTER = 2, 1
"""Columns that a prediction sees on both sides; rows are seen as far above as columns before."""


def picture_nats(exact: Tensor, rounded: Tensor, weights: Tensor, scales: Tensor) -> Tensor:
    """Return the code length in nats (scalar) of pictures (..., H, W).

    `rounded` are the same pictures as exact, as a decoder sees them; weights (6,) predict them from
    each other, scales (N_LEVELS,) are the Laplace scales of the activity levels.
    """
    nats: Tensor = _Nats.apply(exact, rounded, weights, scales)  # type: ignore[no-untyped-call]
    return nats


@torch.no_grad()
def first_prediction(rounded: Tensor) -> tuple[Tensor, Tensor]:
    """Return the weights and scales that suit rounded pictures (..., H, W)."""
    pictures = _padded(rounded)
    near = [_shifted(pictures, *place).flatten() for place in NEIGHBOURS]
    columns = torch.stack(near).double()
    ridge = 1e-3 * torch.eye(len(NEIGHBOURS), dtype=torch.float64, device=rounded.device)
    weights = torch.linalg.solve(columns @ columns.T + ridge, columns @ rounded.flatten().double())
    weights = weights.to(rounded)
    mean, level = _context(pictures, weights)
    error = (rounded - mean.view(rounded.shape)).abs().flatten()
    total = error.new_zeros(N_LEVELS).index_add(0, level.flatten(), error)
    count = torch.bincount(level.flatten(), minlength=N_LEVELS)
    scales = torch.where(count > 0, total / count.clamp_min(1), error.mean())
    return weights, scales.clamp_min(0.1)


class _Nats(torch.autograd.Function):
    """By hand: PyTorch takes 20 times as long for the gradient to a picture of one channel."""

    @staticmethod
    def forward(
        ctx: Any, exact: Tensor, rounded: Tensor, weights: Tensor, scales: Tensor
    ) -> Tensor:
        pictures = _padded(rounded)
        mean, level = _context(pictures, weights)
        beside, error = (x.reshape(mean.shape) - mean for x in (exact, rounded))
        scale_slope = torch.empty(beside.shape, dtype=beside.dtype, device=beside.device)
        nats, slope = laplace_nats(beside, error, scales, level, scale_slope)
        ctx.save_for_backward(pictures, weights, slope, scale_slope, level)
        ctx.shape = exact.shape
        return nats.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pictures, weights, slope, scale_slope, level = ctx.saved_tensors
        (from_nats,) = gradients
        # Every mean passes its gradient on to the places before it.
        turned = _kernel(weights).flip(2, 3)
        to_rounded = F.conv2d(F.pad(slope, (_AFTER, _BEFORE, 0, _BEFORE)), turned)
        to_weights = [-(slope * _shifted(pictures, *place)).sum() for place in NEIGHBOURS]
        to_scales = scale_slope.new_zeros(N_LEVELS)
        to_scales.index_add_(0, level.flatten(), scale_slope.flatten())
        return (
            from_nats * slope.view(ctx.shape),
            -from_nats * to_rounded.view(ctx.shape),
            from_nats * torch.stack(to_weights),
            from_nats * to_scales,
        )


def _padded(pictures: Tensor) -> Tensor:
    """Return pictures (N, 1, H + 2, W + 3) with zeros where neighbours lie outside."""
    flat = pictures.reshape(-1, 1, *pictures.shape[-2:])
    return F.pad(flat, (_BEFORE, _AFTER, _BEFORE, 0))


def _context(padded: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of every symbol (N, 1, H, W) and its activity level."""
    counts = torch.tensor(ACTIVITY, dtype=padded.dtype, device=padded.device)
    activity = F.conv2d(padded.abs(), _kernel(counts))
    return F.conv2d(padded, _kernel(weights)), levels(activity)


def levels(activity: Tensor) -> Tensor:
    """Return the levels 0 to N_LEVELS - 1 of activities."""
    # Values that are no numbers make the loss none, which the caller looks at.
    whole = activity.nan_to_num(0.0).clamp_(max=LEVEL_EDGES[-1]).round_().int()
    of_integers = _level_table(activity.device)
    return of_integers.index_select(0, whole.flatten()).view(activity.shape)


@lru_cache(16)
def _level_table(device: torch.device) -> Tensor:
    # Not an inference tensor: training uses it as well.
    with torch.inference_mode(False):
        return torch.from_numpy(LEVEL_OF).to(device)


def _kernel(weights: Tensor) -> Tensor:
    width = _BEFORE + 1 + _AFTER
    places = [(_BEFORE + dy) * width + _BEFORE + dx for dy, dx in NEIGHBOURS]
    flat = weights.new_zeros((_BEFORE + 1) * width)
    flat[places] = weights
    return flat.view(1, 1, _BEFORE + 1, width)


def _shifted(padded: Tensor, dy: int, dx: int) -> Tensor:
    """Return the values at a place before each symbol (N, 1, H, W)."""
    height, width = padded.shape[-2] - _BEFORE, padded.shape[-1] - _BEFORE - _AFTER
    top, left = _BEFORE + dy, _BEFORE + dx
    return padded[..., top : top + height, left : left + width]
