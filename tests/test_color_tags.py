"""Colour comes out as it went in, and our conversion agrees with an independent one (zimg)."""

import shutil
import subprocess
from dataclasses import replace

import av
import numpy as np
import pytest
from media_factory import make_movie

import nvcodec
from nvcodec.video.color import rgb_to_yuv, yuv_to_rgb
from nvcodec.video.frames import ColorTags
from nvcodec.video.reader import open_video
from nvcodec.video.writer import open_writer

FFMPEG = shutil.which("ffmpeg")
NAMES = {1: "709", 6: "170m", 9: "2020_ncl"}
SITINGS = ["left", "center", "topleft", "top"]


def has_zscale():
    if FFMPEG is None:
        return False
    run = subprocess.run([FFMPEG, "-hide_banner", "-filters"], capture_output=True, text=True)
    return " zscale " in run.stdout


needs_zscale = pytest.mark.skipif(not has_zscale(), reason="no ffmpeg with zscale")


def read(path):
    with open_video(path) as reader:
        frames = list(reader)
        return frames, reader.info, reader.warnings


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return read(make_movie(tmp_path_factory.mktemp("plain") / "a.mkv", n_frames=2))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
@pytest.mark.parametrize("siting", range(4))
def test_every_tag_comes_back(plain, tmp_path, suffix, siting):
    frames, info, _ = plain
    tags = ColorTags(
        matrix=9, primaries=9, transfer=16, full_range=siting % 2 == 1, siting=siting,
        specified=True,
    )  # fmt: skip
    with open_writer(tmp_path / f"b{suffix}", replace(info, color=tags)) as writer:
        for frame in frames:
            writer.write(frame)
    assert not writer.warnings
    assert read(tmp_path / f"b{suffix}")[1].color == tags


def test_y4m_cannot_name_a_matrix(plain, tmp_path):
    frames, info, _ = plain
    tags = replace(info.color, matrix=9, specified=True)
    with open_writer(tmp_path / "b.y4m", replace(info, color=tags)) as writer:
        writer.write(frames[0])
    assert writer.warnings == ["Y4M cannot say that the colour matrix is 9 (H.273)"]


@pytest.mark.parametrize(
    ("video", "pixel_format", "kept"),
    [
        ("libx264", "yuv420p", "yuv420p"),
        ("libx264", "yuv422p", "yuv422p"),
        ("libx264", "yuv444p", "yuv444p"),
        ("libx264", "yuvj420p", "yuvj420p"),
        ("ffv1", "gray", "yuvj420p"),  # FFmpeg decodes monochrome H.264 so
        ("ffv1", "bgr0", "yuv420p"),
    ],
)
def test_chroma_formats_in_mp4_and_mkv(tmp_path, video, pixel_format, kept):
    source = make_movie(tmp_path / "a.mkv", n_frames=2, video=video, pixel_format=pixel_format)
    frames, info, _ = read(source)
    for suffix in (".mp4", ".mkv"):
        with open_writer(tmp_path / f"b{suffix}", info) as writer:
            for frame in frames:
                writer.write(frame)
        _, back, _ = read(tmp_path / f"b{suffix}")
        if suffix == ".mkv":
            assert (back.chroma, back.color) == (info.chroma, info.color)
        with av.open(str(tmp_path / f"b{suffix}")) as container:
            found = container.streams.video[0].format.name
        if suffix == ".mp4":
            assert found == kept
    assert info.color.full_range == (pixel_format in ("yuvj420p", "gray", "bgr0"))


def test_tags_go_through_a_file(tmp_path):
    def prepare(stream):
        context = stream.codec_context
        context.colorspace, context.color_range = 9, 1
        context.color_primaries, context.color_trc = 9, 18

    source = make_movie(
        tmp_path / "a.mp4", n_frames=2, prepare=prepare,
        options={"chroma_sample_location": "topleft"},
    )  # fmt: skip
    _, info, _ = read(source)
    assert info.color == ColorTags(
        matrix=9, primaries=9, transfer=18, full_range=False, siting=2, specified=True
    )
    options = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=4.0), passes=1)
    data, _ = nvcodec.encode(source, None, options)
    with nvcodec.open(data) as video:
        assert video.info.color == info.color


def zscale(planes, shapes, size, source, target, options):
    """Convert raw 8-bit planes with FFmpeg's zscale."""
    width, height = size
    command = [
        FFMPEG, "-v", "error", "-f", "rawvideo", "-pixel_format", source,
        "-video_size", f"{width}x{height}", "-i", "-",
        "-vf", f"zscale={options}:filter=bilinear:dither=none,format={target}",
        "-f", "rawvideo", "-",
    ]  # fmt: skip
    raw = b"".join(np.ascontiguousarray(p).tobytes() for p in planes)
    run = subprocess.run(command, input=raw, capture_output=True, check=True)
    parts = np.split(
        np.frombuffer(run.stdout, np.uint8), np.cumsum([a * b for a, b in shapes])[:-1]
    )
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def smooth(shape, seed):
    """Random planes without steps: filters at edges may differ, slopes may not."""
    coarse = np.random.default_rng(seed).integers(40, 216, (shape[0] // 8 + 2, shape[1] // 8 + 2))
    rows, columns = np.mgrid[0 : shape[0], 0 : shape[1]] / 8.0
    r, c = rows.astype(int), columns.astype(int)
    fr, fc = rows - r, columns - c
    top = coarse[r, c] * (1 - fc) + coarse[r, c + 1] * fc
    bottom = coarse[r + 1, c] * (1 - fc) + coarse[r + 1, c + 1] * fc
    return (top * (1 - fr) + bottom * fr).round().astype(np.uint8)


@needs_zscale
@pytest.mark.parametrize("chroma", [444, 422, 420])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(NAMES))
@pytest.mark.parametrize("siting", [0, 1])
def test_yuv_to_rgb_agrees_with_zimg_within_one_level(chroma, full, matrix, siting):
    height, width = 32, 48
    small = (height // (2 if chroma == 420 else 1), width // (1 if chroma == 444 else 2))
    planes = [smooth((height, width), 1), smooth(small, 2), smooth(small, 3)]
    tags = ColorTags(
        matrix=matrix, primaries=2, transfer=2, full_range=full, siting=siting, specified=True
    )
    mine = yuv_to_rgb(*planes, tags, 8, chroma)
    scope = "full" if full else "limited"
    g, b, r = zscale(
        planes, [(height, width)] * 3, (width, height), f"yuv{chroma}p", "gbrp",
        f"matrixin={NAMES[matrix]}:matrix=gbr:rangein={scope}:range=full:"
        f"chromalin={SITINGS[siting]}",
    )  # fmt: skip
    theirs = np.stack([r, g, b], axis=-1).astype(int)
    assert np.abs(mine - theirs).max() <= 1


@needs_zscale
@pytest.mark.parametrize("chroma", [444, 422])
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("matrix", sorted(NAMES))
def test_rgb_to_yuv_agrees_with_zimg_within_one_level(chroma, full, matrix):
    height, width = 32, 48
    r, g, b = (smooth((height, width), seed) for seed in (4, 5, 6))
    small = (height, width // (1 if chroma == 444 else 2))
    tags = ColorTags(
        matrix=matrix, primaries=2, transfer=2, full_range=full, siting=0, specified=True
    )
    mine = rgb_to_yuv(np.stack([r, g, b], axis=-1), tags, chroma)
    scope = "full" if full else "limited"
    theirs = zscale(
        [g, b, r], [(height, width), small, small], (width, height), "gbrp", f"yuv{chroma}p",
        f"matrixin=gbr:matrix={NAMES[matrix]}:rangein=full:range={scope}:chromal=left",
    )  # fmt: skip
    for a, b in zip(mine, theirs, strict=True):
        assert np.abs(a.astype(int) - b).max() <= 1
