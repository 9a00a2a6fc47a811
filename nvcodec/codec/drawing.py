"""A model with heads at lower resolutions, as training sees it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.models.base import VideoModel


class Drawing(nn.Module):
    """The model and its heads at lower resolutions, called as one."""

    def __init__(self, model: VideoModel, heads: nn.ModuleList | None) -> None:
        super().__init__()
        self.model = model
        self.heads = heads

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None) -> list[Tensor]:
        """Return the frames, then their coarser versions."""
        if self.heads is None:
            return [self.model(index, latents)]
        return self.model.draw_all(index, latents, self.heads)


def shrink(frames: Tensor, size: torch.Size) -> Tensor:
    """Return frames padded to a multiple of `size` and averaged down to `size`."""
    height, width = frames.shape[-2:]
    scale = max(-(-height // size[0]), -(-width // size[1]))
    pad = (0, scale * size[1] - width, 0, scale * size[0] - height)
    return F.avg_pool2d(F.pad(frames, pad, mode="replicate"), scale)
