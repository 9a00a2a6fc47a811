"""Quantisation and its code length as one differentiable operation.

The rate is the code length under a zero-mean Laplace distribution per row (NVRC, arXiv 2409.07414,
section 3, with Laplace in place of Gaussian). Written as chains of tensor operations, this took as
long as a quarter of the training of a small network; forward and backward by hand take a tenth.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

MIN_SCALE = 0.05
_LOG2E = 1 / math.log(2.0)
_CHUNK_VALUES = 1 << 16
"""A dozen vectors of this size fit into a CPU's cache."""


def as_decoded(values: Tensor, step: Tensor, cap: Tensor | None = None) -> Tensor:
    """Return values as a decoder would see them, rounded with the gradient of the identity.

    step and cap, which bounds the magnitudes of symbols, have a shape that broadcasts to theirs.
    """
    seen: Tensor = _AsDecoded.apply(values, step, cap)  # type: ignore[no-untyped-call]
    return seen


class _AsDecoded(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, step: Tensor, cap: Tensor | None) -> Tensor:
        exact = values / step
        inside = None if cap is None else exact.abs() <= cap
        symbols = _capped(exact, cap).round()
        rounding = None
        if ctx.needs_input_grad[1]:
            rounding = symbols - (exact if inside is None else exact * inside)
        ctx.save_for_backward(rounding, inside)
        ctx.step_shape = step.shape
        return symbols.mul_(step)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (from_seen,) = gradients
        rounding, inside = ctx.saved_tensors
        to_step = None
        if rounding is not None:
            to_step = (from_seen * rounding).sum_to_size(ctx.step_shape)
        return from_seen if inside is None else from_seen * inside, to_step, None


def code_length(
    values: Tensor,
    steps: Tensor,
    scales: Tensor,
    row: Tensor,
    before: Tensor | None = None,
    cap: Tensor | None = None,
) -> Tensor:
    """Return the code length in bits (scalar) of the symbols of values (n,).

    Value i has the step steps[row[i]] and the Laplace scale scales[row[i]], in steps, which gets no
    gradient. With before the code length is that of the difference to round(before / step). Its
    gradient is that of value / step before it is rounded: see `Quantizer.bits`.
    """
    bits: Tensor = _CodeLength.apply(values, steps, scales, row, before, cap)  # type: ignore[no-untyped-call]
    return bits


class _CodeLength(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        steps: Tensor,
        scales: Tensor,
        row: Tensor,
        before: Tensor | None,
        cap: Tensor | None,
    ) -> Tensor:
        step = steps.index_select(0, row)
        exact = values / step
        inside = None if cap is None else exact.abs() <= cap
        capped = _capped(exact, cap)
        weighed, rounded, change = capped, capped.round(), exact
        if before is not None:
            exact_before = before / step
            earlier = exact_before.round()
            weighed, rounded, change = capped - earlier, rounded - earlier, exact - exact_before
        nats, slope = laplace_nats(weighed, rounded, scales, row)
        ctx.save_for_backward(step, change, slope, row, inside)
        ctx.n_rows = len(steps)
        ctx.steady = before is not None
        return nats.sum() * _LOG2E

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (from_bits,) = gradients
        step, change, slope, row, inside = ctx.saved_tensors
        slope = slope * (from_bits * _LOG2E)
        by_value = (slope if inside is None else slope * inside).div_(step)
        to_steps = None
        if ctx.needs_input_grad[1]:
            zeros = torch.zeros(ctx.n_rows, dtype=step.dtype, device=step.device)
            to_steps = zeros.index_add(0, row, -by_value * change)
        return by_value, to_steps, None, None, -by_value if ctx.steady else None, None


def _capped(exact: Tensor, cap: Tensor | None) -> Tensor:
    return exact if cap is None else torch.minimum(torch.maximum(exact, -cap), cap)


def level_nats(exact: Tensor, rounded: Tensor, scales: Tensor, level: Tensor) -> Tensor:
    """Return the code length in nats (scalar) of symbols, each of scale scales[level].

    exact is what they were before they were rounded; the gradient goes there alone.
    """
    nats: Tensor = _LevelNats.apply(exact, rounded, scales, level)  # type: ignore[no-untyped-call]
    return nats


class _LevelNats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, exact: Tensor, rounded: Tensor, scales: Tensor, level: Tensor) -> Tensor:
        nats, slope = laplace_nats(exact, rounded, scales, level)
        ctx.save_for_backward(slope)
        return nats.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (slope,) = ctx.saved_tensors
        (from_nats,) = gradients
        return from_nats * slope, None, None, None


@torch.no_grad()
def best_scales(symbols: Tensor, row: Tensor, n_rows: int) -> Tensor:
    """Return the Laplace scale (n_rows,) that codes the symbols of each row in the fewest bits.

    With t = exp(-1 / (2 b)) a symbol 0 has the probability 1 - t, one of magnitude k the
    probability (1 - t^2) t^(2k - 1) / 2. For n symbols, n_0 of them 0, whose magnitudes sum to s,
    the derivative of the code length vanishes where (n + 2 s) t^2 + n_0 t = 2 s - (n - n_0).
    """
    magnitudes, row = symbols.abs().flatten(), row.flatten()
    zeros = torch.zeros(n_rows, dtype=magnitudes.dtype, device=magnitudes.device)
    total = zeros.index_add(0, row, magnitudes).double()
    n_other = zeros.index_add(0, row, magnitudes.clamp_max(1.0)).double()
    n = torch.bincount(row, minlength=n_rows).double()
    n_zero, square = n - n_other, n + 2 * total
    root = (n_zero.square() + 4 * square * (2 * total - n_other)).sqrt()
    t = (root - n_zero) / (2 * square.clamp_min(1.0))
    # Rows without symbols other than 0, or without any, have t = 0.
    scales = -0.5 / t.clamp(1e-9, 1 - 1e-9).log()
    return scales.clamp_min(MIN_SCALE).to(symbols.dtype)


def laplace_nats(
    x: Tensor, rounded: Tensor, scales: Tensor, row: Tensor, by_scale: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return the code lengths in nats of what is rounded, and the slopes of those of x.

    The code length is -ln of the Laplace mass on [x - 1/2, x + 1/2] with b = scales[row]. With
    u = exp(-1 / b), d = |x| - 1/2 and e = exp(min(d, 0) / b), it is max(d, 0) / b - ln m, where
    m = 1 - (e + u / e) / 2. by_scale, contiguous and of the shape of x, gets its derivatives by b
    of what is rounded.
    """
    inverse_rows = 1 / scales
    u_rows = torch.exp(-inverse_rows)
    flat, flat_rounded, flat_row = x.reshape(-1), rounded.reshape(-1), row.reshape(-1)
    nats, slope = torch.empty_like(flat), torch.empty_like(flat)
    n = chunk_values(flat)
    for first in range(0, flat.numel(), n):
        here = slice(first, first + n)
        # `table[index]` takes four times as long as index_select, a choice by `where` ten times
        # as long as a sum.
        index = flat_row[here]
        inverse, u = inverse_rows.index_select(0, index), u_rows.index_select(0, index)
        within = flat[here].abs().sub_(0.5).clamp_max_(0)
        e, e_far, mass = _edges(within, inverse, u)
        e.sub_(e_far).mul_(inverse)
        torch.mul(e.div_(mass.mul_(2)), flat[here].sign(), out=slope[here])
        d = flat_rounded[here].abs().sub_(0.5)
        beyond, within = d.clamp_min(0), d.clamp_max(0)
        e, e_far, mass = _edges(within, inverse, u)
        if by_scale is not None:
            by_b = by_scale.view(-1)[here]
            by_b.copy_(within).add_(1).mul_(e_far).sub_(e.mul_(within)).div_(mass).mul_(0.5)
            by_b.sub_(beyond).mul_(inverse).mul_(inverse)
        torch.sub(beyond.mul_(inverse), mass.log_(), out=nats[here])
    return nats.view(x.shape), slope.view(x.shape)


def _edges(within: Tensor, inverse: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return e = exp(within inverse), u / e and m = 1 - (e + u / e) / 2."""
    e = (within * inverse).exp_()
    e_far = u / e
    mass = (e + e_far).mul_(-0.5).add_(1).clamp_min_(1e-9)
    return e, e_far, mass


def chunk_values(x: Tensor) -> int:
    """Return how many values of x are best computed at once, at least 1: all but on a CPU."""
    return _CHUNK_VALUES if x.device.type == "cpu" else max(1, x.numel())
