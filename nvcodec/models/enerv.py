"""E-NeRV: time and place are encoded apart and fused by transformers (Li et al., ECCV 2022).

The positional encodings of the cells' coordinates become tokens, one for each cell of the first
grid; a transformer mixes them, they are multiplied by an embedding of t, and a second transformer
mixes them again. NeRV blocks enlarge the map; before each of them every channel is normalised over
the frame, scaled and shifted by values that depend on t.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.fields import choice, u8, u8_list, u16
from nvcodec.models.layers import (
    ACTIVATION_NAMES,
    NORM_NAMES,
    OUTPUT_NAMES,
    UPSAMPLING_NAMES,
    InstanceNorm,
    Mlp,
    UpBlock,
    activate,
    check_encoding,
    conv_for_shuffle,
    encoding_size,
    make_norm,
    positional_encoding,
    shuffle,
)
from nvcodec.models.nerv import NeRV, nerv_block
from nvcodec.models.stages import MAX_FC_DIM, StageModel, cells, stage_widths
from nvcodec.models.strides import grid_size

STAGE_NORM_NAMES = ("in", "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class ENeRVConfig:
    """The integers that define an E-NeRV."""

    pe_base_percent: int = u16(100, 1000, "100 b, b = base of the positional encodings", 125)
    pe_levels: int = u8(0, 255, "frequencies of the positional encodings, 0: the number itself", 80)
    stem_dim: int = u16(1, 4096, "hidden values of the embedding of t", 512)
    block_dim: int = u16(1, 2048, "values of a token", 256)
    mlp_dim: int = u16(1, 4096, "hidden values of a transformer's feed-forward layers", 128)
    heads_1: int = u8(1, 64, "attention heads of the transformer before the fusion", 1)
    heads_2: int = u8(1, 64, "attention heads of the transformer after it", 8)
    head_dim: int = u8(1, 255, "values of an attention head", 64)
    style_dim: int = u16(1, 2048, "values that scales and shifts are made from", 128)
    fc_dim: int = u16(1, MAX_FC_DIM, "channels before stage 0")
    expansion_percent: int = u16(1, 1600, "100 e, e = width of stage 0 to fc_dim", 300)
    reduction_percent: int = u16(100, 1000, "100 r, r = ratio of consecutive widths", 200)
    lower_width: int = u8(1, 255, "smallest width of a stage but the first", 96)
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling factor of each stage", 8)
    upsampling: int = choice(UPSAMPLING_NAMES, "upsampling of the stages but the first", 0)
    stage_norm: int = choice(STAGE_NORM_NAMES, "normalisation before scale and shift", 0)
    norm: int = choice(NORM_NAMES, "normalisation of a block", 0)
    activation: int = choice(ACTIVATION_NAMES, "activation", 0)
    output: int = choice(OUTPUT_NAMES, "map of the head's values to samples", 1)

    def widths(self) -> list[int]:
        """Return the channels after each stage."""
        return stage_widths(
            self.fc_dim,
            self.strides,
            expansion_percent=self.expansion_percent,
            reduction_percent=self.reduction_percent,
            lower_width=self.lower_width,
        )


class Transformer(nn.Module):
    """Attention and feed-forward layers, each added to its input; no normalisation."""

    def __init__(self, dim: int, n_heads: int, head_dim: int, mlp_dim: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        inner = n_heads * head_dim
        self.qkv = nn.Linear(dim, 3 * inner, bias=False)
        self.out = nn.Linear(inner, dim)
        self.expand = nn.Linear(dim, mlp_dim)
        self.project = nn.Linear(mlp_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, n, dim) to (B, n, dim)."""
        batch, n_tokens, _ = x.shape
        qkv = self.qkv(x).view(batch, n_tokens, 3, self.n_heads, -1)
        q, k, v = qkv.permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, n_tokens, -1)
        x = self.out(y) + x
        y = self.project(activate(0, self.expand(x)))
        moved: Tensor = y + x
        return moved

    def macs(self, n_tokens: int) -> int:
        """Return the multiply-accumulates for one frame's tokens."""
        weights = sum(p.numel() for p in self.parameters() if p.ndim == 2)
        return n_tokens * weights + 2 * n_tokens**2 * self.out.in_features

    def peak(self, n_tokens: int) -> int:
        """Return the values of the largest intermediate, attention weights included."""
        widest = max(self.qkv.out_features, self.expand.out_features)
        return n_tokens * max(widest, self.n_heads * n_tokens)


class ConvUpBlock(nn.Module):
    """Upsampling by two convolutions: fewer weights than one where many channels come out."""

    def __init__(
        self, c_in: int, c_out: int, *, stride: int, norm: int = 0, activation: int = 0
    ) -> None:
        super().__init__()
        self.stride = stride
        self.activation = activation
        self.shuffles_first = c_in <= c_out
        middle = max(1, c_in // 4) if self.shuffles_first else c_out
        wide = middle * stride**2
        first, last = (wide, c_out) if self.shuffles_first else (c_out, wide)
        self.conv1 = nn.Conv2d(c_in, first, 3, padding=1)
        self.conv2 = nn.Conv2d(middle, last, 3, padding=1)
        self.norm = make_norm(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h stride, w stride)."""
        if self.shuffles_first:
            x = self.conv2(shuffle(conv_for_shuffle(self.conv1, x, self.stride), self.stride))
        else:
            x = shuffle(conv_for_shuffle(self.conv2, self.conv1(x), self.stride), self.stride)
        return activate(self.activation, self.norm(x))

    def macs(self, n_pixels: int) -> int:
        """Return the multiply-accumulates for an input of n_pixels."""
        scale = self.stride**2 if self.shuffles_first else 1
        return n_pixels * (self.conv1.weight.numel() + scale * self.conv2.weight.numel())

    def peak(self, n_pixels: int) -> int:
        """Return the values of the largest feature map for an input of n_pixels."""
        scale = self.stride**2 if self.shuffles_first else 1
        return n_pixels * max(len(self.conv1.weight), scale * len(self.conv2.weight))


class Stage(nn.Module):
    """Normalisation, scale and shift that depend on t, then a block."""

    block: UpBlock | ConvUpBlock

    def __init__(
        self, c_in: int, style_dim: int, config: ENeRVConfig, block: UpBlock | ConvUpBlock
    ) -> None:
        super().__init__()
        kind = STAGE_NORM_NAMES[config.stage_norm]
        self.normalize = InstanceNorm() if kind == "in" else None
        self.modulate = Mlp([style_dim, 2 * c_in], config.activation)
        self.block = block

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """Map (B, c_in, h, w) and (B, style_dim) to the block's output."""
        scale, shift = self.modulate(style).chunk(2, dim=1)
        if self.normalize is None:
            x = torch.addcmul(shift[:, :, None, None], x, scale[:, :, None, None])
        else:
            x = self.normalize(x, scale, shift)
        y: Tensor = self.block(x)
        return y


class ENeRV(StageModel):
    """The whole network: all of it goes into the file.

    The published network has 12,490,602 values with 288 coordinates of its grid; they are constants
    and not stored here, which leaves 12,490,314.
    """

    Config = ENeRVConfig
    config: ENeRVConfig

    def __init__(self, config: ENeRVConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        check_encoding(config.pe_base_percent, config.pe_levels)
        kind, dim = config.activation, config.block_dim
        n_encoded = encoding_size(config.pe_levels)
        self.time = Mlp([n_encoded, config.stem_dim, dim], kind)
        self.place = Mlp([2 * n_encoded, dim], kind)
        self.before = Transformer(dim, config.heads_1, config.head_dim, config.mlp_dim)
        self.after = Transformer(dim, config.heads_2, config.head_dim, config.mlp_dim)
        # Nothing where the widths agree, as published.
        self.to_map = Mlp([dim, config.fc_dim] if dim != config.fc_dim else [dim], kind)
        self.style = Mlp([n_encoded, config.style_dim, config.style_dim], kind)
        stages = []
        c_in = config.fc_dim
        for i, (stride, c_out) in enumerate(zip(config.strides, config.widths(), strict=True)):
            block: UpBlock | ConvUpBlock
            if i == 0:
                block = ConvUpBlock(c_in, c_out, stride=stride, norm=config.norm, activation=kind)
            else:
                block = nerv_block(c_in, c_out, stride, config)
            stages.append(Stage(c_in, config.style_dim, config, block))
            c_in = c_out
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(c_in, 3, 1)

    def _encode(self, t: Tensor) -> Tensor:
        config = self.config
        encoded = positional_encoding(t, config.pe_base_percent / 100, config.pe_levels)
        return encoded.to(self.head.weight.dtype)

    def _tokens(self, device: torch.device) -> Tensor:
        """Return the tokens before the fusion, (1, cells, block_dim): the same for all frames."""
        height, width = grid_size(self.config.strides, self.height, self.width)
        rows = torch.arange(height, dtype=torch.float64, device=device) / height
        columns = torch.arange(width, dtype=torch.float64, device=device) / width
        y, x = self._encode(rows), self._encode(columns)
        encoded = torch.cat(
            [
                y[:, None].expand(height, width, y.shape[-1]),
                x[None].expand(height, width, x.shape[-1]),
            ],
            dim=-1,
        )
        tokens: Tensor = self.before(self.place(encoded.flatten(0, 1)[None]))
        return tokens

    def feature_maps(self, index: Tensor) -> Iterator[Tensor]:
        """Yield the output of every stage."""
        config = self.config
        encoded = self._encode(index.double() / max(1, self.n_frames - 1))
        tokens = self._tokens(index.device) * self.time(encoded)[:, None]
        x = self.to_map(self.after(tokens)).transpose(1, 2)
        x = x.unflatten(2, grid_size(config.strides, self.height, self.width))
        style = self.style(encoded)
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x, style)
            yield x

    def _stages(self) -> Iterator[tuple[Stage, int]]:
        """Yield the stages with the pixels of their inputs."""
        n_pixels = cells(self.config.strides, self.height, self.width)
        for stage, stride in zip(self.stages, self.config.strides, strict=True):
            assert isinstance(stage, Stage)
            yield stage, n_pixels
            n_pixels *= stride**2

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame, scales of channels not counted."""
        n_cells = cells(self.config.strides, self.height, self.width)
        macs = self.time.macs() + self.style.macs()
        macs += n_cells * (self.place.macs() + self.to_map.macs())
        macs += self.before.macs(n_cells) + self.after.macs(n_cells)
        for stage, n_pixels in self._stages():
            macs += stage.modulate.macs() + stage.block.macs(n_pixels)
        n_pixels = n_cells * math.prod(self.config.strides) ** 2
        return macs + n_pixels * self.head.weight.numel()

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded frame."""
        config = self.config
        n_cells = cells(config.strides, self.height, self.width)
        token = max(2 * encoding_size(config.pe_levels), config.block_dim, config.fc_dim)
        return max(
            config.stem_dim,
            config.style_dim,
            n_cells * token,
            self.before.peak(n_cells),
            self.after.peak(n_cells),
            *(stage.block.peak(n_pixels) for stage, n_pixels in self._stages()),
        )

    @classmethod
    def sizes(cls, n_params: float) -> dict[str, int]:
        """Return the paper's values from its 12.5 M on; below, a smaller network of that shape.

        It expands less: with few parameters the later stages gain more from them.
        """
        scale = math.sqrt(min(1.0, n_params / 12.5e6))
        return {
            "pe_levels": 80,
            "mlp_dim": max(8, round(128 * scale)),
            "head_dim": max(4, round(64 * scale)),
            "style_dim": max(8, round(128 * scale)),
            "expansion_percent": round(100 + 200 * scale),
            "lower_width": NeRV.sizes(n_params)["lower_width"],
            "block_dim": max(8, round(256 * scale)),
            "stem_dim": max(8, round(512 * scale)),
        }
