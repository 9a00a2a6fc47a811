"""Local motion of a video: coarse flows for every frame, so that all see one picture, or two."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.models.looking import enlarge, look, where
from nvcodec.models.tracks import blurred, change, count_track_steps, falling, robust, tracks
from nvcodec.workers import n_at_once, operation_threads, spread

_FEWEST, _MOST = 160, 320
"""Samples along the longer side of the luma that is looked at last: half of those of the frame
within these bounds. The first looks need no more than the fewest."""
_LOOKS = ((2, 3.0, 1.0), (2, 1.5, 1.0), (1, 1.5, 0.3), (1, 0.0, 0.3))
"""By how much samples are larger, the deviation of a blur in them, and the weight of smoothness,
coarse to fine. A flow that changes little from frame to frame and cell to cell costs few bits, and
what tracks have gathered on their way must go."""
_STEPS = 50
_PICTURE_LR, _FLOW_LR, _MASK_LR = 0.03, 0.004, 0.1
_MASK_SMOOTHNESS, _MASK_SIZE, _FRONT_SIZE = 0.03, 0.03, 0.02
"""Weights of a mask's changes beside those of a flow, of its values, and of the share of the front:
what both layers can show belongs to the back."""
_MASK_SLOPE, _MASK_MIDDLE = 4.0, 0.75
_FRAMES_AT_ONCE = 64


def count_local_steps(n_frames: int) -> int:
    """Return the steps after which `local_motion` asks whether to go on."""
    return count_track_steps(n_frames) + _STEPS * len(_LOOKS)


def luma_side(height: int, width: int) -> int:
    """Return how many samples the longer side of the luma for `local_motion` has at most."""
    return min(_MOST, max(_FEWEST, max(height, width) // 2))


def front_share(mask: Tensor) -> Tensor:
    """Return how much of the front a mask shows: 0, which costs least to store, next to nothing."""
    return torch.sigmoid(_MASK_SLOPE * (mask - _MASK_MIDDLE))


@dataclass(frozen=True, slots=True)
class LocalMotion:
    """The flows (N, 2, h, w) of one layer or two, and the mask (N, 1, h, w) of the second."""

    flows: list[Tensor]
    mask: Tensor | None


def local_motion(
    luma: Tensor,
    maps: Tensor,
    size: tuple[int, int],
    margin: float,
    mask_size: tuple[int, int] | None = None,
    go_on: Callable[[int], bool] = lambda _: True,
) -> LocalMotion:
    """Return flows (N, 2, *size) that move, in x and y, where each frame looks at a picture.

    luma (N, h, w) is small; maps (N, 2, 3) are the affine maps that the flows refine, and both are
    in coordinates that span [-1, 1] over a picture that is (1 + margin) times the frame. With
    mask_size there is a second picture before the first one. The flow of the last one starts from
    tracks, that of one behind it from nothing. `go_on` is asked after each of `count_local_steps`;
    if not, all stays as it is.
    """
    scene = _Scene(luma[:, None], maps, margin, size, mask_size)
    tracked = tracks(luma, maps, size, go_on)
    if tracked is not None:
        scene.flows[-1].copy_(tracked)
        n_done = count_track_steps(len(luma))
        for kind in _LOOKS:
            if not scene.fit(*kind, n_done, go_on):
                break
            n_done += _STEPS
    flows = [flow.detach() for flow in scene.flows]
    return LocalMotion(flows, None if scene.mask is None else scene.mask.detach())


class _Scene:
    """One picture or two that frames (N, 1, h, w) look at, fitted with flows and mask.

    Gradient steps from strongly blurred frames to sharp ones: registration by free-form deformation
    (Rueckert et al. 1999), of layers (Wang and Adelson 1994).
    """

    def __init__(
        self,
        frames: Tensor,
        maps: Tensor,
        margin: float,
        size: tuple[int, int],
        mask_size: tuple[int, int] | None,
    ) -> None:
        self.frames, self.maps, self.margin = frames, maps, margin
        n, n_layers = len(frames), 1 if mask_size is None else 2
        self.flows = [frames.new_zeros(n, 2, *size) for _ in range(n_layers)]
        self.pictures = [frames.mean().view(1, 1, 1)] * n_layers
        # At first both layers are seen alike.
        self.mask = None if mask_size is None else frames.new_full((n, 1, *mask_size), _MASK_MIDDLE)
        self.coarse = math.ceil(max(frames.shape[2:]) / _FEWEST)

    def fit(
        self,
        larger: int,
        deviation: float,
        smoothness: float,
        n_done: int,
        go_on: Callable[[int], bool],
    ) -> bool:
        """Make the steps of one look; tell whether to go on."""
        n_threads = n_at_once(self.frames.device)
        scale = larger * self.coarse if deviation else 1
        parts = torch.split(self.frames, _FRAMES_AT_ONCE)
        seen = torch.cat([blurred(part, scale, deviation) for part in parts])
        grown = [math.ceil(n * (1 + self.margin)) for n in seen.shape[2:]]
        self.pictures = [
            F.interpolate(picture.detach()[None], grown, mode="bilinear")[0]
            for picture in self.pictures
        ]
        groups = [(self.pictures, _PICTURE_LR), (self.flows, _FLOW_LR)]
        if self.mask is not None:
            groups.append(([self.mask], _MASK_LR))
        optimizer = torch.optim.Adam(
            [{"params": tensors, "lr": lr} for tensors, lr in groups], betas=(0.8, 0.95)
        )
        for tensors, _ in groups:
            for tensor in tensors:
                tensor.requires_grad_()
        schedule = falling(optimizer, _STEPS)
        n_parts = n_threads * math.ceil(len(seen) / (n_threads * _FRAMES_AT_ONCE))
        parts = torch.arange(len(seen), device=seen.device).tensor_split(n_parts)
        # Between the looks are small operations, which one thread ends sooner than several.
        with operation_threads(1):
            for step in range(_STEPS):
                optimizer.zero_grad()
                with torch.enable_grad():
                    (smoothness * self._roughness()).backward()  # type: ignore[no-untyped-call]
                slopes = spread(lambda part: self._slopes(part, seen), parts, n_threads)
                for part, (of_pictures, of_frames) in zip(parts, slopes, strict=True):
                    for picture, slope in zip(self.pictures, of_pictures, strict=True):
                        picture.grad = slope if picture.grad is None else picture.grad.add_(slope)
                    for tensor, slope in zip(self._of_frames(), of_frames, strict=True):
                        assert tensor.grad is not None
                        tensor.grad[part] += slope
                optimizer.step()
                schedule.step()
                if not go_on(n_done + step + 1):
                    return False
        return True

    def _of_frames(self) -> list[Tensor]:
        """Return what every frame has an entry of: flows and mask."""
        return self.flows if self.mask is None else [*self.flows, self.mask]

    @torch.enable_grad()
    def _slopes(self, part: Tensor, seen: Tensor) -> tuple[Sequence[Tensor], Sequence[Tensor]]:
        """Return the gradients of the error of some frames to the pictures, and to their entries.

        The error is how far they are from what is drawn, with the cost of the front.
        """
        size = (seen.shape[2], seen.shape[3])
        pictures = [picture.detach().requires_grad_() for picture in self.pictures]
        entries = [tensor.detach()[part].requires_grad_() for tensor in self._of_frames()]
        drawn = [
            look(picture, where(self.maps[part], flow, size))
            for picture, flow in zip(pictures, entries, strict=False)
        ]
        if self.mask is not None:
            drawn.append(enlarge(entries[-1], size))
        with torch.no_grad():
            given = _error_slopes(drawn, seen[part], 1 / seen.numel())
        slopes = torch.autograd.grad(drawn, [*pictures, *entries], given)
        return slopes[: len(pictures)], slopes[len(pictures) :]

    def _roughness(self) -> Tensor:
        total = torch.stack([_roughness(flow) for flow in self.flows]).sum()
        if self.mask is not None:
            total = total + _MASK_SMOOTHNESS * _roughness(self.mask)
            total = total + _MASK_SIZE * self.mask.abs().mean()
        return total


def _error_slopes(drawn: list[Tensor], seen: Tensor, weight: float) -> list[Tensor]:
    """Return the gradients of `robust` errors, and of the cost of a front, to what is drawn.

    That is one picture, or back, front and mask. By hand, as it takes fewer passes.
    """
    back, *layers = drawn
    if not layers:
        difference = back - seen
        return [difference / robust(difference) * weight]
    front, mask = layers
    share, apart = front_share(mask), front - back
    difference = torch.addcmul(back, apart, share).sub_(seen)
    of_both = robust(difference).reciprocal_().mul_(difference).mul_(weight)
    of_front = of_both * share
    of_share = apart.mul_(of_both).add_(weight * _FRONT_SIZE)
    of_mask = of_share.mul_(share.mul_(1 - share)).mul_(_MASK_SLOPE)
    return [of_both.sub_(of_front), of_front, of_mask]


def _roughness(flow: Tensor) -> Tensor:
    """Return how much a flow changes from frame to frame and from cell to cell."""
    return 2 * change(flow, 0) + change(flow, 2) + change(flow, 3)
