"""Local motion of a video: a coarse flow for every frame, so that all frames see one picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.models.looking import look, where
from nvcodec.models.tracks import blurred, change, count_track_steps, falling, robust, tracks

_FEWEST, _MOST = 160, 320
"""Samples along the longer side of the luma that is looked at last: half of those of the frame
within these bounds. The first looks need no more than the fewest."""
_LOOKS = ((2, 3.0, 1.0), (2, 1.5, 1.0), (1, 1.5, 0.3), (1, 0.0, 0.3))
"""By how much samples are larger, the deviation of a blur in them, and the weight of smoothness,
coarse to fine. A flow that changes little from frame to frame and cell to cell costs few bits, and
what tracks have gathered on their way must go."""
_STEPS = 80
_PICTURE_LR, _FLOW_LR = 0.03, 0.004
_FRAMES_AT_ONCE = 64


def count_local_steps(n_frames: int) -> int:
    """Return the steps after which `local_motion` asks whether to go on."""
    return count_track_steps(n_frames) + _STEPS * len(_LOOKS)


def luma_side(height: int, width: int) -> int:
    """Return how many samples the longer side of the luma for `local_motion` has at most."""
    return min(_MOST, max(_FEWEST, max(height, width) // 2))


@torch.enable_grad()
def local_motion(
    luma: Tensor,
    maps: Tensor,
    size: tuple[int, int],
    margin: float,
    go_on: Callable[[int], bool] = lambda _: True,
) -> Tensor:
    """Return flows (N, 2, *size) that move, in x and y, where each frame looks at one picture.

    luma (N, h, w) is small; maps (N, 2, 3) are the affine maps that the flows refine, and both are
    in coordinates that span [-1, 1] over a picture that is (1 + margin) times the frame. `go_on` is
    asked after each of `count_local_steps`; if not, the flows stay as they are. They start from
    tracks; then the picture and the flows are fitted together by gradient steps, from strongly
    blurred frames to sharp ones (registration by free-form deformation, Rueckert et al. 1999).
    """
    whole = luma[:, None]
    tracked = tracks(luma, maps, size, go_on)
    if tracked is None:
        return luma.new_zeros(len(luma), 2, *size)
    flow, n_done = tracked.requires_grad_(), count_track_steps(len(luma))
    picture = whole.mean().view(1, 1, 1)
    everything = torch.arange(len(luma), device=luma.device)
    coarse = math.ceil(max(luma.shape[1:]) / _FEWEST)
    for larger, deviation, smoothness in _LOOKS:
        scale = larger * coarse if deviation else 1
        parts = torch.split(whole, _FRAMES_AT_ONCE)
        seen = torch.cat([blurred(part, scale, deviation) for part in parts])
        height, width = seen.shape[-2:]
        grown = (math.ceil(height * (1 + margin)), math.ceil(width * (1 + margin)))
        picture = F.interpolate(picture.detach()[None], grown, mode="bilinear")[0].requires_grad_()
        groups = [{"params": [picture], "lr": _PICTURE_LR}, {"params": [flow], "lr": _FLOW_LR}]
        optimizer = torch.optim.Adam(groups, betas=(0.8, 0.95))
        schedule = falling(optimizer, _STEPS)
        for _ in range(_STEPS):
            optimizer.zero_grad()
            for part in torch.split(everything, _FRAMES_AT_ONCE):
                drawn = look(picture, where(maps[part], flow[part], (height, width)))
                error = robust(drawn - seen[part]).sum()
                (error / seen.numel()).backward()  # type: ignore[no-untyped-call]
            roughness = 2 * change(flow, 0) + change(flow, 2) + change(flow, 3)
            (smoothness * roughness).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            n_done += 1
            if not go_on(n_done):
                return flow.detach()
    return flow.detach()
