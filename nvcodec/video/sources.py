"""Where pictures come from: a file that FFmpeg reads, or a series of PNG files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path
from typing import Protocol

import av

from nvcodec.errors import InputError
from nvcodec.video.frames import DEFAULT_RATE
from nvcodec.video.planes import Picture, read_picture

AV_ERRORS = (av.FFmpegError, ValueError, OSError)
_NOT_VIDEO = ("ansi", "bintext", "xbin", "idf")
"""FFmpeg draws text files as pictures with these."""
COUNTER = re.compile(r"%0?\d*d")
"""The counter in a name such as "%06d.png"."""
_ATTACHED = 0x400
"""Bit of a stream's disposition: the cover picture of a piece of music."""


class Source(Protocol):
    """Pictures in presentation order, and what the container says of them."""

    name: str
    codec: str
    frame_rate: Fraction
    n_bytes: int | None
    warnings: list[str]

    def pictures(self) -> Iterator[Picture]:
        """Yield every picture, once."""

    def close(self) -> None:
        """Release files."""


def silence() -> None:
    """Keep FFmpeg's own messages off the terminal; failures arrive as exceptions.

    None is PyAV's default and drops messages in C. Any level, even PANIC, hands errors to
    Python: a decoding thread then waits for the interpreter lock while the main thread, which
    holds the lock, waits for that thread to end. Damaged files hung that way.
    """
    av.logging.set_level(None)


def reason(error: BaseException) -> str:
    """Return what an error says, without numbers and addresses."""
    return str(getattr(error, "strerror", None) or error).lower()


def fraction(rate: Fraction | None) -> Fraction | None:
    """Return an FFmpeg rate; it is None, or in PyAV 19 a false 0/1, where nothing is known."""
    return Fraction(rate.numerator, rate.denominator) if rate else None


class FileSource:
    """The best video stream of a file."""

    def __init__(self, path: Path) -> None:
        """Open `path`; InputError if it has no video."""
        self.name = str(path)
        self.warnings: list[str] = []
        silence()
        try:
            self.n_bytes: int | None = path.stat().st_size
            # A playlist must not make this program open other files or network addresses.
            options = {"protocol_whitelist": "file"}
            self._container = av.open(f"file:{path}", "r", options=options)
        except AV_ERRORS as error:
            raise InputError(f"{path} cannot be read as a video: {reason(error)}") from error
        try:
            self._open_stream()
        except BaseException:
            self.close()
            raise

    def _open_stream(self) -> None:
        streams = [s for s in self._container.streams.video if not s.disposition & _ATTACHED]
        if not streams:
            raise InputError(f"{self.name} has no video stream")
        best = self._container.streams.best("video")
        self._stream = next((s for s in streams if s is best), streams[0])
        context = self._stream.codec_context
        if context is None or context.name in _NOT_VIDEO:
            raise InputError(f"{self.name} is not a video")
        self.codec = context.name
        self._stream.thread_type = "AUTO"
        rate = fraction(self._stream.average_rate) or fraction(self._stream.guessed_rate)
        self.frame_rate = rate or DEFAULT_RATE
        if rate is None:
            self.warnings.append(f"the frame rate is unknown; {DEFAULT_RATE} frames/s are assumed")
        self._timing = _Timing(self._stream.time_base)
        aspect = fraction(self._stream.sample_aspect_ratio)
        if aspect not in (None, Fraction(1)):
            self.warnings.append(f"the pixels are not square ({aspect}); the ratio is not kept")

    def pictures(self) -> Iterator[Picture]:
        """Decode every frame.

        Damage at the end of the file is a warning, since everything before it is whole;
        a loss in the middle is an InputError, since later frames would move.
        """
        done = n_packets = 0
        failed = False
        try:
            for packet in self._container.demux(self._stream):
                n_packets += packet.size > 0
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    failed = True
                    continue
                if failed and packet.size and done:
                    raise InputError(f"{self.name} is corrupt after frame {done - 1}")
                for frame in frames:
                    self._note(frame, done)
                    yield read_picture(frame, self.codec)
                    done += 1
        except AV_ERRORS as error:
            if done == 0:
                raise InputError(f"{self.name} cannot be decoded: {reason(error)}") from error
            failed = True
        announced = self._stream.frames
        if done and announced > n_packets:
            self.warnings.append(
                f"the file ends early: {done} frames decoded, {announced} announced"
            )
        elif done and failed:
            self.warnings.append(f"the end of the file is damaged: {done} frames decoded")

    def _note(self, frame: av.VideoFrame, index: int) -> None:
        """Collect warnings about one frame, each sentence once."""
        if frame.is_corrupt:
            self._warn(f"the file is damaged: parts of frame {index} or later ones are guessed")
        if frame.interlaced_frame:
            self._warn("the video is interlaced; its frames are coded as progressive")
        if self._timing.varies(frame.pts):
            self._warn(
                f"the frame rate varies; a constant {float(self.frame_rate):g} frames/s is used"
            )

    def _warn(self, message: str) -> None:
        kinds = {warning[:24] for warning in self.warnings}
        if message[:24] not in kinds:
            self.warnings.append(message)

    def close(self) -> None:
        """Close the file."""
        with suppress(*AV_ERRORS):
            self._container.close()


class _Timing:
    """Watches the distance of frames in time."""

    def __init__(self, time_base: Fraction | None) -> None:
        # Containers round times: to 1 ms in Matroska, to a tick in others.
        self._slack = max(2, round(Fraction(2, 1000) / time_base)) if time_base else 2
        self._last: int | None = None
        self._step: int | None = None

    def varies(self, pts: int | None) -> bool:
        """Return True if a frame at `pts` is not as far from the last as the first two were."""
        if pts is None:
            return False
        last, self._last = self._last, pts
        if last is None:
            return False
        if self._step is None:
            self._step = pts - last
        return abs(pts - last - self._step) > self._slack


def _natural(path: Path) -> list[tuple[int, str]]:
    """Sort key that puts 10.png after 9.png."""
    parts = re.split(r"(\d+)", path.name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def numbered(pattern: str) -> re.Pattern[str]:
    """Return an expression for all file names that `pattern` gives."""
    before, after = (re.escape(part) for part in COUNTER.split(pattern, maxsplit=1))
    return re.compile(before + r"\d+" + after)


def find_images(source: Path) -> list[Path]:
    """Return the PNG files of a folder, or of a pattern such as "frames/%06d.png", in order.

    Raises:
        InputError: there is none.
    """
    if source.is_dir():
        found = [p for p in source.iterdir() if p.suffix.lower() == ".png" and p.name[0] != "."]
        if not found:
            raise InputError(f"folder {source} has no PNG files")
        return sorted(found, key=_natural)
    wanted = numbered(source.name)
    folder = source.parent
    found = [p for p in folder.iterdir() if wanted.fullmatch(p.name)] if folder.is_dir() else []
    if not found:
        raise InputError(f"no file matches {source}")
    return sorted(found, key=_natural)


def is_pattern(path: Path) -> bool:
    """Tell whether the name has a counter such as %06d."""
    return COUNTER.search(path.name) is not None


class ImageSource:
    """One picture per PNG file."""

    codec = "png"
    frame_rate = DEFAULT_RATE
    n_bytes: int | None = None

    def __init__(self, source: Path) -> None:
        """Find the files of a folder or pattern; InputError if there is none."""
        self.name = str(source)
        self.warnings: list[str] = []
        silence()
        self._paths = find_images(source)

    def pictures(self) -> Iterator[Picture]:
        """Decode one file after the other."""
        for path in self._paths:
            try:
                with av.open(f"file:{path}", "r") as container:
                    frame = next(container.decode(video=0))
            except (*AV_ERRORS, StopIteration, IndexError) as error:
                raise InputError(f"{path} is not a valid PNG file: {reason(error)}") from error
            yield read_picture(frame, self.codec)

    def close(self) -> None:
        """Do nothing: files are closed one by one."""
