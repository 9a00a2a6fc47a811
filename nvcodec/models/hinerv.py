"""HiNeRV: grids over time, upsampled bilinearly (Kwan et al., NeurIPS 2023, arXiv 2306.09818).

Two base grids, interpolated over time alone, make the first feature map. Each stage normalises it,
enlarges it without a weight, adds a hierarchical encoding, which says where in an enlarged cell a
pixel lies and at what time, and mixes it in ConvNeXt blocks; a linear layer makes RGB of it.
Layers, initial values and counts are those of the authors' code (github.com/hmkx/HiNeRV). It trains
on patches with margins that draw what the whole frame has there; here frames are drawn whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.fields import choice, u8, u8_list, u16
from nvcodec.models.base import (
    VideoModel,
    count_params,
    parse_options,
    shape_of_options,
    shape_only,
    widest,
)
from nvcodec.models.layers import OUTPUT_NAMES, activate, conv_1x1, interpolate_over_time, squash
from nvcodec.models.strides import grid_size, solve_strides

MAX_CHANNELS = 2048
MAX_STAGES = 8
MAX_TIMES = 65535
BASE_LEVELS, LOCAL_LEVELS = 2, 3
"""Grids of each kind; each has half the times of the one before it, and twice its channels."""
_N_CELLS = 576
"""Cells of the base grids: the paper's 18 x 32."""
_FACTORS = (5, 3, 2)
"""Upsampling factors of stages: 5, 2, 2, 2 for 720p, 5, 3, 2, 2 for 1080p, as published."""
_GRID_SHARE, _MAX_SHARE = 1 / 6, 1 / 3
"""Grids have about a sixth of the values, as published; a third where the budget is too small."""
_MAX_BASE_CHANNELS = 64
_EPSILON = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class HiNeRVConfig:
    """The integers that define a HiNeRV."""

    channels: int = u16(1, MAX_CHANNELS, "channels of the first stage, halved in each later one")
    depths: tuple[int, ...] = u8_list(1, 16, "blocks of each stage", MAX_STAGES)
    expansions: tuple[int, ...] = u8_list(1, 8, "widening inside a stage's blocks", MAX_STAGES)
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling factor of each stage", MAX_STAGES)
    base_times: int = u16(1, MAX_TIMES, "times of the first base grid, at most one for each frame")
    base_channels: int = u8(1, 255, "channels of the first base grid")
    local_channels: int = u8(1, 255, "channels of the first stage's first local grid")
    output: int = choice(OUTPUT_NAMES, "last function", 1)

    def widths(self) -> list[int]:
        """Return the channels after each stage."""
        return [max(1, self.channels >> i) for i in range(len(self.strides))]


class Block(nn.Module):
    """project(GELU(expand(norm(depthwise(x))))), added to x unless the channels change."""

    def __init__(self, c_in: int, c_out: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 3, padding=1, groups=c_in, bias=False)
        self.expand = nn.Linear(c_in, expansion * c_out, bias=False)
        self.project = nn.Linear(expansion * c_out, c_out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h, w)."""
        y = _normalize(self.depthwise(x).permute(0, 2, 3, 1))
        mixed: Tensor = self.project(activate(0, self.expand(y))).permute(0, 3, 1, 2)
        return x + mixed if x.shape == mixed.shape else mixed


class Stage(nn.Module):
    """Normalisation, bilinear upsampling, hierarchical encoding, blocks."""

    def __init__(
        self, c_in: int, c_out: int, n_local: int, *, stride: int, depth: int, expansion: int
    ) -> None:
        super().__init__()
        self.stride = stride
        self.encode = nn.Linear(n_local, c_in)
        widths = [c_in] + [c_out] * (depth - 1)
        self.blocks = nn.Sequential(*(Block(width, c_out, expansion) for width in widths))

    def forward(self, x: Tensor, local: Tensor) -> Tensor:
        """Map (B, c_in, h, w) and local grids (B, n_local, s, s) to (B, c_out, h s, w s)."""
        s = self.stride
        x = _normalize(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        x = F.interpolate(x, scale_factor=s, mode="bilinear").permute(0, 2, 3, 1)
        encoding = self.encode(local.permute(0, 2, 3, 1))
        b, height, width, channels = x.shape
        cells = x.reshape(b, height // s, s, width // s, s, channels) + encoding[:, None, :, None]
        y: Tensor = self.blocks(cells.view(x.shape).permute(0, 3, 1, 2))
        return y

    def macs(self, n_pixels: int) -> int:
        """Return the multiply-accumulates for an output of n_pixels, interpolation not counted."""
        blocks = sum(p.numel() for p in self.blocks.parameters())
        return n_pixels * blocks + self.stride**2 * self.encode.weight.numel()

    def peak(self) -> int:
        """Return the values that a pixel of the output has at most."""
        return max(len(self.encode.weight), *(len(p) for p in self.blocks.parameters()))


class HiNeRV(VideoModel):
    """The whole network: all of it goes into the file.

    The first local grid of every stage has an entry for every frame, so it is a latent.
    """

    Config = HiNeRVConfig
    config: HiNeRVConfig
    field_names = ("base_grids", "slow_grids")

    def __init__(self, config: HiNeRVConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        strides, times = config.strides, config.base_times
        if not len(config.depths) == len(config.expansions) == len(strides):
            raise ValueError("depths, expansions and strides differ in length")
        if times > n_frames:
            raise ValueError(
                f"base_times is {times}, allowed is 1 to the number of frames, {n_frames}"
            )
        self.latent_names = tuple(f"local_grids.{i}" for i in range(len(strides)))
        size = grid_size(strides, height, width)
        self.base_grids = nn.ParameterList(
            _faint(max(1, times >> level), config.base_channels << level, *size)
            for level in range(BASE_LEVELS)
        )
        first = [max(1, config.local_channels >> i) for i in range(len(strides))]
        self.local_grids = nn.ParameterList(
            _faint(n_frames, channels, s, s) for channels, s in zip(first, strides, strict=True)
        )
        self.slow_grids = nn.ParameterList(
            _faint(max(1, n_frames >> level), channels << level, s, s)
            for channels, s in zip(first, strides, strict=True)
            for level in range(1, LOCAL_LEVELS)
        )
        self.stem = nn.Conv2d((2**BASE_LEVELS - 1) * config.base_channels, config.channels, 3, 1, 1)
        widths = config.widths()
        self.stages = nn.ModuleList(
            Stage(
                widths[max(0, i - 1)],
                widths[i],
                (2**LOCAL_LEVELS - 1) * first[i],
                stride=stride,
                depth=config.depths[i],
                expansion=config.expansions[i],
            )
            for i, stride in enumerate(strides)
        )
        self.head = nn.Conv2d(widths[-1], 3, 1)
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices."""
        if latents is None:
            grids = zip(self.latent_names, self.local_grids, strict=True)
            latents = {name: grid[index] for name, grid in grids}
        n = self.n_frames
        x = torch.cat([interpolate_over_time(grid, index, n) for grid in self.base_grids], 1)
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        slow = iter(self.slow_grids)
        for stage, name in zip(self.stages, self.latent_names, strict=True):
            local = [latents[name]]
            local += [interpolate_over_time(next(slow), index, n) for _ in range(1, LOCAL_LEVELS)]
            x = stage(x, torch.cat(local, 1))
        x = conv_1x1(self.head, x[:, :, : self.height, : self.width])
        return squash(self.config.output, x)

    def _stages(self) -> Iterator[tuple[Stage, int]]:
        """Yield the stages with the pixels of their outputs."""
        n_pixels = self._cells()
        for stage, stride in zip(self.stages, self.config.strides, strict=True):
            assert isinstance(stage, Stage)
            n_pixels *= stride**2
            yield stage, n_pixels

    def _cells(self) -> int:
        return math.prod(grid_size(self.config.strides, self.height, self.width))

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame, interpolation not counted."""
        macs = self._cells() * self.stem.weight.numel()
        for stage, n_pixels in self._stages():
            macs += stage.macs(n_pixels)
        return macs + n_pixels * self.head.weight.numel()

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded frame."""
        first = self._cells() * max(self.stem.in_channels, self.stem.out_channels)
        peaks = (n_pixels * max(3, stage.peak()) for stage, n_pixels in self._stages())
        return max(first, *peaks)

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> HiNeRVConfig:
        """Return the smallest Config with these options; raise UsageError as `solve` does."""
        sizes = dict.fromkeys(("base_times", "base_channels", "local_channels"), 1)
        config = HiNeRVConfig(**sizes | cls._parse(height, width, options), channels=1)
        shape_of_options(cls, config, n_frames, height, width)
        return config

    @classmethod
    def solve(
        cls, n_params: float, n_frames: int, height: int, width: int, **options: Any
    ) -> HiNeRVConfig:
        """Return the Config with the most channels that has at most n_params values.

        Options are the other Config fields. By default the base grid has a time for every four
        frames and `base_channels`, half of `local_channels`, the power of two that gives all grids
        the published share of the values. Where that is too much, they are halved in turn.
        """
        cls.smallest(n_frames, height, width, **options)
        given = cls._parse(height, width, options)
        strides = given["strides"]
        times = given.get("base_times", min(math.ceil(n_frames / 4), MAX_TIMES))
        cells = math.prod(grid_size(strides, height, width))
        # Values of all grids for each channel of the first base grid.
        values = BASE_LEVELS * times * cells
        values += 2 * LOCAL_LEVELS * n_frames * sum(s**2 / 2**i for i, s in enumerate(strides))
        octaves = round(math.log2(max(1.0, _GRID_SHARE * n_params / values)))
        channels = given.get("base_channels", min(1 << octaves, _MAX_BASE_CHANNELS))
        sizes = {
            "local_channels": min(2 * channels, 255),
            "base_times": times,
            "base_channels": channels,
        }
        sizes = {name: size for name, size in sizes.items() if name not in given}

        def build(channels: int) -> HiNeRVConfig:
            return HiNeRVConfig(**sizes | given, channels=channels)

        for name in cycle(sizes):
            count = count_params(shape_only(cls, build(1), n_frames, height, width))
            if count <= _MAX_SHARE * n_params or max(sizes.values()) == 1:
                break
            sizes[name] = max(1, sizes[name] // 2)
        config: HiNeRVConfig = widest(cls, build, MAX_CHANNELS, n_params, n_frames, height, width)
        return config

    @classmethod
    def _parse(cls, height: int, width: int, options: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options, with the published stages where they say nothing of them."""
        given = parse_options(cls, options, solved="channels")
        strides = given.setdefault("strides", solve_strides(height, width, _N_CELLS, _FACTORS))
        before_last = len(strides) - 1
        return {"depths": (*[3] * before_last, 1), "expansions": (*[4] * before_last, 1)} | given


def _normalize(x: Tensor) -> Tensor:
    """Return (..., C) of zero mean and unit variance over the channels; no parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=_EPSILON)


def _faint(*shape: int) -> Tensor:
    """Return what grids hold before training."""
    values = torch.empty(shape)
    # Without values there is nothing to draw, and PyTorch would import its compiler for it: 2 s.
    return values if values.is_meta else values.uniform_(-1e-3, 1e-3)
