"""3DNeRV: embeddings of short clips and a 3-D convolutional decoder (nerv3d, 2023).

Decoder: the C channels of an embedding become C / 2 for each of the two frames of a tubelet; a
1x1x1 convolution to `fc_dim` channels and GELU; then per stride s_i a 3-D convolution to C_i s_i^2
channels, PixelShuffle(s_i) of every frame and GELU; then a 3-D convolution to RGB. Kernels have
k_i = min(k_min + 2 i, k_max) rows and columns and min(k_i, k_time) times, widths are
C_i = max(round(C_{i-1} / r), lower_width). Padding is zero in space and before and after the clip.

The two published generations are these options, with the widths of their 3, 6 and 12 M models:

    v0:   clip_frames 4, embed_dim 8, fc_dim 305, 440, 634, strides 5,4,3,2, reduction_percent 300,
          lower_width 6, k_time 5, head_kernel 3
    HEAD: clip_frames 2, embed_dim 32, fc_dim 52, 88, 132, strides 5,3,2,2,2, reduction_percent 120,
          lower_width 12, k_time 7, head_kernel 7

Two things differ on purpose. The embeddings come from a small encoder that is trained with the
decoder, not from a pretrained VideoMAE; and position t of a tubelet axis becomes frames 2 t and
2 t + 1 of the clip, where the original reshapes its tokens without a transpose, which mixes
channels, times and places.
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
from nvcodec.models.base import VideoModel, count_params, parse_options, shape_only, widest
from nvcodec.models.layers import OUTPUT_NAMES, activate, squash
from nvcodec.models.strides import grid_size, narrow, solve_strides
from nvcodec.models.tubelets import TUBELET, TubeletEncoder

MAX_FC_DIM = 2048
_EMBED_SHARE = 0.3
_MAX_EMBED_DIM = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class NeRV3DConfig:
    """The integers that define a 3DNeRV decoder; r = reduction_percent / 100."""

    clip_frames: int = u8(2, 4, "frames of a clip: 2 or 4")
    embed_dim: int = u8(2, 254, "channels of an embedding, even")
    fc_dim: int = u16(1, MAX_FC_DIM, "channels after the first convolution")
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling factor of each stage", 8)
    reduction_percent: int = u16(100, 1000, "100 r, r = ratio of consecutive widths", 120)
    lower_width: int = u8(1, 255, "smallest width of a stage", 12)
    k_min: int = u8(1, 11, "kernel size of the first stage, odd", 1)
    k_max: int = u8(1, 11, "largest kernel size, odd", 5)
    k_time: int = u8(1, 11, "largest kernel size in time, odd", 3)
    head_kernel: int = u8(1, 11, "kernel size of the last convolution, odd", 3)
    output: int = choice(OUTPUT_NAMES, "last function", 1)

    def widths(self) -> list[int]:
        """Return the channels after each stage; ties round to even, in integers."""
        widths, width = [], self.fc_dim
        for _ in self.strides:
            width = narrow(width, self.reduction_percent, self.lower_width)
            widths.append(width)
        return widths

    def kernels(self) -> list[int]:
        """Return the rows of the kernel of each stage."""
        return [min(self.k_min + 2 * i, self.k_max) for i in range(len(self.strides))]

    def check(self) -> None:
        """Raise ValueError with one sentence for values that do not go together."""
        for name, remainder, needed in (
            ("clip_frames", 0, "2 or 4"),
            ("embed_dim", 0, "an even number"),
            ("k_min", 1, "an odd number"),
            ("k_max", 1, "an odd number"),
            ("k_time", 1, "an odd number"),
            ("head_kernel", 1, "an odd number"),
        ):
            value = getattr(self, name)
            if value % TUBELET != remainder:
                raise ValueError(f"{name} is {value}, {needed} is needed")

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Return the embedding's height and width for frames of this size."""
        return grid_size(self.strides, height, width)


class ClipConv(nn.Conv3d):
    """3-D convolution of a whole clip, zero outside of it, with the frames stacked as channels.

    Shapes: (B, T c_in, h, w) -> (B, T c_out, h, w), frame by frame. Computed as one 2-D convolution
    whose kernel has a block for each pair of frames: a training step at 320x180 was measured at 3
    to 6 times the speed of PyTorch's 3-D convolution on a CPU, drawing at 2 to 4 times. Taps that
    only meet padding in time cost nothing, and 2-D kernels are the better tuned ones.
    """

    def __init__(self, c_in: int, c_out: int, kernel: tuple[int, int], clip_frames: int) -> None:
        """Make a kernel of (times, rows = columns)."""
        super().__init__(c_in, c_out, (kernel[0], kernel[1], kernel[1]))
        self.clip_frames = clip_frames

    def forward(self, x: Tensor) -> Tensor:
        """Convolve clips (B, T c_in, h, w)."""
        n = self.clip_frames
        # Kernel times -(n - 1)..n - 1, what is further away cropped and what is missing zero.
        missing = n - 1 - self.kernel_size[0] // 2
        times = F.pad(self.weight, (0, 0, 0, 0, missing, missing))
        blocks = torch.stack([times[:, :, n - 1 - t : 2 * n - 1 - t] for t in range(n)])
        # (T, c_out, c_in, T, k, k) -> (T c_out, T c_in, k, k), channels last.
        weight = blocks.permute(0, 1, 4, 5, 3, 2).flatten(4).flatten(0, 1).permute(0, 3, 1, 2)
        assert self.bias is not None
        return F.conv2d(x, weight, self.bias.repeat(n), padding=self.kernel_size[1] // 2)


class NeRV3D(VideoModel):
    """The decoder and the embeddings of all clips."""

    Config = NeRV3DConfig
    config: NeRV3DConfig
    latent_names = ("embeddings",)
    steady_names = ("embeddings",)
    analyses = ("conv3d", "none")
    # The bfloat16 weight gradient of oneDNN's Conv3d holds memory that nobody wrote (PyTorch 2.13).
    bf16_on_cpu = False

    def __init__(self, config: NeRV3DConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        config.check()
        n = config.clip_frames
        self.embeddings = nn.Parameter(
            torch.zeros(
                -(-n_frames // n), config.embed_dim, n // TUBELET, *config.grid(height, width)
            )
        )
        self.stem = ClipConv(config.embed_dim // TUBELET, config.fc_dim, (1, 1), n)
        stages = []
        c_in = config.fc_dim
        for stride, k, c_out in zip(config.strides, config.kernels(), config.widths(), strict=True):
            stages.append(ClipConv(c_in, c_out * stride**2, (min(k, config.k_time), k), n))
            c_in = c_out
        self.stages = nn.ModuleList(stages)
        k = config.head_kernel
        self.head = ClipConv(c_in, 3, (min(k, config.k_time), k), n)

    @property
    def clip_frames(self) -> int:
        """Frames of a clip."""
        return self.config.clip_frames

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices, every clip among them once."""
        n = self.clip_frames
        clips = dict.fromkeys((index // n).tolist())
        entry = {clip: i for i, clip in enumerate(clips)}
        stored = self.embeddings[list(clips)] if latents is None else latents["embeddings"]
        wanted = [entry[i // n] * n + i % n for i in index.tolist()]
        return self._draw(stored)[wanted]

    def _draw(self, embeddings: Tensor) -> Tensor:
        """Draw whole clips: (B, embed_dim, T / 2, h, w) -> (B T, 3, height, width)."""
        # A pair of channels at one time holds the two frames of a tubelet.
        n_clips, channels, n_times, grid_h, grid_w = embeddings.shape
        x = embeddings.view(n_clips, channels // TUBELET, TUBELET, n_times, grid_h, grid_w)
        x = x.permute(0, 3, 2, 1, 4, 5).flatten(1, 3)
        x = activate(0, self.stem(x.contiguous(memory_format=torch.channels_last)))
        for stage, stride in zip(self.stages, self.config.strides, strict=True):
            x = F.pixel_shuffle(activate(0, stage(x)), stride)
        drawn: Tensor = self.head(x)[:, :, : self.height, : self.width]
        return squash(self.config.output, drawn.reshape(-1, 3, self.height, self.width))

    def analysis(self, kind: str, *, width: int = 64, n_blocks: int = 1) -> nn.Module | None:
        """Return the 3-D encoder."""
        if kind == "none":
            return None
        config = self.config
        return TubeletEncoder(
            config.strides, config.embed_dim, config.clip_frames, width=width, n_blocks=n_blocks
        )

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame, padding in time counted."""
        n_pixels = math.prod(self.config.grid(self.height, self.width))
        macs = n_pixels * self.stem.weight.numel()
        for stage, stride in zip(self.stages, self.config.strides, strict=True):
            assert isinstance(stage, ClipConv)
            macs += n_pixels * stage.weight.numel()
            n_pixels *= stride**2
        return macs + n_pixels * self.head.weight.numel()

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded clip."""
        config = self.config
        n_pixels = math.prod(config.grid(self.height, self.width))
        peak = n_pixels * max(config.embed_dim // TUBELET, config.fc_dim)
        for channels, stride in zip(config.widths(), config.strides, strict=True):
            n_pixels *= stride**2
            peak = max(peak, n_pixels * channels)
        return config.clip_frames * max(peak, n_pixels * 3)

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> NeRV3DConfig:
        """Return the smallest Config with these options."""
        return NeRV3DConfig(**_fill_options(None, n_frames, height, width, options), fc_dim=1)

    @classmethod
    def solve(
        cls, n_params: float, n_frames: int, height: int, width: int, **options: Any
    ) -> NeRV3DConfig:
        """Return the widest Config with at most n_params values.

        Options are Config fields; `strides` defaults to `solve_strides`, `embed_dim` to 16 or fewer
        where 16 would take more than 30 % of n_params, `k_time` to what reaches across a clip.
        """
        filled = _fill_options(n_params, n_frames, height, width, options)
        config: NeRV3DConfig = widest(
            cls,
            lambda fc_dim: NeRV3DConfig(**filled, fc_dim=fc_dim),
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
    options = parse_options(NeRV3D, options, solved="fc_dim")
    filled: dict[str, Any] = {
        "clip_frames": 2,
        "embed_dim": TUBELET,
        "strides": solve_strides(height, width),
        "lower_width": 1,
    } | options
    n = filled["clip_frames"]
    # Kernel times further away than the clip is long would only ever meet padding.
    filled.setdefault("k_time", 2 * n - 1)
    try:
        NeRV3DConfig(**filled, fc_dim=1).check()
    except ValueError as error:
        raise UsageError(f"option {error}") from error
    if n_params is None:
        return filled

    def fits(fc_dim: int) -> bool:
        config = NeRV3DConfig(**filled, fc_dim=fc_dim)
        return count_params(shape_only(NeRV3D, config, n_frames, height, width)) <= n_params

    if "embed_dim" not in options:
        grid_h, grid_w = grid_size(filled["strides"], height, width)
        n_cells = -(-n_frames // n) * (n // TUBELET) * grid_h * grid_w
        for embed_dim in range(_MAX_EMBED_DIM, 0, -TUBELET):
            filled["embed_dim"] = embed_dim
            if embed_dim * n_cells <= _EMBED_SHARE * n_params and fits(1):
                break
    if "lower_width" not in options:
        # The 6 of v0 where it fits; a small budget needs narrower stages.
        for lower_width in range(6, 0, -1):
            filled["lower_width"] = lower_width
            if fits(lower_width):
                break
    return filled
