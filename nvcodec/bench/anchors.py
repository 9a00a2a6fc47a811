"""Anchors that run in process, through the FFmpeg libraries in PyAV.

Every option is explicit. A key frame comes every 250 frames at the latest, with B frames as the
presets have them (random access). What encoders write about themselves (the SEI text of x264 and
x265) is left out: in a small file it would weigh against them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
from av.bitstream import BitStreamFilterContext

from nvcodec.bench.codecs import Codec, Scale
from nvcodec.bench.source import Planes, planes_420
from nvcodec.errors import InputError, ResourceError, UsageError
from nvcodec.video.planes import read_picture
from nvcodec.video.reader import open_video
from nvcodec.video.sinks import fill_frame
from nvcodec.video.sources import AV_ERRORS, reason, silence

KEY_FRAME_INTERVAL = 250
"""The default of x264 and x265."""
_X26_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast"),
    *("medium", "slow", "slower", "veryslow", "placebo"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchor:
    """An encoder that PyAV has; {threads} in an option stands for their number."""

    encoder: str
    """FFmpeg's name."""
    suffix: str
    muxer: str
    preset_option: str
    presets: tuple[str, ...]
    defaults: tuple[str, ...]
    """Presets that run where none is asked for."""
    scale: Scale
    options: dict[str, str]
    tunes: dict[str, dict[str, str]] = field(default_factory=dict)
    """By name: options that replace or join the others."""
    bitstream_filter: str = ""
    even_sides: bool = True
    """Frames must have even sides."""


ANCHORS = {
    "x264": Anchor(
        encoder="libx264",
        suffix=".h264",
        muxer="h264",
        preset_option="preset",
        presets=_X26_PRESETS,
        defaults=("medium",),
        scale=Scale(low=0, high=51, start=30, slope=0.14),
        options={},
        tunes={"psnr": {"tune": "psnr"}, "ssim": {"tune": "ssim"}},
        bitstream_filter="filter_units=remove_types=6",
    ),
    "x265": Anchor(
        encoder="libx265",
        suffix=".hevc",
        muxer="hevc",
        preset_option="preset",
        presets=_X26_PRESETS,
        defaults=("medium", "veryslow"),
        scale=Scale(low=0, high=51, start=30, slope=0.15),
        options={"x265-params": "log-level=none:info=0:pools={threads}"},
        tunes={"psnr": {"tune": "psnr"}, "ssim": {"tune": "ssim"}},
    ),
    "svtav1": Anchor(
        encoder="libsvtav1",
        suffix=".obu",
        muxer="obu",
        preset_option="preset",
        presets=tuple(map(str, range(14))),
        defaults=("6",),
        scale=Scale(low=1, high=63, start=40, slope=0.08),
        options={"svtav1-params": "lp={threads}:tune=1"},
        tunes={"vq": {"svtav1-params": "lp={threads}:tune=0"}},
    ),
    "vp9": Anchor(
        encoder="libvpx-vp9",
        suffix=".ivf",
        muxer="ivf",
        preset_option="cpu-used",
        presets=tuple(map(str, range(6))),
        defaults=("1",),
        scale=Scale(low=0, high=63, start=40, slope=0.06),
        options={
            "b": "0",
            "deadline": "good",
            "lag-in-frames": "25",
            "auto-alt-ref": "1",
            "row-mt": "1",
        },
        even_sides=False,
    ),
}
"""By name. SVT-AV1's own default is to tune for PSNR. VP9 runs in one pass, since PyAV offers no
second one, and comes in IVF (12 bytes a frame), since it has no raw format."""


def parse_anchor(text: str, *, threads: int) -> list[Codec]:
    """Return the codecs that a text such as "x265", "x265:veryslow" or "x265:slow:psnr" means.

    Raises:
        UsageError: the name, the preset or the tune is unknown.
    """
    name, *rest = text.split(":")
    anchor = ANCHORS[name]
    if len(rest) > 2:
        raise UsageError(f"anchor is {text}; its form is NAME, NAME:PRESET or NAME:PRESET:TUNE")
    preset, tune = [*rest, "", ""][:2]
    if preset and preset not in anchor.presets:
        allowed = ", ".join(anchor.presets)
        raise UsageError(f"preset of {name} is {preset}, allowed are {allowed}")
    if tune and tune not in anchor.tunes:
        allowed = ", ".join(anchor.tunes) or "none"
        raise UsageError(f"tune of {name} is {tune}, allowed are {allowed}")
    presets = (preset,) if preset else anchor.defaults
    return [_codec(name, anchor, preset, tune, threads) for preset in presets]


def _codec(name: str, anchor: Anchor, preset: str, tune: str, threads: int) -> Codec:
    options = {anchor.preset_option: preset, "crf": "{q}", "g": str(KEY_FRAME_INTERVAL)}
    options |= anchor.options | anchor.tunes.get(tune, {})
    options = {key: value.replace("{threads}", str(threads)) for key, value in options.items()}
    options["threads"] = str(threads)
    line = " ".join(f"-{'b:v' if key == 'b' else key} {value}" for key, value in options.items())
    if anchor.bitstream_filter:
        line += f" -bsf:v {anchor.bitstream_filter}"
    return Codec(
        name=" ".join(part for part in (name, preset, tune) if part),
        kind="anchor",
        parameters=f"ffmpeg -i INPUT -pix_fmt yuv420p -c:v {anchor.encoder} {line} -f "
        f"{anchor.muxer} OUTPUT",
        suffix=anchor.suffix,
        job={
            "encoder": "av",
            "decoder": "av",
            "anchor": name,
            "options": options,
            "library": f"PyAV {av.__version__}, FFmpeg {av.ffmpeg_version_info}",
        },
        scale=anchor.scale,
    )


@contextmanager
def kept_priority() -> Iterator[None]:
    """Give the calling thread its priority back afterwards.

    SVT-AV1 takes a real-time one where it runs as root: whatever the process does or starts later
    would starve all other programs.
    """
    if not hasattr(os, "sched_getscheduler"):
        yield
        return
    policy, parameter = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, parameter)


def encode_with_av(
    job: dict[str, Any], q: float, source: Path, start: int, count: int, output: Path
) -> float:
    """Encode frames of a source into a file; return the seconds that it took, reading included.

    Args:
        job: that of the codec.
        q: quality parameter.
        source: holds 8-bit 4:2:0 frames.
        start: first frame.
        count: number of frames.
        output: stream to write.

    Raises:
        InputError: the source cannot be read, or is nothing for this encoder.
        ResourceError: the encoder fails.
    """
    anchor = ANCHORS[job["anchor"]]
    silence()
    began = time.perf_counter()
    with kept_priority(), open_video(source, start=start, count=count) as reader:
        info = reader.info
        if anchor.even_sides and (info.width % 2 or info.height % 2):
            raise InputError(
                f"{job['anchor']} takes 4:2:0 frames with even sides only, not "
                f"{info.width}x{info.height}"
            )
        options = {key: value.replace("{q}", f"{q:g}") for key, value in job["options"].items()}
        try:
            with av.open(str(output), "w", format=anchor.muxer) as container:
                stream = container.add_stream(anchor.encoder, rate=info.frame_rate, options=options)
                assert isinstance(stream, av.VideoStream)
                stream.width, stream.height, stream.pix_fmt = info.width, info.height, "yuv420p"
                stream.codec_context.time_base = 1 / info.frame_rate
                # PyAV asks for threads by slices, with which x264 codes worse than ffmpeg's.
                stream.thread_type = "AUTO"
                keep = anchor.bitstream_filter
                cleaner = BitStreamFilterContext(keep, stream) if keep else None
                pictures = map(planes_420, reader.pictures())
                for packet in _packets(stream, pictures):
                    container.mux(cleaner.filter(packet) if cleaner else packet)
                if cleaner:
                    container.mux(cleaner.filter(None))
        except AV_ERRORS as error:
            raise ResourceError(f"{anchor.encoder} failed: {reason(error)}") from error
    return time.perf_counter() - began


def _packets(stream: av.VideoStream, frames: Iterator[Planes]) -> Iterator[Any]:
    """Encode all frames, and what the encoder holds back."""
    for index, planes in enumerate(frames):
        frame = av.VideoFrame(stream.width, stream.height, "yuv420p")
        fill_frame(frame, planes)
        frame.pts = index
        frame.time_base = stream.codec_context.time_base
        yield from stream.encode(frame)
    yield from stream.encode(None)


def decode_with_av(path: Path, threads: int) -> Iterator[Planes]:
    """Yield the 8-bit 4:2:0 frames of a stream that FFmpeg decodes; raise InputError."""
    silence()
    try:
        with av.open(str(path), "r") as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            stream.codec_context.thread_count = threads
            for frame in container.decode(stream):
                yield planes_420(read_picture(frame, stream.codec_context.name))
    except (*AV_ERRORS, IndexError) as error:
        raise InputError(f"{path.name} cannot be decoded: {reason(error)}") from error
