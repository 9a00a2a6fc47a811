"""Many kinds of small inputs go through the codec; source and output are equal to PyAV and ffprobe.

What may differ is in the table, or in `expected` with its reason.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import moving_frames
from ffprobe import FFPROBE, probe, streams, times, track_fields, video_fields, words
from media_factory import make_movie, packets_of

import nvcodec
from nvcodec.errors import InputError, UsageError
from nvcodec.events import Log
from nvcodec.video.frames import InputFormat
from nvcodec.video.writer import open_writer

OPTIONS = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=8.0), passes=2)
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
    mp4: str | None = None
    """Pixel format of the .mp4 as ffprobe reads it, where it is not `chroma`."""
    varies: bool = False
    """Frames differ in how long they are shown, and ffprobe guesses a rate."""
    tracks: dict[str, dict[str, object]] = field(default_factory=dict)
    """What an output of this suffix cannot say of a track as the source did."""
    left_out: tuple[str, ...] = ()
    """Kinds of tracks that .mp4 cannot hold."""


AAC, OPUS = {"codec": "aac", "seconds": 0.5}, {"codec": "libopus", "seconds": 0.5}
AC3, MP2 = {"codec": "ac3", "seconds": 0.5}, {"codec": "mp2", "seconds": 0.5}
MPEG_AUDIO = {".mp4": {"codec_name": "mp3"}}  # MP4 has one name for all layers
HDR10 = (
    "log-level=none:max-cll=1000,400:"
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
)
CASES = {
    "h264-420": Case(coded("libx264", "yuv420p", ".mp4")),
    "h264-422": Case(coded("libx264", "yuv422p", ".mp4"), "yuv422p"),
    "h264-444": Case(coded("libx264", "yuv444p", ".mp4"), "yuv444p"),
    "h264-full-range": Case(coded("libx264", "yuvj420p"), mp4="yuvj420p"),
    "h264-nv12": Case(coded("libx264", "nv12")),
    "h264-10-bit": Case(coded("libx264", "yuv420p10le"), "yuv420p10le"),
    "ffv1-420": Case(coded("ffv1", "yuv420p")),
    "ffv1-gray": Case(coded("ffv1", "gray"), "gray", mp4="yuvj420p"),
    "ffv1-rgb": Case(coded("ffv1", "bgr0"), "bgr0", mp4="yuv420p"),
    "ffv1-rgb-alpha": Case(coded("ffv1", "bgra"), "bgr0", said=("alpha dropped",), mp4="yuv420p"),
    "ffv1-12-bit": Case(coded("ffv1", "yuv444p12le"), "yuv444p12le", mp4="yuv444p10le"),
    "ffv1-gray-16": Case(coded("ffv1", "gray16le"), "gray16le", mp4="yuv420p10le"),
    "ffv1-gbrp10": Case(coded("ffv1", "gbrp10le"), "gbrp10le", mp4="yuv420p10le"),
    "ffv1-gbrp12": Case(coded("ffv1", "gbrp12le"), "gbrp12le", mp4="yuv420p10le"),
    "ffv1-422-12": Case(coded("ffv1", "yuv422p12le"), "yuv422p12le", mp4="yuv422p10le"),
    "ffv1-gray10": Case(coded("ffv1", "gray10le"), "gray10le", mp4="yuv420p10le"),
    "ffv1-gray-limited": Case(
        coded("ffv1", "gray", prepare=tags(color_range=1)), "gray", mp4="yuv420p"
    ),
    "ffv1-420-9": Case(coded("ffv1", "yuv420p9le"), "yuv420p9le", mp4="yuv420p10le"),
    "ffv1-420-12": Case(coded("ffv1", "yuv420p12le"), "yuv420p12le", mp4="yuv420p10le"),
    "ffv1-422-14": Case(coded("ffv1", "yuv422p14le"), "yuv422p14le", mp4="yuv422p10le"),
    "ffv1-444-16": Case(coded("ffv1", "yuv444p16le"), "yuv444p16le", mp4="yuv444p10le"),
    "ffv1-gbrp14": Case(coded("ffv1", "gbrp14le"), "gbrp14le", mp4="yuv420p10le"),
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
    "vfr-10-bit": Case(
        coded("libx264", "yuv420p10le", times=UNEVEN, time_base=MS), "yuv420p10le", varies=True
    ),
    "bt2020-10-bit": Case(
        coded("libx264", "yuv420p10le", ".mp4", prepare=tags(**TAGGED)), "yuv420p10le"
    ),
    "hdr10": Case(
        coded(
            "libx265",
            "yuv420p10le",
            ".mp4",
            size=(64, 64),
            prepare=tags(**TAGGED),
            options={"x265-params": HDR10},
        ),
        "yuv420p10le",
    ),
    "raw-p010": Case(raw(3072), "yuv420p10le", raw_format("p010le")),
    "raw-422-10": Case(raw(4096), "yuv422p10le", raw_format("yuv422p10le")),
    "ffv1-yuva": Case(coded("ffv1", "yuva420p"), said=("alpha dropped",)),
    "vp9-webm": Case(coded("libvpx-vp9", "yuv420p", ".webm")),
    "vp9-444-webm": Case(coded("libvpx-vp9", "yuv444p", ".webm"), "yuv444p"),
    "mpeg4-avi": Case(coded("mpeg4", "yuv420p", ".avi")),
    "mpeg2-mkv": Case(coded("mpeg2video", "yuv420p", ".mkv", rate=Fraction(25))),
    "mjpeg-avi": Case(coded("mjpeg", "yuvj420p", ".avi"), mp4="yuvj420p"),
    "prores-mov": Case(coded("prores_ks", "yuv422p10le", ".mov"), "yuv422p10le"),
    "png-mov": Case(coded("png", "rgb24", ".mov"), "bgr0", mp4="yuv420p"),
    "qtrle-mov": Case(coded("qtrle", "rgb24", ".mov"), "bgr0", mp4="yuv420p"),
    "rawvideo-avi": Case(coded("rawvideo", "yuv420p", ".avi")),
    "yuyv-avi": Case(coded("rawvideo", "yuyv422", ".avi"), "yuv422p"),
    "uyvy-mov": Case(coded("rawvideo", "uyvy422", ".mov"), "yuv422p"),
    "gif": Case(coded("gif", "rgb8", ".gif"), "bgr0", said=("alpha dropped",), mp4="yuv420p"),
    "odd-sizes": Case(coded("ffv1", "yuv420p", size=(33, 27)), mp4="yuv444p"),
    "odd-422": Case(coded("ffv1", "yuv422p10le", size=(33, 27)), "yuv422p10le", mp4="yuv444p10le"),
    "odd-444": Case(coded("libx264", "yuv444p", ".mp4", size=(35, 33)), "yuv444p"),
    "wide": Case(coded("libx264", "yuv420p", size=(64, 16))),
    "one-frame": Case(movie(".mp4", n_frames=1)),
    "one-frame-sound": Case(movie(".mkv", n_frames=1, audio=[OPUS])),
    "ntsc-rate": Case(movie(".mkv", rate=Fraction(24000, 1001))),
    "slow-rate": Case(movie(".mp4", rate=Fraction(1, 2))),
    "vfr-mkv": Case(movie(".mkv", times=UNEVEN, time_base=MS), varies=True),
    "vfr-mp4": Case(movie(".mp4", times=UNEVEN, time_base=MS), varies=True),
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
    "pcm-mov": Case(
        movie(".mov", audio=[{"codec": "pcm_s16le", "seconds": 0.3}]),
        tracks={".mkv": {"channel_layout": None}, ".mp4": {"channel_layout": None}},
    ),
    "mp3-avi": Case(
        movie(".avi", video="mpeg4", audio=[{"codec": "libmp3lame", "seconds": 0.3}]), varies=True
    ),
    "subtitles-mkv": Case(
        movie(".mkv", subtitles=[{"codec": "subrip", "language": "ger"}, {"codec": "ass"}]),
        left_out=("subtitle",),
    ),
    "chapters": Case(
        movie(".mkv", chapters=[(0, 200, "One"), (200, 400, "Two")], tags={"title": "Both"})
    ),
    "ts-aac-ac3": Case(
        movie(".ts", audio=[AAC | {"language": "fre"}, AC3 | {"language": "eng", "start": 0.2}])
    ),
    "ts-mpeg2": Case(
        movie(".ts", video="mpeg2video", rate=Fraction(25), audio=[MP2]), tracks=MPEG_AUDIO
    ),
    "m2ts": Case(movie(".m2ts", audio=[AC3])),
    "mpeg-ps": Case(
        movie(".mpg", video="mpeg2video", rate=Fraction(25), audio=[MP2]), tracks=MPEG_AUDIO
    ),
    "y4m-420": Case(y4m("420jpeg", 1536)),
    "y4m-422": Case(y4m("422", 2048), "yuv422p"),
    "y4m-444": Case(y4m("444", 3072), "yuv444p"),
    "y4m-420-10": Case(y4m("420p10", 1536, kind="<u2"), "yuv420p10le"),
    "y4m-mono": Case(y4m("mono", 1024), "gray", mp4="yuvj420p"),
    "y4m-wide-pixels": Case(y4m("420mpeg2", 1536, " It A4:3")),
    "png-rgb": Case(pictures("rgb24"), "bgr0", mp4="yuv420p"),
    "png-gray": Case(pictures("gray"), "gray", mp4="yuvj420p"),
    "png-gray-16": Case(pictures("gray16be"), "gray16le", mp4="yuv420p10le"),
    "png-48-bit": Case(pictures("rgb48be"), "gbrp16le", mp4="yuv420p10le"),
    "raw-420": Case(raw(1536), "yuv420p", raw_format("yuv420p")),
    "raw-nv12": Case(raw(1536), "yuv420p", raw_format("nv12")),
    "raw-rgb": Case(raw(3072), "bgr0", raw_format("rgb24"), mp4="yuv420p"),
    "raw-gray": Case(raw(1024), "gray", raw_format("gray"), mp4="yuvj420p"),
}


def form_options(form: InputFormat | None) -> dict[str, str]:
    if form is None:
        return {}
    return {"video_size": "32x32", "pixel_format": form.pixel_format, "framerate": "25"}


def origin(container) -> Fraction:
    """Return what counts as time 0: the clock of MPEG streams starts anywhere."""
    if container.format.name in ("mpegts", "mpeg"):
        return Fraction(container.start_time, av.time_base)
    return Fraction(0)


def describe(path: Path, form: InputFormat | None) -> dict:
    """Return what PyAV says of a video."""
    options = form_options(form)
    name = str(path / "0.png") if path.is_dir() else str(path)
    with av.open(name, format="rawvideo" if form else None, options=options) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frames = list(container.decode(stream))
        first = origin(container)
        times = [frame.pts * Fraction(frame.time_base) - first for frame in frames]
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


def bare(data: bytes) -> bytes:
    """Return a packet without the ADTS header before AAC, which only MPEG streams have."""
    return data[7:] if data[:2] == b"\xff\xf1" else data


def tracks(path: Path) -> list:
    if path.is_dir():
        return []
    with av.open(str(path)) as container:
        kinds, first = [stream.type for stream in container.streams], origin(container)
    return [
        [(time and time - first, bare(data)) for time, _, data in packets_of(path, kind, index)]
        for kind in ("audio", "subtitle")
        for index in range(kinds.count(kind))
    ]


def encode(source: Path, form: InputFormat) -> tuple[bytes, list[str]]:
    events = []
    data, _ = nvcodec.encode(source, None, OPTIONS, form=form, listener=events.append)
    return data, [e.message for e in events if isinstance(e, Log) and e.level == "warning"]


@dataclass(frozen=True)
class Coded:
    source: Path
    warnings: list[str]
    outputs: dict[str, Path]
    losses: dict[str, list[str]]
    """Warnings of the writers."""


@pytest.fixture(scope="module")
def coded_case(tmp_path_factory):
    """Return what makes source and outputs of a case, once for all tests."""

    @cache
    def make(name: str) -> Coded:
        case, folder = CASES[name], tmp_path_factory.mktemp("case")
        source = case.make(folder)
        data, warnings = encode(source, case.form or InputFormat())
        video = nvcodec.open(data)
        outputs = {suffix: folder / f"out{suffix}" for suffix in (".mkv", ".mp4")}
        losses = {}
        for suffix, output in outputs.items():
            with open_writer(output, video.info, video.stream.extras) as writer:
                video.bit_depth = writer.bit_depth
                for frame in video:
                    writer.write(frame)
            losses[suffix] = writer.warnings
        return Coded(source, warnings, outputs, losses)

    return make


@pytest.mark.parametrize("name", CASES)
def test_input(coded_case, name):
    case, made = CASES[name], coded_case(name)
    assert len(made.warnings) == len(case.said)
    assert all(said in warning for said, warning in zip(case.said, made.warnings, strict=True))
    before = describe(made.source, case.form)
    for suffix, output in made.outputs.items():
        after = describe(output, None)
        compare(before, after, suffix)
        if suffix == ".mkv":
            assert after["pixel_format"] == case.chroma
            assert not made.losses[suffix]
            assert after["languages"] == before["languages"]
            if case.form is None:
                compare_tracks(tracks(made.source), tracks(output))


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


def expected(case: Case, said: dict, suffix: str) -> dict:
    """Return what ffprobe has to say of an output's pictures, from what it says of the source."""
    wanted = dict(said, pix_fmt=case.chroma if suffix == ".mkv" else case.mp4 or case.chroma)
    wanted["disposition"] = ["default"]  # the only pictures of a file are those to show
    if said["pix_fmt"].startswith(("rgb", "bgr", "gbr")):
        # H.264 is written as Y'CbCr, which RGB is not.
        colour = ("gbr", "pc") if suffix == ".mkv" else ("smpte170m", "tv")
        wanted |= dict(zip(("matrix", "range"), colour, strict=True))
    if not ("420" in said["pix_fmt"] and "420" in wanted["pix_fmt"]):
        del wanted["siting"]  # only 4:2:0 has one that all formats say alike
    if suffix == ".mp4":
        # Not every FFmpeg reads the light in H.264; PyAV's does, see test_hdr.
        del wanted["mastering"], wanted["light"]
    if case.varies:
        del wanted["rate"], wanted["mean_rate"]
    return wanted


@pytest.mark.skipif(FFPROBE is None, reason="ffprobe is not on the PATH: it comes with FFmpeg")
@pytest.mark.parametrize("name", CASES)
def test_fields_of_ffprobe(coded_case, name):
    case, made = CASES[name], coded_case(name)
    options = [
        word for key, value in form_options(case.form).items() for word in (f"-{key}", value)
    ]
    before = probe(made.source, *(["-f", "rawvideo"] if options else []), *options)
    said = video_fields(before)
    for suffix, output in made.outputs.items():
        after = probe(output)
        wanted, found = expected(case, said, suffix), video_fields(after)
        assert {key: found[key] for key in wanted} == wanted
        assert words(after) == words(before)
        compare_times(before, after, "video")
        left_out = case.left_out if suffix == ".mp4" else ()
        for kind in {"audio", "subtitle"} - {*left_out}:
            fields = [
                track_fields(stream) | case.tracks.get(suffix, {})
                for stream in streams(before, kind)
            ]
            if suffix == ".mp4" and not any("default" in f["disposition"] for f in fields):
                fields[:1] = [f | {"disposition": ["default"]} for f in fields[:1]]  # as MP4 must
            assert [track_fields(stream) for stream in streams(after, kind)] == fields
            compare_times(before, after, kind)
        assert all(not streams(after, kind) for kind in left_out)
        assert bool(left_out) == any("left out" in words for words in made.losses[suffix])


def compare_times(before: dict, after: dict, kind: str) -> None:
    """Compare the packets of streams of a kind; Matroska rounds their times to 1 ms."""
    is_clock = before["format"]["format_name"] in ("mpegts", "mpeg")
    first = Fraction(before["format"]["start_time"]) if is_clock else 0
    for mine, theirs in zip(streams(after, kind), streams(before, kind), strict=True):
        shown, said = times(after, mine), times(before, theirs)
        assert len(shown) == len(said)
        for wanted in said:
            if wanted is not None:
                assert min(abs(time - (wanted - first)) for time in shown) <= MS


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
