"""Where frames go: a file that FFmpeg muxes, a .y4m stream, or a folder of PNG files.

A sink commits everything or, when aborted, leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import IO, Any, Protocol

import av
import numpy as np

from nvcodec import storage
from nvcodec.depth import RGB
from nvcodec.errors import NvcodecError, ResourceError, UsageError
from nvcodec.media import NO_HDR, PROGRESSIVE, Display, Extras
from nvcodec.video.coding import (
    AS_USUAL,
    MATROSKA,
    VideoFormat,
    Wish,
    choose_format,
    depth_warnings,
    field_warnings,
    parse_pixel_format,
    pixel_format,
)
from nvcodec.video.color import Plane, rgb_to_yuv
from nvcodec.video.forms import Frame, same_planes
from nvcodec.video.frames import (
    DEFAULT_RATE,
    HLG,
    IDENTITY,
    PQ,
    UNSPECIFIED,
    ColorTags,
    VideoInfo,
    default_matrix,
)
from nvcodec.video.hdr import matroska_colour
from nvcodec.video.matroska import RESERVE, ExtendedPipe, display_size, extend_video
from nvcodec.video.planes import view_plane
from nvcodec.video.remux import TrackMuxer, write_words
from nvcodec.video.sources import AV_ERRORS, reason, silence
from nvcodec.video.y4m import BIT_DEPTHS, Y4mHeader, format_header, write_frame

WRITE_ERRORS = (*AV_ERRORS, OverflowError)


def fill_frame(frame: av.VideoFrame, planes: Sequence[Plane]) -> None:
    """Copy planes into a planar frame of their size and depth; those it lacks are left out."""
    for target, plane in zip(frame.planes, planes, strict=False):
        view_plane(target, plane.shape[1], f"<u{plane.dtype.itemsize}")[:] = plane


def drain(pipe: IO[bytes]) -> None:
    """Flush a pipe, or silence one that nobody reads: Python flushes it again as it closes it."""
    try:
        pipe.flush()
    except OSError:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, pipe.fileno())
        os.close(null)


class Sink(Protocol):
    """Takes frames in order; exactly one of commit and abort ends it."""

    name: str
    description: str
    warnings: list[str]
    bit_depth: int
    """Of the frames that it takes."""
    plane_depth: int | None
    """Of the video's planes, where it takes them as they are; None: it needs RGB."""
    coding: VideoFormat | None
    """How it codes pictures, where there is a choice."""
    frame_bytes: int
    """Most bytes of a frame in a file; 0: nobody knows, as of compressed videos and of pipes."""

    def write(self, frame: Any) -> None:
        """Append a frame (H, W, 3), or its planes where it takes them."""

    def commit(self) -> None:
        """Finish the output under its own name."""

    def abort(self) -> None:
        """Remove everything that was written."""


SITINGS = {0: "left", 1: "center", 2: "topleft", 3: "top"}
"""FFmpeg's names of chroma sitings."""


def yuv_tags(info: VideoInfo) -> ColorTags:
    """Return the tags for a YUV output; RGB sources get those that players assume."""
    if info.color.matrix != IDENTITY:
        return info.color
    matrix = default_matrix(info.height)
    return replace(info.color, matrix=matrix, full_range=False, siting=0, specified=True)


class ContainerSink:
    """A file that FFmpeg muxes: pictures, and beside them the tracks that it can hold."""

    coding: VideoFormat | None
    frame_bytes = 0

    def __init__(
        self, target: Path | IO[bytes], info: VideoInfo, extras: Extras, wish: Wish = AS_USUAL
    ) -> None:
        """Open the temporary file beside a path, or write Matroska to a pipe.

        Raises:
            ResourceError: the file cannot be opened.
        """
        self._target = target
        path = target if isinstance(target, Path) else None
        self.coding = coding = choose_format(info, path.suffix.lower() if path else ".mkv", wish)
        muxer = coding.muxer
        silence()
        self.name = str(path) if path else "the pipe"
        self.warnings: list[str] = []
        self._n_frames = 0
        self._size = (info.width, info.height)
        self._chroma, self._format = coding.chroma, coding.pixel_format
        self.bit_depth = coding.bit_depth
        self.description = coding.title
        self._timing = info.timing
        time_base = 1 / info.frame_rate if info.timing is None else info.timing.time_base
        muxing = {}
        if muxer in ("mp4", "mov"):
            # The time at which a track starts is given in ticks of the movie.
            muxing = {"movflags": "+faststart", "movie_timescale": str(_movie_ticks(time_base))}
        # PyAV cannot give a stream its aspect and light, which FFmpeg's muxer would write.
        self._patch = self._colour = b""
        if muxer in MATROSKA:
            if info.display.aspect != 1:
                self._patch = display_size(info.width, info.height, info.display.aspect)
            self._colour = matroska_colour(info.hdr)
        self._extended = path is None or bool(self._patch or self._colour)
        if self._extended:
            muxing = {"write_crc32": "0"}
        if path is None:
            # A player must not wait for a track that pauses.
            muxing |= {"flush_packets": "1", "max_interleave_delta": "1000000"}
        self.warnings += field_warnings(info, coding)
        if wish.pixel_format is None:
            self.warnings += depth_warnings(info, coding)
        tags = info.color if self._chroma == 0 else yuv_tags(info)
        if self._chroma != 420:
            tags = replace(tags, siting=0)
        self._tags = tags
        self.plane_depth = self.bit_depth if same_planes(info, tags, self._chroma) else None
        options = dict(coding.options)
        if tags.siting:
            options["chroma_sample_location"] = SITINGS[tags.siting]
        self._codes = {
            "colorspace": tags.matrix if tags.specified else UNSPECIFIED,
            "color_range": 2 if tags.full_range else 1,
            "color_primaries": tags.primaries,
            "color_trc": tags.transfer,
        }
        file: Any  # PyAV needs no more than `write`
        if isinstance(target, Path):
            file = str(storage.part_path(target))
        else:
            file = ExtendedPipe(target, self._patch, self._colour)
        self._container = av.open(file, "w", format=muxer, options=muxing)
        try:
            stream = self._container.add_stream(coding.codec, rate=info.frame_rate, options=options)
            assert isinstance(stream, av.VideoStream)
            self._stream = stream
            if coding.codec == "libx265" and muxer in ("mp4", "mov"):
                self._stream.codec_context.codec_tag = "hvc1"  # some players know no other
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = self._format
            self._stream.codec_context.time_base = time_base
            self._stream.disposition = av.stream.Disposition.default
            for key, code in self._codes.items():
                setattr(self._stream.codec_context, key, code)
            self._set_display(info.display, muxer)
            self._tracks = TrackMuxer(self._container, extras.tracks, name=self.name, format=muxer)
            self.warnings += self._tracks.warnings
            write_words(self._container, extras)
        except BaseException:
            self.abort()
            raise

    def _set_display(self, display: Display, muxer: str) -> None:
        """Say how frames are shown, before the first of them."""
        context = self._stream.codec_context
        if display.turned:
            self._stream.set_display_matrix(display.matrix)
            if muxer in MATROSKA and (display.x or display.y):
                self.warnings.append(f"{muxer} turns the picture, but does not move it")
        if display.aspect != 1:
            context.sample_aspect_ratio = display.aspect
        if display.field_order != PROGRESSIVE:
            context.field_order = 1 + display.field_order
        if self._extended:
            self._stream.metadata["title"] = RESERVE

    def write(self, rgb: Frame) -> None:
        """Convert, encode and mux a frame, and what is heard and read until then."""
        if isinstance(rgb, tuple):
            self.write_planes(rgb)
            return
        if self._chroma:
            self.write_planes(rgb_to_yuv(rgb, self._tags, self._chroma, self.bit_depth))
            return
        if self.bit_depth > 8:
            self.write_planes([rgb[..., channel] for channel in (1, 2, 0)])
            return
        frame = av.VideoFrame(*self._size, self._format)
        pixels = view_plane(frame.planes[0], 4 * self._size[0], "u1")
        for channel in range(3):
            pixels[:, 2 - channel :: 4] = rgb[..., channel]
        pixels[:, 3::4] = 0
        self._mux(frame)

    def write_planes(self, planes: Sequence[Plane]) -> None:
        """Encode and mux a frame given as planes of the output's chroma format and depth."""
        frame = av.VideoFrame(*self._size, self._format)
        fill_frame(frame, planes)
        self._mux(frame)

    def _mux(self, frame: av.VideoFrame) -> None:
        for key, code in self._codes.items():
            setattr(frame, key, code)
        frame.pts, frame.duration = self._ticks()
        frame.time_base = self._stream.codec_context.time_base
        with self._tracks.blamed():
            self._tracks.advance(frame.pts * frame.time_base)
            self._container.mux(self._stream.encode(frame))
        self._n_frames += 1

    def _ticks(self) -> tuple[int, int]:
        """Return time and duration of the next frame."""
        index = self._n_frames
        if self._timing is None:
            return index, 1
        pts = self._timing.pts
        after = pts[index + 1] if index + 1 < len(pts) else pts[index] + self._timing.duration
        return pts[index], after - pts[index]

    def commit(self) -> None:
        """Flush the encoder, write what is left of the tracks, close the file and rename it."""
        with self._tracks.blamed():
            self._container.mux(self._stream.encode(None))
            self._tracks.advance(None)
            self._container.close()
        if isinstance(self._target, Path):
            part = storage.part_path(self._target)
            if self._extended:
                extend_video(part, self._patch, self._colour)
            storage.commit(part, self._target)

    def abort(self) -> None:
        """Close and remove the temporary file, or silence the pipe."""
        with suppress(*WRITE_ERRORS):
            self._container.close()
        if isinstance(self._target, Path):
            storage.part_path(self._target).unlink(missing_ok=True)
        else:
            drain(self._target)


def _movie_ticks(time_base: Fraction) -> int:
    """Return ticks per second in which a time of the video is exact, or FFmpeg's default."""
    return time_base.denominator if 1000 <= time_base.denominator < 1 << 31 else 1000


def pictures_only(format: str, info: VideoInfo, extras: Extras) -> list[str]:
    """Return warnings about what is lost in a format without times and tracks."""
    warnings = []
    if info.timing is not None and info.timing.varies():
        rate = f"{float(info.frame_rate):g}"
        warnings.append(f"{format} cannot say that the frame rate varies around {rate} frames/s")
    if info.display.turned:
        turn = f"turned by {info.display.rotation} degrees"
        warnings.append(f"{format} cannot say that the picture is to be {turn}; it is not turned")
    lost = ["PQ"] * (info.color.transfer == PQ) + ["HLG"] * (info.color.transfer == HLG)
    if lost or info.hdr != NO_HDR:
        what = [f"the transfer is {name}" for name in lost]
        what += ["how bright the mastering display and the video are"] * (info.hdr != NO_HDR)
        warnings.append(f"{format} cannot say {' and '.join(what)}")
    if format == "PNG" and info.display.aspect != 1:
        warnings.append(f"PNG files are written without the pixel aspect {info.display.aspect}")
    if extras.tracks:
        names = ", ".join(track.label(number) for number, track in enumerate(extras.tracks))
        warnings.append(f"{format} holds pictures only; left out: {names}")
    return warnings


class Y4mSink:
    """Raw planes, in a file or a pipe."""

    coding: VideoFormat | None = None

    def __init__(
        self,
        target: Path | IO[bytes],
        info: VideoInfo,
        extras: Extras,
        wish: Wish = AS_USUAL,
    ) -> None:
        """Write the header to the temporary file beside a path, or to a pipe."""
        formats = [pixel_format(c, bits) for c in (420, 422, 444, 400) for bits in BIT_DEPTHS]
        wish.refuse("Y4M", pixel_formats=formats)
        self._path = path = target if isinstance(target, Path) else None
        self.warnings = pictures_only("Y4M", info, extras)
        pipe = "standard output" if target is sys.stdout.buffer else "the pipe"
        self.name = str(path) if path else pipe
        self._tags = yuv_tags(info)
        wished = parse_pixel_format(wish.pixel_format or "")
        self._chroma, self.bit_depth = wished or (info.chroma or 444, info.bit_depth)
        space = "mono" if self._chroma == 400 else self._chroma
        self.description = f"Y4M {space} {self.bit_depth} bit"
        if self._tags.specified and self._tags.matrix != default_matrix(info.height):
            self.warnings.append(
                f"Y4M cannot say that the colour matrix is {self._tags.matrix} (H.273)"
            )
        if self._tags.siting not in (0, 1, 2) or self._chroma != 420 or self.bit_depth > 8:
            self._tags = replace(self._tags, siting=0)
        self.plane_depth = self.bit_depth if same_planes(info, self._tags, self._chroma) else None
        header = Y4mHeader(
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate,
            chroma=self._chroma,
            bit_depth=self.bit_depth,
            siting=self._tags.siting,
            full_range=self._tags.full_range,
            field_order=info.display.field_order,
            aspect=info.display.aspect,
        )
        self.frame_bytes = 0 if path is None else header.frame_bytes
        if path is not None and info.timing is not None:
            storage.check_space(path, len(info.timing.pts) * header.frame_bytes)
        self._stream: IO[bytes]
        self._stream = (
            target if not isinstance(target, Path) else open(storage.part_path(target), "wb")  # noqa: SIM115
        )
        try:
            self._stream.write(format_header(header))
        except BaseException:
            self.abort()
            raise

    def write(self, rgb: Frame) -> None:
        """Convert and append a frame."""
        planes = rgb
        if not isinstance(planes, tuple):
            planes = rgb_to_yuv(planes, self._tags, self._chroma, self.bit_depth)
        write_frame(self._stream, planes[:1] if self._chroma == 400 else planes)

    def commit(self) -> None:
        """Flush; rename the file."""
        self._stream.flush()
        if self._path:
            self._stream.close()
            storage.commit(storage.part_path(self._path), self._path)

    def abort(self) -> None:
        """Remove the temporary file; silence a pipe that nobody reads any more."""
        if self._path:
            with suppress(OSError):
                self._stream.close()
            storage.part_path(self._path).unlink(missing_ok=True)
            return
        drain(self._stream)


class PngEncoder:
    """RGB pictures of one size to PNG files."""

    def __init__(self, width: int, height: int, bit_depth: int = 8) -> None:
        """Take pictures of 8 or, as uint16, 16 bits."""
        self._codec = av.VideoCodecContext.create("png", "w")
        self._codec.width, self._codec.height = width, height
        self._format = "rgb24" if bit_depth == 8 else "rgb48be"
        self._codec.pix_fmt = self._format
        self._codec.time_base = 1 / DEFAULT_RATE
        self._codec.thread_count = 1  # several would hold frames back
        self._n_frames = 0

    def encode(self, rgb: RGB) -> bytes:
        """Return the bytes of a PNG file, from (H, W, 3)."""
        pixels: Any = np.ascontiguousarray(rgb)
        frame = av.VideoFrame.from_ndarray(pixels, self._format)
        frame.pts = self._n_frames
        self._n_frames += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class StagedFolder:
    """Files that are collected in a hidden folder inside `folder` until all are there."""

    def __init__(
        self, folder: Path, wanted: re.Pattern[str], like: str, *, overwrite: bool
    ) -> None:
        """Create `folder`; UsageError if it has `wanted` files that must not be replaced.

        Also where another process writes into it.
        """
        if not folder.parent.is_dir():
            raise UsageError(f"folder {folder.parent} of the output does not exist")
        self._folder = folder
        self._created = not folder.exists()
        folder.mkdir(exist_ok=True)
        with ExitStack() as claimed:
            claimed.enter_context(storage.claim(folder))
            self._old = [p for p in folder.iterdir() if wanted.fullmatch(p.name)]
            if self._old and not overwrite:
                raise UsageError(
                    f"folder {folder} has {len(self._old)} files like {like}; "
                    "use -y to overwrite them"
                )
            self._claimed = claimed.pop_all()
        self._staging = folder / ".part"
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()

    def write(self, name: str, data: bytes) -> None:
        """Add a file."""
        (self._staging / name).write_bytes(data)

    def commit(self) -> None:
        """Replace the old files by the new ones."""
        with self._claimed:
            for path in self._old:
                path.unlink()
            for path in self._staging.iterdir():
                path.replace(self._folder / path.name)
            self._staging.rmdir()
            storage.sync_folder(self._folder)

    def abort(self) -> None:
        """Remove what was written, and the folder if it is new."""
        shutil.rmtree(self._staging, ignore_errors=True)
        self._claimed.close()
        if self._created:
            with suppress(OSError):
                self._folder.rmdir()


def as_resource_error(name: str, error: BaseException) -> NvcodecError:
    """Return the sentence for a failed write to `name`."""
    if isinstance(error, NvcodecError):
        return error
    if isinstance(error, BrokenPipeError):
        return ResourceError(f"{name} was closed by the program that reads it")
    return ResourceError(f"{name} cannot be written: {reason(error)}")
