"""Tracks of what moves: where every frame looks, found from neighbour to neighbour.

Frames that are far apart are too different to be matched; neighbours are not. What moves by itself
is followed from the middle frame outwards, beyond where one common picture would find it.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.models.looking import look, where

_LOOKS = ((4, 1.5), (2, 1.0))
"""By how much samples are larger, and the deviation of a blur in them."""
_STEPS = 40
_SMOOTHNESS = 0.5
_LR = 0.004
_PAIRS_AT_ONCE = 64


def count_track_steps(n_frames: int) -> int:
    """Return the steps after which `tracks` asks whether to go on."""
    return math.ceil((n_frames - 1) / _PAIRS_AT_ONCE) * _STEPS * len(_LOOKS)


def tracks(
    luma: Tensor, maps: Tensor, size: tuple[int, int], go_on: Callable[[int], bool] = lambda _: True
) -> Tensor | None:
    """Return flows (N, 2, *size) beside affine maps (N, 2, 3) that follow luma (N, h, w).

    Coordinates are those of `local_motion`. Every frame is matched with its neighbour towards the
    middle one by a flow of its own; these are composed outwards, so that the middle frame looks
    where its map says. `go_on` is asked after each of `count_track_steps`; if not, None comes back.
    """
    n, middle = len(luma), len(luma) // 2
    whole = luma[:, None]
    pairs = [(t, t + 1) for t in range(middle)] + [(t, t - 1) for t in range(middle + 1, n)]
    moved = luma.new_zeros(n, *size, 2)
    for first in range(0, len(pairs), _PAIRS_AT_ONCE):
        here, there = torch.tensor(pairs[first : first + _PAIRS_AT_ONCE]).unbind(1)
        n_before = count_track_steps(first + 1)
        found = _match(whole[here], whole[there], size, n_before, go_on)
        if found is None:
            return None
        moved[here] = found.permute(0, 2, 3, 1)

    still = torch.eye(2, 3).to(luma)[None]
    cells, mapped = where(still, None, size)[0], where(maps, None, size)
    places = mapped.clone().permute(0, 3, 1, 2)
    for t, neighbour in [*reversed(pairs[:middle]), *pairs[middle:]]:
        # What enters the picture on the way looks at the edge of what was seen before: there the
        # canvas has values, beyond its margin it has none.
        places[t] = look(places[neighbour], (cells + moved[t])[None])[0]
    return places - mapped.permute(0, 3, 1, 2)


@torch.enable_grad()
def _match(
    here: Tensor, there: Tensor, size: tuple[int, int], n_before: int, go_on: Callable[[int], bool]
) -> Tensor | None:
    """Return flows (B, 2, *size) by which pictures (B, 1, h, w) move to where the others look."""
    still = torch.eye(2, 3).to(here).expand(len(here), -1, -1)
    flow = here.new_zeros(len(here), 2, *size).requires_grad_()
    for number, (scale, deviation) in enumerate(_LOOKS):
        seen, others = blurred(here, scale, deviation), blurred(there, scale, deviation)
        optimizer = torch.optim.Adam([flow], lr=_LR, betas=(0.8, 0.95))
        schedule = falling(optimizer, _STEPS)
        for step in range(_STEPS):
            optimizer.zero_grad()
            places = where(still, flow, (seen.shape[2], seen.shape[3]))
            drawn = F.grid_sample(others, places, padding_mode="border", align_corners=False)
            loss = robust(drawn - seen).mean() + _SMOOTHNESS * (change(flow, 2) + change(flow, 3))
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if not go_on(n_before + number * _STEPS + step + 1):
                return None
    return flow.detach()


def falling(optimizer: torch.optim.Optimizer, n_steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """Return a schedule that falls to a tenth of the learning rate."""
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - 0.9 * i / n_steps)


def robust(difference: Tensor) -> Tensor:
    """Return magnitudes, smooth at 0, of which what is hidden has no great part (Charbonnier)."""
    return (difference.square() + 1e-4).sqrt()


def change(flow: Tensor, axis: int) -> Tensor:
    """Return the mean magnitude of differences along an axis; 0 where there is one entry."""
    differences = flow.diff(dim=axis).abs()
    return differences.sum() / max(1, differences.numel())


def blurred(x: Tensor, scale: int, deviation: float) -> Tensor:
    """Return (N, 1, H, W) in samples that are `scale` times as large, under a Gaussian blur."""
    if scale > 1:
        x = F.avg_pool2d(x, scale, ceil_mode=True)
    if deviation == 0:
        return x
    n = math.ceil(2 * deviation)
    distance = torch.arange(-n, n + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-0.5 * (distance / deviation).square())
    weights /= weights.sum()
    x = F.pad(x, (n, n, n, n), mode="replicate")
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
