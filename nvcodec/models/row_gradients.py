"""Layers of few channels with their gradients by hand, on a CPU a few rows of pixels at a time.

For rows.py, whose decoding uses the block as well. Vectors over a handful of channels are short,
and the library's norm and 1x1 convolutions take most of a step for them; here all sums run along
the pixels. What the gradient needs on the way is computed again from the input of a part, in the
cache. Sums are float32 at least, whatever kind the values are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nvcodec.models.layers import squash_, squash_gradient

EPSILON = 1e-5
MAX_CHANNELS = 16
"""Of a block in training: above, products in bfloat16 are faster (benchmarks/NOTES.md)."""
_CHUNK_VALUES = 2_000_000


def mix(x: Tensor, y: Tensor, expand: Tensor, project: Tensor) -> Tensor:
    """Return x + project(GELU(expand(norm(y)))) of pixels (P, C).

    expand (wide, C + 1) and project (C, wide + 1) have their bias as last column.
    """
    result: Tensor = _Mix.apply(x, y, expand, project)  # type: ignore[no-untyped-call]
    return result


def blend(cells: Tensor, seen: Tensor, weights: Tensor, output: int) -> Tensor:
    """Return squash(PixelShuffle(colours) + weights (PixelShuffle(gates) seen)): (B, 3, H, W).

    cells (B, h, w, stride, stride, 3 + C) hold the three colours, then C gates of what is seen
    (B, C, H, W) of detail; weights are (3, C). `output` is the function (layers.squash).
    """
    result: Tensor = _Blend.apply(cells, seen, weights, output)  # type: ignore[no-untyped-call]
    return result


class _Mix(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, expand: Tensor, project: Tensor) -> Tensor:
        ctx.save_for_backward(y, expand, project)
        result = torch.empty_like(x)
        parts = _Parts(y, expand)
        for before, here, to in zip(*map(parts.split, (x, y, result)), strict=True):
            parts.start(len(here))
            grown = parts.acted[:-1]
            parts.widen(here, grown)
            torch.ops.aten.gelu.out(grown, out=grown)
            torch.add(before, torch.mm(project, parts.acted, out=parts.spare).T, out=to)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        (gradient,) = gradients
        y, expand, project = ctx.saved_tensors
        to_y = torch.empty_like(y)
        to_expand, to_project = torch.zeros_like(expand), torch.zeros_like(project)
        parts = _Parts(y, expand)
        for given, here, to in zip(*map(parts.split, (gradient, y, to_y)), strict=True):
            parts.start(len(here))
            grown, acted = parts.grown, parts.acted[:-1]
            centred, scale = parts.widen(here, grown)
            torch.ops.aten.gelu.out(grown, out=acted)
            wanted = given.to(expand.dtype)
            to_project.addmm_(wanted.T, parts.acted.T)
            to_grown = torch.mm(project[:, :-1].T, wanted.T, out=acted)
            torch.ops.aten.gelu_backward.grad_input(to_grown, grown, grad_input=to_grown)
            to_expand.addmm_(to_grown, parts.normed.T)
            to_normed = torch.mm(expand[:, :-1].T, to_grown, out=parts.spare)
            along = (to_normed * centred).mean(0)
            to_normed.sub_(centred.mul_(along)).mul_(scale)
            to.copy_(torch.mm(parts.centre, to_normed).T)
        return gradient, to_y, to_expand, to_project


class _Parts:
    """Memory for one part of the pixels at a time, turned to (channels, pixels).

    `normed` and `acted` have a last row of ones, by which a bias is multiplied.
    """

    def __init__(self, y: Tensor, expand: Tensor) -> None:
        self.expand = expand
        c, wide = expand.shape[1] - 1, len(expand)
        self.centre = torch.eye(c, dtype=expand.dtype) - 1 / c
        self.n = min(len(y), max(1, _CHUNK_VALUES // (4 * c + 3 * wide)))
        self.heights = (c + 1, c, wide, wide + 1)
        self.memory = [expand.new_empty(height * self.n) for height in self.heights]

    def split(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Return the parts of pixels (P, C)."""
        return torch.split(pixels, self.n)

    def start(self, n: int) -> None:
        """Take the memory for a part of n pixels."""
        self.normed, self.spare, self.grown, self.acted = (
            memory[: height * n].view(height, n)
            for memory, height in zip(self.memory, self.heights, strict=True)
        )
        self.normed[-1] = self.acted[-1] = 1

    def widen(self, here: Tensor, to: Tensor) -> tuple[Tensor, Tensor]:
        """Put expand(norm(here)) there; return norm(here) and what it was multiplied by."""
        centred = torch.mm(self.centre, here.to(self.expand.dtype).T, out=self.normed[:-1])
        scale = torch.mul(centred, centred, out=self.spare).mean(0).add_(EPSILON).rsqrt_()
        centred.mul_(scale)
        torch.mm(self.expand, self.normed, out=to)
        return centred, scale


class _Blend(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, cells: Tensor, seen: Tensor, weights: Tensor, output: int) -> Tensor:
        b, height, width, stride, _, _ = cells.shape
        drawn = weights.new_empty(b, 3, height * stride, width * stride)
        gates = torch.empty_like(seen)
        for here, fine in _strips(cells):
            planes = _planes(cells[here])
            colours = torch.empty(planes[:3].shape, dtype=weights.dtype).copy_(planes[:3])
            gate = gates[fine]
            _coarse(gate, stride).copy_(planes[3:])
            detail = (gate * seen[fine]).flatten(1)
            colours = squash_(output, colours.view(3, -1).addmm_(weights, detail))
            drawn[fine] = colours.view(3, *gate.shape[1:])
        ctx.save_for_backward(drawn, gates, seen, weights)
        ctx.output, ctx.kind, ctx.shape = output, cells.dtype, cells.shape
        return drawn

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        drawn, gates, seen, weights = ctx.saved_tensors
        to_cells = torch.empty(ctx.shape, dtype=ctx.kind)
        to_seen, to_weights = torch.empty_like(seen), torch.zeros_like(weights)
        stride = ctx.shape[3]
        for here, fine in _strips(to_cells):
            wanted = squash_gradient(ctx.output, gradient[fine], drawn[fine]).flatten(1)
            gate, near = gates[fine], seen[fine]
            to_weights.addmm_(wanted, (gate * near).flatten(1).T)
            to_detail = torch.empty_like(gate)
            torch.mm(weights.T, wanted, out=to_detail.view(len(gate), -1))
            planes = _planes(to_cells[here])
            planes[:3] = _coarse(wanted.view(3, *gate.shape[1:]), stride)
            planes[3:] = _coarse(to_detail * near, stride)
            torch.mul(to_detail, gate, out=to_seen[fine])
        return to_cells, to_seen, to_weights, None


def _strips(cells: Tensor) -> Iterator[tuple[tuple[int, slice], tuple[int, slice, slice]]]:
    """Yield indices of some rows of cells, and of the same rows of pixels in pictures."""
    b, height, _, stride, _, _ = cells.shape
    n = max(1, _CHUNK_VALUES // (4 * cells[0, 0].numel()))
    for i in range(b):
        for first in range(0, height, n):
            last = min(first + n, height)
            yield (i, slice(first, last)), (i, slice(None), slice(first * stride, last * stride))


def _planes(cells: Tensor) -> Tensor:
    """Return cells (h, w, stride, stride, C) as (C, h, stride, w, stride)."""
    return cells.permute(4, 0, 2, 1, 3)


def _coarse(pictures: Tensor, stride: int) -> Tensor:
    """Return pictures (C, h stride, w stride) in that shape, too."""
    c, height, width = pictures.shape
    return pictures.view(c, height // stride, stride, width // stride, stride)
