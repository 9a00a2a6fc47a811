"""HNeRV: per-frame embeddings and a convolutional decoder (Chen et al., CVPR 2023).

Decoder: 1x1 convolution to `fc_dim` channels and GELU, then per stride s_i a k_i x k_i convolution
to C_i * s_i^2 channels, PixelShuffle(s_i) and GELU, then a 3x3 convolution to RGB. Kernel sizes are
k_i = min(k_min + 2 i, k_max), widths C_i = max(round(C_{i-1} / r), lower_width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.fields import u8, u8_list, u16
from nvcodec.models.base import VideoModel, count_params, parse_options, shape_only, widest
from nvcodec.models.layers import UpBlock, squash
from nvcodec.models.strides import grid_size, narrow, solve_strides

MAX_FC_DIM = 2048
_EMBED_SHARE = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class HNeRVConfig:
    """The integers that define an HNeRV decoder; r = reduction_percent / 100."""

    embed_dim: int = u8(1, 255, "channels of an embedding")
    fc_dim: int = u16(1, MAX_FC_DIM, "channels after the first convolution")
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling factor of each stage", 8)
    reduction_percent: int = u16(100, 1000, "100 r, r = ratio of consecutive widths", 120)
    lower_width: int = u8(1, 255, "smallest width of a stage", 12)
    k_min: int = u8(1, 11, "kernel size of the first stage, odd", 1)
    k_max: int = u8(1, 11, "largest kernel size, odd", 5)

    def widths(self) -> list[int]:
        """Return the channels after each stage; ties round to even, in integers."""
        widths, width = [], self.fc_dim
        for _ in self.strides:
            width = narrow(width, self.reduction_percent, self.lower_width)
            widths.append(width)
        return widths

    def kernels(self) -> list[int]:
        """Return the kernel size of each stage."""
        return [min(self.k_min + 2 * i, self.k_max) for i in range(len(self.strides))]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the embedding's height and width for frames of this size."""
        return grid_size(self.strides, height, width)


class HNeRV(VideoModel):
    """The decoder and its embeddings; output is tanh(x) / 2 + 1/2."""

    Config = HNeRVConfig
    config: HNeRVConfig
    latent_names = ("embeddings",)
    steady_names = ("embeddings",)
    analyses = ("convnext", "none")

    def __init__(self, config: HNeRVConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        if config.k_min % 2 == 0 or config.k_max % 2 == 0:
            raise ValueError(f"kernel sizes {config.k_min} and {config.k_max} must be odd")
        grid_h, grid_w = config.grid(height, width)
        self.embeddings = nn.Parameter(torch.zeros(n_frames, config.embed_dim, grid_h, grid_w))
        self.stem = nn.Conv2d(config.embed_dim, config.fc_dim, 1)
        stages = []
        c_in = config.fc_dim
        for stride, kernel, c_out in zip(
            config.strides, config.kernels(), config.widths(), strict=True
        ):
            stages.append(UpBlock(c_in, c_out, stride=stride, kernel=kernel))
            c_in = c_out
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(c_in, 3, 3, padding=1)

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices."""
        embeddings = self.embeddings[index] if latents is None else latents["embeddings"]
        x = F.gelu(self.stem(embeddings.contiguous(memory_format=torch.channels_last)))
        for stage in self.stages:
            x = stage(x)
        return squash(0, self.head(x)[:, :, : self.height, : self.width])

    def analysis(self, kind: str) -> nn.Module | None:
        """Return the ConvNeXt encoder."""
        if kind == "none":
            return None
        return ConvNeXtEncoder(self.config.strides, self.config.embed_dim)

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame."""
        grid_h, grid_w = self.config.grid(self.height, self.width)
        n_pixels = grid_h * grid_w
        macs = n_pixels * self.stem.weight.numel()
        for stage, stride in zip(self.stages, self.config.strides, strict=True):
            assert isinstance(stage, UpBlock)
            macs += stage.macs(n_pixels)
            n_pixels *= stride**2
        return macs + n_pixels * self.head.weight.numel()

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded frame."""
        grid_h, grid_w = self.config.grid(self.height, self.width)
        n_pixels = grid_h * grid_w
        peak = n_pixels * self.config.fc_dim
        for channels, stride in zip(self.config.widths(), self.config.strides, strict=True):
            n_pixels *= stride**2
            peak = max(peak, n_pixels * channels)
        return peak

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> HNeRVConfig:
        """Return the smallest Config with these options."""
        return HNeRVConfig(**_fill_options(None, n_frames, height, width, options), fc_dim=1)

    @classmethod
    def solve(
        cls, n_params: float, n_frames: int, height: int, width: int, **options: Any
    ) -> HNeRVConfig:
        """Return the widest Config with at most n_params values.

        Options are Config fields; `strides` defaults to `solve_strides`, `embed_dim` to 16 or fewer
        where 16 would take more than 30 % of n_params.
        """
        filled = _fill_options(n_params, n_frames, height, width, options)
        config: HNeRVConfig = widest(
            cls,
            lambda fc_dim: HNeRVConfig(**filled, fc_dim=fc_dim),
            MAX_FC_DIM,
            n_params,
            n_frames,
            height,
            width,
        )
        return config


def _fill_options(
    n_params: float | None, n_frames: int, height: int, width: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Return all Config fields but fc_dim, checked; n_params None asks for the smallest."""
    options = parse_options(HNeRV, options, solved="fc_dim")
    filled: dict[str, Any] = {
        "strides": solve_strides(height, width),
        "embed_dim": 1,
        "lower_width": 1,
    } | options
    if n_params is None:
        return filled
    if "embed_dim" not in options:
        grid_h, grid_w = grid_size(filled["strides"], height, width)
        share = int(_EMBED_SHARE * n_params / (n_frames * grid_h * grid_w))
        filled["embed_dim"] = max(1, min(16, share))
    if "lower_width" not in options:
        # The paper's 12 where it fits; a small budget needs narrower stages.
        for lower_width in range(12, 0, -1):
            filled["lower_width"] = lower_width
            config = HNeRVConfig(**filled, fc_dim=lower_width)
            if count_params(shape_only(HNeRV, config, n_frames, height, width)) <= n_params:
                break
    return filled


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
        y: Tensor = self.project(F.gelu(self.expand(self.norm(self.depthwise(x)))))
        return x + self.scale * y


class ConvNeXtEncoder(nn.Module):
    """Frames (B, 3, H, W) -> embeddings (B, embed_dim, H / S, W / S); never part of the file."""

    def __init__(self, strides: tuple[int, ...], embed_dim: int, width: int = 64) -> None:
        super().__init__()
        self.total = math.prod(strides)
        layers: list[nn.Module] = []
        c_in = 3
        for i, stride in enumerate(strides):
            c_out = embed_dim if i == len(strides) - 1 else width
            if i > 0:
                layers.append(ChannelNorm(c_in))
            layers.append(nn.Conv2d(c_in, c_out, stride, stride))
            if i == 0:
                layers.append(ChannelNorm(c_out))
            layers.append(ConvNeXtBlock(c_out))
            c_in = c_out
        self.layers = nn.Sequential(*layers)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames after padding right and bottom to the grid."""
        height, width = frames.shape[-2:]
        pad = (0, -width % self.total, 0, -height % self.total)
        if pad[1] or pad[3]:
            # "replicate" allows a padding larger than the frame; "reflect" would not.
            frames = F.pad(frames, pad, mode="replicate")
        latents: Tensor = self.layers(frames)
        return latents
