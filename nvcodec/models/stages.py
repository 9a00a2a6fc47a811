"""What NeRV and E-NeRV share: upsampling stages of NeRV's widths, a 1x1 head, heads before it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

from torch import Tensor, nn

from nvcodec.models.base import (
    VideoModel,
    count_params,
    parse_options,
    shape_of_options,
    shape_only,
    widest,
)
from nvcodec.models.layers import conv_1x1, max_levels, squash
from nvcodec.models.strides import grid_size, solve_strides

MAX_FC_DIM = 2048
N_CELLS = 144
"""Cells of the grid that the stages start from: the papers' 9 x 16."""
FACTORS = (5, 3, 2)
"""Upsampling factors of stages: 5, 2, 2, 2, 2 for 720p, 5, 3, 2, 2, 2 for 1080p, as published."""


class StageModel(VideoModel):
    """A network whose last feature map, of the size of the padded frame, goes through a 1x1 head.

    `Config` has the fields pe_base_percent, pe_levels, fc_dim, strides and output; `solve` finds
    fc_dim, the channels of the first feature map.
    """

    head: nn.Conv2d

    def feature_maps(self, index: Tensor) -> Iterator[Tensor]:
        """Yield the output of every stage, (B, channels, h, w), coarsest first."""
        raise NotImplementedError

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices."""
        return self.draw_all(index, latents, nn.ModuleList())[0]

    def draw_all(
        self, index: Tensor, latents: dict[str, Tensor] | None, heads: nn.ModuleList
    ) -> list[Tensor]:
        """Draw the frames, then what the heads make of the padded frames of earlier stages."""
        coarse = []
        for i, x in enumerate(self.feature_maps(index)):
            if i < len(heads):
                head = heads[i]
                assert isinstance(head, nn.Conv2d)
                coarse.append(squash(self.config.output, conv_1x1(head, x)))
        frames = conv_1x1(self.head, x)[:, :, : self.height, : self.width]
        return [squash(self.config.output, frames), *coarse]

    def side_heads(self) -> nn.ModuleList | None:
        """Return a 1x1 head for every stage but the last (NeRV without `single_res`)."""
        widths = self.config.widths()[:-1]
        return nn.ModuleList(nn.Conv2d(width, 3, 1) for width in widths) if widths else None

    @classmethod
    def sizes(cls, n_params: float) -> dict[str, int]:
        """Return values for the Config fields that suit n_params, in the order of `solve`."""
        raise NotImplementedError

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> Any:
        """Return the smallest Config with these options; raise UsageError as `solve` does."""
        given = cls._parse(height, width, options)
        config = cls.Config(**dict.fromkeys(cls.sizes(0), 1) | given, fc_dim=1)
        shape_of_options(cls, config, n_frames, height, width)
        return config

    @classmethod
    def solve(cls, n_params: float, n_frames: int, height: int, width: int, **options: Any) -> Any:
        """Return the Config with the largest fc_dim that has at most n_params values.

        Options are the other Config fields. `strides` default to `solve_strides` with 144 cells, in
        stages of 5, 3 or 2, the fields of `sizes` to what it says. Where even fc_dim 1 is too much,
        the latter are halved in turn, in their order, until it fits.
        """
        smallest = cls.smallest(n_frames, height, width, **options)
        given = cls._parse(height, width, options)
        sizes = {k: v for k, v in cls.sizes(n_params).items() if k not in given}
        if "pe_levels" in sizes:
            sizes["pe_levels"] = min(sizes["pe_levels"], max_levels(smallest.pe_base_percent))

        def build(fc_dim: int) -> Any:
            return cls.Config(**sizes | given, fc_dim=fc_dim)

        for name in cycle(sizes):
            model = shape_only(cls, build(1), n_frames, height, width)
            if count_params(model) <= n_params or max(sizes.values()) == 1:
                break
            sizes[name] = max(1, sizes[name] // 2)
        return widest(cls, build, MAX_FC_DIM, n_params, n_frames, height, width)

    @classmethod
    def _parse(cls, height: int, width: int, options: Mapping[str, Any]) -> dict[str, Any]:
        given = parse_options(cls, options, solved="fc_dim")
        return {"strides": solve_strides(height, width, N_CELLS, FACTORS)} | given


def stage_widths(
    first: int,
    strides: tuple[int, ...],
    *,
    expansion_percent: int,
    reduction_percent: int,
    lower_width: int,
) -> list[int]:
    """Return the channels after each stage, from those of the stem (NeRV).

    Stage 0 has floor(first expansion), at least 1; later ones max(floor(C / reduction),
    lower_width), without the reduction where the stride is 1.
    """
    widths = [max(1, first * expansion_percent // 100)]
    for stride in strides[1:]:
        width = widths[-1] if stride == 1 else widths[-1] * 100 // reduction_percent
        widths.append(max(width, lower_width))
    return widths


def cells(strides: tuple[int, ...], height: int, width: int) -> int:
    """Return the number of cells of the coarsest grid."""
    return math.prod(grid_size(strides, height, width))
