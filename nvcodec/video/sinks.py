"""Where frames go: a file that FFmpeg muxes, a .y4m stream, or a folder of PNG files.

A sink commits everything or, when aborted, leaves nothing behind.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, Protocol

import av
import numpy as np
from numpy.typing import NDArray

from nvcodec import storage
from nvcodec.errors import NvcodecError, ResourceError, UsageError
from nvcodec.video.color import rgb_to_yuv
from nvcodec.video.frames import (
    DEFAULT_RATE,
    IDENTITY,
    UNSPECIFIED,
    ColorTags,
    VideoInfo,
    default_matrix,
)
from nvcodec.video.planes import view_plane
from nvcodec.video.sources import AV_ERRORS, COUNTER, numbered, reason, silence
from nvcodec.video.y4m import Y4mHeader, format_header, write_frame

RGB = NDArray[np.uint8]
WRITE_ERRORS = (*AV_ERRORS, OverflowError)


class Sink(Protocol):
    """Takes frames in order; exactly one of commit and abort ends it."""

    name: str
    description: str

    def write(self, rgb: RGB) -> None:
        """Append a frame."""

    def commit(self) -> None:
        """Finish the output under its own name."""

    def abort(self) -> None:
        """Remove everything that was written."""


def yuv_tags(info: VideoInfo) -> ColorTags:
    """Return the tags for a YUV output; RGB sources get those that players assume."""
    if info.color.matrix != IDENTITY:
        return info.color
    matrix = default_matrix(info.height)
    return replace(info.color, matrix=matrix, full_range=False, siting=0, specified=True)


class ContainerSink:
    """H.264 in .mp4 or FFV1 in .mkv."""

    def __init__(self, path: Path, info: VideoInfo) -> None:
        """Open the temporary file beside `path`; ResourceError if that fails."""
        silence()
        self.name = str(path)
        self._path = path
        self._part = storage.part_path(path)
        self._n_frames = 0
        self._size = (info.width, info.height)
        if path.suffix.lower() == ".mp4":
            # x264 codes 4:2:0 only with even sides; crf 12 is below what the eye can tell.
            odd = info.width % 2 or info.height % 2
            self._chroma = 444 if odd else 420
            codec, options = "libx264", {"crf": "12", "preset": "medium"}
            muxing = {"movflags": "+faststart"}
            title = "H.264 crf 12"
        else:
            self._chroma = 0 if info.color.matrix == IDENTITY else info.chroma
            # Version 3 has checksums, but cannot cut tiny pictures into its slices.
            level = "3" if min(self._size) >= 32 else "1"
            codec, options, muxing = "ffv1", {"level": level}, {}
            title = "FFV1 lossless"
        names = {0: "bgr0", 400: "gray"}
        self._format = names.get(self._chroma, f"yuv{self._chroma}p")
        self.description = f"{title} {self._format}"
        # Neither container can carry every siting through PyAV, so chroma goes to the left.
        tags = info.color if self._chroma == 0 else replace(yuv_tags(info), siting=0)
        self._tags = tags
        self._codes = {
            "colorspace": tags.matrix if tags.specified else UNSPECIFIED,
            "color_range": 2 if tags.full_range else 1,
            "color_primaries": tags.primaries,
            "color_trc": tags.transfer,
        }
        self._container = av.open(str(self._part), "w", options=muxing)
        try:
            stream = self._container.add_stream(codec, rate=info.frame_rate, options=options)
            assert isinstance(stream, av.VideoStream)
            self._stream = stream
            self._stream.width, self._stream.height = self._size
            self._stream.pix_fmt = self._format
            self._stream.codec_context.time_base = 1 / info.frame_rate
            for key, code in self._codes.items():
                setattr(self._stream.codec_context, key, code)
        except BaseException:
            self.abort()
            raise

    def write(self, rgb: RGB) -> None:
        """Convert, encode and mux a frame."""
        frame = av.VideoFrame(*self._size, self._format)
        if self._chroma == 0:
            pixels = view_plane(frame.planes[0], 4 * self._size[0], "u1")
            for channel in range(3):
                pixels[:, 2 - channel :: 4] = rgb[..., channel]
            pixels[:, 3::4] = 0
        else:
            planes = rgb_to_yuv(rgb, self._tags, self._chroma)
            for target, plane in zip(frame.planes, planes, strict=False):
                view_plane(target, plane.shape[1], "u1")[:] = plane
        for key, code in self._codes.items():
            setattr(frame, key, code)
        frame.pts = self._n_frames
        frame.time_base = self._stream.codec_context.time_base
        self._container.mux(self._stream.encode(frame))
        self._n_frames += 1

    def commit(self) -> None:
        """Flush the encoder, close the file and rename it."""
        self._container.mux(self._stream.encode(None))
        self._container.close()
        storage.commit(self._part, self._path)

    def abort(self) -> None:
        """Close and remove the temporary file."""
        with suppress(*WRITE_ERRORS):
            self._container.close()
        self._part.unlink(missing_ok=True)


class Y4mSink:
    """Raw 8-bit planes, in a file or on standard output."""

    def __init__(self, path: Path | None, info: VideoInfo) -> None:
        """Write the header to the temporary file beside `path`, or to standard output."""
        self._path = path
        self.name = str(path) if path else "standard output"
        self._tags = yuv_tags(info)
        self._chroma = info.chroma or 444
        self.description = f"Y4M {'mono' if self._chroma == 400 else self._chroma} 8 bit"
        if self._tags.siting not in (0, 1, 2) or self._chroma != 420:
            self._tags = replace(self._tags, siting=0)
        header = Y4mHeader(
            width=info.width,
            height=info.height,
            frame_rate=info.frame_rate,
            chroma=self._chroma,
            siting=self._tags.siting,
            full_range=self._tags.full_range,
        )
        self._stream: BinaryIO
        self._stream = open(storage.part_path(path), "wb") if path else sys.stdout.buffer  # noqa: SIM115
        try:
            self._stream.write(format_header(header))
        except BaseException:
            self.abort()
            raise

    def write(self, rgb: RGB) -> None:
        """Convert and append a frame."""
        y, u, v = rgb_to_yuv(rgb, self._tags, self._chroma)
        write_frame(self._stream, [y] if self._chroma == 400 else [y, u, v])

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
        try:
            self._stream.flush()
        except OSError:
            # Python flushes standard output once more at exit, and would complain there.
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


def _number(pattern: str, index: int) -> str:
    """Return the file name of frame `index`, from 0; names count from 1, as FFmpeg's do."""
    return COUNTER.sub(lambda match: match[0] % (index + 1), pattern, count=1)


class PngEncoder:
    """8-bit RGB pictures of one size to PNG files."""

    def __init__(self, width: int, height: int) -> None:
        self._codec = av.VideoCodecContext.create("png", "w")
        self._codec.width, self._codec.height = width, height
        self._codec.pix_fmt = "rgb24"
        self._codec.time_base = 1 / DEFAULT_RATE
        self._codec.thread_count = 1  # several would hold frames back
        self._n_frames = 0

    def encode(self, rgb: RGB) -> bytes:
        """Return the bytes of a PNG file, from (H, W, 3)."""
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), "rgb24")
        frame.pts = self._n_frames
        self._n_frames += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class StagedFolder:
    """Files that are collected in a hidden folder inside `folder` until all are there."""

    def __init__(
        self, folder: Path, wanted: re.Pattern[str], like: str, *, overwrite: bool
    ) -> None:
        """Create `folder`; UsageError if it has `wanted` files that must not be replaced."""
        files = folder.iterdir() if folder.is_dir() else iter(())
        self._old = [p for p in files if wanted.fullmatch(p.name)]
        if self._old and not overwrite:
            raise UsageError(
                f"folder {folder} has {len(self._old)} files like {like}; use -y to overwrite them"
            )
        if not folder.parent.is_dir():
            raise UsageError(f"folder {folder.parent} of the output does not exist")
        self._folder = folder
        self._created = not folder.exists()
        folder.mkdir(exist_ok=True)
        self._staging = folder / ".part"
        shutil.rmtree(self._staging, ignore_errors=True)
        self._staging.mkdir()

    def write(self, name: str, data: bytes) -> None:
        """Add a file."""
        (self._staging / name).write_bytes(data)

    def commit(self) -> None:
        """Replace the old files by the new ones."""
        for path in self._old:
            path.unlink()
        for path in self._staging.iterdir():
            path.replace(self._folder / path.name)
        self._staging.rmdir()
        storage.sync_folder(self._folder)

    def abort(self) -> None:
        """Remove what was written, and the folder if it is new."""
        shutil.rmtree(self._staging, ignore_errors=True)
        if self._created:
            with suppress(OSError):
                self._folder.rmdir()


class ImageSink:
    """One 8-bit RGB PNG file per frame."""

    def __init__(self, folder: Path, pattern: str, info: VideoInfo, *, overwrite: bool) -> None:
        """Create `folder`; UsageError if it has files that match and must not be replaced."""
        silence()
        self.name = str(folder / pattern)
        self.description = "8-bit RGB PNG files"
        self._pattern = pattern
        self._files = StagedFolder(folder, numbered(pattern), pattern, overwrite=overwrite)
        self._encoder = PngEncoder(info.width, info.height)
        self._n_frames = 0

    def write(self, rgb: RGB) -> None:
        """Encode a frame into its own file."""
        self._files.write(_number(self._pattern, self._n_frames), self._encoder.encode(rgb))
        self._n_frames += 1

    def commit(self) -> None:
        """Replace the old files by the new ones."""
        self._files.commit()

    def abort(self) -> None:
        """Remove what was written, and the folder if it is new."""
        self._files.abort()


def as_resource_error(name: str, error: BaseException) -> NvcodecError:
    """Return the sentence for a failed write to `name`."""
    if isinstance(error, NvcodecError):
        return error
    if isinstance(error, BrokenPipeError):
        return ResourceError(f"{name} was closed by the program that reads it")
    return ResourceError(f"{name} cannot be written: {reason(error)}")
