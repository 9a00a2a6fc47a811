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
        # All x come before all y, so that frames lie below each other in memory.
        along, down, shift = maps.to(x.dtype).transpose(0, 1).unbind(2)
        rows = torch.stack([y * down[..., None] + shift[..., None], y.new_ones(2, n, height)], 3)
        columns = torch.stack([x.new_ones(2, n, width), x * along[..., None]], 2)
        if flow is not None:
            from_rows = _interpolation(flow.shape[2], height, *kind)
            from_columns = _interpolation(flow.shape[3], width, *kind).T
            rows = torch.cat([from_rows @ flow.to(x.dtype).transpose(0, 1), rows], 3)
            columns = torch.cat([from_columns.expand(2, n, -1, -1), columns], 2)
        return (rows @ columns).permute(1, 2, 3, 0)


def enlarge(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Return (..., h, w) interpolated linearly between the centres of cells, to (..., *size).

    By two matrix products: the gradient of PyTorch's own function is slow.
    """
    kind = cells.device, cells.dtype
    rows = _interpolation(cells.shape[-2], size[0], *kind)
    return rows @ cells @ _interpolation(cells.shape[-1], size[1], *kind).T


def look(canvas: Tensor, places: Tensor) -> Tensor:
    """Return what is seen of a canvas (C, h, w) at places (B, H, W, 2): (B, C, H, W)."""
    places = places.to(canvas.dtype)
    if len(canvas) == 1:
        # As one tall frame: PyTorch makes a gradient to the canvas for every frame by itself.
        tall = places.flatten(0, 1)[None]
        seen = F.grid_sample(canvas[None], tall, padding_mode="border", align_corners=False)
        return seen.view(len(places), 1, *places.shape[1:3])
    pictures = canvas[None].expand(len(places), -1, -1, -1)
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
