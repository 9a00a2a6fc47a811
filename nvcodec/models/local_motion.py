"""Local motion of a video: a coarse flow for every frame, so that all frames see one picture."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.models.looking import look, where

_FEWEST, _MOST = 160, 320
"""Samples along the longer side of the luma that is looked at last: half of those of the frame
within these bounds. The first looks need no more than the fewest."""
_LOOKS = ((2, 3.0), (2, 1.5), (1, 1.5), (1, 0.0))
"""By how much samples are larger, and the deviation of a blur in them, coarse to fine, so that what
moves far is found as well."""
_STEPS = 80
LOCAL_STEPS = _STEPS * len(_LOOKS)
_SMOOTHNESS = 0.3
"""A flow that changes little from frame to frame and cell to cell costs few bits."""
_PICTURE_LR, _FLOW_LR = 0.03, 0.004
_FRAMES_AT_ONCE = 64


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
    asked after each of LOCAL_STEPS steps; if not, the flows stay as they are. The picture and the
    flows are fitted together by gradient steps, from strongly blurred frames to sharp ones
    (registration by free-form deformation, Rueckert et al. 1999).
    """
    whole = luma[:, None]
    flow = luma.new_zeros(len(luma), 2, *size).requires_grad_()
    picture = whole.mean().view(1, 1, 1)
    everything = torch.arange(len(luma), device=luma.device)
    coarse = math.ceil(max(luma.shape[1:]) / _FEWEST)
    for number, (larger, deviation) in enumerate(_LOOKS):
        scale = larger * coarse if deviation else 1
        parts = torch.split(whole, _FRAMES_AT_ONCE)
        seen = torch.cat([_blur(_shrink(part, scale), deviation) for part in parts])
        height, width = seen.shape[-2:]
        grown = (math.ceil(height * (1 + margin)), math.ceil(width * (1 + margin)))
        picture = F.interpolate(picture.detach()[None], grown, mode="bilinear")[0].requires_grad_()
        groups = [{"params": [picture], "lr": _PICTURE_LR}, {"params": [flow], "lr": _FLOW_LR}]
        optimizer = torch.optim.Adam(groups, betas=(0.8, 0.95))
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda i: 1 - 0.9 * i / _STEPS)
        for step in range(_STEPS):
            optimizer.zero_grad()
            for part in torch.split(everything, _FRAMES_AT_ONCE):
                drawn = look(picture, where(maps[part], flow[part], (height, width)))
                error = ((drawn - seen[part]).square() + 1e-4).sqrt().sum()
                (error / seen.numel()).backward()  # type: ignore[no-untyped-call]
            roughness = 2 * _change(flow, 0) + _change(flow, 2) + _change(flow, 3)
            if isinstance(roughness, Tensor):
                (_SMOOTHNESS * roughness).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            if not go_on(number * _STEPS + step + 1):
                return flow.detach()
    return flow.detach()


def _change(flow: Tensor, axis: int) -> Tensor | float:
    """Return the mean magnitude of differences along an axis; 0 where there is one entry."""
    return flow.diff(dim=axis).abs().mean() if flow.shape[axis] > 1 else 0.0


def _shrink(x: Tensor, scale: int) -> Tensor:
    return F.avg_pool2d(x, scale, ceil_mode=True) if scale > 1 else x


def _blur(x: Tensor, deviation: float) -> Tensor:
    """Convolve (N, 1, H, W) with a Gaussian of this deviation in samples."""
    if deviation == 0:
        return x
    n = math.ceil(2 * deviation)
    distance = torch.arange(-n, n + 1, device=x.device, dtype=x.dtype)
    weights = torch.exp(-0.5 * (distance / deviation).square())
    weights /= weights.sum()
    x = F.pad(x, (n, n, n, n), mode="replicate")
    return F.conv2d(F.conv2d(x, weights.view(1, 1, 1, -1)), weights.view(1, 1, -1, 1))
