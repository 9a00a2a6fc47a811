"""Convolution, GELU and PixelShuffle in one pass on a CPU, by Winograd's minimal filtering.

An output tile of 4x4 pixels of a k x k convolution comes from T^2 products a channel pair instead
of 16 k^2, T = k + 3: A ((G w G') * (B' x B)) A' (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", 2015). All tiles of a few rows go through it together as matrix products whose
operands stay in the cache, and the activation and the shuffle are done while they are there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

KERNELS = (3, 5)
_TILE = 4
_POINTS = tuple(Fraction(p) for p in ("0", "1", "-1", "1/2", "-1/2", "2", "-2"))
_CHUNK_TILES = 160
_MIN_PIXELS = 700
_MIN_WEIGHTS = 30_000


def pays(x: Tensor, weight: Tensor) -> bool:
    """Tell whether `up_conv` computes this convolution, and faster than the library does.

    The limits are where the two were measured to be equal (benchmarks/NOTES.md).
    """
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and not torch.is_autocast_enabled("cpu")
        and weight.shape[-1] in KERNELS
        and weight.numel() >= _MIN_WEIGHTS
        and x.shape[-2] * x.shape[-1] >= _MIN_PIXELS
    )


def up_conv(x: Tensor, weight: Tensor, bias: Tensor, *, stride: int, gelu: bool) -> Tensor:
    """Return pixel_shuffle(gelu(conv2d(x, weight, bias, padding=k // 2)), stride), float32.

    Shapes: x (B, C, H, W), weight (O, C, k, k) with k of KERNELS -> (B, O / stride^2, H stride,
    W stride), in channels_last layout. Without `gelu` the activation is left out.
    """
    result: Tensor = _UpConv.apply(x, weight, bias, stride, gelu)  # type: ignore[no-untyped-call]
    return result


@dataclass(frozen=True, slots=True)
class Transforms:
    """Matrices for a k x k kernel and T x T tiles, each for both axes at once."""

    kernel: Tensor
    """(T^2, k^2): kernels into the domain of the products."""
    tile: Tensor
    """(T^2, T^2): input tiles into it."""
    output: Tensor
    """(16, T^2): products out of it."""


@cache
def transforms(k: int) -> Transforms:
    """Return the matrices of F(4, k) by Cook and Toom's construction on fixed points.

    With finite points p_i: A'_ji = p_i^j, G_ij = p_i^j / prod_{l != i} (p_i - p_l), and row i of B'
    has the coefficients of prod_{l != i} (x - p_l); the last row of each is the point at infinity.
    """
    t = k + _TILE - 1
    points = _POINTS[: t - 1]
    output = [[p**j for p in points] + [Fraction(j == _TILE - 1)] for j in range(_TILE)]
    kernel, tile = [], []
    for p in points:
        others = [q for q in points if q != p]
        scale = Fraction(1)
        for q in others:
            scale *= p - q
        kernel.append([p**j / scale for j in range(k)])
        tile.append([*_monic(others), Fraction(0)])
    kernel.append([Fraction(j == k - 1) for j in range(k)])
    tile.append(_monic(list(points)))
    return Transforms(kernel=_both_axes(kernel), tile=_both_axes(tile), output=_both_axes(output))


def _monic(roots: list[Fraction]) -> list[Fraction]:
    """Return the coefficients of prod (x - root), the constant first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        scaled = [root * c for c in coefficients] + [Fraction(0)]
        coefficients = [a - b for a, b in zip(shifted, scaled, strict=True)]
    return coefficients


def _both_axes(rows: list[list[Fraction]]) -> Tensor:
    matrix = torch.tensor([[float(value) for value in row] for row in rows], dtype=torch.float64)
    return torch.kron(matrix, matrix).float()


class _Tiling:
    """The tiles of a batch of maps, in chunks of whole tile rows of one map."""

    def __init__(self, x: Tensor, k: int) -> None:
        n_maps, self.c_in, self.height, self.width = x.shape
        self.side = k + _TILE - 1
        self.n_rows, self.n_cols = -(-self.height // _TILE), -(-self.width // _TILE)
        per_chunk = min(self.n_rows, max(1, _CHUNK_TILES // self.n_cols))
        self.per_chunk = per_chunk * self.n_cols
        self.n_tiles = n_maps * self.n_rows * self.n_cols
        self.chunks = [
            (n, row, min(per_chunk, self.n_rows - row))
            for n in range(n_maps)
            for row in range(0, self.n_rows, per_chunk)
        ]
        self.before = k // 2
        # A product of the point 1 on both axes goes into all values of its output tile alike.
        self.everywhere = self.side + 1
        # A whole number of tiles, and one more for what the last ones overlap.
        self.padded = (n_maps, _TILE * (self.n_rows + 1), _TILE * (self.n_cols + 1), self.c_in)

    def pad(self, x: Tensor) -> Tensor:
        """Return x (B, C, H, W) as (B, H', W', C) with zeros around it."""
        below, right = self.padded[1] - self.height, self.padded[2] - self.width
        edges = (self.before, right - self.before, self.before, below - self.before)
        return F.pad(x.permute(0, 2, 3, 1), (0, 0, *edges))

    def crop(self, padded: Tensor) -> Tensor:
        """Undo `pad`."""
        rows = slice(self.before, self.before + self.height)
        cols = slice(self.before, self.before + self.width)
        return padded[:, rows, cols].permute(0, 3, 1, 2)

    def read(self, padded: Tensor, chunk: tuple[int, int, int], out: Tensor) -> None:
        """Copy the overlapping tiles of a chunk to out (T, T, rows, cols, C), of any shape."""
        n, row, n_rows = chunk
        first = padded[n, _TILE * row :]
        down, along, step = first.stride()
        view = first.as_strided(
            (self.side, self.side, n_rows, self.n_cols, self.c_in),
            (down, along, _TILE * down, _TILE * along, step),
            first.storage_offset(),
        )
        out.view(view.shape).copy_(view)

    def add(self, padded: Tensor, chunk: tuple[int, int, int], tiles: Tensor) -> None:
        """Add tiles (T, T, rows, cols, C) where `read` took them, those that overlap by turns."""
        n, row, n_rows = chunk
        tiles = tiles.view(self.side, self.side, n_rows, self.n_cols, self.c_in)
        for i, j in self._corners():
            here = padded[n, _TILE * row + i :, j:][: _TILE * n_rows, : _TILE * self.n_cols]
            here = here.view(n_rows, _TILE, self.n_cols, _TILE, self.c_in)
            part = tiles[i : i + _TILE, j : j + _TILE].permute(2, 0, 3, 1, 4)
            here[:, : part.shape[1], :, : part.shape[3]].add_(part)

    def _corners(self) -> Iterator[tuple[int, int]]:
        starts = range(0, self.side, _TILE)
        return ((i, j) for i in starts for j in starts)

    def shuffled(self, y: Tensor, chunk: tuple[int, int, int], stride: int) -> Tensor:
        """View a chunk of y (B, H'' stride, W'' stride, c) as (4, 4, rows, cols, s, s, c)."""
        n, row, n_rows = chunk
        s = stride
        here = y[n, _TILE * s * row :][: _TILE * s * n_rows]
        view = here.view(n_rows, _TILE, s, self.n_cols, _TILE, s, y.shape[-1])
        return view.permute(1, 4, 0, 3, 2, 5, 6)


class _UpConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight, bias, stride, gelu):  # type: ignore[no-untyped-def]
        c_out, c_in, k, _ = weight.shape
        c = c_out // stride**2
        grid, by = _Tiling(x, k), transforms(k)
        padded = grid.pad(x)
        # Channels as (s, s, c): the order in which the shuffle wants them.
        shuffled = weight.view(c, stride, stride, c_in, k, k).permute(4, 5, 3, 1, 2, 0)
        kernels = (by.kernel @ shuffled.reshape(k * k, -1)).view(-1, c_in, c_out)
        offset = bias.view(c, stride, stride).permute(1, 2, 0).reshape(-1)
        y = x.new_empty(len(x), stride * _TILE * grid.n_rows, stride * _TILE * grid.n_cols, c)
        keep = gelu and any(ctx.needs_input_grad)
        before_gelu = x.new_empty(grid.n_tiles if keep else grid.per_chunk, _TILE**2, c_out)
        scratch = _Scratch(grid, c_out)
        first = 0
        for chunk in grid.chunks:
            n = chunk[2] * grid.n_cols
            seen = scratch.transform(by.tile, scratch.read(padded, chunk), n)
            products = torch.bmm(seen, kernels, out=scratch.products(n))
            products[grid.everywhere].add_(offset)
            out = before_gelu[first : first + n].view(_TILE**2, -1)
            torch.mm(by.output, products.view(len(products), -1), out=out)
            if keep:
                first += n
                out = torch.ops.aten.gelu.out(out, out=scratch.pixels(n))
            elif gelu:
                torch.ops.aten.gelu_(out)
            view = grid.shuffled(y, chunk, stride)
            view.copy_(out.view(view.shape))
        ctx.save_for_backward(padded, kernels, before_gelu if keep else None)
        ctx.stride, ctx.k, ctx.grid = stride, k, grid
        y = y[:, : stride * grid.height, : stride * grid.width].permute(0, 3, 1, 2)
        return y.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx, grad):  # type: ignore[no-untyped-def]
        padded, kernels, before_gelu = ctx.saved_tensors
        _, c_in, c_out = kernels.shape
        stride, k, grid = ctx.stride, ctx.k, ctx.grid
        c = c_out // stride**2
        by = transforms(k)
        below = stride * (_TILE * grid.n_rows - grid.height)
        right = stride * (_TILE * grid.n_cols - grid.width)
        grad = grad.permute(0, 2, 3, 1)
        grad = F.pad(grad, (0, 0, 0, right, 0, below)) if below or right else grad.contiguous()
        grad_padded = torch.zeros_like(padded)
        grad_kernels, grad_offset = torch.zeros_like(kernels), kernels.new_zeros(c_out)
        turned = kernels.transpose(1, 2).contiguous()
        back, spread = by.tile.T.contiguous(), by.output.T.contiguous()
        scratch = _Scratch(grid, c_out)
        first = 0
        for chunk in grid.chunks:
            n = chunk[2] * grid.n_cols
            view = grid.shuffled(grad, chunk, stride)
            here = scratch.pixels(n)
            here.view(view.shape).copy_(view)
            if before_gelu is not None:
                before = before_gelu[first : first + n].view(here.shape)
                torch.ops.aten.gelu_backward.grad_input(here, before, grad_input=here)
                first += n
            products = scratch.products(n)
            torch.mm(spread, here, out=products.view(len(products), -1))
            grad_offset += products[grid.everywhere].sum(0)
            seen = scratch.transform(by.tile, scratch.read(padded, chunk), n)
            grad_kernels.baddbmm_(seen.transpose(1, 2), products)
            if ctx.needs_input_grad[0]:
                tiles = torch.bmm(products, turned, out=seen)
                tiles = torch.mm(back, tiles.view(len(tiles), -1), out=scratch.tiles(n))
                grid.add(grad_padded, chunk, tiles)
        grad_weight = (by.kernel.T @ grad_kernels.view(len(by.tile), -1)).view(
            k, k, c_in, stride, stride, c
        )
        grad_weight = grad_weight.permute(5, 3, 4, 2, 0, 1).reshape(c_out, c_in, k, k)
        grad_bias = grad_offset.view(stride, stride, c).permute(2, 0, 1).reshape(-1)
        # Some layers are slow where their gradient has gaps.
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grid.crop(grad_padded).contiguous(memory_format=torch.channels_last)
        return grad_x, grad_weight, grad_bias, None, None


class _Scratch:
    """Memory that all chunks use in turn: fresh memory costs more than the products."""

    def __init__(self, grid: _Tiling, c_out: int) -> None:
        n, n_points = grid.per_chunk, grid.side**2
        self.grid, self.c_out = grid, c_out
        self._tiles = torch.empty(n_points * n * grid.c_in)
        self._seen = torch.empty_like(self._tiles)
        self._products = torch.empty(n_points * n * c_out)
        self._pixels = torch.empty(_TILE**2 * n * c_out)

    def tiles(self, n: int) -> Tensor:
        """Return (T^2, n C) for n tiles."""
        n_points = self.grid.side**2
        return self._tiles[: n_points * n * self.grid.c_in].view(n_points, -1)

    def read(self, padded: Tensor, chunk: tuple[int, int, int]) -> Tensor:
        """Return the tiles of a chunk (T^2, n C)."""
        tiles = self.tiles(chunk[2] * self.grid.n_cols)
        self.grid.read(padded, chunk, tiles)
        return tiles

    def transform(self, matrix: Tensor, tiles: Tensor, n: int) -> Tensor:
        """Return matrix @ tiles as (T^2, n, C)."""
        seen = self._seen[: tiles.numel()].view(tiles.shape)
        torch.mm(matrix, tiles, out=seen)
        return seen.view(len(tiles), n, -1)

    def products(self, n: int) -> Tensor:
        """Return memory of (T^2, n, O)."""
        n_points = self.grid.side**2
        return self._products[: n_points * n * self.c_out].view(n_points, n, -1)

    def pixels(self, n: int) -> Tensor:
        """Return memory of (16, n O)."""
        return self._pixels[: _TILE**2 * n * self.c_out].view(_TILE**2, -1)
