"""Camera motion of a video: one affine map per frame, by robust alignment to a growing mosaic."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

_LONG_SIDE = 160
_LEVELS = (4, 2, 1)
_ITERATIONS = 6
_MOSAIC_SCALE = 2.0
_FORGET = 0.9


@torch.no_grad()
def camera_motion(
    frames: Tensor, peak: int = 255, tick: Callable[[int], object] = lambda _: None
) -> Tensor:
    """Return affine maps (N, 2, 3) from each frame to one common picture.

    frames (N, 3, H, W), 0 to peak; coordinates span [-1, 1] as those of `F.affine_grid`. Every
    frame is aligned by Gauss-Newton steps to a mosaic of the frames before it, from the middle
    frame outwards; pixels that move otherwise are outliers and count little (Geman-McClure
    weights). `tick` is told how many frames are done.
    """
    grey = small_luma(frames, peak, _LONG_SIDE)[:, None]
    n = len(grey)
    maps = torch.eye(2, 3, device=grey.device).repeat(n, 1, 1)
    middle = n // 2
    mosaic = _Mosaic(grey[middle])
    done = 1
    for order in (range(middle - 1, -1, -1), range(middle + 1, n)):
        previous = torch.eye(2, 3, device=grey.device)
        for t in order:
            previous = mosaic.align(grey[t], previous)
            mosaic.add(grey[t], previous)
            maps[t] = previous
            done += 1
            tick(done)
    return _centre(maps)


def small_luma(frames: Tensor, peak: int, long_side: int) -> Tensor:
    """Return luma (N, h, w) in [0, 1], sides of at most `long_side`, of frames (N, 3, H, W)."""
    weights = torch.tensor([0.299, 0.587, 0.114], device=frames.device).view(1, 3, 1, 1) / peak
    scale = max(1, math.ceil(max(frames.shape[-2:]) / long_side))
    parts = []
    for part in frames.split(16):  # type: ignore[no-untyped-call]
        luma = (part.float() * weights).sum(1, keepdim=True)
        parts.append(F.avg_pool2d(luma, scale, ceil_mode=True) if scale > 1 else luma)
    return torch.cat(parts)[:, 0]


def _centre(maps: Tensor) -> Tensor:
    """Return maps moved so that all frames together lie in the middle of the picture."""
    corners = maps.new_tensor([[-1, -1, 1], [-1, 1, 1], [1, -1, 1], [1, 1, 1]]).T
    seen = maps @ corners
    maps = maps.clone()
    maps[:, :, 2] -= (seen.amax((0, 2)) + seen.amin((0, 2))) / 2
    return maps


class _Mosaic:
    """A picture twice as large as the frame that frames are aligned to and drawn into."""

    def __init__(self, first: Tensor) -> None:
        self.size = first.shape[-2:]
        self.total = torch.zeros(1, 2, *(round(_MOSAIC_SCALE * n) for n in self.size)).to(first)
        self.add(first, torch.eye(2, 3, device=first.device))

    def add(self, frame: Tensor, to_mosaic: Tensor) -> None:
        """Draw a frame (1, h, w) into the picture; what is older fades."""
        square = torch.cat([to_mosaic, to_mosaic.new_tensor([[0, 0, 1]])])
        back = torch.linalg.inv(square)[None, :2].clone()
        back[:, :, :2] *= _MOSAIC_SCALE
        where = F.affine_grid(back, list(self.total[:, :1].shape), align_corners=False)
        drawn = torch.stack([frame, torch.ones_like(frame)], 1)
        new = F.grid_sample(drawn, where, align_corners=False)
        self.total = self.total * (1 - (1 - _FORGET) * new[:, 1:]) + new

    def align(self, frame: Tensor, guess: Tensor) -> Tensor:
        """Return the map of a frame (1, h, w) that starts from `guess`; the guess if it fails."""
        best, before = guess, self._error(frame, guess)
        found = guess
        for scale in _LEVELS:
            if min(self.size) >= 8 * scale:
                found = self._refine(frame, found, scale)
        if torch.isfinite(found).all() and self._error(frame, found) < before:
            best = found
        return best

    def _sample(self, to_mosaic: Tensor, size: tuple[int, int], scale: int) -> tuple[Tensor, ...]:
        """Return what a frame of this size would see, its weights, and both gradients."""
        total = F.avg_pool2d(self.total, scale) if scale > 1 else self.total
        seen = torch.where(total[:, 1:] > 0, total[:, :1] / total[:, 1:].clamp_min(1e-6), 0)
        height, width = total.shape[-2:]
        dy, dx = torch.gradient(seen, dim=(2, 3))
        stack = torch.cat([seen, (total[:, 1:] > 0.5).float(), dx * width / 2, dy * height / 2], 1)
        maps = to_mosaic[None] / _MOSAIC_SCALE
        where = F.affine_grid(maps, [1, 4, *size], align_corners=False)
        sampled = F.grid_sample(stack, where, align_corners=False)[0]
        return sampled[0], sampled[1], sampled[2] / _MOSAIC_SCALE, sampled[3] / _MOSAIC_SCALE

    def _error(self, frame: Tensor, to_mosaic: Tensor) -> float:
        seen, known, _, _ = self._sample(to_mosaic, (frame.shape[-2], frame.shape[-1]), 1)
        difference = (seen - frame[0]).abs().clamp_max(0.1) * (known > 0.9)
        return float(difference.sum() / (known > 0.9).sum().clamp_min(1))

    def _refine(self, frame: Tensor, guess: Tensor, scale: int) -> Tensor:
        small = F.avg_pool2d(frame[None], scale)[0] if scale > 1 else frame
        size = (small.shape[-2], small.shape[-1])
        y, x = torch.meshgrid(
            (torch.arange(size[0], device=frame.device) * 2 + 1) / size[0] - 1,
            (torch.arange(size[1], device=frame.device) * 2 + 1) / size[1] - 1,
            indexing="ij",
        )
        found = guess
        for _ in range(_ITERATIONS):
            seen, known, dx, dy = self._sample(found, size, scale)
            residual = seen - small[0]
            used = known > 0.9
            if int(used.sum()) < 32:
                return guess
            spread = residual[used].abs().median().clamp_min(0.01)
            weight = used / (1 + (residual / (3 * spread)).square()).square()
            columns = torch.stack([dx * x, dx * y, dx, dy * x, dy * y, dy]).flatten(1)
            weighted = columns * weight.flatten()
            normal = weighted @ columns.T
            normal += 1e-6 * normal.diagonal().mean() * torch.eye(6, device=frame.device)
            step, failed = torch.linalg.solve_ex(normal, weighted @ residual.flatten())
            if int(failed):
                return guess
            found = found - step.view(2, 3)
        return found
