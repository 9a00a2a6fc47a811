"""Where the pixels of a frame look at a canvas, and what they see there."""

from __future__ import annotations

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

_N_KEPT = 64
"""Sizes whose matrices are kept: those of a few videos."""


def where(maps: Tensor, flow: Tensor | None, size: tuple[int, int]) -> Tensor:
    """Return the places (B, *size, 2), x and y, that pixels look at; a canvas spans [-1, 1].

    maps (B, 2, 3) are affine, from centres of pixels that span [-1, 1] as well; flow (B, 2, h, w)
    is interpolated linearly between the centres of its cells and added. Both are sums of products
    of a function of y with one of x, so that one matrix product for each coordinate yields them.
    """
    (height, width), n = size, len(maps)
    # Coordinates need more than the 8 bits of bfloat16, which autocast would leave them.
    kind = maps.device, torch.promote_types(maps.dtype, torch.float32)
    y, x = _centres(height, *kind), _centres(width, *kind)
    with torch.autocast(maps.device.type, enabled=False):
        along, down, shift = maps.to(x.dtype).unbind(2)
        rows = torch.stack([y * down[..., None] + shift[..., None], y.new_ones(n, 2, height)], 3)
        columns = torch.stack([x.new_ones(n, 2, width), x * along[..., None]], 2)
        if flow is not None:
            from_rows = _interpolation(flow.shape[2], height, *kind)
            from_columns = _interpolation(flow.shape[3], width, *kind).T
            rows = torch.cat([from_rows @ flow.to(x.dtype), rows], 3)
            columns = torch.cat([from_columns.expand(n, 2, -1, -1), columns], 2)
        return (rows @ columns).permute(0, 2, 3, 1)


def look(canvas: Tensor, places: Tensor) -> Tensor:
    """Return what is seen of a canvas (C, h, w) at places (B, H, W, 2): (B, C, H, W)."""
    pictures = canvas[None].expand(len(places), -1, -1, -1)
    places = places.to(canvas.dtype)
    return F.grid_sample(pictures, places, padding_mode="border", align_corners=False)


@lru_cache(_N_KEPT)
def _centres(n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    # Not an inference tensor: training uses it as well.
    with torch.inference_mode(False):
        return (2 * torch.arange(n, device=device, dtype=dtype) + 1) / n - 1


@lru_cache(_N_KEPT)
def _interpolation(n_cells: int, n: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the matrix (n, n_cells) that interpolates linearly between the centres of cells."""
    with torch.inference_mode(False):
        units = torch.eye(n_cells, device=device, dtype=dtype)[None]
        weights = F.interpolate(units, size=n, mode="linear", align_corners=False)
        return weights[0].T.contiguous()
