"""Pictures as DCT coefficients: what they draw, how they are coded and what training estimates."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_decoder import RangeDecoder
from reference_decoder.coder import read_tensor

from nvcodec.bitstream import frequencies, prediction
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.tensors import (
    QTensor,
    TensorSpec,
    pack_smallest,
    pack_tensors,
    tensor_bits,
    unpack_tensors,
)
from nvcodec.codec.frequency_rate import best_frequency_scales, first_means, frequency_nats
from nvcodec.codec.quantize import tensor_specs
from nvcodec.models.canvas import Canvas, CanvasConfig
from nvcodec.models.dct import dct_weights, inverse_dct

SIDE = 4


def coefficients(*shape, side=SIDE, seed=0, spread=9.0):
    """Return integers (..., side^2, h, w) that are the rarer the higher their frequency."""
    rng = np.random.default_rng(seed)
    n = np.arange(side)
    scale = spread / (1 + n[:, None] + n) ** 2
    busy = rng.gamma(0.5, 2.0, shape[-2:])
    scale = np.tile(scale.ravel(), shape[-3] // side**2)[:, None, None] * busy
    return np.rint(rng.laplace(size=shape) * scale).astype(np.int64)


def make(symbols, side=SIDE, axis=0):
    shape = symbols.shape
    spec = TensorSpec(name="x", shape=shape, row_axis=axis, dct_side=side)
    return QTensor(spec, symbols.astype(np.int32), np.full(shape[axis], 100, np.uint8))


def test_a_block_is_the_sum_of_its_waves():
    rng = np.random.default_rng(2)
    side, a, b = 4, 3, 2
    values = rng.normal(size=(2, 2 * side**2, a, b))
    drawn = inverse_dct(torch.from_numpy(values), side).numpy()
    assert drawn.shape == (2, 2, a * side, b * side)

    def f(u, y):
        wave = math.cos(math.pi * u * (2 * y + 1) / (2 * side))
        return math.sqrt((1 if u == 0 else 2) / side) * wave

    for y, x in ((0, 0), (5, 3), (11, 7)):
        expected = sum(
            values[1, side**2 + u * side + v, y // side, x // side]
            * side / (1 + u + v) * f(u, y % side) * f(v, x % side)
            for u in range(side)
            for v in range(side)
        )  # fmt: skip
        assert drawn[1, 1, y, x] == pytest.approx(expected)


def test_waves_are_orthogonal_and_of_length_one():
    side = 8
    units = torch.eye(side**2, dtype=torch.float64).view(side**2, side**2, 1, 1)
    drawn = inverse_dct(units, side).flatten(1) / dct_weights(side).view(-1, 1)
    torch.testing.assert_close(drawn @ drawn.T, torch.eye(side**2, dtype=torch.float64))


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(
        np.int32,
        st.tuples(st.integers(1, 2), st.sampled_from([4, 8]), st.integers(1, 3), st.integers(1, 3)),
        elements=st.one_of(st.integers(-3, 3), st.integers(-32768, 32767)),
    ),
    st.sampled_from([0, 1]),
)
def test_round_trip(symbols, axis):
    q = make(symbols, side=2, axis=axis)
    payload = pack_tensors([q], predicts=True)
    (found,) = unpack_tensors([q.spec], payload, predicts=True)
    np.testing.assert_array_equal(found.symbols, symbols)
    read = read_tensor(decoder := RangeDecoder(payload), symbols.shape, False, True, 2)
    assert decoder.finished()
    assert read.symbols == symbols.ravel().tolist()


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(np.int64, (1, 9, 2, 2), elements=st.integers(-32768, 32767)),
    hnp.arrays(np.int64, 6, elements=st.integers(-128, 127)),
    hnp.arrays(np.uint8, (2, prediction.N_LEVELS), elements=st.integers(1, 63)),
)
def test_any_symbols_with_any_weights_and_scales(symbols, weights, scales):
    means = prediction.Prediction(weights, scales[0], 0.0)
    spectrum = replace(frequencies.plan(symbols, 3), means=means, scales=scales[1])
    writer = SymbolWriter()
    frequencies.write(writer, symbols, 3, spectrum)
    reader = SymbolReader(writer.finish())
    found = frequencies.read(reader, symbols.shape, 3, weights, *scales)
    reader.close()
    np.testing.assert_array_equal(found, symbols)


def test_lower_frequencies_tell_of_higher_ones_and_cost_is_as_said():
    q = make(coefficients(2 * SIDE**2, 12, 15))
    payload, predicts = pack_smallest([q])
    assert predicts
    assert len(payload) < 0.9 * len(pack_tensors([q]))
    bits = tensor_bits(q, predicts=True)
    assert bits.symbols + bits.side == pytest.approx(8 * len(payload), abs=64)


def test_coefficients_that_tell_nothing_are_coded_in_rows():
    rng = np.random.default_rng(1)
    q = make(rng.integers(-9, 10, (SIDE**2, 8, 8)))
    assert pack_smallest([q]) == (pack_tensors([q]), False)


def test_training_estimates_what_the_file_weighs():
    symbols = coefficients(2, SIDE**2, 24, 30, seed=5)
    rounded = torch.from_numpy(symbols).float()
    scales = *first_means(rounded, SIDE), best_frequency_scales(rounded, SIDE)
    # The file's scales are those of a table; the first ones of frequency 0 are plain means.
    bits = float(frequency_nats(rounded, rounded, *scales, SIDE)) / math.log(2)
    assert bits == pytest.approx(frequencies.plan(symbols, SIDE).symbol_bits, rel=0.02)


def test_rate_falls_along_its_gradient():
    rounded = torch.from_numpy(coefficients(SIDE**2, 9, 9, seed=3)).float()
    weights, mean_scales = (x.requires_grad_() for x in first_means(rounded, SIDE))
    scales = best_frequency_scales(rounded, SIDE)
    symbols = (rounded + 0.3).requires_grad_()
    inputs = symbols, weights, mean_scales
    nats = frequency_nats(symbols, *inputs, scales, SIDE)
    gradients = torch.autograd.grad(nats, inputs)
    assert all(bool(g.abs().sum() > 0) for g in gradients)
    moved = [x - 1e-4 * g for x, g in zip(inputs, gradients, strict=True)]
    assert frequency_nats(moved[0], *moved, scales, SIDE) < nats


CONFIG = CanvasConfig(
    widths=(4, 3), depths=(1, 0), strides=(2, 2), canvas_channels=(1, 2), grid_channels=(1, 1, 1),
    margin_percent=10, expansion=1, kernel=3, motion=1, output=1, detail_channels=1,
    slow_shift=1, dct_shift=1,
)  # fmt: skip


def test_only_large_pictures_are_held_as_blocks():
    model = Canvas(CONFIG, 5, 40, 64)
    shapes = {name: tuple(p.shape) for name, p in model.named_parameters()}
    assert shapes["slow_grids.0"] == (3, 1, 5, 8)
    assert {name for name in shapes if model.dct_side(name)} == {
        "detail", "canvases.0", "canvases.1",
    }  # fmt: skip
    assert shapes["detail"] == (4, 22, 36)
    assert shapes["canvases.1"] == (8, 11, 18)
    specs = {spec.name: spec for spec in tensor_specs(model)}
    assert specs["detail"].dct_side == 2
    assert specs["detail"].row_axis == 0
    assert specs["grid"].dct_side == 0


def test_a_settled_network_draws_the_same():
    torch.manual_seed(1)
    model = Canvas(CONFIG, 5, 80, 128).eval()
    with torch.inference_mode():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
        index = torch.tensor([0, 3])
        before = model(index)
        model.settle()
        torch.testing.assert_close(model(index), before)
