"""From where in the frame before each block of a frame is best copied."""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.codec.corrections import shown_before

_SIDE = 8
"""Blocks are first looked for in frames where they have so many pixels a side."""
_REACH = 10
"""How far, in these pixels."""
_PRICE = 0.01
"""What a bit of a vector must save, in variances of a grey value."""
_AROUND = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)]
_BESIDE = [(0, -1), (-1, 0), (-1, 1), (0, 1), (1, 0)]
_LEAST_BITS, _BITS_A_DOUBLING = 1.5, 2.0


class Field:
    """Vectors of some blocks of a frame, and those of the blocks beside them."""

    def __init__(self, places: Tensor, shape: tuple[int, int]) -> None:
        """Places (n,) count the blocks of a grid of this shape, row by row."""
        self.shape = shape
        self.rows = places.div(shape[1], rounding_mode="floor")
        self.columns = places % shape[1]
        numbers = torch.full((shape[0] + 2, shape[1] + 2), -1, device=places.device)
        numbers[self.rows + 1, self.columns + 1] = torch.arange(len(places), device=places.device)
        self.beside = torch.stack(
            [numbers[self.rows + 1 + y, self.columns + 1 + x] for y, x in _BESIDE]
        )
        """Numbers of the blocks left, above, above to the right, right and below, -1 for others."""

    def medians(self, vectors: Tensor) -> Tensor:
        """Return the medians (n, 2) of the first three neighbours, 0 without any."""
        known = self.beside[:3] >= 0
        around = vectors[self.beside[:3]].masked_fill(~known[..., None], 1 << 20)
        count = known.sum(0)
        ordered = around.sort(0).values
        rank = ((count - 1).clamp_min(0) // 2)[None, :, None].expand(1, -1, 2)
        return ordered.gather(0, rank)[0] * (count > 0)[:, None]

    def bits(self, vectors: Tensor, medians: Tensor | None = None) -> Tensor:
        """Return about the bits (n,) that coding vectors (n, 2) takes."""
        medians = self.medians(vectors) if medians is None else medians
        away = torch.log2(1 + (vectors - medians).abs().float())
        return _LEAST_BITS + _BITS_A_DOUBLING * away.sum(1)


class VideoMotion:
    """From where blocks of frames are best copied, found out when it is first asked for."""

    def __init__(self, frames: Tensor, side: int, group: int) -> None:
        """Frames are (N, 3, H, W) samples, blocks have `side` pixels a side.

        Of each group of so many frames the first copies none.
        """
        self._frames, self.side, self.group = frames, side, group
        rows, columns = (-(-size // side) for size in frames.shape[2:])
        self._field = Field(torch.arange(rows * columns, device=frames.device), (rows, columns))
        self._found: dict[int, Tensor] = {}

    def vectors(self, t: int) -> Tensor:
        """Return the vectors (blocks, 2) of frame t > 0, in half pixels."""
        if t not in self._found:
            grey, before = (
                x.float().mean(0)[..., None] for x in (self._frames[t], self._frames[t - 1])
            )
            self._found[t] = find_vectors(grey, before, self._field, self.side).short()
        return self._found[t].long()


def find_vectors(grey: Tensor, before: Tensor, field: Field, side: int) -> Tensor:
    """Return vectors (n, 2), in half pixels, to what looks like the blocks in the frame before.

    Both frames are grey, (H, W, 1) samples.
    """
    price = _PRICE * float(grey.var())
    corners = side * torch.stack([field.rows, field.columns], dim=1)
    still = torch.zeros_like(corners)
    wanted = shown_before(grey, corners, still, side)

    def cost(vectors: Tensor, medians: Tensor) -> Tensor:
        shown = shown_before(before, corners, vectors, side)
        error = shown.sub_(wanted).square_().sum((1, 2, 3))
        return error + price * field.bits(vectors, medians)

    def best_of(best: Tensor, others: Iterable[Tensor]) -> Tensor:
        medians = field.medians(best)
        least = cost(best, medians)
        for vectors in others:
            costs = cost(vectors, medians)
            better = costs < least
            least = torch.where(better, costs, least)
            best = torch.where(better[:, None], vectors, best)
        return best

    best = 2 * _whole_vectors(grey, before, field, side)
    around = torch.tensor(_AROUND, device=grey.device)
    for size in (2, 1) if side > _SIDE else (1,):
        beside = [torch.where((i >= 0)[:, None], best[i], best) for i in field.beside]
        best = best_of(best, [still, field.medians(best), *beside])
        best = best_of(best, [best + size * offset for offset in around])
    return best


def _whole_vectors(grey: Tensor, before: Tensor, field: Field, side: int) -> Tensor:
    """Return vectors (n, 2) in pixels, found in frames (H, W, 1) so small that blocks have 8."""
    scale = side // _SIDE
    small = torch.stack([grey, before]).permute(0, 3, 1, 2)
    small = F.avg_pool2d(small, scale, ceil_mode=True)
    rows, columns = field.shape
    beyond = [_SIDE * n - size for n, size in zip(field.shape, small.shape[2:], strict=True)]
    small = F.pad(small, (0, beyond[1], 0, beyond[0]), mode="replicate")
    wide = F.pad(small[1:], (_REACH,) * 4, mode="replicate")[0, 0]
    height, width = small.shape[2:]
    room = torch.empty(height, width, device=grey.device)
    n = 2 * _REACH + 1
    errors = torch.empty(n, n, *field.shape, device=grey.device)
    for y in range(n):
        for x in range(n):
            torch.sub(wide[y : y + height, x : x + width], small[0, 0], out=room).square_()
            lines = room.view(rows, _SIDE, width).sum(1)
            torch.sum(lines.view(rows, columns, _SIDE), 2, out=errors[y, x])
    nearest = errors.view(n * n, rows, columns)[:, field.rows, field.columns].argmin(0)
    vectors = torch.stack([nearest.div(n, rounding_mode="floor"), nearest % n], dim=1)
    return scale * (vectors - _REACH)
