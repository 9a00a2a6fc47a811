"""What a mask hides: five boxes, a picture, a video; and what is refused."""

from fractions import Fraction

import numpy as np
import pytest
from conftest import make_video

from nvcodec.errors import InputError, UsageError
from nvcodec.video.frames import VideoInfo, resolve_tags
from nvcodec.video.framing import Framing
from nvcodec.video.masks import boxes, fill_hidden, polygons, read_mask
from nvcodec.video.writer import open_writer

HEIGHT, WIDTH = 24, 40


def gray(*levels):
    """Frames whose left halves have these levels, and whose right halves are black."""
    frames = np.zeros((len(levels), HEIGHT, WIDTH, 3), np.uint8)
    for frame, level in zip(frames, levels, strict=True):
        frame[:, : WIDTH // 2] = level
    return frames


def video(path, *levels):
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=gray(*levels))


def test_boxes_are_hnervs():
    hidden = boxes(50, 480, 960)
    assert hidden.sum() == 5 * 50 * 50
    for down, across in [(240, 480), (120, 240), (120, 720), (360, 240), (360, 720)]:
        square = hidden[down - 25 : down + 25, across - 25 : across + 25]
        assert square.all()
    odd = boxes(3, 16, 16)
    assert odd.sum() == 45
    assert odd[7:10, 7:10].all()


@pytest.mark.parametrize("size", [0, 13])
def test_boxes_lie_inside(size):
    with pytest.raises(UsageError, match=f"boxes:{size}, allowed for 40x24 is boxes:1 to boxes:12"):
        boxes(size, HEIGHT, WIDTH)


@pytest.mark.parametrize("seed", range(4))
def test_polygons_are_solid_and_of_bounded_size(seed):
    hidden = polygons(1, 200, 300, seed)
    rows, columns = np.nonzero(hidden)
    assert 0 < np.ptp(rows) <= 100
    assert 0 < np.ptp(columns) <= 100
    # Most pixels have their neighbours: areas, not lines or dust.
    assert (hidden[1:] & hidden[:-1]).sum() > 0.8 * hidden.sum()


def test_polygons_differ_by_seed_alone():
    a, b, other = (read_mask("polygons:5", 2, 100, 160, seed=seed) for seed in (3, 3, 4))
    assert (a == b).all()
    assert (a != other).any()
    assert polygons(20, 100, 160, 3).sum() > a[0].sum()
    with pytest.raises(UsageError, match="polygons:0, allowed is polygons:1 to polygons:1000"):
        polygons(0, 100, 160, 3)


@pytest.mark.parametrize(
    "mask", ["boxes:", "boxes:x", "boxes:-3", "boxes:1.5", "polygons:many", "circles:4"]
)
def test_boxes_and_polygons_need_a_number(mask):
    with pytest.raises(UsageError, match="allowed is boxes:N with N pixels, polygons:N with N"):
        read_mask(mask, 3, HEIGHT, WIDTH)


def test_one_frame_serves_all(tmp_path):
    assert read_mask("boxes:4", 7, HEIGHT, WIDTH).shape == (7, HEIGHT, WIDTH)
    path = video(tmp_path / "mask.mkv", 255)
    hidden = read_mask(path, 7, HEIGHT, WIDTH, start=3, count=7)
    assert hidden.shape == (7, HEIGHT, WIDTH)
    assert hidden.dtype == np.bool_
    assert hidden[:, :, : WIDTH // 2].all()
    assert not hidden[:, :, WIDTH // 2 :].any()


def test_a_picture(tmp_path):
    frames = gray(200)
    with open_writer(tmp_path / "frames" / "%d.png", info()) as writer:
        writer.write(frames[0])
    hidden = read_mask(tmp_path / "frames" / "1.png", 2, HEIGHT, WIDTH)
    np.testing.assert_array_equal(hidden, np.repeat(frames[..., 0] > 0, 2, axis=0))


def info():
    return VideoInfo(
        width=WIDTH, height=HEIGHT, frame_rate=Fraction(25), bit_depth=8, chroma=0,
        color=resolve_tags(height=HEIGHT, chroma=0), codec="none", n_bytes=None,
    )  # fmt: skip


def test_white_begins_at_128(tmp_path):
    path = video(tmp_path / "mask.mkv", 127, 128, 0, 255)
    hidden = read_mask(path, 4, HEIGHT, WIDTH)
    assert hidden.any(axis=(1, 2)).tolist() == [False, True, False, True]


def test_a_mask_video_is_cut_like_the_video(tmp_path):
    path = video(tmp_path / "mask.mkv", 0, 0, 255, 0, 255)
    hidden = read_mask(path, 2, HEIGHT, WIDTH, start=2, count=2)
    assert hidden.any(axis=(1, 2)).tolist() == [True, False]
    assert len(read_mask(path, 3, HEIGHT, WIDTH, start=2)) == 3
    for n_frames, given in [(6, {}), (4, {}), (4, {"start": 2}), (2, {"start": 4, "count": 2})]:
        with pytest.raises(UsageError, match="the same number is needed, or one frame for all"):
            read_mask(path, n_frames, HEIGHT, WIDTH, **given)


def test_a_mask_is_changed_like_the_video(tmp_path):
    path = tmp_path / "mask.mkv"
    frames = np.zeros((5, 2 * HEIGHT, 2 * WIDTH, 3), np.uint8)
    frames[[0, 1, 4], :HEIGHT, :WIDTH] = 255
    make_video(path, codec="ffv1", pixel_format="bgr0", frames=list(frames))
    smaller = Framing(resize=(WIDTH, HEIGHT), every=3, kept=2)
    hidden = read_mask(path, 2, HEIGHT, WIDTH, start=1, count=2, framing=smaller)
    assert hidden.any(axis=(1, 2)).tolist() == [True, False]
    assert hidden[0].mean() == pytest.approx(0.25, abs=0.01)
    assert len(read_mask(path, 3, HEIGHT, WIDTH, start=1, framing=smaller)) == 3
    centre = Framing(crop=(WIDTH, HEIGHT))
    hidden = read_mask(path, 5, HEIGHT, WIDTH, framing=centre)
    assert hidden[0, : HEIGHT // 2, : WIDTH // 2].all()
    assert hidden[0].mean() == 0.25


def test_useless_masks(tmp_path):
    with pytest.raises(UsageError, match="hides nothing; pixels of 128 to 255 are hidden"):
        read_mask(video(tmp_path / "black.mkv", 127), 2, HEIGHT, WIDTH)
    white = make_video(
        tmp_path / "white.mkv", codec="ffv1", pixel_format="bgr0",
        frames=[gray(0)[0], np.full((HEIGHT, WIDTH, 3), 255, np.uint8)],
    )  # fmt: skip
    with pytest.raises(UsageError, match="hides all of frame 1; some pixels must be known"):
        read_mask(white, 2, HEIGHT, WIDTH)


def test_other_files(tmp_path):
    with pytest.raises(UsageError, match="has 40x24 pixels, the video has 40x26"):
        read_mask(video(tmp_path / "mask.mkv", 255), 2, 26, WIDTH)
    with pytest.raises(InputError, match="does not exist"):
        read_mask(tmp_path / "none.png", 2, HEIGHT, WIDTH)


def test_holes_are_filled_with_the_mean_of_what_is_known():
    frames = gray(200, 100)
    frames[:, :, 20:] = 50
    hidden = np.zeros(frames.shape[:3], np.bool_)
    hidden[0, :, :20] = hidden[1, :, 10:] = True
    filled = fill_hidden(frames, hidden)
    assert (filled[0] == 50).all()
    assert (filled[1] == 100).all()
    assert (frames[0, :, :20] == 200).all()
