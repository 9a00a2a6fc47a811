"""HNeRV: per-frame embeddings and a convolutional decoder (Chen et al., CVPR 2023).

Decoder: 1x1 convolution to `fc_dim` channels and GELU, then per stride s_i a k_i x k_i convolution
to C_i * s_i^2 channels, PixelShuffle(s_i) and GELU, then a 3x3 convolution to RGB. Kernel sizes are
k_i = min(k_min + 2 i, k_max), widths C_i = max(round(C_{i-1} / r), lower_width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec import fields
from nvcodec.errors import UsageError
from nvcodec.fields import u8, u8_list, u16
from nvcodec.models.base import VideoModel, count_params, shape_only

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
            quotient, rest = divmod(width * 100, self.reduction_percent)
            twice = 2 * rest - self.reduction_percent
            quotient += twice > 0 or (twice == 0 and quotient % 2 == 1)
            width = max(quotient, self.lower_width)
            widths.append(width)
        return widths

    def kernels(self) -> list[int]:
        """Return the kernel size of each stage."""
        return [min(self.k_min + 2 * i, self.k_max) for i in range(len(self.strides))]

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the embedding's height and width for frames of this size."""
        total = math.prod(self.strides)
        return -(-height // total), -(-width // total)


class HNeRV(VideoModel):
    """The decoder and its embeddings; output is tanh(x) / 2 + 1/2."""

    Config = HNeRVConfig
    config: HNeRVConfig
    latent_names = ("embeddings",)

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
            stages.append(nn.Conv2d(c_in, c_out * stride**2, kernel, padding=kernel // 2))
            c_in = c_out
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(c_in, 3, 3, padding=1)

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices."""
        embeddings = self.embeddings[index] if latents is None else latents["embeddings"]
        x = F.gelu(self.stem(embeddings.contiguous(memory_format=torch.channels_last)))
        for stage, stride in zip(self.stages, self.config.strides, strict=True):
            # GELU before the shuffle: the same values, without a second pass in another layout.
            x = F.pixel_shuffle(gelu(stage(x)), stride)
        x = self.head(x)[:, :, : self.height, : self.width]
        return torch.tanh(x) * 0.5 + 0.5

    def analysis(self) -> nn.Module:
        """Return the ConvNeXt encoder."""
        return ConvNeXtEncoder(self.config.strides, self.config.embed_dim)

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame."""
        grid_h, grid_w = self.config.grid(self.height, self.width)
        n_pixels = grid_h * grid_w
        macs = n_pixels * self.stem.weight.numel()
        for i, stride in enumerate(self.config.strides):
            macs += n_pixels * self.stages.get_parameter(f"{i}.weight").numel()
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

        def count(fc_dim: int) -> int:
            config = HNeRVConfig(**filled, fc_dim=fc_dim)
            return count_params(shape_only(cls, config, n_frames, height, width))

        if count(1) > n_params:
            raise UsageError(
                f"hnerv needs at least {count(1)} parameters for {n_frames} frames of "
                f"{width}x{height}, but the target allows {int(n_params)}"
            )
        low, high = 1, MAX_FC_DIM
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if count(middle) <= n_params else (low, middle - 1)
        return HNeRVConfig(**filled, fc_dim=low)


def _fill_options(
    n_params: float | None, n_frames: int, height: int, width: int, options: dict[str, Any]
) -> dict[str, Any]:
    """Return all Config fields but fc_dim, checked; n_params None asks for the smallest."""
    allowed = set(HNeRVConfig.__dataclass_fields__) - {"fc_dim"}
    for name in options:
        if name not in allowed:
            raise UsageError(
                f"hnerv has no option {name}; allowed are {', '.join(sorted(allowed))}"
            )
    filled: dict[str, Any] = {
        "strides": solve_strides(height, width),
        "embed_dim": 1,
        "lower_width": 1,
    } | options
    probe = HNeRVConfig(**filled, fc_dim=1)
    try:
        fields.check(probe)
    except ValueError as error:
        raise UsageError(str(error).replace("HNeRVConfig.", "option ")) from error
    if n_params is None:
        return filled
    if "embed_dim" not in options:
        grid_h, grid_w = probe.grid(height, width)
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


def solve_strides(height: int, width: int) -> tuple[int, ...]:
    """Choose upsampling factors of 5, 4, 3, 2, largest first, for frames of this size.

    Prefers little padding and an embedding of about a dozen cells (the paper's best has 2x4)
    and a small last factor.
    """
    best: tuple[float, tuple[int, ...]] | None = None
    for n_stages in range(1, 7):
        for strides in combinations_with_replacement((5, 4, 3, 2), n_stages):
            total = math.prod(strides)
            grid_h, grid_w = -(-height // total), -(-width // total)
            padding = grid_h * grid_w * total**2 / (height * width) - 1
            score = 16 * padding + abs(math.log2(grid_h * grid_w / 12)) + 0.1 * strides[-1]
            if best is None or score < best[0]:
                best = (score, strides)
    assert best is not None
    return best[1]


def gelu(x: Tensor) -> Tensor:
    """Apply GELU, in place where no gradient needs x: feature maps are what decoding stores."""
    if torch.is_grad_enabled():
        return F.gelu(x)
    result: Tensor = torch.ops.aten.gelu_(x)
    return result


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
