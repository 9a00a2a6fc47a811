import hashlib
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_decoder import RangeDecoder, tensor

from nvcodec.bitstream.entropy import SymbolWriter
from nvcodec.bitstream.tensors import (
    QTensor,
    TensorSpec,
    canonical,
    dequantize,
    pack_tensors,
    step_index,
    step_size,
    tensor_bits,
    tensors_sha256,
    unpack_tensors,
)
from nvcodec.errors import BitstreamError, CorruptError, LimitError
from nvcodec.limits import Limits

shapes = hnp.array_shapes(min_dims=0, max_dims=4, max_side=6)


@st.composite
def qtensors(draw, shapes=shapes):
    shape = draw(shapes)
    row_axis = draw(st.sampled_from([None, *range(min(len(shape), 2))]))
    temporal = bool(shape) and draw(st.booleans())
    spec = TensorSpec(name="t", shape=shape, row_axis=row_axis, temporal=temporal)
    largest = draw(st.sampled_from([0, 1, 3, 127, 300, 32_767]))
    elements = st.integers(-largest - (largest > 0), largest)
    symbols = draw(hnp.arrays(np.int32, shape, elements=elements, fill=st.just(0)))
    steps = draw(hnp.arrays(np.uint8, spec.n_rows, elements=st.integers(0, 255)))
    return QTensor(spec, symbols, steps)


def make(symbols, row_axis=0, steps=None, temporal=False):
    symbols = np.array(symbols, dtype=np.int32)
    spec = TensorSpec(name="t", shape=symbols.shape, row_axis=row_axis, temporal=temporal)
    steps = np.full(spec.n_rows, 100) if steps is None else np.array(steps)
    return QTensor(spec, symbols, steps.astype(np.uint8))


def assert_round_trip(tensors, predicts=False):
    payload = pack_tensors(tensors, predicts=predicts)
    decoded = unpack_tensors([q.spec for q in tensors], payload, predicts=predicts)
    for q, r in zip(map(canonical, tensors), decoded, strict=True):
        assert r.spec == q.spec
        assert r.symbols.dtype == np.int32
        assert r.steps.dtype == np.uint8
        np.testing.assert_array_equal(r.symbols, q.symbols)
        np.testing.assert_array_equal(r.steps, q.steps)
    assert tensors_sha256(decoded) == tensors_sha256(list(map(canonical, tensors)))
    assert pack_tensors(decoded, predicts=predicts) == payload
    return payload


# --- round trips


@settings(max_examples=150, deadline=None)
@given(st.lists(qtensors(), max_size=4))
def test_round_trip(tensors):
    assert_round_trip(tensors)


@settings(max_examples=40, deadline=None)
@given(st.lists(qtensors(), min_size=1, max_size=2))
def test_independent_decoder_agrees(tensors):
    decoder = RangeDecoder(pack_tensors(tensors))
    for q in map(canonical, tensors):
        steps, symbols = tensor(decoder, q.spec.shape, q.spec.temporal)
        assert steps == q.steps.tolist()
        assert symbols == q.symbols.ravel().tolist()
    assert decoder.finished()


@pytest.mark.parametrize(
    ("symbols", "row_axis"),
    [
        ([[-32_768, 32_767], [32_767, -32_768]], 0),
        ([[-32_768, 32_767], [32_767, -32_768]], None),
        (np.zeros((4, 5)), 1),
        (np.full((3, 4), 7), 0),
        ([5], 0),
        ([0], None),
        (-3, None),
        (np.arange(24).reshape(2, 3, 4), 1),
        (np.eye(9), 1),
        (np.arange(6).reshape(1, 6, 1, 1, 1, 1), 1),
    ],
)
@pytest.mark.parametrize("temporal", [False, True])
def test_round_trip_at_the_edges(symbols, row_axis, temporal):
    assert_round_trip([make(symbols, row_axis, temporal=temporal and np.ndim(symbols) > 0)])


def test_no_tensors_is_an_empty_payload():
    assert pack_tensors([]) == b""
    assert unpack_tensors([], b"") == []


def test_temporal_differences_pay_off_on_slow_changes():
    rng = np.random.default_rng(0)
    symbols = rng.integers(-500, 500, (1, 8, 9)) + rng.integers(-1, 2, (30, 8, 9))
    direct = make(symbols, row_axis=1)
    temporal = make(symbols, row_axis=1, temporal=True)
    assert len(assert_round_trip([temporal])) < 0.5 * len(assert_round_trip([direct]))


@pytest.mark.parametrize("value", [32_767, -32_768])
def test_temporal_differences_at_the_edge_of_int16_pay_off_too(value):
    steady = np.full((40, 3), value, dtype=np.int32)
    spec = TensorSpec(name="t", shape=steady.shape, row_axis=1, temporal=True)
    q = QTensor(spec, steady, np.full(3, 9, np.uint8))
    assert tensor_bits(q).symbols < 3 * 60
    (back,) = unpack_tensors([spec], pack_tensors([q]))
    np.testing.assert_array_equal(back.symbols, steady)


def test_temporal_differences_beyond_int16_are_coded_directly():
    assert_round_trip([make([[-32_768], [32_767], [-32_768]], temporal=True)])


def test_smooth_scales_cost_less():
    rng = np.random.default_rng(0)
    rows = np.rint(rng.laplace(0, 5, (400, 12))).astype(int)
    bits = tensor_bits(make(rows))
    assert bits.side < 400 * 1.5
    assert bits.symbols < 400 * 12 * 5


def test_tensor_bits_match_the_payload():
    rng = np.random.default_rng(0)
    tensors = [
        make(np.rint(rng.laplace(0, b, (50, 200))), steps=rng.integers(90, 99, 50), temporal=b > 9)
        for b in (0.1, 1.0, 30.0)
    ]
    bits = [tensor_bits(q) for q in tensors]
    total = sum(b.symbols + b.side for b in bits)
    assert total <= 8 * len(pack_tensors(tensors)) + 32
    assert 8 * len(pack_tensors(tensors)) <= 1.001 * total + 64


def test_one_and_a_half_million_symbols_are_fast():
    rng = np.random.default_rng(0)
    tensors = [
        make(np.rint(rng.laplace(0, rng.uniform(1, 20, (100, 1)), (100, 500)))) for _ in range(30)
    ]
    began = time.perf_counter()
    payload = pack_tensors(tensors)
    packed = time.perf_counter()
    unpack_tensors([q.spec for q in tensors], payload)
    unpacked = time.perf_counter()
    # three times the time that is needed, for a machine that is busy
    assert packed - began < 4
    assert unpacked - packed < 2


# --- canonical form, hash, steps


def test_canonical_steps():
    q = make([[0], [1], [0], [0], [2], [0]], steps=[9, 5, 200, 0, 7, 255])
    assert canonical(q).steps.tolist() == [5, 5, 5, 5, 7, 7]
    assert canonical(make([[0], [0]], steps=[3, 4])).steps.tolist() == [0, 0]
    full = make([[1], [2]], steps=[3, 4])
    assert canonical(full) is full
    np.testing.assert_array_equal(dequantize(canonical(q)), dequantize(q))


@settings(deadline=None)
@given(qtensors())
def test_canonical_is_idempotent(q):
    once = canonical(q)
    np.testing.assert_array_equal(canonical(once).steps, once.steps)


def test_sha256_is_over_steps_and_little_endian_symbols():
    q = make([[1, -2], [300, 0]], steps=[7, 8])
    data = bytes([7, 8]) + b"\x01\x00\xfe\xff\x2c\x01\x00\x00"
    expected = int.from_bytes(hashlib.sha256(data * 2).digest()[:8], "little")
    assert tensors_sha256([q, q]) == expected
    wide = QTensor(q.spec, q.symbols.astype(">i8"), q.steps)
    assert tensors_sha256([wide, wide]) == expected


def test_step_sizes():
    sizes = step_size(np.arange(256))
    assert sizes[0] == 2.0**-24
    assert sizes[24 * 8] == 1.0
    assert sizes[255] == 60_097 / 256
    np.testing.assert_allclose(sizes, 2.0 ** (np.arange(256) / 8 - 24), rtol=1e-5)


def test_mantissas_follow_from_their_formula():
    sizes = step_size(np.arange(24 * 8, 25 * 8)) * 2**15
    assert sizes.tolist() == [round(2**15 * 2 ** (i / 8)) for i in range(8)]


@settings(deadline=None)
@given(st.integers(0, 255), st.floats(-0.06, 0.06))
def test_step_index_is_the_nearest(index, octaves):
    step = step_size(np.array([index])) * 2**octaves
    assert step_index(step).tolist() == [index]


def test_step_index_clamps():
    assert step_index(np.array([1e-30, 1e30])).tolist() == [0, 255]


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf])
def test_step_that_is_not_positive(step):
    with pytest.raises(ValueError, match="finite and positive"):
        step_index(np.array([1.0, step]))


def test_dequantize_rounds_once():
    q = make([[[32_767, -1], [3, 0]]], row_axis=1, steps=[193, 255])
    weights = dequantize(q)
    assert weights.dtype == np.float32
    assert weights.shape == (1, 2, 2)
    steps = [35_734 / 32_768, 60_097 / 256]
    expected = [[[32_767 * steps[0], -steps[0]], [3 * steps[1], 0]]]
    np.testing.assert_array_equal(weights, np.array(expected).astype(np.float32))
    assert dequantize(make(-3, None, steps=[192])) == np.float32(-3)


@settings(deadline=None)
@given(qtensors())
def test_dequantized_weights_are_finite(q):
    assert np.isfinite(dequantize(q)).all()


# --- arguments of the packer


@pytest.mark.parametrize(
    "q",
    [
        make([[40_000]]),
        make([[-32_769]]),
        QTensor(make([[1]]).spec, np.zeros((2, 1), np.int32), np.zeros(1, np.uint8)),
        QTensor(make([[1]]).spec, np.zeros((1, 1), np.int32), np.zeros(2, np.uint8)),
        QTensor(make([[1]]).spec, np.zeros((1, 1), np.int32), np.zeros(1, np.int64)),
        make(np.zeros((0, 3))),
        make(np.zeros((1,) * 7)),
    ],
)
def test_packer_refuses_what_cannot_be_coded(q):
    with pytest.raises(ValueError, match=r"allowed|needed|needs|impossible"):
        pack_tensors([q])


# --- hostile payloads

SPECS = [
    TensorSpec(name="a", shape=(4, 3, 2), row_axis=0),
    TensorSpec(name="b", shape=(3, 5), row_axis=1, temporal=True),
    TensorSpec(name="c", shape=(), row_axis=None),
]


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=160).map(lambda data: data[: len(data) // 4 * 4]))
def test_random_words_are_refused_or_valid(payload):
    try:
        tensors = unpack_tensors(SPECS, payload)
    except BitstreamError:
        return
    for spec, q in zip(SPECS, tensors, strict=True):
        assert q.symbols.shape == spec.shape
        assert np.abs(q.symbols.astype(np.int64) + 0.5).max() < 32_768
    # what is accepted is what a writer could have written
    assert_round_trip(tensors)


def example():
    rng = np.random.default_rng(0)
    symbols = [np.rint(rng.laplace(0, 3, spec.shape)).astype(np.int32) for spec in SPECS]
    return [
        QTensor(spec, np.asarray(s), rng.integers(90, 99, spec.n_rows).astype(np.uint8))
        for spec, s in zip(SPECS, symbols, strict=True)
    ]


def test_truncated_payload():
    payload = pack_tensors(example())
    for n_bytes in range(len(payload)):
        with pytest.raises(CorruptError):
            unpack_tensors(SPECS, payload[:n_bytes])


def test_payload_with_trailing_words():
    payload = pack_tensors(example())
    for junk in (bytes(4), b"\xff" * 4, bytes(400), payload):
        with pytest.raises(CorruptError):
            unpack_tensors(SPECS, payload + junk)


def test_flipped_bits_are_refused_or_change_the_hash():
    tensors = example()
    payload = pack_tensors(tensors)
    n_accepted = 0
    for position in range(8 * len(payload)):
        damaged = bytearray(payload)
        damaged[position // 8] ^= 1 << position % 8
        try:
            decoded = unpack_tensors(SPECS, bytes(damaged))
        except BitstreamError:
            continue
        n_accepted += 1
        assert tensors_sha256(decoded) != tensors_sha256(tensors)
    assert n_accepted < len(payload)


def test_shape_overflow():
    bomb = TensorSpec(name="bomb", shape=(2**32, 2**32, 2**32), row_axis=None)
    with pytest.raises(LimitError, match="79228162514264337593543950336 weights"):
        unpack_tensors([bomb], bytes(8))


def test_too_many_weights():
    specs = [TensorSpec(name="t", shape=(10,), row_axis=None)] * 2
    payload = pack_tensors([QTensor(s, np.ones(10, np.int32), np.ones(1, np.uint8)) for s in specs])
    assert len(unpack_tensors(specs, payload, Limits(max_params=20))) == 2
    with pytest.raises(LimitError, match="20 weights, allowed are 19"):
        unpack_tensors(specs, payload, Limits(max_params=19))


@pytest.mark.parametrize("shape", [(0,), (3, -1), (1,) * 7])
def test_impossible_shape(shape):
    with pytest.raises(CorruptError, match="impossible shape"):
        unpack_tensors([TensorSpec(name="t", shape=shape, row_axis=None)], b"")


@pytest.mark.parametrize("payload", [b"", bytes(8), b"\xff" * 8, b"\x80" * 8])
def test_few_words_for_a_large_tensor(payload):
    spec = TensorSpec(name="t", shape=(1 << 12, 1 << 14), row_axis=0)
    began = time.perf_counter()
    with pytest.raises(CorruptError):
        unpack_tensors([spec], payload)
    assert time.perf_counter() - began < 20


def test_tensor_of_zeros_needs_one_word():
    spec = TensorSpec(name="t", shape=(1 << 10, 1 << 10), row_axis=0)
    (zeros,) = unpack_tensors([spec], bytes(4))
    assert not zeros.symbols.any()


def write_indices(steps, scales):
    """Return a payload with any step and scale indices, given as first value and deltas."""
    writer = SymbolWriter()
    writer.uniform(np.array([1]), 3)
    for (first, *deltas), n in ((steps, 256), (scales, 64)):
        writer.uniform(np.array([first]), n)
        writer.uniform(np.array([16]), 64)
        writer.laplace(np.array(deltas), 16)
    return writer.finish()


@pytest.mark.parametrize(
    ("steps", "scales", "what"),
    [
        ([0, -1], [0, 0], "step"),
        ([255, 1], [0, 0], "step"),
        ([0, 32_767], [0, 0], "step"),
        ([0, 0], [0, -1], "scale"),
        ([0, 0], [63, 1], "scale"),
        ([0, 0], [1, 256], "scale"),
    ],
)
def test_index_that_leaves_its_range(steps, scales, what):
    spec = TensorSpec(name="t", shape=(2, 3), row_axis=0)
    assert unpack_tensors([spec], write_indices([5, 250], [0, 0]))[0].steps.tolist() == [5, 255]
    with pytest.raises(CorruptError, match=f"{what} .*allowed is 0 to"):
        unpack_tensors([spec], write_indices(steps, scales))


@pytest.mark.parametrize("axis", [2, -1])
def test_impossible_row_axis(axis):
    spec = TensorSpec(name="t", shape=(2, 2, 2), row_axis=axis)
    with pytest.raises(ValueError, match="impossible row axis"):
        pack_tensors([QTensor(spec, np.zeros((2, 2, 2), np.int32), np.zeros(2, np.uint8))])


def test_differences_that_leave_int16():
    spec = TensorSpec(name="t", shape=(2, 1), row_axis=None, temporal=True)
    writer = SymbolWriter()
    for value, n in ((0, 3), (1, 2), (0, 256), (63, 64)):
        writer.uniform(np.array([value]), n)
    writer.laplace(np.array([32_767, 1]), 63)
    with pytest.raises(CorruptError, match="leave the int16 range"):
        unpack_tensors([spec], writer.finish())
