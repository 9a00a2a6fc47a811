"""A small 3-D encoder from clips to embeddings: tubelets, then ConvNeXt blocks in space and time.

It stands in for the pretrained VideoMAE of 3DNeRV, is trained with the decoder and is never part of
the file.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TUBELET = 2
"""Frames that share one position of an embedding's time axis."""


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, ...)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the channels at each place."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvNeXtBlock3d(nn.Module):
    """Depthwise 7x7 over neighbouring times, norm, 4x expansion, GELU, projection, residual."""

    def __init__(self, channels: int, n_times: int) -> None:
        super().__init__()
        kernel = (min(3, 2 * n_times - 1), 7, 7)
        self.depthwise = nn.Conv3d(channels, channels, kernel, padding="same", groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.project = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.full((channels,), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block to (B, C, T, h, w); shape is kept."""
        y = self.norm(self.depthwise(x).movedim(1, -1))
        y = self.scale * self.project(F.gelu(self.expand(y)))
        mixed: Tensor = x + y.movedim(-1, 1)
        return mixed


class TubeletEncoder(nn.Module):
    """Frames of clips (B T, 3, H, W) -> embeddings (B, embed_dim, T / 2, H / S, W / S)."""

    def __init__(
        self,
        strides: tuple[int, ...],
        embed_dim: int,
        clip_frames: int,
        *,
        width: int = 64,
        n_blocks: int = 1,
    ) -> None:
        super().__init__()
        self.total = math.prod(strides)
        self.clip_frames = clip_frames
        layers: list[nn.Module] = []
        c_in = 3
        for i, stride in enumerate(strides):
            c_out = embed_dim if i == len(strides) - 1 else width
            if i > 0:
                layers.append(ChannelNorm(c_in, eps=1e-6))
            patch = (TUBELET if i == 0 else 1, stride, stride)
            layers.append(nn.Conv3d(c_in, c_out, patch, patch))
            if i == 0:
                layers.append(ChannelNorm(c_out, eps=1e-6))
            n_times = clip_frames // TUBELET
            layers += [ConvNeXtBlock3d(c_out, n_times) for _ in range(n_blocks)]
            c_in = c_out
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv3d | nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode clips after padding right and bottom to the grid."""
        height, width = frames.shape[-2:]
        pad = (0, -width % self.total, 0, -height % self.total)
        if pad[1] or pad[3]:
            # "replicate" allows a padding larger than the frame; "reflect" would not.
            frames = F.pad(frames, pad, mode="replicate")
        clips = frames.reshape(-1, self.clip_frames, *frames.shape[1:]).transpose(1, 2)
        embeddings: Tensor = self.layers(clips)
        return embeddings
