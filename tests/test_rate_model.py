"""The hand-written derivatives of the rate are those of the plain formula, and stay finite."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec.codec.rate_model import MIN_SCALE, as_decoded, best_scales, code_length, laplace_nats

ZEROS = torch.zeros(4, dtype=torch.int64)


def plain_bits(x, b):
    """Return the code lengths by the textbook formula, for autograd in float64."""
    a = x.abs()

    def cdf(value):
        tail = 0.5 * torch.exp(-value.abs() / b)
        return torch.where(value > 0, 1 - tail, tail)

    near = -torch.log(cdf(a + 0.5) - cdf(a - 0.5))
    far = (a - 0.5) / b + math.log(2) - torch.log(1 - torch.exp(-1 / b))
    return torch.where(a > 0.5, far, near) / math.log(2)


def plain_coded(values, steps, scales, row, before, cap):
    step = steps[row]
    exact = values / step
    capped = exact if cap is None else torch.minimum(torch.maximum(exact, -cap), cap)
    symbols = capped + (capped.round() - capped).detach()
    difference, rounded = capped, symbols.detach()
    if before is not None:
        old = before / step
        difference = difference - (old + (old.round() - old).detach())
        rounded = rounded - old.detach().round()
    # Weighed as rounded, with the slope of what was there before.
    slope = plain_bits(difference, scales[row])
    bits = plain_bits(rounded, scales[row]) + slope - slope.detach()
    return symbols * step, bits.sum()


def coded(values, steps, scales, row, before, cap):
    seen = as_decoded(values, steps.index_select(0, row), cap)
    return seen, code_length(values, steps, scales, row, before, cap)


@pytest.mark.parametrize(("steady", "capped"), [(False, False), (True, False), (False, True)])
def test_derivatives_are_those_of_the_formula(steady, capped):
    g = torch.Generator().manual_seed(3)
    n = 300
    row = torch.arange(n) % 4
    steps = torch.tensor([0.1, 0.4, 1.0, 2.5], dtype=torch.float64)
    scales = torch.tensor([0.3, 0.5, 2.0, 40.0], dtype=torch.float64)
    values = torch.randn(n, generator=g, dtype=torch.float64) * 2 * steps[row]
    before = values + torch.randn(n, generator=g, dtype=torch.float64) * steps[row]
    cap = torch.full((n,), 1.49, dtype=torch.float64) if capped else None
    weights = torch.randn(n, generator=g, dtype=torch.float64)
    results = []
    for function in (plain_coded, coded):
        inputs = [x.clone().requires_grad_() for x in (values, steps, before)]
        v, s, old = inputs
        seen, bits = function(v, s, scales, row, old if steady else None, cap)
        (seen * weights).sum().add(0.3 * bits).backward()
        results.append([seen, bits, *(x.grad for x in inputs[: 3 if steady else 2])])
    for ours, plain in zip(results[1], results[0], strict=True):
        torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-9)


@given(scale=st.floats(0.05, 200), symbol=st.floats(-1e4, 1e4))
@settings(max_examples=200, deadline=None)
def test_code_lengths_and_derivatives_are_finite(scale, symbol):
    x = torch.tensor([symbol, 0.5, -0.5, 0.0])
    by_scale = torch.empty(4)
    nats, slope = laplace_nats(x, x, torch.tensor([scale]), ZEROS, by_scale)
    assert (nats >= -1e-6).all()
    for value in (nats, slope, by_scale):
        assert torch.isfinite(value).all()


def test_code_lengths_sum_to_a_distribution():
    x = torch.arange(-400, 401).float()
    for scale in (0.06, 0.7, 5.0, 30.0):
        nats, _ = laplace_nats(x, x, torch.tensor([scale]), torch.zeros(801, dtype=torch.int64))
        assert float(torch.exp(-nats).sum()) == pytest.approx(1, abs=1e-3)


def test_the_derivative_by_scale_is_that_of_the_formula():
    x = torch.linspace(-4, 4, 81, dtype=torch.float64)
    scales = torch.tensor([0.3, 0.9, 2.0], dtype=torch.float64)
    row = torch.arange(81) % 3
    by_scale = torch.empty_like(x)
    laplace_nats(x + 5, x, scales, row, by_scale)
    b = scales[row].requires_grad_()
    (plain,) = torch.autograd.grad(plain_bits(x, b).sum() * math.log(2), b)
    torch.testing.assert_close(by_scale, plain, rtol=1e-6, atol=1e-9)


@given(
    symbols=st.lists(st.integers(-40, 40), min_size=1, max_size=60),
    factor=st.sampled_from([0.5, 0.9, 0.99, 1.01, 1.1, 2.0]),
)
@settings(max_examples=200, deadline=None)
def test_no_other_scale_codes_a_row_in_fewer_bits(symbols, factor):
    row = torch.ones(len(symbols), dtype=torch.int64)
    x = torch.tensor(symbols, dtype=torch.float64)
    scales = best_scales(x, row, 2)
    assert scales[0] == pytest.approx(MIN_SCALE)
    best = float(plain_bits(x, scales[row]).sum())
    other = torch.full((2,), max(MIN_SCALE, float(scales[1]) * factor), dtype=torch.float64)
    assert best <= float(plain_bits(x, other[row]).sum()) + 1e-9
