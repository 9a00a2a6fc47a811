"""Code length of transform coefficients, each with the scale that its lower frequencies tell.

What `bitstream.frequencies` does in integers, to train through. Levels are those of rounded
magnitudes, without a gradient.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.bitstream.frequencies import BESIDE, DIAGONAL, FAR, NEAR
from nvcodec.bitstream.prediction import N_LEVELS
from nvcodec.codec.picture_rate import first_prediction, levels, picture_nats
from nvcodec.codec.rate_model import best_scales, chunk_values, level_nats


def frequency_nats(
    exact: Tensor,
    rounded: Tensor,
    weights: Tensor,
    mean_scales: Tensor,
    scales: Tensor,
    side: int,
) -> Tensor:
    """Return the code length in nats (scalar) of coefficients (..., C side^2, h, w).

    `rounded` are the same as a decoder sees them, whose code length it is; weights (6,) and
    mean_scales (N_LEVELS,) are those of frequency 0 (`picture_nats`), scales (N_LEVELS,) those of
    all others.
    """
    planes, seen = _planes(exact, side), _planes(rounded, side)
    nats = picture_nats(planes[:, 0], seen[:, 0], weights, mean_scales)
    with torch.no_grad():
        level = _levels(seen.abs(), side)
    return nats + level_nats(planes[:, 1:], seen[:, 1:], scales, level)


@torch.no_grad()
def first_means(rounded: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Return the weights and mean_scales that suit rounded coefficients."""
    return first_prediction(_planes(rounded, side)[:, 0])


@torch.no_grad()
def best_frequency_scales(rounded: Tensor, side: int) -> Tensor:
    """Return the scales that code rounded coefficients in the fewest bits."""
    planes = _planes(rounded, side)
    return best_scales(planes[:, 1:], _levels(planes.abs(), side), N_LEVELS)


def _planes(values: Tensor, side: int) -> Tensor:
    """Return coefficients as (C, side^2, h, w)."""
    return values.reshape(-1, side * side, *values.shape[-2:])


def _levels(magnitudes: Tensor, side: int) -> Tensor:
    """Return the levels of all frequencies but 0: (C, side^2 - 1, h, w)."""
    n = max(1, chunk_values(magnitudes) // magnitudes[0].numel())
    return torch.cat([levels(_activity(part, side)[:, 1:]) for part in torch.split(magnitudes, n)])


def _activity(magnitudes: Tensor, side: int) -> Tensor:
    """Return the activity of all frequencies, in the shape (C, side^2, h, w) of magnitudes."""
    by_frequency = magnitudes.view(-1, side, side, *magnitudes.shape[2:])
    near = _pairs(by_frequency, 1)
    activity = NEAR * near + FAR * _pairs(by_frequency, 2)
    activity[:, 1:, 1:] += DIAGONAL * by_frequency[:, :-1, :-1]
    padded = F.pad(near, (1, 1, 1, 1))
    activity += BESIDE * (padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1])
    activity += BESIDE * (padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:])
    return activity.flatten(1, 2)


def _pairs(magnitudes: Tensor, by: int) -> Tensor:
    """Return sums of the two frequencies lower by `by`; one counts twice if it is the only."""
    above = F.pad(magnitudes[:, :-by], (0, 0, 0, 0, 0, 0, by, 0))
    before = F.pad(magnitudes[:, :, :-by], (0, 0, 0, 0, by, 0))
    above[:, :by] = before[:, :by]
    before[:, :, :by] = above[:, :, :by]
    return above + before
