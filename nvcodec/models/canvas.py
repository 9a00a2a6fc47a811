"""Canvas: feature pictures larger than the frame, moved by each frame's camera motion.

What stays in the scene is kept once, in static canvases that every frame sees through its own
affine map and a coarse flow. What moves before it has canvases of its own, seen through a flow and
a mask of every frame (layers: Wang and Adelson 1994). What changes lives in grids over time
(HiNeRV, arXiv 2306.09818; NVRC, arXiv 2409.07414), whose cells are the finer the longer an entry
lasts. ConvNeXt blocks at low resolutions and PixelShuffle turn all of it into a picture. Detail
comes from a canvas of the full resolution: PixelShuffle cannot place what moves by parts of its
cells.
"""

from __future__ import annotations

import bisect
import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.fields import choice, u8, u8_list
from nvcodec.models import rows
from nvcodec.models.base import (
    GoOn,
    VideoModel,
    parse_options,
    shape_of_options,
    shape_only,
    weigh_params,
    widest,
)
from nvcodec.models.dct import inverse_dct
from nvcodec.models.layers import OUTPUT_NAMES, interpolate_over_time
from nvcodec.models.local_motion import count_local_steps, front_share, local_motion, luma_side
from nvcodec.models.looking import look, where
from nvcodec.models.motion import camera_motion, small_luma
from nvcodec.models.strides import grid_size

MOTION_NAMES = ("none", "affine", "flow")
MOTION_UNIT = 1 / 128
"""What a motion value of 1 adds to an affine coefficient: learning rates suit values near 1."""
MAX_WIDTH = 255
MAX_STAGES = 5
_BASE_CELLS = 3600
_GRID_SHIFT = 2
"""log2 of the size of the cells of the grid that has an entry for every frame."""
_SLOW_SHIFTS = (2, 3, 4)
_SLOW_SHARE = 0.85
"""Slow grids take the first of these shifts with which the smallest network has at most this share
of all values; else they are of the old kind."""
_DCT_SHIFT = 3
_DETAIL_WEIGHT, _SPARSE_WEIGHT = 0.1, 0.65
"""How much a coefficient of the canvas of full resolution counts towards the size, and how much any
other one, or beside such a value of the grid of every frame: most of them are 0."""
_DCT_SHARE = 0.05
"""DCT coefficients pay where the frame has at least this share of all values: most of them are 0
then. With more bits a value, to predict pictures from their neighbours is better."""
_MIN_BLOCKS, _MIN_BLOCKS_SIDE = 50, 4
"""Pictures of fewer blocks are stored as they are."""
_DETAIL_SHARE, _DCT_DETAIL_SHARE = 0.3, 0.8
"""A canvas of full resolution pays where the frame has at most this share of all values; the second
one is for coefficients."""
_FLOW_SHARE = 0.12
"""A finer flow pays where it has at most this share of what the budget leaves."""
_COARSEST_FLOW = 3
_MAX_MACS, _MIN_MACS, _FRAME_MACS = 8000, 900, 850_000_000
"""Multiply-accumulates, unless widths are given: of a pixel at most 8000, and of a frame at most
what two cores do 30 times a second, which is 920 a pixel of 720p, but 900 a pixel are always
allowed. More values then go into canvases."""
_TAPER = 0.6
"""Channels of a stage, as a share of those of the stage before."""
_VECTOR = 8
"""Channels of a network that arithmetic limits are a multiple of these, which a vector holds."""
_SMALLEST = {"detail_channels": 0, "slow_shift": 0, "dct_shift": 0, "layers": 1}
_MOST_CANVASES, _MOST_DCT_CANVASES = 5.0, 2.5
"""How many times as many channels canvases may have where a large frame holds the network back; the
second one is for coefficients. Of a small one, where nothing but `_MAX_MACS` does, finer steps are
better than more values."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CanvasConfig:
    """The integers that define a Canvas network."""

    widths: tuple[int, ...] = u8_list(1, 255, "channels of each stage", MAX_STAGES)
    depths: tuple[int, ...] = u8_list(0, 16, "blocks of each stage", MAX_STAGES)
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling after each stage", MAX_STAGES)
    canvas_channels: tuple[int, ...] = u8_list(0, 255, "canvas channels of each stage", MAX_STAGES)
    grid_channels: tuple[int, ...] = u8_list(1, 255, "channels of each time grid", 4)
    margin_percent: int = u8(0, 255, "how much larger a canvas is than the frame", 12)
    expansion: int = u8(1, 8, "widening inside a block", 2)
    kernel: int = u8(1, 11, "size of depthwise kernels, odd", 3)
    motion: int = choice(MOTION_NAMES, "how canvases move", 2)
    output: int = choice(OUTPUT_NAMES, "last function", 1)
    detail_channels: int = u8(0, 255, "channels of the canvas of full resolution", 1, absent=0)
    flow_shift: int = u8(0, 6, "log2 of the size of a flow's cells", 3, absent=3)
    slow_shift: int = u8(
        0, 7, "log2 of how much longer each slower time grid's entries last", 0, absent=0
    )
    dct_shift: int = u8(0, 5, "log2 of the side of DCT blocks, 0 for none", 0, absent=0)
    layers: int = u8(1, 2, "layers of canvases, the second before the first", 1, absent=1)


class Block(nn.Module):
    """x + project(GELU(expand(norm(depthwise(x))))), norm without parameters (ConvNeXt)."""

    def __init__(self, width: int, kernel: int, expansion: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width)
        self.expand = nn.Linear(width, expansion * width)
        self.project = nn.Linear(expansion * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block; shape is kept."""
        return rows.block(x, self.depthwise, self.expand, self.project)


class Canvas(VideoModel):
    """The network, its canvases, its grids over time and the motion of every frame."""

    Config = CanvasConfig
    config: CanvasConfig
    steady_names = ("motion", "flow", "front_flow")
    field_names = ("canvases", "slow_grids", "detail")
    picture_names = (*field_names, "flow", "front_flow", "front_mask", "grid")
    density = 0.5

    def __init__(self, config: CanvasConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        self.dct_sides: dict[str, int] = {}
        self.settled: dict[str, Tensor] = {}
        n_stages = len(config.widths)
        lengths = {len(config.depths), len(config.strides), len(config.canvas_channels), n_stages}
        if len(lengths) > 1:
            raise ValueError("widths, depths, strides and canvas_channels differ in length")
        if config.kernel % 2 == 0:
            raise ValueError(f"kernel size {config.kernel} must be odd")
        if config.layers > 1 and config.motion != 2:
            raise ValueError(f"layers is {config.layers}, which needs the motion flow")
        base = grid_size(config.strides, height, width)
        self.sizes = [base]
        for stride in config.strides:
            self.sizes.append((self.sizes[-1][0] * stride, self.sizes[-1][1] * stride))
        first, *slow = config.grid_channels
        self.motion = nn.Parameter(torch.zeros(n_frames, 6))
        if config.motion == 2:
            cells = _reduce(base, config.flow_shift)
            self.flow = nn.Parameter(torch.zeros(n_frames, 2, *cells))
            if config.layers > 1:
                self.front_flow = nn.Parameter(torch.zeros(n_frames, 2, *cells))
                finer = _reduce(base, max(1, config.flow_shift - 1))
                self.front_mask = nn.Parameter(torch.zeros(n_frames, 1, *finer))
        self.grid = nn.Parameter(_faint(n_frames, first, *_reduce(base, _GRID_SHIFT)))
        self.latent_names = tuple(name for name, _ in self.named_parameters())
        if config.detail_channels:
            size = _enlarge(self.sizes[-1], config.margin_percent)
            self.detail = self._picture("detail", config.detail_channels, size)
        self.slow_grids = nn.ParameterList()
        for i, channels in enumerate(slow, 1):
            time_shift, cell_shift = _slow_shifts(i, config.slow_shift)
            size = _reduce(base, cell_shift)
            n_entries = -(-n_frames >> time_shift)
            self.slow_grids.append(self._picture(f"slow_grids.{i - 1}", channels, size, n_entries))
        self.canvases = nn.ParameterList()
        for channels, size in zip(config.canvas_channels, self.sizes[:-1], strict=True):
            if channels:
                name = f"canvases.{len(self.canvases)}"
                larger = _enlarge(size, config.margin_percent)
                self.canvases.append(self._picture(name, config.layers * channels, larger))
        c_in = sum(config.grid_channels) + config.canvas_channels[0]
        stems, stages, ups = [], [], []
        for i, c_out in enumerate(config.widths):
            if i > 0:
                ups.append(nn.Conv2d(config.widths[i - 1], c_out * config.strides[i - 1] ** 2, 1))
                c_in = config.canvas_channels[i]
            if c_in:
                stems.append(nn.Conv2d(c_in, c_out, 3, padding=1))
            blocks = (
                Block(c_out, config.kernel, config.expansion) for _ in range(config.depths[i])
            )
            stages.append(nn.Sequential(*blocks))
        self.stems, self.stages = nn.ModuleList(stems), nn.ModuleList(stages)
        self.ups = nn.ModuleList(ups)
        n_drawn = 3 + config.detail_channels
        self.head = nn.Conv2d(config.widths[-1], n_drawn * config.strides[-1] ** 2, 3, padding=1)
        if config.detail_channels:
            self.mix = nn.Conv2d(config.detail_channels, 3, 1, bias=False)
            with torch.no_grad():
                self.mix.weight.fill_(1 / config.detail_channels)
                # Detail is visible until the network learns where it is not.
                self.head.bias.view(n_drawn, -1)[3:] = 1  # type: ignore[union-attr]

    def _picture(
        self, name: str, channels: int, size: tuple[int, int], n_entries: int | None = None
    ) -> nn.Parameter:
        """Return a new picture, or one for each entry, as coefficients of blocks where it pays."""
        shift = self.config.dct_shift
        height, width = _reduce(size, shift)
        entries = () if n_entries is None else (n_entries,)
        too_few = min(height, width) < _MIN_BLOCKS_SIDE or height * width < _MIN_BLOCKS
        if shift == 0 or too_few:
            return nn.Parameter(_faint(*entries, channels, *size))
        self.dct_sides[name] = 1 << shift
        return nn.Parameter(_faint(*entries, channels << 2 * shift, height, width))

    def _seen(self, name: str, stored: Tensor, index: Tensor | None = None) -> Tensor:
        """Return the pictures that a parameter holds, or at these frames, if it spans time."""
        settled = self.settled.get(name)
        held = stored if settled is None else settled
        if index is not None:
            held = interpolate_over_time(held, index, self.n_frames)
        side = self.dct_sides.get(name)
        return held if side is None or settled is not None else inverse_dct(held, side)

    @torch.no_grad()
    def settle(self) -> None:
        """Turn the coefficients of blocks into pictures, so that no frame has to."""
        for name in self.dct_sides:
            self.settled[name] = inverse_dct(self.get_parameter(name), self.dct_sides[name])

    def dct_side(self, name: str) -> int:
        """Return the side of the blocks of which a parameter holds coefficients, 0 for none."""
        return self.dct_sides.get(name, 0)

    def value_weight(self, name: str) -> float:
        """Return how much a value of a parameter counts towards the size that suits a target."""
        if name == "detail" and name in self.dct_sides:
            return _DETAIL_WEIGHT
        if name.startswith("front"):
            return 0.0
        sparse = name in self.dct_sides or (name == "grid" and self.config.dct_shift > 0)
        n_layers = self.config.layers if name.startswith("canvases") else 1
        return (_SPARSE_WEIGHT if sparse else 1.0) / n_layers

    @torch.no_grad()
    def prepare(self, frames: Tensor, peak: int = 255, go_on: GoOn = lambda *_: True) -> None:
        """Estimate the motion of the camera and of what the scene holds."""
        if self.config.motion == 0:
            return
        still = torch.eye(2, 3, device=frames.device)
        n, total = len(frames), len(frames) + count_local_steps(len(frames))
        maps = camera_motion(frames, peak, lambda done: go_on(done, total))
        self.motion.copy_(((maps - still) / MOTION_UNIT).flatten(1))
        if self.config.motion == 2:
            mask_size = None
            if self.config.layers > 1:
                mask_size = (self.front_mask.shape[2], self.front_mask.shape[3])
            found = local_motion(
                small_luma(frames, peak, luma_side(self.height, self.width)),
                self._maps(self.motion),
                (self.flow.shape[2], self.flow.shape[3]),
                self.config.margin_percent / 100,
                mask_size,
                lambda done: go_on(n + done, total),
            )
            self.flow.copy_(found.flows[0] / MOTION_UNIT)
            if found.mask is not None:
                self.front_flow.copy_(found.flows[1] / MOTION_UNIT)
                self.front_mask.copy_(found.mask)

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices."""
        return self._draw(index, latents, None)

    def draw_samples(self, index: Tensor, bit_depth: int = 8) -> Tensor:
        """Draw the frames with these indices as integers of 8 to 16 bits."""
        return self._draw(index, None, bit_depth)

    def _draw(
        self, index: Tensor, latents: dict[str, Tensor] | None, bit_depth: int | None
    ) -> Tensor:
        config = self.config
        if latents is None:
            latents = {name: getattr(self, name)[index] for name in self.latent_names}
        sight = _Sight(config, self._maps(latents["motion"]), latents)
        features = [_resize(latents["grid"], self.sizes[0])]
        for i, grid in enumerate(self.slow_grids):
            slow = self._seen(f"slow_grids.{i}", grid, index)
            features.append(_resize(slow, self.sizes[0]))
        canvases = (self._seen(f"canvases.{i}", x) for i, x in enumerate(self.canvases))
        stems = iter(self.stems)
        if config.canvas_channels[0]:
            features.append(sight.look(next(canvases), self.sizes[0]))
        x = next(stems)(torch.cat(features, 1).contiguous(memory_format=torch.channels_last))
        for i, stage in enumerate(self.stages):
            if i > 0:
                added = None
                if config.canvas_channels[i]:
                    seen = sight.look(next(canvases), self.sizes[i])
                    added = next(stems)(seen.contiguous(memory_format=torch.channels_last))
                x = rows.upsample(x, self.ups[i - 1], config.strides[i - 1], added)
            x = stage(x)
        detail = None
        if config.detail_channels:
            seen = self._seen("detail", self.detail)
            detail = sight.look_back(seen, self.sizes[-1]), self.mix.weight
        x = rows.draw(
            x, self.head, config.strides[-1], config.output, detail=detail, bit_depth=bit_depth
        )
        return x[:, :, : self.height, : self.width]

    def _maps(self, motion: Tensor) -> Tensor:
        """Return affine maps (B, 2, 3) from the frame to the canvas, both spanning [-1, 1]."""
        still = motion.new_tensor([1, 0, 0, 0, 1, 0])
        maps = (still + MOTION_UNIT * motion).view(-1, 2, 3)
        return maps / (1 + self.config.margin_percent / 100)

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame, interpolation not counted."""
        total = 0
        stems = iter(self.stems)
        for i, stage in enumerate(self.stages):
            n_pixels = math.prod(self.sizes[i])
            if i > 0:
                total += math.prod(self.sizes[i - 1]) * self.ups[i - 1].weight.numel()  # type: ignore
            if i == 0 or self.config.canvas_channels[i]:
                total += n_pixels * next(stems).weight.numel()  # type: ignore
            total += n_pixels * sum(p.numel() for p in stage.parameters() if p.ndim > 1)
        total += math.prod(self.sizes[-2]) * self.head.weight.numel()
        return total + math.prod(self.sizes[-1]) * 4 * self.config.detail_channels

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded frame."""
        config = self.config
        peaks = [
            math.prod(size) * width * max(config.expansion, 1)
            for size, width in zip(self.sizes, config.widths, strict=False)
        ]
        return max(*peaks, (3 + config.detail_channels) * math.prod(self.sizes[-1]))

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> CanvasConfig:
        """Return the smallest Config with these options; raise UsageError as `solve` does."""
        parsed = _SMALLEST | parse_options(cls, options, solved="")
        config = _fill_options(1, 1, _count_stages(parsed, height, width), parsed)
        shape_of_options(cls, config, n_frames, height, width)
        return config

    @classmethod
    def solve(
        cls, n_params: float, n_frames: int, height: int, width: int, **options: Any
    ) -> CanvasConfig:
        """Return the largest Config with at most n_params values."""
        parsed = parse_options(cls, options, solved="")
        n_stages = _count_stages(parsed, height, width)
        few = height * width > _DCT_SHARE * n_params
        sparse = bool(parsed.get("dct_shift", few))
        share = _DCT_DETAIL_SHARE if sparse else _DETAIL_SHARE
        detailed = height * width <= share * n_params
        # Of frames of one stage, flow and mask of a front are too many of all values.
        layered = sparse and n_stages > 1 and n_frames > 1 and parsed.get("motion", 2) == 2
        dct = {"dct_shift": _DCT_SHIFT if few else 0, "layers": 2 if layered else 1}
        kinds: list[dict[str, Any]] = [dct | {"slow_shift": shift} for shift in _SLOW_SHIFTS]
        coarse = [kind | {"detail_channels": 0} for kind in kinds]
        for kind in (*(kinds if detailed else []), *coarse, _SMALLEST):
            least = _fill_options(1, 1, n_stages, kind | parsed)
            n_least = weigh_params(shape_of_options(cls, least, n_frames, height, width))
            if n_least <= _SLOW_SHARE * n_params:
                break
        n_spare = n_params - n_least
        parsed = kind | parsed
        base = grid_size(least.strides, height, width)
        shift = _COARSEST_FLOW
        while shift and 2 * n_frames * math.prod(_reduce(base, shift - 1)) < _FLOW_SHARE * n_spare:
            shift -= 1
        parsed = {"flow_shift": shift} | parsed

        n_pixels = height * width
        budget = min(_MAX_MACS * n_pixels, max(_FRAME_MACS, _MIN_MACS * n_pixels))
        most_canvases = _MOST_DCT_CANVASES if parsed["dct_shift"] else _MOST_CANVASES
        growth = min(most_canvases, _MAX_MACS * n_pixels // budget)

        def most_channels(lean: bool) -> int:
            def count_macs(channels: int) -> int:
                size = round(growth * channels)
                config = _fill_options(size, channels, n_stages, parsed, lean)
                return shape_only(cls, config, 1, height, width).macs_per_frame()

            return max(1, bisect.bisect_right(range(1, MAX_WIDTH), budget, key=count_macs))

        most = most_lean = MAX_WIDTH
        if "widths" not in parsed:
            most = most_channels(lean=False)
            most_lean = most_channels(lean=True) if growth > 1 else most

        def fill(size: int) -> CanvasConfig:
            lean = size > most
            return _fill_options(size, most_lean if lean else most, n_stages, parsed, lean)

        config: CanvasConfig = widest(
            cls, fill, round(growth * max(most, most_lean)), n_params, n_frames, height, width
        )
        return config


class _Sight:
    """What frames see of canvases, by their maps (B, 2, 3) and what they hold by name."""

    def __init__(self, config: CanvasConfig, maps: Tensor, latents: dict[str, Tensor]) -> None:
        self.config, self.maps, self.latents = config, maps, latents

    def look(self, canvas: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, C, *size) of a canvas (C, h, w), or of one layer (C, h, w) before another."""
        if self.config.layers == 1:
            return self.look_back(canvas, size)
        n = len(canvas) // self.config.layers
        back = self.look_back(canvas[:n], size)
        flow = MOTION_UNIT * self.latents["front_flow"]
        front = look(canvas[n:], where(self.maps, flow, size))
        mask = _resize(self.latents["front_mask"], size)
        return torch.lerp(back, front, front_share(mask).to(back.dtype))

    def look_back(self, canvas: Tensor, size: tuple[int, int]) -> Tensor:
        """Return (B, C, *size) of a canvas (C, h, w) that lies behind."""
        if self.config.motion == 0:
            return _resize(canvas[None], size).expand(len(self.maps), -1, -1, -1)
        flow = MOTION_UNIT * self.latents["flow"] if "flow" in self.latents else None
        return look(canvas, where(self.maps, flow, size))


def _count_stages(options: dict[str, Any], height: int, width: int) -> int:
    """Return the number of stages that leaves a first one of about 60 x 60 cells."""
    fitting = round(math.log2(math.sqrt(height * width / _BASE_CELLS)))
    return len(options.get("strides", ())) or min(MAX_STAGES, max(1, fitting))


def _fill_options(
    size: int, most: int, n_stages: int, options: dict[str, Any], lean: bool = False
) -> CanvasConfig:
    """Return the Config of a size: the channels of its first stage, as far as these are at most
    `most`; beyond, canvases alone have more channels.

    Each stage doubles the resolution and has fewer channels, which take more of the arithmetic the
    finer they are: what the last one lacks nothing before it can make up for (benchmarks/NOTES.md).
    A lean network, for frames where arithmetic is the limit, has channels that fill vectors, and no
    block in its last stage, which would take as long as those of all others.
    """
    channels = min(size, most)
    unit = _VECTOR if lean else 1
    filled: dict[str, Any] = {
        "widths": tuple(unit * max(1, round(channels * _TAPER**i / unit)) for i in range(n_stages)),
        "depths": (1,) * (n_stages - 1) + (0 if lean else 1,),
        "strides": (2,) * n_stages,
        "canvas_channels": tuple(max(1, round(size / (6 << i))) for i in range(n_stages)),
        "grid_channels": tuple(max(1, round(channels / k)) for k in (12, 12, 6)),
    } | options
    return CanvasConfig(**filled)


def _faint(*shape: int) -> Tensor:
    """Return what canvases and grids hold before training."""
    values = torch.empty(shape)
    # Without values there is nothing to draw, and PyTorch would import its compiler for it: 2 s.
    return values if values.is_meta else values.normal_().mul_(1e-3)


def _reduce(size: tuple[int, int], shift: int) -> tuple[int, int]:
    """Return the size of a grid whose cells are squares of 2^shift."""
    return -(-size[0] >> shift), -(-size[1] >> shift)


def _slow_shifts(number: int, slow_shift: int) -> tuple[int, int]:
    """Return log2 of the frames of an entry of a slow grid, counted from 1, and of its cells' size.

    What lasts longer is worth finer cells, those of the first stage's grid at most. Files of old
    have a shift of 0, and cells that grow.
    """
    if slow_shift == 0:
        return number, _GRID_SHIFT + number
    return number * slow_shift, max(0, _GRID_SHIFT - number)


def _enlarge(size: tuple[int, int], margin_percent: int) -> tuple[int, int]:
    return tuple(-(-n * (100 + margin_percent) // 100) for n in size)  # type: ignore[return-value]


def _resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)
