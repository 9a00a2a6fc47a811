"""Write RGB frames as a video, whole or not at all."""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from nvcodec import storage
from nvcodec.depth import sample_type
from nvcodec.errors import LimitError, NvcodecError, UsageError
from nvcodec.media import NO_EXTRAS, Extras
from nvcodec.video.coding import AS_USUAL, CONTAINERS, VideoFormat, Wish
from nvcodec.video.color import check_tags
from nvcodec.video.forms import Frame
from nvcodec.video.frames import IDENTITY, VideoInfo
from nvcodec.video.images import SUFFIXES, ImageSink
from nvcodec.video.sinks import (
    WRITE_ERRORS,
    ContainerSink,
    Sink,
    Y4mSink,
    as_resource_error,
)
from nvcodec.video.sources import is_pattern

_ALLOWED = (
    ".mp4, .mov, .mkv, .webm, .y4m, a pattern such as frames/%06d.png or frames/%06d.npy, "
    "a folder ending in / and - for Y4M on standard output; a single frame may be a .png or .npy"
)


class VideoWriter:
    """Takes frames in order; a context manager that finishes the output on success.

    When the block ends with an exception, nothing is left behind.
    """

    n_frames: int
    """Frames written so far."""
    description: str
    """What the output is, such as "H.264 crf 12 yuv420p"."""
    warnings: list[str]
    """Sentences about what the output cannot hold."""
    bit_depth: int
    """Of the frames that `write` takes: 8 (uint8), or 9 to 16 (uint16)."""
    plane_depth: int | None
    """Of the video's own planes, where `write` takes them too; None: it takes RGB alone."""
    coding: VideoFormat | None
    """How pictures are coded, for files that FFmpeg muxes."""

    def __init__(self, sink: Sink, info: VideoInfo, claimed: ExitStack | None = None) -> None:
        """Use open_writer instead of calling this; `claimed` is closed with the output."""
        self._sink = sink
        self._claimed = claimed or ExitStack()
        self._shape = (info.height, info.width, 3)
        self._open = True
        self.n_frames = 0
        self.description = sink.description
        self.warnings = sink.warnings
        self.bit_depth = sink.bit_depth
        self.coding = sink.coding
        self.plane_depth = sink.plane_depth
        self._kind = np.dtype(sample_type(sink.bit_depth))

    def write(self, frame: Frame) -> None:
        """Append a frame (H, W, 3) of `bit_depth`, or the video's planes of `plane_depth`.

        Raises:
            UsageError: the shape or type is wrong, or the writer is closed.
            ResourceError: the disk is full, or nobody reads the pipe any more.
        """
        if not self._open:
            raise UsageError(f"{self._sink.name} is finished; no frame can be added")
        if isinstance(frame, tuple):
            if self.plane_depth is None:
                raise UsageError(f"{self._sink.name} takes RGB; frame {self.n_frames} is of planes")
        elif frame.shape != self._shape or frame.dtype != self._kind:
            raise UsageError(
                f"frame {self.n_frames} is {frame.dtype} {frame.shape}; "
                f"expected is {self._kind} {self._shape}"
            )
        try:
            self._sink.write(frame)
        except WRITE_ERRORS as error:
            self.abort()
            raise as_resource_error(self._sink.name, error) from error
        self.n_frames += 1

    def close(self) -> None:
        """Finish the output under its name; does nothing when already closed.

        Raises:
            UsageError: no frame was written.
            ResourceError: the disk is full, or nobody reads the pipe any more.
        """
        if not self._open:
            return
        if self.n_frames == 0:
            self.abort()
            raise UsageError(f"{self._sink.name} got no frame; a video has at least 1")
        try:
            self._sink.commit()
        except WRITE_ERRORS as error:
            self.abort()
            raise as_resource_error(self._sink.name, error) from error
        except BaseException:
            self.abort()
            raise
        self._open = False
        self._claimed.close()

    def abort(self) -> None:
        """Remove everything that was written; does nothing when already closed."""
        if self._open:
            self._open = False
            with self._claimed:
                self._sink.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()
        else:
            self.abort()


def _open_sink(
    target: str | Path,
    info: VideoInfo,
    extras: Extras,
    wish: Wish,
    overwrite: bool,
    claimed: ExitStack,
) -> Sink:
    text = str(target)
    if text == "-":
        return Y4mSink(sys.stdout.buffer, info, extras, wish)
    path = Path(text)
    if text.endswith("/") or path.is_dir():
        return ImageSink(path / "%06d.png", info, extras, wish, overwrite=overwrite)
    suffix = path.suffix.lower()
    single = info.timing is not None and len(info.timing.pts) == 1
    if suffix in SUFFIXES and is_pattern(path):
        return ImageSink(path, info, extras, wish, overwrite=overwrite)
    if suffix not in (*CONTAINERS, ".y4m", *(SUFFIXES if single else ())):
        raise UsageError(f"output {text} has suffix {suffix or 'none'}; allowed are {_ALLOWED}")
    storage.check_output(path, overwrite=overwrite)
    claimed.enter_context(storage.claim(path))
    # Another process may have finished it in between.
    storage.check_output(path, overwrite=overwrite)
    if suffix in SUFFIXES:
        return ImageSink(path, info, extras, wish, overwrite=overwrite)
    sink = Y4mSink if suffix == ".y4m" else ContainerSink
    return sink(path, info, extras, wish)


def open_writer(
    target: str | Path,
    info: VideoInfo,
    extras: Extras = NO_EXTRAS,
    *,
    wish: Wish = AS_USUAL,
    overwrite: bool = False,
    max_bytes: int | None = None,
) -> VideoWriter:
    """Open an output for frames like those that `info` describes.

    Args:
        target: .mp4 or .mov (H.264, visually lossless), .mkv (FFV1, lossless), .webm (VP9,
            visually lossless), .y4m, a pattern such as "frames/%06d.png" or "frames/%06d.npy", a
            folder ending in "/" (PNG files numbered from 1), or "-" for Y4M on standard output; a
            .png or .npy file where `info` times a single frame. Alpha is not written.
        info: size, times, chroma format and colour of the output.
        extras: what to write beside the pictures, where the output can hold it.
        wish: codec, crf and pixel format, where they are not to be the usual ones.
        overwrite: replace what exists.
        max_bytes: of the output where it is no compressed video and no pipe; PNG files count as if
            they did not compress.

    Raises:
        UsageError: the suffix is unknown, the output exists and must stay, is being made by
            another process, or cannot be as wished.
        InputError: colour tags without support.
        LimitError: the output might have more than `max_bytes`.
        ResourceError: the output cannot be created.
    """
    if info.color.matrix != IDENTITY:
        check_tags(info.color, info.chroma or 444)
    with ExitStack() as claimed:
        try:
            sink = _open_sink(target, info, extras, wish, overwrite, claimed)
        except NvcodecError:
            raise
        except WRITE_ERRORS as error:
            name = "standard output" if str(target) == "-" else str(target)
            raise as_resource_error(name, error) from error
        n_bytes = sink.frame_bytes * (1 if info.timing is None else len(info.timing.pts))
        if max_bytes is not None and n_bytes > max_bytes:
            sink.abort()
            raise LimitError(
                f"{sink.name} would have up to {n_bytes} bytes, the limit of this decoder is "
                f"{max_bytes}"
            )
        return VideoWriter(sink, info, claimed.pop_all())
