"""Corrections: their words, how they are added, and how they are found."""

import dataclasses
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_video, moving_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder.corrections import Corrections as ReferenceCorrections
from test_block_motion import random_motion, vectors_by_place

import nvcodec
from nvcodec.bitstream.block_motion import Motion
from nvcodec.bitstream.corrections import (
    Corrections,
    grid_shape,
    pack_corrections,
    unpack_corrections,
)
from nvcodec.bitstream.header import CORRECTS, pack_stream, unpack_stream
from nvcodec.codec.choose_corrections import block_side
from nvcodec.codec.corrections import Corrector, block_basis
from nvcodec.codec.find_corrections import find_corrections
from nvcodec.codec.find_motion import VideoMotion
from nvcodec.codec.interpolate import frames_between
from nvcodec.errors import BitstreamError, Interrupted, LimitError, UsageError
from nvcodec.limits import Limits


def random_corrections(
    seed, n_frames, height, width, side, density=0.2, largest=4.0, moving=None, farthest=20
):
    """With `moving`, a share of the blocks is copied from up to `farthest` half pixels away."""
    rng = np.random.default_rng(seed)
    shape = grid_shape(n_frames, height, width, side)
    blocks = rng.random(shape) < density
    spread = largest / (1 + np.add.outer(np.arange(8), np.arange(8)))
    symbols = np.rint(rng.laplace(0, spread, (int(blocks.sum()), 3, 8, 8))).astype(np.int32)
    step = int(rng.integers(140, 176))
    motion = None if moving is None else random_motion(seed, shape, moving, farthest)
    return Corrections(side, step, blocks, symbols, motion)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 20),
    n_frames=st.integers(1, 5),
    height=st.integers(1, 70),
    width=st.integers(1, 70),
    side=st.sampled_from([8, 16, 32, 64]),
    density=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    largest=st.sampled_from([0.0, 1.0, 30.0, 20_000.0]),
    moving=st.sampled_from([None, 0.0, 0.2, 1.0]),
)
def test_words_come_back(seed, n_frames, height, width, side, density, largest, moving):
    given = random_corrections(seed, n_frames, height, width, side, density, largest, moving)
    given = dataclasses.replace(given, symbols=given.symbols.clip(-32768, 32767))
    words = pack_corrections(given)
    found = unpack_corrections(words, n_frames, height, width)
    assert (found.side, found.step) == (given.side, given.step)
    np.testing.assert_array_equal(found.blocks, given.blocks)
    np.testing.assert_array_equal(found.symbols, given.symbols)
    assert (found.motion is None) == (moving is None)
    if given.motion is not None:
        np.testing.assert_array_equal(found.motion.blocks, given.motion.blocks)
        np.testing.assert_array_equal(found.motion.vectors, given.motion.vectors)
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
        added = corrector.correct(grey.clone(), torch.tensor([t]), 16)[0].permute(1, 2, 0)
        expected = np.clip(1000 + 65535 * reference.of_frame(t), 0, 65535)
        assert np.abs(added.numpy() - expected).max() < 0.6


def moving_corrections(side, farthest=20):
    """Six frames of 51x70, most blocks of all but frames 0 and 4 move; some have coefficients."""
    given = random_corrections(
        side, 6, 51, 70, side, density=0.3, moving=1.0, farthest=farthest, largest=8.0
    )
    moved = np.random.default_rng(0).random(given.blocks.shape) < 0.7
    moved[:, 0, 0] = True
    moved[[0, 4]] = False
    kept = moved[given.motion.blocks]
    return dataclasses.replace(given, motion=Motion(moved, given.motion.vectors[kept]))


def noise(bit_depth, n_frames=6):
    rng = np.random.default_rng(bit_depth)
    samples = rng.integers(0, 2**bit_depth, (n_frames, 3, 51, 70))
    return torch.from_numpy(samples.astype(np.uint8 if bit_depth == 8 else np.uint16))


@pytest.mark.parametrize("farthest", [3, 20, 1023])
@pytest.mark.parametrize(("side", "bit_depth"), [(8, 8), (16, 12), (64, 8)])
def test_another_decoder_moves_blocks_alike(side, bit_depth, farthest):
    given = moving_corrections(side, farthest)
    reference = ReferenceCorrections(pack_corrections(given), 6, 51, 70)
    assert reference.vectors == vectors_by_place(given.motion)
    assert any(p % 2 and q % 2 for frame in reference.vectors for p, q in frame.values())
    drawn, white = noise(bit_depth), 2**bit_depth - 1
    mended = Corrector(given, 51, 70).correct(drawn.clone(), torch.arange(6), bit_depth)
    before, equal = None, []
    for t in range(6):
        network = drawn[t].permute(1, 2, 0).numpy()
        base = reference.shown(t, network, before)
        before = reference.finish(t, base + white * reference.of_frame(t), white)
        difference = np.abs(mended[t].permute(1, 2, 0).numpy().astype(int) - before)
        # In 32 bits few values that are nearly ties are rounded the other way.
        assert difference.max() <= 1
        equal.append((difference == 0).mean())
        moved = reference.moved(t)[..., 0]
        assert moved.any() == bool(reference.vectors[t])
        if moved.any():
            assert (before[moved] == network[moved]).mean() < 0.5
    assert np.mean(equal) > 0.999


def test_copies_alone_are_exact():
    given = random_corrections(3, 6, 51, 70, 16, density=0.0, moving=0.8)
    reference = ReferenceCorrections(pack_corrections(given), 6, 51, 70)
    drawn, before = noise(16), None
    mended = Corrector(given, 51, 70).correct(drawn.clone(), torch.arange(6), 16)
    for t in range(6):
        network = drawn[t].permute(1, 2, 0).numpy()
        before = reference.finish(t, reference.shown(t, network, before), 65535)
        np.testing.assert_array_equal(mended[t].permute(1, 2, 0).numpy(), before)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_frames_of_a_batch_are_those_one_by_one(bit_depth):
    given, drawn = moving_corrections(16), noise(bit_depth)
    corrector = Corrector(given, 51, 70)
    assert corrector.moves
    batch = corrector.correct(drawn.clone(), torch.arange(6), bit_depth)
    before = None
    for t in range(6):
        one = corrector.correct(drawn[t : t + 1].clone(), torch.tensor([t]), bit_depth, before)
        before = one[0]
        assert torch.equal(before.int(), batch[t].int())
    # A part of a segment, from the last frame on that needs none before it.
    assert [corrector.start_of(t) for t in range(6)] == [0, 0, 0, 0, 4, 4]
    for first, last in ((0, 3), (4, 6)):
        part = corrector.correct(drawn[first:last].clone(), torch.arange(first, last), bit_depth)
        assert torch.equal(part.int(), batch[first:last].int())
    part = corrector.correct(drawn[2:4].clone(), torch.tensor([2, 3]), bit_depth, batch[1])
    assert torch.equal(part.int(), batch[2:4].int())


def test_every_frame_starts_alone_where_nothing_moves():
    for moving in (None, 0.0):
        corrector = Corrector(random_corrections(5, 4, 51, 70, 8, moving=moving), 51, 70)
        assert not corrector.moves
        assert [corrector.start_of(t) for t in range(4)] == [0, 1, 2, 3]


def test_ties_go_up_and_down_by_turns():
    """A mean of 10 and 11 is 11 in odd frames and 10 in even ones, beside an edge that goes on."""
    blocks = np.ones((3, 1, 1), dtype=np.bool_)
    blocks[0] = False
    vectors = np.array([[0, 1], [0, 1]])
    none = np.zeros((3, 1, 1), dtype=np.bool_), np.zeros((0, 3, 8, 8), dtype=np.int32)
    corrector = Corrector(Corrections(8, 0, *none, Motion(blocks, vectors)), 1, 8)
    stripes = torch.tensor([10, 11, 10, 11, 10, 11, 10, 11], dtype=torch.uint8)
    stripes = stripes.expand(1, 3, 1, 8).clone()
    for number, shown in ((1, 11), (2, 10)):
        unseen = torch.zeros(1, 3, 1, 8, dtype=torch.uint8)
        found = corrector.correct(unseen, torch.tensor([number]), 8, stripes[0])
        assert found[0, :, 0].tolist() == [[shown] * 7 + [11]] * 3


def test_what_is_copied_often_stays_as_bright_as_it_is():
    n_frames, side = 41, 8
    blocks = np.ones(grid_shape(n_frames, 64, 64, side), dtype=np.bool_)
    blocks[0] = False
    there_and_back = np.where(np.nonzero(blocks)[0] % 4 < 2, 1, -1)
    vectors = np.stack([there_and_back, -there_and_back], axis=1)
    none = np.zeros_like(blocks), np.zeros((0, 3, 8, 8), dtype=np.int32)
    corrector = Corrector(Corrections(side, 0, *none, Motion(blocks, vectors)), 64, 64)
    rng = np.random.default_rng(0)
    drawn = np.zeros((n_frames, 3, 64, 64), dtype=np.uint8)
    drawn[0] = rng.integers(100, 140, (3, 64, 64))
    mended = corrector.correct(torch.from_numpy(drawn), torch.arange(n_frames), 8).float()
    assert float((mended[-1].mean() - mended[0].mean()).abs()) < 1
    assert float(mended[-1].std()) < float(mended[0].std())


def test_few_blocks_take_few_bytes():
    blocks = np.zeros(grid_shape(100, 128, 128, 8), dtype=np.bool_)
    blocks[10:90, 4:6, 7:9] = True
    symbols = np.zeros((int(blocks.sum()), 3, 8, 8), dtype=np.int32)
    # 25,600 places; those that are corrected stay where they are.
    assert len(pack_corrections(Corrections(8, 100, blocks, symbols))) < 200


def test_blocks_that_move_and_are_corrected_too_cost_little():
    """Where blocks move is said once: what is corrected there has probabilities of its own."""
    shape = grid_shape(30, 128, 128, 8)
    moved = np.random.default_rng(0).random(shape) < 0.3
    moved[0] = False
    motion = Motion(moved, np.zeros((int(moved.sum()), 2), dtype=np.int64))

    def n_bytes(blocks):
        symbols = np.zeros((int(blocks.sum()), 3, 8, 8), dtype=np.int32)
        return len(pack_corrections(Corrections(8, 100, blocks, symbols, motion)))

    none = n_bytes(np.zeros(shape, dtype=np.bool_))
    # Of bits with 30 % ones, 0.88 bits each.
    assert 0.8 < (none - 60) * 8 / moved[1:].size < 0.95
    assert n_bytes(moved) < none + 100
    assert n_bytes(np.roll(moved, 5, axis=2)) > none + 500


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
    mended = Corrector(given, 30, 41).correct(samples, torch.tensor([2, 0, 1]), bit_depth)
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


def still(frames):
    """Blocks of these frames are not copied."""
    return VideoMotion(frames, block_side(*frames.shape[2:]), 1)


def test_the_worst_blocks_are_mended_within_the_budget():
    drawn, true = drawn_and_true()
    before, best = mean_psnr(drawn, true), 0.0
    for max_bytes in (80, 140, 250):
        words = find_corrections(lambda index: drawn[index], true, None, 8, still(true), max_bytes)
        assert 0 < len(words) <= max_bytes
        found = unpack_corrections(words, 6, 45, 70)
        assert found.blocks[1:3].any()
        mended = Corrector(found, 45, 70).correct(drawn.clone(), torch.arange(6), 8)
        assert mean_psnr(mended, true) > max(before + 0.5, best)
        best = mean_psnr(mended, true)


def test_what_is_hidden_or_right_is_not_mended():
    drawn, true = drawn_and_true()
    mask = torch.ones(6, 1, 45, 70, dtype=torch.bool)
    mask[1] = False
    words = find_corrections(lambda index: drawn[index], true, mask, 8, still(true), 400)
    assert not unpack_corrections(words, 6, 45, 70).blocks[1].any()
    assert find_corrections(lambda index: true[index], true, None, 8, still(true), 400) == b""
    assert find_corrections(lambda index: drawn[index], true, None, 8, still(true), 20) == b""


MOVING = Path(__file__).parent / "vectors" / "uncommon" / "corrected-moving.nrv"


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("bit_depth", [8, 10])
def test_single_frames_of_moving_blocks_are_those_of_the_whole(batch, bit_depth):
    options = {"device": "cpu", "batch": batch, "bit_depth": bit_depth}
    with nvcodec.open(MOVING, **options) as video:
        whole = video[:]
    assert (whole[1:] != whole[:-1]).any((1, 2, 3)).all()
    for order in ([3, 1, 1, 5, 0, 2, 4], [5, 4, 3, 2, 1, 0], [2, 3, 5, 2]):
        with nvcodec.open(MOVING, **options) as video:
            for i in order:
                np.testing.assert_array_equal(video[i], whole[i])
        with nvcodec.open(MOVING, **options) as video:
            np.testing.assert_array_equal(video[order], whole[order])


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
        # What is copied from frame to frame has been rounded once for each.
        assert np.abs(video[:] / 1023 - mended / 255.0).max() < 2.5 / 255
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
