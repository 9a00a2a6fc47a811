"""The frames of a bench: read once, hashed, and given to every codec as 8-bit 4:2:0."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from nvcodec.bench.results import SourceInfo
from nvcodec.errors import InputError, Interrupted
from nvcodec.events import Listener, Progress, ignore
from nvcodec.media import NO_EXTRAS
from nvcodec.video.color import rgb_to_yuv
from nvcodec.video.frames import ColorTags, VideoInfo
from nvcodec.video.planes import Picture, to_rgb
from nvcodec.video.reader import VideoReader, open_video
from nvcodec.video.sinks import ContainerSink, yuv_tags
from nvcodec.video.sources import AV_ERRORS, Source
from nvcodec.video.y4m import Y4mHeader, format_header, write_frame

Planes = tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]
"""Y, U and V of one frame, 8-bit 4:2:0."""

LOSSLESS = frozenset(
    (
        *("ffv1", "rawvideo", "wrapped_avframe", "png", "huffyuv", "ffvhuff", "utvideo"),
        *("magicyuv", "v210", "v308", "v408", "v410", "r210", "yuv4", "qtrle", "bmp", "tiff"),
    )
)
"""FFmpeg's names of codecs that keep every sample; all others are taken as lossy."""
_CHROMA = {0: "RGB", 400: "4:0:0", 420: "4:2:0", 422: "4:2:2", 444: "4:4:4"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchSource:
    """What every codec of a bench encodes."""

    path: Path
    """A file, folder or pattern that holds 8-bit 4:2:0 frames."""
    start: int
    """Its first frame that counts."""
    info: VideoInfo
    planes_md5: str
    """MD5 of the raw planes, frame after frame, Y, U, V."""
    described: SourceInfo

    @property
    def n_frames(self) -> int:
        """Frames that every codec gets."""
        return self.described.n_frames

    @property
    def n_pixels(self) -> int:
        """Pixels of all frames."""
        return self.info.width * self.info.height * self.n_frames

    @property
    def tags(self) -> ColorTags:
        """Colour of the frames."""
        return self.info.color

    @contextmanager
    def frames(self) -> Iterator[Iterator[Planes]]:
        """Open the frames for one pass."""
        with open_video(self.path, start=self.start, count=self.n_frames) as reader:
            yield map(planes_420, reader.pictures())


def planes_420(picture: Picture) -> Planes:
    """Return the planes of a 4:2:0 picture, rounded to 8 bits; raise InputError for others."""
    if picture.chroma != 420:
        chroma = _CHROMA[picture.chroma]
        raise InputError(f"the chroma format is {chroma}, 4:2:0 is needed")
    shift = picture.bit_depth - 8
    if shift == 0:
        y, u, v = (plane.astype(np.uint8, copy=False) for plane in picture.planes)
        return y, u, v
    half = 1 << (shift - 1)
    y, u, v = (
        np.minimum((plane.astype(np.uint32) + half) >> shift, 255).astype(np.uint8)
        for plane in picture.planes
    )
    return y, u, v


def _to_420(picture: Picture, tags: ColorTags) -> Planes:
    if picture.chroma == 420:
        return planes_420(picture)
    y, u, v = rgb_to_yuv(to_rgb(picture, 8), tags)
    return y.astype(np.uint8, copy=False), u.astype(np.uint8), v.astype(np.uint8)


def prepare_source(
    given: Path | Source,
    work: Path,
    *,
    start: int = 0,
    count: int | None = None,
    listener: Listener = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> BenchSource:
    """Read the frames once: hash them, describe them, and copy those that are not 8-bit 4:2:0.

    Args:
        given: a file, a folder of PNG files, a pattern, or pictures of another kind.
        work: folder for the lossless copy, which must live as long as the result is used.
        start: first frame.
        count: number of frames; None takes all.
        listener: receives progress.
        stop: polled between frames.

    Raises:
        InputError: the source cannot be read.
        Interrupted: `stop` returned true.
    """
    sha, md5 = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    n_frames = 0
    with open_video(given, start=start, count=count) as reader:
        info = reader.info
        sha.update(f"{info.width}x{info.height} 4:2:0 8 bit".encode())
        native = info.chroma == 420 and info.bit_depth == 8 and isinstance(given, Path)
        copy = None if native else _Copy(work / "source.mkv", info)
        try:
            for picture in reader.pictures():
                planes = _to_420(picture, yuv_tags(info))
                for plane in planes:
                    data = np.ascontiguousarray(plane).data
                    sha.update(data)
                    md5.update(data)
                if copy is not None:
                    copy.sink.write_planes(planes)
                n_frames += 1
                if stop():
                    raise Interrupted("stopped while reading the source; nothing was measured")
                listener(Progress(stage="read", done=n_frames, total=count or 0, unit="frame"))
            if copy is not None:
                copy.sink.commit()
        except BaseException:
            if copy is not None:
                copy.sink.abort()
            raise
        described = _describe(given, reader, n_frames, sha.hexdigest())
    return BenchSource(
        path=given if copy is None and isinstance(given, Path) else work / "source.mkv",
        start=start if copy is None else 0,
        info=info if copy is None else copy.info,
        planes_md5=md5.hexdigest(),
        described=described,
    )


class _Copy:
    """A lossless file of 8-bit 4:2:0 frames."""

    def __init__(self, path: Path, info: VideoInfo) -> None:
        # Matroska says nothing of the siting, so readers of the copy take chroma as left.
        color = replace(yuv_tags(info), siting=0)
        self.info = replace(info, color=color, chroma=420, bit_depth=8, codec="ffv1")
        self.sink = ContainerSink(path, self.info, NO_EXTRAS)


def _describe(
    given: Path | Source, reader: VideoReader, n_frames: int, frames_sha256: str
) -> SourceInfo:
    info = reader.info
    lossy = info.codec not in LOSSLESS
    chroma = _CHROMA[info.chroma]
    bpp = _stream_bpp(given, info)
    notes = list(reader.warnings)
    if lossy:
        rate = "" if bpp is None else f" at {bpp:.4f} bpp ({_kbit_per_s(bpp, info):,.0f} kbit/s)"
        notes.append(
            f"the source is lossy: {info.codec}{rate}; figures near or above its own rate "
            f"measure how well that codec's noise is copied"
        )
    if info.chroma != 420 or info.bit_depth != 8:
        notes.append(
            f"the source is {chroma} of {info.bit_depth} bits; "
            f"every codec got it, and was judged against it, as 4:2:0 of 8 bits"
        )
    return SourceInfo(
        file=(given if isinstance(given, Path) else Path(given.name)).name,
        frames_sha256=frames_sha256,
        width=info.width,
        height=info.height,
        n_frames=n_frames,
        frame_rate=f"{info.frame_rate.numerator}/{info.frame_rate.denominator}",
        codec=info.codec,
        n_bytes=info.n_bytes,
        bpp=bpp,
        lossy=lossy,
        chroma=chroma,
        bit_depth=info.bit_depth,
        notes=tuple(notes),
    )


def _kbit_per_s(bpp: float, info: VideoInfo) -> float:
    return bpp * info.width * info.height * float(info.frame_rate) / 1000


def _stream_bpp(given: Path | Source, info: VideoInfo) -> float | None:
    """Return the mean bits per pixel of a file's video packets, without container and sound."""
    if not isinstance(given, Path) or not given.is_file():
        return None
    try:
        options = {"protocol_whitelist": "file"}
        with av.open(f"file:{given}", "r", options=options) as container:
            stream = container.streams.best("video")
            sizes = [packet.size for packet in container.demux(stream) if packet.size]
    except AV_ERRORS:
        return None
    return 8 * sum(sizes) / len(sizes) / (info.width * info.height) if sizes else None


def y4m_header(info: VideoInfo) -> Y4mHeader:
    """Return the header of a .y4m file of 8-bit 4:2:0 frames."""
    return Y4mHeader(
        width=info.width,
        height=info.height,
        frame_rate=info.frame_rate,
        chroma=420,
        siting=info.color.siting,
        full_range=info.color.full_range,
    )


def write_y4m(source: BenchSource, path: Path) -> None:
    """Write the frames as .y4m, for programs outside."""
    with open(path, "wb") as file, source.frames() as frames:
        file.write(format_header(y4m_header(source.info)))
        for planes in frames:
            write_frame(file, planes)


def write_yuv(source: BenchSource, path: Path) -> None:
    """Write the raw planes, frame after frame, for programs outside."""
    with open(path, "wb") as file, source.frames() as frames:
        for planes in frames:
            for plane in planes:
                file.write(np.ascontiguousarray(plane).data)
