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

_LOG2E = 1 / math.log(2.0)


def coded(
    values: Tensor,
    steps: Tensor,
    scales: Tensor,
    row: Tensor,
    noise: Tensor | None = None,
    before: Tensor | None = None,
    cap: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return values (n,) as a decoder would see them, and their code length in bits (scalar).

    Value i has the step steps[row[i]] and the Laplace scale scales[row[i]], in steps. Symbols are
    value / step + noise, or rounded if noise is None, with the gradient of the identity; cap bounds
    their magnitude. With before, the code length is that of the difference to round(before / step).
    """
    seen, bits = _Coded.apply(values, steps, scales, row, noise, before, cap)  # type: ignore[no-untyped-call]
    return seen, bits


class _Coded(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        steps: Tensor,
        scales: Tensor,
        row: Tensor,
        noise: Tensor | None,
        before: Tensor | None,
        cap: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        step = steps[row]
        exact = values / step
        inside = None if cap is None else exact.abs() <= cap
        symbols = exact if cap is None else torch.minimum(torch.maximum(exact, -cap), cap)
        symbols = symbols.round() if noise is None else symbols + noise
        difference, change = symbols, exact
        if before is not None:
            exact_before = before / step
            difference = symbols - exact_before.round()
            change = exact - exact_before
        nats, slope, scale_slope = laplace_nats(difference, scales, row)
        rounding = symbols - (exact if inside is None else exact * inside)
        ctx.save_for_backward(step, rounding, change, slope, scale_slope, row, inside)
        ctx.n_rows = len(steps)
        ctx.steady = before is not None
        return symbols * step, nats.sum() * _LOG2E

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        from_seen, from_bits = gradients
        step, rounding, change, slope, scale_slope, row, inside = ctx.saved_tensors
        per_nat = from_bits * _LOG2E
        slope = slope * per_nat if inside is None else slope * per_nat * inside
        by_rate = slope / step
        to_steps = from_seen * rounding - by_rate * change
        to_scales = scale_slope * per_nat
        zeros = torch.zeros(ctx.n_rows, dtype=step.dtype, device=step.device)
        return (
            (from_seen if inside is None else from_seen * inside) + by_rate,
            zeros.index_add(0, row, to_steps),
            zeros.index_add(0, row, to_scales),
            None,
            None,
            -by_rate if ctx.steady else None,
            None,
        )


def level_nats(symbols: Tensor, scales: Tensor, level: Tensor) -> Tensor:
    """Return the code length in nats (scalar) of symbols, each of scale scales[level]."""
    nats: Tensor = _LevelNats.apply(symbols, scales, level)  # type: ignore[no-untyped-call]
    return nats


class _LevelNats(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, symbols: Tensor, scales: Tensor, level: Tensor) -> Tensor:
        nats, slope, scale_slope = laplace_nats(symbols, scales, level)
        ctx.save_for_backward(slope, scale_slope, level)
        ctx.n_levels = len(scales)
        return nats.sum()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        slope, scale_slope, level = ctx.saved_tensors
        (from_nats,) = gradients
        to_scales = scale_slope.new_zeros(ctx.n_levels)
        to_scales.index_add_(0, level.flatten(), scale_slope.flatten())
        return from_nats * slope, from_nats * to_scales, None


def laplace_nats(x: Tensor, scales: Tensor, row: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return code lengths in nats of (possibly non-integer) x, and their derivatives.

    The code length is -ln of the Laplace mass on [x - 1/2, x + 1/2] with b = scales[row]; the
    derivatives are those by x and by b. With u = exp(-1 / b), a = |x|, e = exp((min(a, 1/2) - 1/2)
    / b), the mass is 1 - (e + u / e) / 2 for a <= 1/2, and exp(-(a - 1/2) / b) (1 - u) / 2 beyond.
    """
    inverse_rows = 1 / scales
    u_rows = torch.exp(-inverse_rows)
    rest_rows = (1 - u_rows).clamp_min(1e-9)
    inverse = inverse_rows[row]
    a = x.abs()
    beyond = a - 0.5
    outside = beyond > 0
    e = torch.exp(beyond.clamp_max(0) * inverse)
    e_far = u_rows[row] / e
    mass = (1 - 0.5 * (e + e_far)).clamp_min(1e-9)
    tail = beyond * inverse + (math.log(2.0) - torch.log(rest_rows))[row]
    nats = torch.where(outside, tail, -torch.log(mass))
    half = 0.5 * inverse / mass
    slope = torch.where(outside, inverse, half * (e - e_far))
    tail_by_b = (u_rows / rest_rows)[row] - beyond
    by_b = torch.where(outside, tail_by_b, -half * (e * beyond - e_far * (a + 0.5)) / inverse)
    return nats, slope * x.sign(), by_b * inverse.square()
