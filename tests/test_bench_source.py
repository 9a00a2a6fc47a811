"""The frames that a bench gives to every codec."""

import hashlib
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import make_video, moving_frames

from nvcodec.bench import datasets
from nvcodec.bench.datasets import DATASETS, RawVideo, find_sequences, frame_bytes
from nvcodec.bench.published import published_results
from nvcodec.bench.source import planes_420, prepare_source, write_y4m, write_yuv
from nvcodec.errors import InputError, Interrupted, UsageError
from nvcodec.video.color import rgb_to_yuv
from nvcodec.video.planes import Picture
from nvcodec.video.reader import open_video
from nvcodec.video.sinks import yuv_tags


def planes_of(source):
    with source.frames() as frames:
        return [tuple(plane.copy() for plane in planes) for planes in frames]


@pytest.fixture
def lossless(tmp_path):
    return make_video(tmp_path / "clip.mkv", codec="ffv1", pixel_format="yuv420p")


def test_420_is_read_in_place(tmp_path, lossless):
    source = prepare_source(lossless, tmp_path, start=2, count=5)
    assert (source.path, source.start, source.n_frames) == (lossless, 2, 5)
    assert source.n_pixels == 5 * 64 * 48
    assert list(tmp_path.iterdir()) == [lossless]
    with open_video(lossless) as reader:
        expected = [planes_420(picture) for picture in reader.pictures()][2:7]
    found = planes_of(source)
    assert len(found) == 5
    for a, b in zip(found, expected, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    raw = b"".join(plane.tobytes() for planes in found for plane in planes)
    assert source.planes_md5 == hashlib.md5(raw).hexdigest()


def test_lossless_source(tmp_path, lossless):
    described = prepare_source(lossless, tmp_path).described
    assert not described.lossy
    assert described.notes == ()
    assert (described.file, described.codec, described.chroma) == ("clip.mkv", "ffv1", "4:2:0")
    assert described.frame_rate == "24000/1001"
    assert described.n_bytes == lossless.stat().st_size


def test_lossy_source_is_flagged(tmp_path, small_mp4):
    described = prepare_source(small_mp4, tmp_path).described
    assert described.lossy
    assert 0 < described.bpp * 64 * 48 * 12 / 8 < small_mp4.stat().st_size
    assert described.notes[0].startswith(f"the source is lossy: h264 at {described.bpp:.4f} bpp (")


@pytest.mark.parametrize("pixel_format", ["bgr0", "yuv444p", "yuv420p10le", "gray"])
def test_other_formats_are_converted_once(tmp_path, pixel_format):
    clip = make_video(tmp_path / "clip.mkv", codec="ffv1", pixel_format=pixel_format)
    source = prepare_source(clip, tmp_path)
    assert source.path == tmp_path / "source.mkv"
    assert (source.info.chroma, source.info.bit_depth) == (420, 8)
    assert "every codec got it" in source.described.notes[-1]
    with open_video(source.path) as reader:
        assert reader.info.color == source.tags
    with open_video(clip) as reader:
        tags = yuv_tags(reader.info)
        if pixel_format == "yuv420p10le":
            expected = [planes_420(picture) for picture in reader.pictures()]
        else:
            expected = [rgb_to_yuv(rgb, tags) for rgb in reader]
    for a, b in zip(planes_of(source), expected, strict=True):
        assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def test_ten_bits_are_rounded():
    samples = np.array([[0, 1, 2, 3, 1021, 1022, 1023]], np.uint16)
    with_tags = {"chroma": 420, "bit_depth": 10, "tags": None}
    y, _, _ = planes_420(Picture(planes=(samples,) * 3, **with_tags))
    assert y.tolist() == [[0, 0, 1, 1, 255, 255, 255]]
    with pytest.raises(InputError, match="4:4:4, 4:2:0 is needed"):
        planes_420(Picture(planes=(samples,) * 3, **with_tags | {"chroma": 444}))


@pytest.mark.parametrize(("width", "height"), [(64, 48), (33, 17)])
def test_hash_is_of_the_frames_alone(tmp_path, width, height):
    frames = moving_frames(3, width=width, height=height)
    clip = make_video(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv420p", frames=frames)
    source = prepare_source(clip, tmp_path)
    write_y4m(source, tmp_path / "b.y4m")
    again = prepare_source(tmp_path / "b.y4m", tmp_path)
    assert again.described.frames_sha256 == source.described.frames_sha256
    assert again.path == tmp_path / "b.y4m"
    write_yuv(source, tmp_path / "c.yuv")
    assert (tmp_path / "c.yuv").stat().st_size == 3 * frame_bytes(width, height)
    raw = RawVideo(tmp_path / "c.yuv", width, height, Fraction(30))
    copied = prepare_source(raw, tmp_path)
    assert copied.described.frames_sha256 == source.described.frames_sha256
    assert (copied.described.codec, copied.described.frame_rate) == ("rawvideo", "30/1")
    fewer = prepare_source(clip, tmp_path, count=2)
    assert fewer.described.frames_sha256 != source.described.frames_sha256


def test_stop_leaves_no_copy(tmp_path, small_mkv):
    with pytest.raises(Interrupted, match="nothing was measured"):
        prepare_source(small_mkv, tmp_path, stop=lambda: True)
    assert list(tmp_path.iterdir()) == []


def test_raw_file_of_another_size(tmp_path):
    path = tmp_path / "a.yuv"
    path.write_bytes(bytes(100))
    with pytest.raises(InputError, match="100 bytes, no multiple of the 24 of a 4x4 frame"):
        RawVideo(path, 4, 4, Fraction(25))
    with pytest.raises(InputError, match="cannot be read"):
        RawVideo(tmp_path / "none.yuv", 4, 4, Fraction(25))


def test_known_data_sets():
    uvg, mcl = DATASETS["uvg"], DATASETS["mcl-jcv"]
    assert [s.n_frames for s in uvg] == [600, 600, 600, 600, 600, 300, 600]
    assert uvg[0].file == "Beauty_1920x1080_120fps_420_8bit_YUV.yuv"
    assert uvg[0].n_bytes == 600 * 3110400
    assert len(mcl) == 30
    assert {s.frame_rate: s.n_frames for s in mcl} == {24: 120, 25: 125, 30: 150}
    assert mcl[16].file == "videoSRC17_1920x1080_24.yuv"
    class_b = DATASETS["hevc-b"]
    assert [s.n_frames for s in class_b] == [240, 240, 500, 500, 600]
    assert class_b[4].file == "BQTerrace_1920x1080_60.yuv"


def test_sequences_of_a_folder(tmp_path, monkeypatch):
    small = tuple(
        datasets.Sequence(
            name=name, file=f"{name}.yuv", frame_rate=30, n_frames=2, width=4, height=4
        )
        for name in ("One", "Two")
    )
    monkeypatch.setitem(DATASETS, "uvg", small)
    with pytest.raises(InputError, match=r"has no One.yuv"):
        find_sequences("uvg", tmp_path)
    (tmp_path / "Two.yuv").write_bytes(bytes(48))
    assert [s.name for s in find_sequences("uvg", tmp_path)] == ["Two"]
    with pytest.raises(InputError, match=r"has no One.yuv"):
        find_sequences("uvg", tmp_path, ("One", "Two"))
    with pytest.raises(UsageError, match="no sequence Three; it has One, Two"):
        find_sequences("uvg", tmp_path, ("Three",))
    with pytest.raises(UsageError, match="allowed are uvg, mcl-jcv, hevc-b"):
        find_sequences("ugv", tmp_path)
    (tmp_path / "Two.yuv").write_bytes(bytes(24))
    with pytest.raises(InputError, match=r"24 bytes; Two of uvg has 48 \(2 frames\)"):
        find_sequences("uvg", tmp_path)


def test_frames_beyond_those_that_count_are_not_read(tmp_path, monkeypatch):
    longer = datasets.Sequence(
        name="One", file="One.yuv", frame_rate=50, n_frames=2, width=4, height=4, n_unused=1
    )
    monkeypatch.setitem(DATASETS, "hevc-b", (longer,))
    for n_frames in (2, 3):
        (tmp_path / "One.yuv").write_bytes(bytes(range(24 * n_frames)))
        (found,) = find_sequences("hevc-b", tmp_path)
        pictures = list(datasets.open_sequence(found, tmp_path).pictures())
        assert [int(picture.planes[0][0, 0]) for picture in pictures] == [0, 24]
    for n_bytes in (24, 60, 96):
        (tmp_path / "One.yuv").write_bytes(bytes(n_bytes))
        with pytest.raises(InputError, match=rf"{n_bytes} bytes; One of hevc-b has 48"):
            find_sequences("hevc-b", tmp_path)


def test_published_curves_rise_and_say_where_they_are_from():
    curves = published_results("uvg", "Jockey") + published_results("mcl-jcv")
    names = ["NeRV (UVG)", "HNeRV (UVG)", "HiNeRV (UVG)", "HNeRV (Jockey)", "NeRV (MCL-JCV)"]
    assert [curve.name for curve in curves] == names
    for curve in curves:
        assert curve.kind == "published"
        assert "repository" in curve.parameters
        rates = [(point.bpp, point.psnr_rgb_db) for point in curve.points]
        assert rates == sorted(rates)
        assert [psnr for _, psnr in rates] == sorted(psnr for _, psnr in rates)


def test_workers_of_anchors_load_no_torch():
    code = "import nvcodec.bench.worker, sys; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[1],
    )  # fmt: skip
    assert done.stdout == "False\n"
