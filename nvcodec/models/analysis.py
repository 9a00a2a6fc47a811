"""Encoder networks that make embeddings from frames while a network is fitted; no file holds them.

Kinds: ConvNeXt (HNeRV's choice; Liu et al., CVPR 2022), and HNeRV's plain alternatives: strided
convolutions, PixelUnshuffle or bilinear shrinking before a convolution.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.models.layers import conv_1x1

ENCODER_NAMES = ("convnext", "conv", "pshuffle", "interpolate")


class Encoder(nn.Module):
    """Frames (B, 3, H, W) -> embeddings (B, embed_dim, ceil(H / S), ceil(W / S)), S all strides.

    Each stage shrinks by its stride to `width` channels, the last to embed_dim, in `n_blocks`
    blocks of which the first has the stride.
    """

    def __init__(
        self, kind: str, strides: tuple[int, ...], embed_dim: int, *, width: int, n_blocks: int
    ) -> None:
        super().__init__()
        self.total = math.prod(strides)
        widths = [*[width] * (len(strides) - 1), embed_dim]
        make = _convnext_layers if kind == "convnext" else _plain_layers
        self.layers = nn.Sequential(*make(kind, strides, widths, n_blocks))

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames after padding right and bottom to the grid."""
        height, width = frames.shape[-2:]
        pad = (0, -width % self.total, 0, -height % self.total)
        if pad[1] or pad[3]:
            # "replicate" allows a padding larger than the frame; "reflect" would not.
            frames = F.pad(frames, pad, mode="replicate")
        latents: Tensor = self.layers(frames)
        return latents


def _convnext_layers(
    kind: str, strides: tuple[int, ...], widths: list[int], n_blocks: int
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    c_in = 3
    for i, (stride, c_out) in enumerate(zip(strides, widths, strict=True)):
        if i > 0:
            layers.append(ChannelNorm(c_in))
        layers.append(nn.Conv2d(c_in, c_out, stride, stride))
        if i == 0:
            layers.append(ChannelNorm(c_out))
        layers += [ConvNeXtBlock(c_out) for _ in range(n_blocks)]
        c_in = c_out
    for layer in layers:
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
    return layers


def _plain_layers(
    kind: str, strides: tuple[int, ...], widths: list[int], n_blocks: int
) -> list[nn.Module]:
    layers: list[nn.Module] = []
    c_in = 3
    for stride, c_out in zip(strides, widths, strict=True):
        layers += [*_shrink(kind, c_in, c_out, stride), nn.GELU()]
        for _ in range(n_blocks - 1):
            layers += [nn.Conv2d(c_out, c_out, 3, padding=1), nn.GELU()]
        c_in = c_out
    # An embedding may be negative.
    return layers[:-1]


def _shrink(kind: str, c_in: int, c_out: int, stride: int) -> list[nn.Module]:
    if kind == "conv":
        return [nn.Conv2d(c_in, c_out, stride + 2, stride, padding=1)]
    if kind == "pshuffle":
        return [nn.PixelUnshuffle(stride), nn.Conv2d(c_in * stride**2, c_out, 3, padding=1)]
    return [Shrink(stride), nn.Conv2d(c_in, c_out, 3, padding=1)]


class Shrink(nn.Module):
    """Bilinear interpolation at one point for each stride x stride pixels."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to (B, C, H / stride, W / stride)."""
        size = [side // self.stride for side in x.shape[-2:]]
        return F.interpolate(x, size, mode="bilinear", align_corners=False)


class ChannelNorm(nn.Module):
    """LayerNorm over the channels of (B, C, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise each pixel."""
        y = F.layer_norm(x.permute(0, 2, 3, 1), self.weight.shape, self.weight, self.bias, 1e-6)
        return y.permute(0, 3, 1, 2)


class ConvNeXtBlock(nn.Module):
    """Depthwise 7x7, norm, 4x expansion, GELU, projection, layer scale, residual."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = ChannelNorm(channels)
        self.expand = nn.Conv2d(channels, 4 * channels, 1)
        self.project = nn.Conv2d(4 * channels, channels, 1)
        self.scale = nn.Parameter(torch.full((channels, 1, 1), 1e-6))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block; shape is kept."""
        y = F.gelu(conv_1x1(self.expand, self.norm(self.depthwise(x))))
        return x + self.scale * conv_1x1(self.project, y)
