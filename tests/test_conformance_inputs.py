"""Many kinds of small inputs go through the codec; what PyAV says of source and output is equal."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import moving_frames
from media_factory import make_movie, packets_of

import nvcodec
from nvcodec.errors import InputError, UsageError
from nvcodec.events import Log
from nvcodec.video.frames import InputFormat
from nvcodec.video.writer import open_writer

OPTIONS = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=8.0), passes=1)
TAGGED = {"colorspace": 9, "color_range": 1, "color_primaries": 9, "color_trc": 16}
UNEVEN = [0, 40, 100, 101]
MS = Fraction(1, 1000)
BASE = {"n_frames": 4}


def tags(**codes):
    def prepare(stream):
        for name, code in codes.items():
            setattr(stream.codec_context, name, code)

    return prepare


def turned(degrees, **codes):
    def prepare(stream):
        stream.set_display_rotation(degrees)
        tags(**codes)(stream)

    return prepare


def movie(suffix, **given):
    return lambda folder: make_movie(folder / f"a{suffix}", **BASE | given)


def coded(codec, pixel_format, suffix=".mkv", **given):
    return movie(suffix, video=codec, pixel_format=pixel_format, **given)


def y4m(chroma, n_samples, extra="", kind="u1"):
    def make(folder):
        data = np.random.default_rng(1).integers(40, 200, (4, n_samples)).astype(kind)
        frames = b"".join(b"FRAME\n" + frame.tobytes() for frame in data)
        path = folder / "a.y4m"
        path.write_bytes(f"YUV4MPEG2 W32 H32 F25:1{extra} C{chroma}\n".encode() + frames)
        return path

    return make


def pictures(pixel_format):
    def make(folder):
        for i, rgb in enumerate(moving_frames(4, 32, 32)):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
            frame.save(folder / f"{i}.png") if pixel_format == "rgb24" else _png(folder, i, frame)
        return folder

    return make


def _png(folder: Path, index: int, frame: av.VideoFrame) -> None:
    codec = av.VideoCodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = frame.width, frame.height, frame.format.name
    codec.time_base, codec.thread_count = Fraction(1, 25), 1
    packets = codec.encode(frame) + codec.encode(None)
    (folder / f"{index}.png").write_bytes(b"".join(bytes(packet) for packet in packets))


def raw(n_bytes):
    def make(folder):
        data = np.random.default_rng(2).integers(40, 200, 4 * n_bytes, np.uint8)
        (folder / "a.yuv").write_bytes(data.tobytes())
        return folder / "a.yuv"

    return make


def raw_format(pixel_format):
    return InputFormat(size=(32, 32), pixel_format=pixel_format, frame_rate=Fraction(25))


@dataclass(frozen=True)
class Case:
    make: object
    chroma: str = "yuv420p"
    form: InputFormat | None = None
    said: tuple[str, ...] = ()


AAC, OPUS = {"codec": "aac", "seconds": 0.5}, {"codec": "libopus", "seconds": 0.5}
CASES = {
    "h264-420": Case(coded("libx264", "yuv420p", ".mp4")),
    "h264-422": Case(coded("libx264", "yuv422p", ".mp4"), "yuv422p"),
    "h264-444": Case(coded("libx264", "yuv444p", ".mp4"), "yuv444p"),
    "h264-full-range": Case(coded("libx264", "yuvj420p")),
    "h264-nv12": Case(coded("libx264", "nv12")),
    "h264-10-bit": Case(coded("libx264", "yuv420p10le"), "yuv420p10le"),
    "ffv1-420": Case(coded("ffv1", "yuv420p")),
    "ffv1-gray": Case(coded("ffv1", "gray"), "gray"),
    "ffv1-rgb": Case(coded("ffv1", "bgr0"), "bgr0"),
    "ffv1-rgb-alpha": Case(coded("ffv1", "bgra"), "bgr0", said=("alpha dropped",)),
    "ffv1-12-bit": Case(coded("ffv1", "yuv444p12le"), "yuv444p12le"),
    "ffv1-gray-16": Case(coded("ffv1", "gray16le"), "gray16le"),
    "ffv1-gbrp10": Case(coded("ffv1", "gbrp10le"), "gbrp10le"),
    "ffv1-gbrp12": Case(coded("ffv1", "gbrp12le"), "gbrp12le"),
    "ffv1-422-12": Case(coded("ffv1", "yuv422p12le"), "yuv422p12le"),
    "ffv1-gray10": Case(coded("ffv1", "gray10le"), "gray10le"),
    "ffv1-gray-limited": Case(coded("ffv1", "gray", prepare=tags(color_range=1)), "gray"),
    "ffv1-420-9": Case(coded("ffv1", "yuv420p9le"), "yuv420p9le"),
    "ffv1-420-12": Case(coded("ffv1", "yuv420p12le"), "yuv420p12le"),
    "ffv1-422-14": Case(coded("ffv1", "yuv422p14le"), "yuv422p14le"),
    "ffv1-444-16": Case(coded("ffv1", "yuv444p16le"), "yuv444p16le"),
    "ffv1-gbrp14": Case(coded("ffv1", "gbrp14le"), "gbrp14le"),
    "hevc-10-bit-mp4": Case(
        coded(
            "libx265",
            "yuv420p10le",
            ".mp4",
            size=(64, 64),
            options={"x265-params": "log-level=none"},
        ),
        "yuv420p10le",
    ),
    "interlaced-10-bit": Case(
        coded(
            "libx264",
            "yuv422p10le",
            ".mp4",
            prepare=tags(field_order=2),
            options={"x264-params": "fake-interlaced=1:tff=1"},
        ),
        "yuv422p10le",
    ),
    "vfr-10-bit": Case(coded("libx264", "yuv420p10le", times=UNEVEN, time_base=MS), "yuv420p10le"),
    "bt2020-10-bit": Case(
        coded("libx264", "yuv420p10le", ".mp4", prepare=tags(**TAGGED)), "yuv420p10le"
    ),
    "raw-p010": Case(raw(3072), "yuv420p10le", raw_format("p010le")),
    "raw-422-10": Case(raw(4096), "yuv422p10le", raw_format("yuv422p10le")),
    "ffv1-yuva": Case(coded("ffv1", "yuva420p"), said=("alpha dropped",)),
    "vp9-webm": Case(coded("libvpx-vp9", "yuv420p", ".webm")),
    "vp9-444-webm": Case(coded("libvpx-vp9", "yuv444p", ".webm"), "yuv444p"),
    "mpeg4-avi": Case(coded("mpeg4", "yuv420p", ".avi")),
    "mpeg2-mkv": Case(coded("mpeg2video", "yuv420p", ".mkv", rate=Fraction(25))),
    "mjpeg-avi": Case(coded("mjpeg", "yuvj420p", ".avi")),
    "prores-mov": Case(coded("prores_ks", "yuv422p10le", ".mov"), "yuv422p10le"),
    "png-mov": Case(coded("png", "rgb24", ".mov"), "bgr0"),
    "qtrle-mov": Case(coded("qtrle", "rgb24", ".mov"), "bgr0"),
    "rawvideo-avi": Case(coded("rawvideo", "yuv420p", ".avi")),
    "yuyv-avi": Case(coded("rawvideo", "yuyv422", ".avi"), "yuv422p"),
    "uyvy-mov": Case(coded("rawvideo", "uyvy422", ".mov"), "yuv422p"),
    "gif": Case(coded("gif", "rgb8", ".gif"), "bgr0", said=("alpha dropped",)),
    "odd-sizes": Case(coded("ffv1", "yuv420p", size=(33, 27))),
    "odd-422": Case(coded("ffv1", "yuv422p10le", size=(33, 27)), "yuv422p10le"),
    "odd-444": Case(coded("libx264", "yuv444p", ".mp4", size=(35, 33)), "yuv444p"),
    "wide": Case(coded("libx264", "yuv420p", size=(64, 16))),
    "one-frame": Case(movie(".mp4", n_frames=1)),
    "one-frame-sound": Case(movie(".mkv", n_frames=1, audio=[OPUS])),
    "ntsc-rate": Case(movie(".mkv", rate=Fraction(24000, 1001))),
    "slow-rate": Case(movie(".mp4", rate=Fraction(1, 2))),
    "vfr-mkv": Case(movie(".mkv", times=UNEVEN, time_base=MS)),
    "vfr-mp4": Case(movie(".mp4", times=UNEVEN, time_base=MS)),
    "start-offset": Case(
        movie(".mp4", times=[500, 600, 700, 800], time_base=MS, muxing={"movie_timescale": "1000"})
    ),
    "rotated-90": Case(movie(".mp4", prepare=turned(90))),
    "rotated-180-mkv": Case(movie(".mkv", prepare=turned(180))),
    "rotated-270-mov": Case(movie(".mov", prepare=turned(270))),
    "anamorphic": Case(movie(".mp4", prepare=tags(sample_aspect_ratio=Fraction(16, 11)))),
    "anamorphic-rotated": Case(
        movie(".mp4", prepare=turned(90, sample_aspect_ratio=Fraction(4, 3)))
    ),
    "interlaced": Case(
        movie(
            ".mp4",
            prepare=tags(field_order=2),
            options={"x264-params": "fake-interlaced=1:tff=1"},
        )
    ),
    "bt2020": Case(movie(".mp4", prepare=tags(**TAGGED))),
    "bt709-mkv": Case(
        movie(".mkv", prepare=tags(colorspace=1, color_range=1, color_primaries=1, color_trc=1))
    ),
    "siting": Case(movie(".mp4", options={"chroma_sample_location": "topleft"})),
    "sound-mp4": Case(movie(".mp4", audio=[AAC])),
    "two-languages": Case(
        movie(".mkv", audio=[AAC | {"language": "fre"}, OPUS | {"language": "eng"}])
    ),
    "two-languages-mp4": Case(
        movie(".mp4", audio=[AAC | {"language": "fre"}, OPUS | {"language": "eng"}])
    ),
    "sound-later": Case(movie(".mkv", audio=[OPUS | {"start": 0.3}])),
    "sound-webm": Case(movie(".webm", video="libvpx-vp9", audio=[OPUS])),
    "flac-mkv": Case(movie(".mkv", audio=[{"codec": "flac", "seconds": 0.3}])),
    "pcm-mov": Case(movie(".mov", audio=[{"codec": "pcm_s16le", "seconds": 0.3}])),
    "mp3-avi": Case(movie(".avi", video="mpeg4", audio=[{"codec": "libmp3lame", "seconds": 0.3}])),
    "subtitles-mkv": Case(
        movie(".mkv", subtitles=[{"codec": "subrip", "language": "ger"}, {"codec": "ass"}])
    ),
    "chapters": Case(movie(".mkv", chapters=[(0, 200, "One"), (200, 400, "Two")])),
    "y4m-420": Case(y4m("420jpeg", 1536)),
    "y4m-422": Case(y4m("422", 2048), "yuv422p"),
    "y4m-444": Case(y4m("444", 3072), "yuv444p"),
    "y4m-420-10": Case(y4m("420p10", 1536, kind="<u2"), "yuv420p10le"),
    "y4m-mono": Case(y4m("mono", 1024), "gray"),
    "y4m-wide-pixels": Case(y4m("420mpeg2", 1536, " It A4:3")),
    "png-rgb": Case(pictures("rgb24"), "bgr0"),
    "png-gray": Case(pictures("gray"), "gray"),
    "png-gray-16": Case(pictures("gray16be"), "gray16le"),
    "png-48-bit": Case(pictures("rgb48be"), "gbrp16le"),
    "raw-420": Case(raw(1536), "yuv420p", raw_format("yuv420p")),
    "raw-nv12": Case(raw(1536), "yuv420p", raw_format("nv12")),
    "raw-rgb": Case(raw(3072), "bgr0", raw_format("rgb24")),
    "raw-gray": Case(raw(1024), "gray", raw_format("gray")),
}


def describe(path: Path, form: InputFormat | None) -> dict:
    """Return what PyAV says of a video."""
    options = {}
    if form is not None:
        options = {"video_size": "32x32", "pixel_format": form.pixel_format, "framerate": "25"}
    name = str(path / "0.png") if path.is_dir() else str(path)
    with av.open(name, format="rawvideo" if form else None, options=options) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frames = list(container.decode(stream))
        times = [frame.pts * Fraction(frame.time_base) for frame in frames]
        return {
            "size": (frames[0].width, frames[0].height),
            "times": [Fraction(i, 25) for i in range(4)] if path.is_dir() else times,
            "rotation": frames[0].rotation,
            "aspect": stream.sample_aspect_ratio or 1,
            "fields": context.field_order if context.field_order > 1 else 0,
            "matrix": int(frames[0].colorspace),
            "primaries": int(frames[0].color_primaries),
            "transfer": int(frames[0].color_trc),
            "full": is_full(frames[0]),
            "pixel_format": frames[0].format.name,
            "rgb": frames[0].format.is_rgb,
            "chapters": [chapter["metadata"] for chapter in container.chapters()],
            "languages": [s.metadata.get("language", "und") for s in container.streams
                          if s.type in ("audio", "subtitle")],
        }  # fmt: skip


def is_full(frame: av.VideoFrame) -> bool:
    """Tell whether black is 0; FFmpeg takes gray for such unless it says otherwise."""
    name = frame.format.name
    return frame.color_range == 2 or "yuvj" in name or ("gray" in name and frame.color_range == 0)


def tracks(path: Path) -> list:
    if path.is_dir():
        return []
    with av.open(str(path)) as container:
        kinds = [stream.type for stream in container.streams]
    return [
        [(time, data) for time, _, data in packets_of(path, kind, index)]
        for kind in ("audio", "subtitle")
        for index in range(kinds.count(kind))
    ]


def encode(source: Path, form: InputFormat) -> tuple[bytes, list[str]]:
    events = []
    data, _ = nvcodec.encode(source, None, OPTIONS, form=form, listener=events.append)
    return data, [e.message for e in events if isinstance(e, Log) and e.level == "warning"]


@pytest.mark.parametrize("name", CASES)
def test_input(tmp_path, name):
    case = CASES[name]
    source = case.make(tmp_path)
    data, warnings = encode(source, case.form or InputFormat())
    assert len(warnings) == len(case.said)
    assert all(said in warning for said, warning in zip(case.said, warnings, strict=True))
    video = nvcodec.open(data)
    info, extras = video.info, video.stream.extras
    before = describe(source, case.form)
    for suffix in (".mkv", ".mp4"):
        output = tmp_path / f"out{suffix}"
        with open_writer(output, info, extras) as writer:
            video.bit_depth = writer.bit_depth
            for frame in video:
                writer.write(frame)
        after = describe(output, None)
        compare(before, after, suffix)
        if suffix == ".mkv":
            assert after["pixel_format"] == case.chroma
            assert not writer.warnings
            assert after["languages"] == before["languages"]
            if case.form is None:
                compare_tracks(tracks(source), tracks(output))


def compare(before: dict, after: dict, suffix: str) -> None:
    for key in ("size", "rotation", "aspect", "fields"):
        if key != "fields" or before[key]:
            assert after[key] == before[key], key
    shift = after["times"][0] - before["times"][0]
    assert abs(shift) <= MS / 2
    for wanted, time in zip(before["times"], after["times"], strict=True):
        assert abs(time - wanted) <= MS
    assert after["chapters"] == before["chapters"]
    if not before["rgb"]:
        for key in ("primaries", "transfer", "full"):
            assert after[key] == before[key], key
        if "gray" not in before["pixel_format"]:
            assert after["matrix"] == before["matrix"]


def compare_tracks(before: list, after: list) -> None:
    for mine, theirs in zip(after, before, strict=True):
        assert [data for _, data in mine] == [data for _, data in theirs]
        for (time, _), (wanted, _) in zip(mine, theirs, strict=True):
            assert time is None or abs(time - wanted) <= MS


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"size": (32, 32)}, UsageError, "needs both --video-size and --pixel-format"),
        ({"pixel_format": "yuv420p"}, UsageError, "needs both"),
        ({"size": (32, 32), "pixel_format": "nonsense"}, InputError, "cannot be read as a video"),
        ({"size": (3200, 3200), "pixel_format": "gray"}, InputError, "no frame|cannot be decoded"),
        ({"frame_rate": Fraction(25)}, UsageError, "says its own frame rate"),
        ({}, InputError, "raw video needs --video-size"),
    ],
)
def test_bad_raw_formats(tmp_path, options, error, message):
    source = raw(1536)(tmp_path)
    with pytest.raises(error, match=message):
        nvcodec.encode(source, None, OPTIONS, form=InputFormat(**options))


def test_a_raw_file_that_ends_inside_a_frame(tmp_path):
    source = raw(1536)(tmp_path)
    source.write_bytes(source.read_bytes()[:-100])
    data, warnings = encode(source, raw_format("yuv420p"))
    assert len(nvcodec.open(data)) == 3
    assert warnings == ["the end of the file is damaged: 3 frames decoded"]


def test_the_rate_of_pictures(tmp_path):
    source = pictures("rgb24")(tmp_path)
    form = InputFormat(frame_rate=Fraction(30000, 1001))
    data, _ = nvcodec.encode(source, None, OPTIONS, form=form)
    assert nvcodec.open(data).info.frame_rate == Fraction(30000, 1001)
