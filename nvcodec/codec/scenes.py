"""Where a video cuts from one scene to another: what they share is too little for one network."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.depth import Samples

_THUMBNAIL = (18, 32)
"""Rows and columns: what moves inside a scene hardly changes so small a picture."""
_LEAST_CHANGE = 0.05
"""Mean difference of a cut, in the range of samples."""
_TIMES, _NEIGHBOURS = 3.0, 2
"""A cut changes so many times as much as any of so many frames before and after it: a flash comes
and goes, and fast motion goes on."""
_FEWEST_FRAMES = 8


def split_scenes(
    frames: Samples, peak: int, suits: Callable[[int], bool] = lambda _: True
) -> list[range]:
    """Return the frames of each scene of a video (N, H, W, 3) of samples up to `peak`.

    `suits` tells whether a scene of so many frames can have a network of its own; others, and those
    of fewer than 8 frames, stay with the neighbour that differs least.
    """
    cuts = find_cuts(frames, peak)
    while True:
        edges = [0, *sorted(cuts), len(frames)]
        scenes = [range(a, b) for a, b in pairwise(edges)]
        short = [s for s in scenes if len(s) < _FEWEST_FRAMES or not suits(len(s))]
        if not cuts or not short:
            return scenes
        around = {edge for scene in short for edge in (scene.start, scene.stop)}
        del cuts[min(around & cuts.keys(), key=cuts.__getitem__)]


def find_cuts(frames: Samples, peak: int) -> dict[int, float]:
    """Return the first frame of every scene but the first, and by how much it differs.

    A cut stands out from the changes around it, as in PySceneDetect's adaptive detector.
    """
    if len(frames) < 2:
        return {}
    small = torch.stack([_thumbnail(frame) for frame in map(torch.from_numpy, frames)]) / peak
    changes = (small[1:] - small[:-1]).abs().mean((1, 2, 3))
    found = {}
    for t, change in enumerate(changes.tolist(), 1):
        around = [*changes[max(0, t - 1 - _NEIGHBOURS) : t - 1], *changes[t : t + _NEIGHBOURS]]
        if change >= max(_LEAST_CHANGE, _TIMES * float(max(around, default=0.0))):
            found[t] = change
    return found


def _thumbnail(frame: Tensor) -> Tensor:
    """Return a frame (H, W, 3) as (3, 18, 32)."""
    return F.adaptive_avg_pool2d(frame.permute(2, 0, 1).float(), _THUMBNAIL)
