"""Blocks of corrections that are copied from the frame before: found, chosen, drawn at random."""

import numpy as np
import pytest
import torch
from conftest import make_video, moving_frames

import nvcodec
from nvcodec.bitstream.corrections import unpack_corrections
from nvcodec.bitstream.header import unpack_stream
from nvcodec.codec.choose_corrections import block_side
from nvcodec.codec.corrections import Corrector
from nvcodec.codec.find_corrections import find_corrections
from nvcodec.codec.find_motion import VideoMotion
from nvcodec.codec.interpolate import frames_between
from nvcodec.errors import UsageError


def texture(height, width, seed=0):
    """Smooth noise (height, width, 3) of 0 to 255."""
    torch.manual_seed(seed)
    noise = torch.rand(1, 3, height + 8, width + 8)
    smooth = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)[0, :, 4:-4, 4:-4]
    low, high = smooth.min(), smooth.max()
    return (255 * (smooth - low) / (high - low)).permute(1, 2, 0)


def moving_texture(n_frames=10, height=96, width=128, down=2, across=-3):
    """Frames (N, 3, H, W) in which a textured square moves over a still ground."""
    ground = texture(height, width)
    square = texture(32, 40, seed=1)
    frames = []
    for t in range(n_frames):
        frame = ground.clone()
        y, x = 10 + down * t, width - 48 + across * t
        frame[y : y + 32, x : x + 40] = square
        frames.append(frame.permute(2, 0, 1))
    return torch.stack(frames).round().to(torch.uint8)


@pytest.mark.parametrize("side", [8, 16])
def test_vectors_are_those_of_the_picture(side):
    picture = texture(160, 224)
    frames = torch.stack([picture[20:116, 40:168], picture[14:110, 49:177]])
    motion = VideoMotion(frames.permute(0, 3, 1, 2), side, 8)
    vectors = motion.vectors(1).view(96 // side, 128 // side, 2)
    # What is 6 pixels higher and 9 farther right in the picture was lower and to the left before.
    assert (vectors[1:, :-1] == torch.tensor([-12, 18])).all()


def test_half_pixels_are_found():
    picture = texture(112, 145)
    between = (picture[8:104, 8:136] + picture[8:104, 9:137]) / 2
    frames = torch.stack([picture[8:104, 8:136], between]).permute(0, 3, 1, 2)
    vectors = VideoMotion(frames, 8, 8).vectors(1).view(12, 16, 2)
    assert (vectors[:, 1:-1] == torch.tensor([0, 1])).all()


def still_ground(frames):
    """What a network draws that knows of nothing that moves: the mean of all frames."""
    mean = frames.float().mean(0, keepdim=True).round().to(torch.uint8)
    return mean.expand_as(frames).contiguous()


def corrections_of(frames, drawn, max_bytes, group, **kwargs):
    motion = VideoMotion(frames, block_side(*frames.shape[2:]), group)
    words = find_corrections(
        lambda index: drawn[index], frames, kwargs.get("mask"), 8, motion, max_bytes
    )
    assert 0 < len(words) <= max_bytes
    n_frames, _, height, width = frames.shape
    return unpack_corrections(words, n_frames, height, width)


def psnr_of(corrections, drawn, frames):
    mended = Corrector(corrections, *frames.shape[2:]).correct(
        drawn.clone(), torch.arange(len(frames)), 8
    )
    error = (mended.float() - frames.float()).square().mean((1, 2, 3))
    return float((10 * torch.log10(255**2 / error)).mean())


def test_what_moves_is_copied():
    frames = moving_texture()
    drawn = still_ground(frames)
    alone = corrections_of(frames, drawn, 4000, group=1)
    copied = corrections_of(frames, drawn, 4000, group=8)
    assert alone.motion is None
    assert not copied.motion.blocks[[0, 8]].any()
    assert copied.motion.blocks[1:8].any(axis=(1, 2)).all()
    assert len(copied.motion.vectors) > 100
    # The square moves down and to the left, so that it was higher and farther right before.
    typical = np.median(copied.motion.vectors, axis=0)
    np.testing.assert_array_equal(typical, [-4, 6])
    assert psnr_of(copied, drawn, frames) > psnr_of(alone, drawn, frames) + 2


def test_what_is_hidden_is_not_copied():
    frames = moving_texture(4)
    drawn = still_ground(frames)
    mask = torch.ones(4, 1, 96, 128, dtype=torch.bool)
    mask[2] = False
    found = corrections_of(frames, drawn, 3000, group=4, mask=mask)
    assert found.motion.blocks[[1, 3]].any(axis=(1, 2)).all()
    assert not found.motion.blocks[2].any()
    assert not found.blocks[2].any()


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of 20 frames whose blocks are copied, and all of its frames."""
    path = tmp_path_factory.mktemp("copies") / "in.mkv"
    frames = [f.permute(1, 2, 0).numpy() for f in moving_texture(20, 64, 80, down=1, across=-1)]
    make_video(path, codec="ffv1", pixel_format="bgr0", frames=frames)
    options = nvcodec.EncodeOptions(
        arch="canvas", target=nvcodec.Target(size=9000), passes=4, corrections=0.6
    )
    data, result = nvcodec.encode(path, None, options, device="cpu")
    segment = unpack_stream(data).segments[0]
    found = unpack_corrections(segment.corrections, 20, 64, 80)
    assert len(found.motion.vectors) > 20
    with nvcodec.open(data, device="cpu") as video:
        whole = video[:]
    error = np.square(whole.astype(float) - np.stack(frames)).mean((1, 2, 3))
    assert np.mean(10 * np.log10(255**2 / error)) == pytest.approx(result.psnr_db, abs=1e-3)
    return data, whole, found


@pytest.mark.parametrize("batch", [1, 3, 16])
def test_frames_are_the_same_in_any_order(file, batch):
    data, whole, _ = file
    for key in (7, [15, 3, 3, 19, 0], slice(18, 4, -3), slice(None), [8, 9], 9, 8, 13):
        with nvcodec.open(data, device="cpu", batch=batch) as video:
            np.testing.assert_array_equal(video[key], whole[key])
            np.testing.assert_array_equal(video[7], whole[7])
            np.testing.assert_array_equal(video[key], whole[key])
            np.testing.assert_array_equal(video[8], whole[8])


def test_few_others_are_drawn_for_a_frame(file, monkeypatch):
    data, whole, found = file
    with nvcodec.open(data, device="cpu") as video:
        model = video.load(0)
        drawn: list[int] = []
        draw = model.draw_samples
        monkeypatch.setattr(
            model, "draw_samples", lambda i, depth: drawn.extend(i.tolist()) or draw(i, depth)
        )
        last = max(t for t in range(16) if found.motion.blocks[t].any())
        first = max(t for t in range(last + 1) if not found.motion.blocks[t].any())
        assert first >= 8
        np.testing.assert_array_equal(video[last], whole[last])
        assert sorted(drawn) == list(range(first, last + 1))
        drawn.clear()
        np.testing.assert_array_equal(video[last], whole[last])
        assert drawn == []


def test_other_depths_are_close(file):
    data, whole, _ = file
    with nvcodec.open(data, device="cpu", bit_depth=10) as video:
        assert np.abs(video[:] / 1023 - whole / 255.0).max() < 2.5 / 255
        frame = video[5]
        video.bit_depth = 8
        np.testing.assert_array_equal(video[5], whole[5])
        video.bit_depth = 10
        np.testing.assert_array_equal(video[5], frame)


def test_between_frames_what_copies_add_is_interpolated(file):
    data, whole, found = file
    moving = [t for t in range(19) if found.motion.blocks[t].any()]
    with nvcodec.open(data, device="cpu") as video:
        for t in moving[:2]:
            np.testing.assert_array_equal(next(frames_between(video, [t])), whole[t])
            between = next(frames_between(video, [t + 0.5])).astype(float)
            low = np.minimum(whole[t], whole[t + 1]).astype(float)
            high = np.maximum(whole[t], whole[t + 1]).astype(float)
            # Nearly everywhere it lies between its neighbours, as the network does not jump.
            assert ((between >= low - 8) & (between <= high + 8)).mean() > 0.98


def test_groups_of_one_frame_need_no_other(tmp_path):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(6, 64, 48))
    options = nvcodec.EncodeOptions(
        arch="canvas", target=nvcodec.Target(size=4000), passes=2, corrections=0.5, group=1
    )
    data, _ = nvcodec.encode(path, None, options, device="cpu")
    segment = unpack_stream(data).segments[0]
    assert unpack_corrections(segment.corrections, 6, 48, 64).motion is None


def test_groups_have_frames():
    with pytest.raises(UsageError, match="group is 0, allowed is 1 to 256"):
        nvcodec.encode("none.mp4", None, nvcodec.EncodeOptions(group=0), device="cpu")
