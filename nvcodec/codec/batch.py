"""The distortion of a batch and its gradients; on a CPU every clip on a thread of its own."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nvcodec.codec.device import return_freed_memory
from nvcodec.codec.drawing import Drawing, shrink
from nvcodec.codec.losses import Mended, distortion, min_side
from nvcodec.codec.plane_loss import PlaneLoss
from nvcodec.codec.settings import FitSettings
from nvcodec.codec.team import ALONE, Team
from nvcodec.depth import peak
from nvcodec.ending import out_of_memory
from nvcodec.errors import UsageError
from nvcodec.workers import Workers, run


@dataclass(frozen=True, slots=True)
class _Part:
    """What some clips of a batch add to it."""

    loss: float
    mse: Tensor
    gradients: tuple[Tensor | None, ...]
    latent_gradients: tuple[Tensor, ...]


class BatchLoss:
    """Draws clips of the video and finds how far they are from it, and which way to go."""

    def __init__(
        self,
        drawing: Drawing,
        frames: Tensor,
        mask: Tensor | None,
        settings: FitSettings,
        planes: PlaneLoss | None = None,
        team: Team = ALONE,
    ) -> None:
        """Prepare for integer frames (N, 3, H, W); where mask (N, 1, H, W) is 0 nothing counts.

        With planes the network draws those; an encoder network still sees the frames. Raises
        UsageError for a batch that the team cannot share evenly.
        """
        self.frames, self.mask, self.settings, self.planes = frames, mask, settings, planes
        self.team = team
        self.mended: Mended | None = None
        """What need not be drawn well."""
        self.peak = peak(settings.bit_depth)
        self.clip_frames = drawing.model.clip_frames
        self.latent_name = drawing.model.latent_names[0] if drawing.model.latent_names else ""
        n_clips = settings.batch // self.clip_frames
        if n_clips % team.size:
            raise UsageError(
                f"batch is {settings.batch}, but {team.size} processes share it: a multiple of "
                f"{team.size * self.clip_frames} frames is needed"
            )
        # Running statistics need all clips of a batch at once.
        self.divisible = not list(drawing.buffers())
        if team.size > 1 and not self.divisible:
            raise UsageError(
                "norm is bn, which needs whole batches: --distributed cannot split them"
            )
        n_workers = 1
        self.one_by_one = False
        """Whether memory sufficed for one clip at a time only, ever since it first ran out."""
        if frames.device.type == "cpu" and self.divisible:
            n_workers = min(n_clips // team.size, torch.get_num_threads())
        self.workers = Workers(n_workers) if n_workers > 1 else None
        # Parameters are exchanged within a network, so that each thread needs its own.
        self.drawings = [drawing] + [deepcopy(drawing) for _ in range(n_workers - 1)]

    @property
    def splits(self) -> bool:
        """Whether clips have threads of their own."""
        return self.workers is not None and not self.one_by_one

    def frames_of(self, clips: Tensor) -> Tensor:
        """Return the indices of all frames of these clips; the last clip may go beyond the end."""
        n = self.clip_frames
        return (clips[:, None] * n + torch.arange(n, device=clips.device)).flatten()

    def known_frames_of(self, clips: Tensor) -> Tensor:
        """Return the indices of those frames of these clips that there are."""
        index = self.frames_of(clips)
        return index[index < len(self.frames)]

    def analyse(self, analysis: nn.Module, clips: Tensor) -> Tensor:
        """Return the latents that the encoder network makes; the last frame fills the last clip."""
        index = self.frames_of(clips).clamp_max(len(self.frames) - 1)
        latents: Tensor = analysis(self.frames[index].float().div_(self.peak))
        return latents

    def backward(
        self,
        clips: Tensor,
        values: dict[str, Tensor],
        latents: dict[str, Tensor] | None,
        analysis: nn.Module | None,
        extra_loss: Tensor | None,
    ) -> tuple[float, Tensor]:
        """Backpropagate the mean distortion of clips, plus extra_loss; return both sums.

        `values` are the tensors to draw with, by the names of the Drawing's parameters, `latents`
        those of the clips; without them `analysis` makes them, or they are among `values`. The
        second result holds the MSEs of the frames. Of a team each member draws its share, weighted
        so that the mean over the members is what one process would find.
        """
        sources = [v for v in values.values() if v.requires_grad]
        names = [k for k, v in values.items() if v.requires_grad]
        leaves = {k: v.detach().requires_grad_(v.requires_grad) for k, v in values.items()}
        wanted = [leaves[name] for name in names]
        if analysis is not None:
            sources = sources + list(analysis.parameters())
            wanted = wanted + list(analysis.parameters())
        n_frames = len(self.known_frames_of(clips)) / self.team.size
        own_clips = self.team.share(len(clips))
        clips = clips[own_clips]
        latents = latents and {k: z[own_clips] for k, z in latents.items()}

        def work(i: int, n_parts: int) -> _Part:
            here = slice(i * len(clips) // n_parts, (i + 1) * len(clips) // n_parts)
            own = latents and {k: z[here].detach().requires_grad_() for k, z in latents.items()}
            drawing = self.drawings[0 if self.one_by_one else i]
            return self._part(drawing, clips[here], leaves, wanted, own, analysis, n_frames)

        parts = None if self.one_by_one else self._together(work, len(clips))
        if parts is None:
            parts = [run(lambda i: work(i, len(clips)), i) for i in range(len(clips))]
        roots: list[Tensor] = []
        gradients: list[Tensor | None] = []
        for i, source in enumerate(sources):
            given = [g for part in parts if (g := part.gradients[i]) is not None]
            if given:
                roots.append(source)
                gradients.append(sum(given[1:], given[0]))
        for i, latent in enumerate((latents or {}).values() if parts else ()):
            roots.append(latent)
            gradients.append(torch.cat([part.latent_gradients[i] for part in parts]))
        loss = math.fsum(part.loss for part in parts)
        if extra_loss is not None:
            roots.append(extra_loss)
            gradients.append(None)
            loss += float(extra_loss.detach())
        if roots:
            torch.autograd.backward(roots, gradients)
        return loss, torch.cat([part.mse for part in parts]) if parts else torch.empty(0)

    def _together(self, work: Callable[[int, int], _Part], n_clips: int) -> list[_Part] | None:
        """Return the parts of a batch, a thread each, or None if memory is for one clip only."""
        n_parts = min(n_clips, len(self.drawings))
        try:
            if self.workers is not None and n_parts > 1:
                return self.workers.map(lambda i: work(i, n_parts), range(n_parts))
            return [run(lambda i: work(i, n_parts), i) for i in range(n_parts)]
        except Exception as error:
            if n_clips == 1 or not self.divisible or not out_of_memory(error):
                raise
        # Only here has the error let go of what it kept alive.
        return_freed_memory()
        self.one_by_one = True
        return None

    def _pictures(self, index: Tensor, drawn: Tensor) -> Tensor:
        """Return what the network should draw, (B, 3, H, W), in the layout of what it drew.

        Mixed layouts make every operation of the loss six times slower.
        """
        if self.planes is not None:
            return self.planes.pictures(index)
        frames = self.frames[index]
        if drawn.stride(1) == 1:
            frames = frames.contiguous(memory_format=torch.channels_last)
        return frames.float().div_(self.peak)

    def _part(
        self,
        drawing: Drawing,
        clips: Tensor,
        leaves: dict[str, Tensor],
        wanted: list[Tensor],
        latents: dict[str, Tensor] | None,
        analysis: nn.Module | None,
        n_frames: float,
    ) -> _Part:
        s = self.settings
        index = self.known_frames_of(clips)
        mask = None if self.mask is None else self.mask[index].float()
        own = list((latents or {}).values())
        with torch.autocast(self.frames.device.type, torch.bfloat16, enabled=s.bf16):
            if analysis is not None:
                latents = {self.latent_name: self.analyse(analysis, clips)}
            drawn, *coarse = functional_call(drawing, leaves, (index, latents))
        if self.planes is not None:
            loss, mse = self.planes.distortion(s.loss, drawn.float(), index, mask)
        else:
            pictures = self._pictures(index, drawn)
            loss, mse = distortion(s.loss, drawn.float(), pictures, mask, self.mended)
        for picture in coarse:
            size = picture.shape[-2:]
            small = shrink(self._pictures(index, picture), size)
            known = None if mask is None else (shrink(mask, size) == 1).float()
            # The windows of SSIM do not fit into the smallest pictures.
            name = s.loss if min(size) >= min_side(s.loss) else "l2"
            loss = loss + s.side_weight * distortion(name, picture.float(), small, known)[0]
        loss = loss * (len(index) / n_frames)
        found = torch.autograd.grad(loss, [*wanted, *own], allow_unused=True)
        n = len(wanted)
        return _Part(float(loss.detach()), mse, found[:n], found[n:])
