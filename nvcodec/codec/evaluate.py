"""Evaluation between the passes of a float run, and the best network that it found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from nvcodec.codec.losses import distortion
from nvcodec.codec.plane_loss import PlaneLoss
from nvcodec.depth import peak
from nvcodec.models.base import VideoModel


@dataclass(slots=True)
class Best:
    """The network of the best evaluation."""

    psnr_db: float = -math.inf
    tensors: dict[str, Tensor] = field(default_factory=dict)
    """Its state; empty before the first evaluation."""


@torch.no_grad()
def mean_psnr_db(
    model: VideoModel,
    frames: Tensor,
    mask: Tensor | None,
    planes: PlaneLoss | None = None,
    bit_depth: int = 8,
) -> float:
    """Return the mean over frames (N, 3, H, W) of integers of the PSNR of what a model draws.

    It is that of samples before they are rounded; where mask (N, 1, H, W) is 0 they do not count.
    With planes the model draws those, and their MSEs are weighted 6:1:1.
    """
    errors = []
    for first in range(0, len(frames), model.clip_frames):
        end = min(first + model.clip_frames, len(frames))
        index = torch.arange(first, end, device=frames.device)
        drawn = model(index).float().clamp(0, 1)
        known = None if mask is None else mask[index].float()
        if planes is not None:
            errors.append(planes.distortion("l2", drawn, index, known)[1])
            continue
        target = frames[index].float() / peak(bit_depth)
        errors.append(distortion("l2", drawn, target, known)[1])
    return float((-10 * torch.log10(torch.cat(errors) + 1e-10)).mean())
