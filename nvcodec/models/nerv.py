"""NeRV: a frame index goes in, a frame comes out (Chen et al., NeurIPS 2021).

The positional encoding of t = index / n_frames goes through linear layers to a map of 9 x 16 cells
or so, which NeRV blocks, act(norm(up(x))), enlarge to the frame; a 1x1 convolution makes RGB of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nvcodec.fields import choice, u8, u8_list, u16
from nvcodec.models.layers import (
    ACTIVATION_NAMES,
    NORM_NAMES,
    OUTPUT_NAMES,
    UPSAMPLING_NAMES,
    Mlp,
    UpBlock,
    check_encoding,
    encoding_size,
    positional_encoding,
)
from nvcodec.models.stages import MAX_FC_DIM, StageModel, cells, stage_widths
from nvcodec.models.strides import grid_size


@dataclass(frozen=True, slots=True, kw_only=True)
class NeRVConfig:
    """The integers that define a NeRV."""

    pe_base_percent: int = u16(100, 1000, "100 b, b = base of the positional encoding", 125)
    pe_levels: int = u8(0, 255, "frequencies of the positional encoding, 0: t itself", 40)
    stem_dim: int = u16(1, 4096, "values of a hidden layer of the stem", 512)
    stem_layers: int = u8(0, 8, "hidden layers of the stem", 1)
    fc_dim: int = u16(1, MAX_FC_DIM, "channels after the stem")
    expansion_percent: int = u16(1, 1600, "100 e, e = width of stage 0 to fc_dim", 100)
    reduction_percent: int = u16(100, 1000, "100 r, r = ratio of consecutive widths", 200)
    lower_width: int = u8(1, 255, "smallest width of a stage but the first", 96)
    strides: tuple[int, ...] = u8_list(1, 8, "upsampling factor of each stage", 8)
    blocks: tuple[int, ...] = u8_list(1, 8, "blocks of each stage, or of all", 8, (1,))
    upsampling: int = choice(UPSAMPLING_NAMES, "upsampling", 0)
    norm: int = choice(NORM_NAMES, "normalisation of a block", 0)
    activation: int = choice(ACTIVATION_NAMES, "activation", 0)
    output: int = choice(OUTPUT_NAMES, "map of the head's values to samples", 0)

    def widths(self) -> list[int]:
        """Return the channels after each stage."""
        return stage_widths(
            self.fc_dim,
            self.strides,
            expansion_percent=self.expansion_percent,
            reduction_percent=self.reduction_percent,
            lower_width=self.lower_width,
        )

    def n_blocks(self) -> list[int]:
        """Return the number of blocks of each stage; raise ValueError when the list is too long."""
        if len(self.blocks) == 1:
            return list(self.blocks) * len(self.strides)
        if len(self.blocks) != len(self.strides):
            raise ValueError(
                f"blocks has {len(self.blocks)} entries, allowed are 1 or one for each of the "
                f"{len(self.strides)} strides"
            )
        return list(self.blocks)


def nerv_block(c_in: int, c_out: int, stride: int, config: Any) -> UpBlock:
    """Return act(norm(up(x))) with the upsampling, norm and activation of a Config."""
    kernels = {"pshuffle": 3, "deconv": stride, "bilinear": 2 * stride + 1}
    return UpBlock(
        c_in,
        c_out,
        stride=stride,
        kernel=kernels[UPSAMPLING_NAMES[config.upsampling]],
        upsampling=config.upsampling,
        norm=config.norm,
        activation=config.activation,
        align_corners=True,
    )


class NeRV(StageModel):
    """The whole network: all of it goes into the file."""

    Config = NeRVConfig
    config: NeRVConfig

    def __init__(self, config: NeRVConfig, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        check_encoding(config.pe_base_percent, config.pe_levels)
        n_values = cells(config.strides, height, width) * config.fc_dim
        hidden = [config.stem_dim] * config.stem_layers
        stem = [encoding_size(config.pe_levels), *hidden, n_values]
        self.stem = Mlp(stem, config.activation)
        stages = []
        c_in = config.fc_dim
        for stride, c_out, n_blocks in zip(
            config.strides, config.widths(), config.n_blocks(), strict=True
        ):
            blocks = [nerv_block(c_in, c_out, stride, config)]
            blocks += [nerv_block(c_out, c_out, 1, config) for _ in range(n_blocks - 1)]
            stages.append(nn.Sequential(*blocks))
            c_in = c_out
        self.stages = nn.ModuleList(stages)
        self.head = nn.Conv2d(c_in, 3, 1)

    def feature_maps(self, index: Tensor) -> Iterator[Tensor]:
        """Yield the output of every stage."""
        config = self.config
        t = index.double() / self.n_frames
        encoded = positional_encoding(t, config.pe_base_percent / 100, config.pe_levels)
        x = self.stem(encoded.to(self.head.weight.dtype))
        x = x.view(len(index), config.fc_dim, *grid_size(config.strides, self.height, self.width))
        x = x.contiguous(memory_format=torch.channels_last)
        for stage in self.stages:
            x = stage(x)
            yield x

    def _blocks(self) -> Iterator[tuple[UpBlock, int]]:
        """Yield all blocks with the pixels of their inputs."""
        n_pixels = cells(self.config.strides, self.height, self.width)
        for stage in self.stages:
            assert isinstance(stage, nn.Sequential)
            for block in stage:
                assert isinstance(block, UpBlock)
                yield block, n_pixels
                n_pixels *= block.stride**2

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates of one padded frame."""
        macs = self.stem.macs() + sum(block.macs(n) for block, n in self._blocks())
        *_, (last, n_pixels) = self._blocks()
        return macs + n_pixels * last.stride**2 * self.head.weight.numel()

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one padded frame."""
        stem = max(len(p) for p in self.stem.parameters())
        return max(stem, *(block.peak(n) for block, n in self._blocks()))

    @classmethod
    def sizes(cls, n_params: float) -> dict[str, int]:
        """Return the paper's values from NeRV-S (3.2 M) on; below, a narrower stem and stages.

        The stem shrinks faster than the stages: with few parameters these gain more from them.
        """
        share = min(1.0, n_params / 3.2e6)
        return {
            "pe_levels": 40,
            "lower_width": max(4, round(96 * math.sqrt(share))),
            "stem_dim": max(8, round(512 * share)),
        }
