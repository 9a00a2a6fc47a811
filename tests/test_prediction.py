"""Tensors coded as pictures: every symbol around what its neighbours predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from reference_decoder import RangeDecoder, tensor
from test_tensors import assert_round_trip, make, qtensors

from nvcodec.bitstream import prediction
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.header import DRAWS_YUV, unpack_stream
from nvcodec.bitstream.segments import pack_segment
from nvcodec.bitstream.tensors import (
    pack_smallest,
    pack_tensors,
    tensor_bits,
    tensors_sha256,
    unpack_tensors,
)
from nvcodec.codec.contents import read_tensors
from nvcodec.codec.picture_rate import first_prediction, picture_nats
from nvcodec.errors import CorruptError


def smooth(*shape, seed=0, spread=6.0):
    """Return integers that change slowly along the last two axes."""
    rng = np.random.default_rng(seed)
    walk = rng.normal(size=shape).cumsum(-1).cumsum(-2)
    return np.rint(spread * walk / walk.std()).astype(np.int32)


pictures = qtensors(hnp.array_shapes(min_dims=3, max_dims=4, min_side=1, max_side=9))


@settings(max_examples=120, deadline=None)
@given(st.lists(pictures, min_size=1, max_size=2))
def test_round_trip(tensors):
    payload = assert_round_trip(tensors, predicts=True)
    decoder = RangeDecoder(payload)
    for q in tensors:
        _, symbols = tensor(decoder, q.spec.shape, q.spec.temporal, predicts=True)
        assert symbols == q.symbols.ravel().tolist()
    assert decoder.finished()


@settings(max_examples=120, deadline=None)
@given(
    hnp.arrays(np.int64, st.tuples(*[st.integers(1, 6)] * 3), elements=st.integers(-32768, 32767)),
    hnp.arrays(np.int64, 6, elements=st.integers(-128, 127)),
    hnp.arrays(np.uint8, prediction.N_LEVELS, elements=st.integers(1, 63)),
)
def test_any_symbols_with_any_weights_and_scales(symbols, weights, scales):
    writer = SymbolWriter()
    prediction.write(writer, symbols, prediction.Prediction(weights, scales, 0.0))
    reader = SymbolReader(writer.finish())
    found = prediction.read(reader, symbols.shape, weights, scales)
    reader.close()
    np.testing.assert_array_equal(found, symbols)


def test_smooth_pictures_gain_and_cost_what_is_said():
    q = make(smooth(3, 30, 40))
    payload, predicts = pack_smallest([q])
    assert predicts
    assert payload == pack_tensors([q], predicts=True)
    assert len(payload) < 0.8 * len(pack_tensors([q]))
    bits = tensor_bits(q, predicts=True)
    assert bits.symbols + bits.side == pytest.approx(8 * len(payload), abs=64)


def test_noise_is_coded_in_rows():
    rng = np.random.default_rng(1)
    q = make(rng.integers(-9, 10, (2, 20, 20)))
    assert pack_smallest([q]) == (pack_tensors([q]), False)
    assert tensor_bits(q, predicts=True).symbols == tensor_bits(q).symbols


def test_segments_say_whether_they_predict():
    noise = np.random.default_rng(1).integers(-9, 10, (2, 20, 20))
    for q, predicts in ((make(smooth(3, 30, 40)), True), (make(noise), False)):
        segment = pack_segment(6 + DRAWS_YUV, b"config", [q], first_frame=2, n_frames=3)
        header = segment.header
        assert segment.config == b"config"
        assert (header.first_frame, header.n_frames) == (2, 3)
        assert (header.plain_arch_id, header.draws_yuv, header.predicts) == (6, True, predicts)
        found = unpack_tensors([q.spec], segment.payload, predicts=predicts)
        assert tensors_sha256(found) == header.tensors_sha256


@pytest.mark.parametrize("name", ["pictures", "pictures-far", "pictures-yuv"])
def test_the_packer_is_no_worse_than_when_the_vectors_were_made(name):
    data = (Path(__file__).parent / "vectors" / "uncommon" / f"{name}.nrv").read_bytes()
    stream = unpack_stream(data)
    for segment in stream.segments:
        _, tensors = read_tensors(segment, stream.header)
        again, predicts = pack_smallest(tensors)
        assert predicts
        assert len(again) <= len(segment.payload)


@pytest.mark.parametrize(("ratio", "weight"), [(3, 127), (-3, -128)])
def test_weights_beyond_their_range_are_clipped(ratio, weight):
    symbols = np.array([[[ratio**i for i in range(10)]]], dtype=np.int64)
    found = prediction.plan(symbols)
    assert found.weights[0] == weight
    writer = SymbolWriter()
    prediction.write(writer, symbols, found)
    reader = SymbolReader(writer.finish())
    again = prediction.read(reader, symbols.shape, found.weights, found.scales)
    np.testing.assert_array_equal(again, symbols)


@pytest.mark.parametrize("shape", [(40, 40), (3, 3, 40), (3, 40, 3), (3, 7, 7), (40,), ()])
def test_what_is_no_picture(shape):
    q = make(np.zeros(shape) if not shape else smooth(*shape) if len(shape) > 1 else [1] * 40, None)
    assert pack_smallest([q]) == (pack_tensors([q]), False)
    assert pack_tensors([q], predicts=True) == pack_tensors([q])


def test_every_truncation_and_flip_is_found():
    q = make(smooth(1, 12, 12))
    payload = pack_tensors([q], predicts=True)
    for cut in range(0, len(payload), 4):
        with pytest.raises(CorruptError):
            unpack_tensors([q.spec], payload[:cut], predicts=True)
    for bit in range(8 * len(payload)):
        flipped = bytearray(payload)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            (found,) = unpack_tensors([q.spec], bytes(flipped), predicts=True)
        except CorruptError:
            continue
        assert (found.symbols != q.symbols).any() or (found.steps != q.steps).any()


def test_zeros_need_no_words_and_no_time():
    reader = SymbolReader(b"")
    scales = np.zeros(prediction.N_LEVELS, np.uint8)
    found = prediction.read(reader, (1, 20_000, 10_000), np.ones(6, np.int64), scales)
    assert not found.any()


def test_training_estimates_what_the_file_weighs():
    symbols = smooth(2, 40, 60)
    rounded = torch.from_numpy(symbols).float()
    weights, scales = first_prediction(rounded)
    bits = float(picture_nats(rounded, rounded, weights, scales)) / np.log(2)
    assert bits == pytest.approx(tensor_bits(make(symbols), predicts=True).symbols, rel=0.05)


def test_gradients_of_the_rate():
    torch.manual_seed(0)
    rounded = torch.randint(-3, 4, (2, 5, 6)).double()
    near = (rounded + 0.8 * torch.rand(2, 5, 6) - 0.4).requires_grad_()
    weights = torch.rand(6, dtype=torch.float64).requires_grad_()
    scales = (0.3 + torch.rand(prediction.N_LEVELS, dtype=torch.float64)).requires_grad_()

    # Levels stand still while values move by little.
    def nats(values, weights, scales):
        return picture_nats(values, values, weights, scales)

    assert torch.autograd.gradcheck(nats, (near, weights, scales))
