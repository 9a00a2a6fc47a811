"""Corrections: their words, how they are added, and how they are found."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from conftest import make_video, moving_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder.corrections import Corrections as ReferenceCorrections

import nvcodec
from nvcodec.bitstream.corrections import (
    Corrections,
    grid_shape,
    pack_corrections,
    unpack_corrections,
)
from nvcodec.bitstream.header import CORRECTS, pack_stream, unpack_stream
from nvcodec.codec.corrections import Corrector, block_basis
from nvcodec.codec.find_corrections import find_corrections
from nvcodec.codec.interpolate import frames_between
from nvcodec.errors import BitstreamError, Interrupted, LimitError, UsageError
from nvcodec.limits import Limits


def random_corrections(seed, n_frames, height, width, side, density=0.2, largest=4.0):
    rng = np.random.default_rng(seed)
    blocks = rng.random(grid_shape(n_frames, height, width, side)) < density
    spread = largest / (1 + np.add.outer(np.arange(8), np.arange(8)))
    symbols = np.rint(rng.laplace(0, spread, (int(blocks.sum()), 3, 8, 8))).astype(np.int32)
    return Corrections(side, int(rng.integers(140, 176)), blocks, symbols)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 1 << 20),
    n_frames=st.integers(1, 5),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    side=st.sampled_from([8, 16, 32, 64]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    largest=st.sampled_from([0.0, 1.0, 30.0, 20_000.0]),
)
def test_words_come_back(seed, n_frames, height, width, side, density, largest):
    given = random_corrections(seed, n_frames, height, width, side, density, largest)
    given = dataclasses.replace(given, symbols=given.symbols.clip(-32768, 32767))
    words = pack_corrections(given)
    found = unpack_corrections(words, n_frames, height, width)
    assert (found.side, found.step) == (given.side, given.step)
    np.testing.assert_array_equal(found.blocks, given.blocks)
    np.testing.assert_array_equal(found.symbols, given.symbols)
    for cut in (4, len(words) // 8 * 4):
        with pytest.raises(BitstreamError):
            unpack_corrections(words[:-cut] if cut else b"", n_frames, height, width)


@pytest.mark.parametrize("side", [8, 16, 64])
def test_another_decoder_reads_and_draws_the_same(side):
    given = random_corrections(side, 4, 51, 70, side)
    reference = ReferenceCorrections(pack_corrections(given), 4, 51, 70)
    corrector = Corrector(given, 51, 70)
    for t in range(4):
        grey = torch.full((1, 3, 51, 70), 1000, dtype=torch.int32)
        added = corrector.add(grey.clone(), torch.tensor([t]), 16)[0].permute(1, 2, 0)
        expected = np.clip(1000 + 65535 * reference.of_frame(t), 0, 65535)
        assert np.abs(added.numpy() - expected).max() < 0.6


def test_few_blocks_take_few_bytes():
    blocks = np.zeros(grid_shape(100, 128, 128, 8), dtype=np.bool_)
    blocks[10:90, 4:6, 7:9] = True
    symbols = np.zeros((int(blocks.sum()), 3, 8, 8), dtype=np.int32)
    # 25,600 places; those that are corrected stay where they are.
    assert len(pack_corrections(Corrections(8, 100, blocks, symbols))) < 200


def test_waves_are_orthonormal():
    for side in (8, 16):
        basis = block_basis(side).double()
        np.testing.assert_allclose(basis @ basis.T, np.eye(192), atol=1e-5)


def test_limits_hold_before_anything_is_allocated():
    words = pack_corrections(random_corrections(0, 3, 64, 64, 8, density=0.5))
    with pytest.raises(LimitError, match="blocks, allowed are 100"):
        unpack_corrections(words, 3, 64, 64, Limits(max_params=100))
    with pytest.raises(LimitError, match="coefficients, allowed are 1000"):
        unpack_corrections(words, 3, 64, 64, Limits(max_params=1000))
    with pytest.raises(LimitError):
        unpack_corrections(words, 1 << 31, 1 << 15, 1 << 15)


@pytest.mark.parametrize(("bit_depth", "dtype"), [(8, torch.uint8), (10, torch.uint16)])
def test_samples_stay_in_their_range_and_elsewhere_as_they_are(bit_depth, dtype):
    given = random_corrections(1, 3, 30, 41, 16, density=0.4, largest=40.0)
    white = 2**bit_depth - 1
    samples = torch.randint(0, white + 1, (3, 3, 30, 41)).to(dtype)
    kept = samples.clone()
    mended = Corrector(given, 30, 41).add(samples, torch.tensor([2, 0, 1]), bit_depth)
    assert mended.dtype == dtype
    assert mended.int().min() == 0
    assert mended.int().max() == white
    touched = given.blocks[[2, 0, 1]].repeat(16, 1).repeat(16, 2)[:, :30, :41]
    same = (mended.int() == kept.int()).all(1).numpy()
    assert same[~touched].all()
    assert same[touched].mean() < 0.5


def drawn_and_true(n_frames=6, height=45, width=70):
    torch.manual_seed(0)
    true = torch.randint(60, 190, (n_frames, 3, height, width), dtype=torch.uint8)
    drawn = (true.int() + torch.randint(-3, 4, true.shape)).to(torch.uint8)
    drawn[1, :, 8:24, 16:40] += 40
    drawn[2, 0, 40:, 60:] += 50
    drawn[3, :, ::2, 8:32] += 20
    return drawn, true


def mean_psnr(a, b):
    error = (a.float() - b.float()).square().mean((1, 2, 3))
    return float((10 * torch.log10(255**2 / error)).mean())


def test_the_worst_blocks_are_mended_within_the_budget():
    drawn, true = drawn_and_true()
    before, best = mean_psnr(drawn, true), 0.0
    for max_bytes in (80, 140, 250):
        words = find_corrections(lambda index: drawn[index], true, None, 8, max_bytes)
        assert 0 < len(words) <= max_bytes
        found = unpack_corrections(words, 6, 45, 70)
        assert found.blocks[1:3].any()
        mended = Corrector(found, 45, 70).add(drawn.clone(), torch.arange(6), 8)
        assert mean_psnr(mended, true) > max(before + 0.5, best)
        best = mean_psnr(mended, true)


def test_what_is_hidden_or_right_is_not_mended():
    drawn, true = drawn_and_true()
    mask = torch.ones(6, 1, 45, 70, dtype=torch.bool)
    mask[1] = False
    words = find_corrections(lambda index: drawn[index], true, mask, 8, 400)
    assert not unpack_corrections(words, 6, 45, 70).blocks[1].any()
    assert find_corrections(lambda index: true[index], true, None, 8, 400) == b""
    assert find_corrections(lambda index: drawn[index], true, None, 8, 20) == b""


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    path = tmp_path_factory.mktemp("clip") / "in.mkv"
    frames = moving_frames(6, 64, 48)
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=frames), np.stack(frames)


def encode(clip, **options):
    chosen = {"arch": "canvas", "target": nvcodec.Target(size=4000), "passes": 20, "batch": 1}
    return nvcodec.encode(clip[0], None, nvcodec.EncodeOptions(**chosen | options), device="cpu")


def without_corrections(data):
    """The same file with the network alone."""
    stream = unpack_stream(data)
    (segment,) = stream.segments
    header = dataclasses.replace(segment.header, arch_id=segment.header.arch_id - CORRECTS)
    plain = dataclasses.replace(segment, header=header, corrections=b"")
    return pack_stream(dataclasses.replace(stream, segments=(plain,)))


def test_a_file_is_filled_with_corrections(clip):
    data, result = encode(clip, corrections=0.3)
    assert 3900 < len(data) <= 4000
    (segment,) = unpack_stream(data).segments
    assert segment.header.corrects
    assert len(segment.corrections) > 800
    with nvcodec.open(data, device="cpu") as video:
        mended = video[:]
        np.testing.assert_array_equal(video[[5, 2]], mended[[5, 2]])
    with nvcodec.open(data, device="cpu", batch=4, bit_depth=10) as video:
        assert np.abs(video[:] / 1023 - mended / 255.0).max() < 1.2 / 255
    with nvcodec.open(without_corrections(data), device="cpu") as video:
        drawn = torch.from_numpy(video[:].astype(np.float32))
    true = torch.from_numpy(clip[1].astype(np.float32))
    mended = torch.from_numpy(mended.astype(np.float32))
    assert mean_psnr(mended, true) == pytest.approx(result.psnr_db, abs=1e-3)
    assert result.psnr_db > mean_psnr(drawn, true) + 0.5


@pytest.mark.parametrize("corrections", [None, 0.3])
def test_a_run_that_is_stopped_after_the_decision_ends_in_the_same_file(
    tmp_path, monkeypatch, corrections
):
    # A slow machine must not ask before training begins.
    monkeypatch.setattr("nvcodec.codec.work._PATIENCE_S", math.inf)
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(8, 80, 64))
    options = nvcodec.EncodeOptions(
        arch="canvas",
        target=nvcodec.Target(size=5100),
        passes=15,
        batch=1,
        corrections=corrections,
    )
    whole, _ = nvcodec.encode(path, None, options, device="cpu")
    assert unpack_stream(whole).segments[0].header.corrects
    n_asked = itertools.count(1)
    out = tmp_path / "out.nrv"
    with pytest.raises(Interrupted):
        nvcodec.encode(path, out, options, device="cpu", stop=lambda: next(n_asked) == 70)
    resumed, _ = nvcodec.encode(path, out, options, device="cpu", resume=True)
    assert resumed == whole


def test_between_frames_corrections_are_interpolated(clip):
    data, _ = encode(clip, corrections=0.5)
    bare = without_corrections(data)
    with nvcodec.open(data, device="cpu") as video, nvcodec.open(bare, device="cpu") as network:
        np.testing.assert_array_equal(next(frames_between(video, [2])), video[2])
        added = [video[t].astype(int) - network[t] for t in (2, 3)]
        assert max(np.abs(change).max() for change in added) > 8
        between = next(frames_between(video, [2.25])).astype(int)
        between -= next(frames_between(network, [2.25]))
        # Samples are rounded twice, and kept within their range.
        unclipped = (network[2] > 60) & (network[2] < 200) & (network[3] > 60) & (network[3] < 200)
        expected = 0.75 * added[0] + 0.25 * added[1]
        assert np.abs(between - expected)[unclipped].max() <= 2


def test_a_quality_is_reached_with_corrections(clip):
    data, result = encode(clip, target=nvcodec.Target(psnr=32.0), corrections=0.3, passes=30)
    assert unpack_stream(data).segments[0].header.corrects
    assert result.psnr_db >= 32.0


def test_small_files_and_other_architectures_have_none_unless_asked(clip):
    for options in ({"corrections": 0.0}, {"arch": "hnerv", "target": nvcodec.Target(size=6000)}):
        data, _ = encode(clip, passes=2, **options)
        assert not unpack_stream(data).segments[0].header.corrects
    data, _ = encode(clip, passes=2, loss="log-l1")
    assert not unpack_stream(data).segments[0].header.corrects
    data, _ = encode(clip, passes=2)
    assert 3920 <= len(data) <= 4000
    data, _ = encode(clip, arch="hnerv", target=nvcodec.Target(size=6000), corrections=0.5)
    assert unpack_stream(data).segments[0].header.corrects


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"corrections": 0.95}, "corrections is 0.95, allowed is 0.0 to 0.9"),
        ({"corrections": 0.2, "coding": "ptq"}, "needs --coding rd"),
        ({"corrections": 0.2, "color": "yuv"}, "needs --coding rd"),
        ({"corrections": 0.9, "target": nvcodec.Target(size=3000)}, "leaves 299 bytes"),
    ],
)
def test_shares_that_cannot_be(clip, options, message):
    with pytest.raises(UsageError, match=message):
        encode(clip, **options)
