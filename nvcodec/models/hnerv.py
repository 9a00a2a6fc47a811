"""HNeRV: per-frame embeddings and a convolutional decoder (Chen et al., CVPR 2023).

Decoder: 1x1 convolution to `fc_dim` channels and GELU, then per stride s_i a k_i x k_i convolution
to C_i * s_i^2 channels, PixelShuffle(s_i) and GELU, then a 3x3 convolution to RGB. Kernel sizes are
k_i = min(k_min + 2 i, k_max), widths C_i = max(round(C_{i-1} / r), lower_width). With `embed` "pe"
a positional encoding of the time takes the place of the embeddings: the paper's NeRV baseline.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.errors import UsageError
from nvcodec.fields import choice, u8, u8_list, u16
from nvcodec.models.analysis import ENCODER_NAMES, Encoder
from nvcodec.models.base import VideoModel, count_params, parse_options, shape_only, widest
from nvcodec.models.layers import (
    ACTIVATION_NAMES,
    NORM_NAMES,
    OUTPUT_NAMES,
    UPSAMPLING_NAMES,
    UpBlock,
    activate,
    check_encoding,
    encoding_size,
    positional_encoding,
    squash,
)
from nvcodec.models.strides import grid_size, narrow, narrow_by_root, solve_strides

MAX_FC_DIM = 2048
EMBED_NAMES = ("content", "pe")
_EMBED_SHARE = 0.3
_PE_CELLS = 144
"""Cells that a positional encoding starts from: NeRV's 9x16."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HNeRVConfig:
    """The integers that define an HNeRV decoder; r = reduction_percent / 100."""

    embed_dim: int = u8(1, 255, "channels of an embedding")
    fc_dim: int = u16(1, MAX_FC_DIM, "channels after the first convolution")
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling factor of each stage", 8)
    reduction_percent: int = u16(
        0, 1000, "100 r, r = ratio of consecutive widths; 0: the stride's square root", 120
    )
    lower_width: int = u8(1, 255, "smallest width of a stage", 12)
    k_min: int = u8(1, 11, "kernel size of the first stage, odd", 1)
    k_max: int = u8(1, 11, "largest kernel size, odd", 5)
    n_blocks: int = u8(1, 8, "blocks of a stage, of which the first upsamples", 1)
    upsampling: int = choice(UPSAMPLING_NAMES, "kind of the blocks", 0)
    norm: int = choice(NORM_NAMES, "normalisation in the blocks", 0)
    activation: int = choice(ACTIVATION_NAMES, "activation", 0)
    output: int = choice(OUTPUT_NAMES, "last function", 0)
    embed: int = choice(EMBED_NAMES, "input of the first convolution", 0)
    fc_scale: int = u8(1, 16, "side of the square of cells that an embedding's cell becomes", 1)
    pe_base_percent: int = u16(100, 1000, "100 b, b = base of the positional encoding", 125)
    pe_levels: int = u8(0, 255, "levels of the positional encoding; 0: the time itself", 80)

    def widths(self) -> list[int]:
        """Return the channels after each stage; ties round to even, in integers."""
        widths, width = [], self.fc_dim
        for stride in self.strides:
            if self.reduction_percent == 0:
                width = narrow_by_root(width, stride, self.lower_width)
            else:
                width = narrow(width, self.reduction_percent, self.lower_width)
            widths.append(width)
        return widths

    def kernels(self) -> list[int]:
        """Return the kernel size of each stage, before what upsampling adds."""
        return [min(self.k_min + 2 * i, self.k_max) for i in range(len(self.strides))]

    @property
    def has_embeddings(self) -> bool:
        """Whether the file holds an embedding of every frame."""
        return EMBED_NAMES[self.embed] == "content"

    def embed_grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the height and width of the first convolution's input."""
        if not self.has_embeddings:
            return 1, 1
        return grid_size((self.fc_scale, *self.strides), height, width)

    def fc_scales(self, height: int, width: int) -> tuple[int, int]:
        """Return the rows and columns of cells that a cell of that input becomes."""
        if not self.has_embeddings:
            return grid_size(self.strides, height, width)
        return self.fc_scale, self.fc_scale

    def check(self, height: int, width: int) -> None:
        """Raise ValueError with one sentence for values that do not go together."""
        if self.k_min % 2 == 0 or self.k_max % 2 == 0:
            raise ValueError(f"kernel sizes {self.k_min} and {self.k_max} must be odd")
        if 0 < self.reduction_percent < 100:
            raise ValueError(
                f"reduction_percent {self.reduction_percent} is neither 0 nor 100-1000"
            )
        check_encoding(self.pe_base_percent, self.pe_levels)
        cells = math.prod(self.embed_grid(height, width)) * math.prod(self.fc_scales(height, width))
        if NORM_NAMES[self.norm] != "none" and cells * self.strides[0] == 1:
            raise ValueError("a map of a single pixel cannot be normalised")


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveOptions:
    """What `solve` understands beside the fields of the Config."""

    embed_ratio_percent: int = u8(1, 90, "share of the parameters for embeddings, in percent", 10)


class HNeRV(VideoModel):
    """The decoder and its embeddings."""

    Config = HNeRVConfig
    config: HNeRVConfig
    steady_names = ("embeddings",)

    def __init__(self, config: HNeRVConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        config.check(height, width)
        self.fc_scales = config.fc_scales(height, width)
        if config.has_embeddings:
            self.latent_names = ("embeddings",)
            self.analyses = (*ENCODER_NAMES, "none")
            c_in = config.embed_dim
            grid = config.embed_grid(height, width)
            self.embeddings = nn.Parameter(torch.zeros(n_frames, c_in, *grid))
        else:
            c_in = encoding_size(config.pe_levels)
        self.stem = nn.Conv2d(c_in, config.fc_dim * math.prod(self.fc_scales), 1)
        blocks = []
        c_in = config.fc_dim
        for stride, kernel, c_out in zip(
            config.strides, config.kernels(), config.widths(), strict=True
        ):
            for factor in (stride, *[1] * (config.n_blocks - 1)):
                blocks.append(self._block(c_in, c_out, factor, kernel))
                c_in = c_out
        self.stages = nn.ModuleList(blocks)
        self.head = nn.Conv2d(c_in, 3, 3, padding=1)

    def _block(self, c_in: int, c_out: int, stride: int, kernel: int) -> UpBlock:
        config = self.config
        if UPSAMPLING_NAMES[config.upsampling] != "pshuffle" and stride > 1:
            kernel += stride
        return UpBlock(
            c_in,
            c_out,
            stride=stride,
            kernel=kernel,
            upsampling=config.upsampling,
            norm=config.norm,
            activation=config.activation,
        )

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices."""
        if not self.config.has_embeddings:
            inputs = self._encode_time(index)
        else:
            inputs = self.embeddings[index] if latents is None else latents["embeddings"]
        x = self.stem(inputs.contiguous(memory_format=torch.channels_last))
        x = activate(self.config.activation, x)
        if not self.config.has_embeddings:
            x = x.reshape(len(x), self.config.fc_dim, *self.fc_scales)
        elif self.config.fc_scale > 1:
            x = F.pixel_shuffle(x, self.config.fc_scale)
        for block in self.stages:
            x = block(x)
        return squash(self.config.output, self.head(x)[:, :, : self.height, : self.width])

    def _encode_time(self, index: Tensor) -> Tensor:
        """Return the positional encoding of t = index / n_frames as (B, 2 levels, 1, 1)."""
        config = self.config
        encoded = positional_encoding(
            index.double() / self.n_frames, config.pe_base_percent / 100, config.pe_levels
        )
        return encoded.to(self.stem.weight.dtype)[..., None, None]

    def analysis(self, kind: str, *, width: int = 64, n_blocks: int = 1) -> nn.Module | None:
        """Return an encoder with the decoder's strides, the largest first."""
        if kind == "none":
            return None
        config = self.config
        strides = config.strides if config.fc_scale == 1 else (*config.strides, config.fc_scale)
        return Encoder(kind, strides, config.embed_dim, width=width, n_blocks=n_blocks)

    def _maps(self) -> list[tuple[UpBlock | nn.Conv2d, int]]:
        """Return stem, blocks and head, each with the pixels of its input for a padded frame."""
        n_pixels = math.prod(self.config.embed_grid(self.height, self.width))
        maps: list[tuple[UpBlock | nn.Conv2d, int]] = [(self.stem, n_pixels)]
        n_pixels *= math.prod(self.fc_scales)
        for block in self.stages:
            assert isinstance(block, UpBlock)
            maps.append((block, n_pixels))
            n_pixels *= block.stride**2
        return [*maps, (self.head, n_pixels)]

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame."""
        return sum(
            layer.macs(n_pixels) if isinstance(layer, UpBlock) else n_pixels * layer.weight.numel()
            for layer, n_pixels in self._maps()
        )

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded frame."""
        return max(
            layer.peak(n_pixels) if isinstance(layer, UpBlock) else n_pixels * layer.out_channels
            for layer, n_pixels in self._maps()
        )

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
        where 16 would take more than 30 % of n_params or more than the decoder leaves.
        `embed_ratio_percent` sets that share and lifts the 16. The count is exact, so that the
        paper's `saturate` is not needed.
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
    options = parse_options(HNeRV, options, solved="fc_dim", extra=SolveOptions)
    by_time = options.get("embed") == EMBED_NAMES.index("pe")
    sizes = [name for name in ("embed_dim", "embed_ratio_percent", "fc_scale") if name in options]
    if by_time and sizes:
        raise UsageError(f"option {sizes[0]} sizes embeddings, but with embed=pe there are none")
    ratio_percent = options.pop("embed_ratio_percent", None)
    if ratio_percent is not None and "embed_dim" in options:
        raise UsageError("options embed_dim and embed_ratio_percent exclude each other")
    strides = solve_strides(height, width, _PE_CELLS) if by_time else solve_strides(height, width)
    filled: dict[str, Any] = {"strides": strides, "embed_dim": 1, "lower_width": 1} | options
    shape = HNeRVConfig(**filled, fc_dim=1)
    try:
        shape.check(height, width)
    except ValueError as error:
        raise UsageError(f"hnerv: {error}") from error
    if n_params is None:
        return filled

    def fits(fc_dim: int) -> bool:
        config = HNeRVConfig(**filled, fc_dim=fc_dim)
        return count_params(shape_only(HNeRV, config, n_frames, height, width)) <= n_params

    if "embed_dim" not in options and not by_time:
        share, most = (_EMBED_SHARE, 16) if ratio_percent is None else (ratio_percent / 100, 255)
        n_values = n_frames * math.prod(shape.embed_grid(height, width))
        filled["embed_dim"] = max(1, min(most, int(share * n_params / n_values)))
        while filled["embed_dim"] > 1 and not fits(1):
            filled["embed_dim"] -= 1
    if "lower_width" not in options:
        # The paper's 12 where it fits; a small budget needs narrower stages.
        for lower_width in range(12, 0, -1):
            filled["lower_width"] = lower_width
            if fits(lower_width):
                break
    return filled
