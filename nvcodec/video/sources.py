"""Where pictures come from: a file that FFmpeg reads, or a series of PNG files."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av

from nvcodec.errors import InputError
from nvcodec.media import BOTTOM_FIRST, TOP_FIRST
from nvcodec.video.frames import DEFAULT_RATE, InputFormat
from nvcodec.video.hdr import LOST
from nvcodec.video.planes import Picture, read_picture
from nvcodec.video.template import chroma_siting
from nvcodec.video.timing import storable
from nvcodec.video.tracks import TrackReader

AV_ERRORS = (av.FFmpegError, ValueError, OSError)
_NOT_VIDEO = ("ansi", "bintext", "xbin", "idf")
"""FFmpeg draws text files as pictures with these."""
COUNTER = re.compile(r"%0?\d*d")
"""The counter in a name such as "%06d.png"."""
_DURATION = re.compile(r"(\d+):(\d+):(\d+(?:\.\d+)?)")
"""How Matroska's tags say when a track ends."""
RAW_SUFFIXES = (".yuv", ".raw", ".rgb", ".nv12")
_CLOCKS = ("mpegts", "mpeg")
"""Formats whose times are those of a clock that began long before, maybe hours."""
_ATTACHED = 0x400
"""Bit of a stream's disposition: the cover picture of a piece of music."""


_FIELD_ORDERS = {2: TOP_FIRST, 3: BOTTOM_FIRST, 4: BOTTOM_FIRST, 5: TOP_FIRST}
"""By FFmpeg's AVFieldOrder: which field is shown first."""


class Source(Protocol):
    """Pictures in presentation order, and what the container says of them."""

    name: str
    codec: str
    rates: Sequence[Fraction]
    """Frames/s that it claims, the likeliest first; at least one."""
    time_base: Fraction | None
    """Seconds of a tick of its times; None where it knows no times."""
    n_bytes: int | None
    warnings: list[str]

    def pictures(self) -> Iterator[Picture]:
        """Yield every picture, once."""

    def tracks(self) -> AbstractContextManager[TrackReader | None]:
        """Open what lies beside the pictures, where there may be something."""

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


def open_container(path: Path, form: InputFormat) -> av.container.InputContainer:
    """Open a file for reading; raise InputError."""
    silence()
    # A playlist must not make this program open other files or network addresses.
    options = {"protocol_whitelist": "file"}
    if form.size is not None and form.pixel_format is not None:
        options["video_size"] = "x".join(map(str, form.size))
        options["pixel_format"] = form.pixel_format
        options["framerate"] = str(form.frame_rate or DEFAULT_RATE)
    try:
        return av.open(
            f"file:{path}",
            "r",
            format="rawvideo" if form.raw else None,
            options=options,
            metadata_errors="replace",
        )
    except AV_ERRORS as error:
        hint = ""
        if path.suffix.lower() in RAW_SUFFIXES and not form.raw:
            hint = "; raw video needs --video-size and --pixel-format"
        raise InputError(f"{path} cannot be read as a video: {reason(error)}{hint}") from error


class FileSource:
    """The best video stream of a file."""

    def __init__(self, path: Path, form: InputFormat) -> None:
        """Open `path`; InputError if it has no video."""
        self.name = str(path)
        self.warnings: list[str] = []
        self._path = path
        self._form = form
        self._container = open_container(path, form)
        self.n_bytes: int | None = path.stat().st_size
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
        self._siting = chroma_siting(self._stream)
        claimed = (self._stream.average_rate, self._stream.guessed_rate, self._stream.base_rate)
        rates = [storable(rate) for rate in map(fraction, claimed) if rate]
        self.rates: Sequence[Fraction] = list(dict.fromkeys(rates)) or [DEFAULT_RATE]
        self.time_base = fraction(self._stream.time_base)
        self._origin_s = Fraction(0)
        if self._container.format.name in _CLOCKS:
            self._origin_s = Fraction(self._container.start_time or 0, av.time_base)
        if not rates:
            self.warnings.append(f"the frame rate is unknown; {DEFAULT_RATE} frames/s are assumed")

    def pictures(self) -> Iterator[Picture]:
        """Decode every frame.

        Damage at the end of the file is a warning, since everything before it is whole;
        a loss in the middle is an InputError, since later frames would move.
        """
        done = n_packets = end = 0
        usual = 1 / (self.rates[0] * self.time_base) if self.time_base else 0
        failed = False
        try:
            for packet in self._container.demux(self._stream):
                n_packets += packet.size > 0
                if packet.size and packet.pts is not None:
                    end = max(end, packet.pts + (packet.duration or math.ceil(usual)))
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    failed = True
                    continue
                if failed and packet.size and done:
                    raise InputError(f"{self.name} is corrupt after frame {done - 1}")
                for frame in frames:
                    self._note(frame, done)
                    yield self._shown(read_picture(frame, self.codec, self._siting))
                    done += 1
        except AV_ERRORS as error:
            if done == 0:
                raise InputError(f"{self.name} cannot be decoded: {reason(error)}") from error
            failed = True
        announced = self._stream.frames
        if self._container.format.name == "avi":
            announced -= 1  # its writers count a frame that only fills a gap at the end
        if done and announced > n_packets:
            self.warnings.append(
                f"the file ends early: {done} frames decoded, {announced} announced"
            )
        elif done and failed:
            self.warnings.append(f"the end of the file is damaged: {done} frames decoded")
        elif done and self.time_base:
            missing_s = self._announced_s() - end * float(self.time_base)
            # Times are rounded, by Matroska to milliseconds.
            if missing_s * float(self.rates[0]) > 0.75:
                self.warnings.append(
                    f"the file ends early: {done} frames decoded, {missing_s:.2f} s are missing"
                )

    def _announced_s(self) -> float:
        """Return when the video ends by what Matroska says at its start; 0 if it does not."""
        if self._container.format.name != "matroska,webm":
            return 0.0
        told = _DURATION.fullmatch(self._stream.metadata.get("DURATION", ""))
        if told:
            hours, minutes, seconds = map(float, told.groups())
            return 3600 * hours + 60 * minutes + seconds
        alone = len(self._container.streams) == 1
        return (self._container.duration or 0) / av.time_base if alone else 0.0

    def _shown(self, picture: Picture) -> Picture:
        """Add what the container says of how a picture is shown."""
        aspect = fraction(self._stream.sample_aspect_ratio) or Fraction(1)
        order = _FIELD_ORDERS.get(self._stream.codec_context.field_order)
        display = replace(
            picture.display,
            sar_num=aspect.numerator,
            sar_den=aspect.denominator,
            field_order=picture.display.field_order if order is None else order,
        )
        if self._origin_s and self.time_base and picture.pts is not None:
            picture = replace(picture, pts=picture.pts - round(self._origin_s / self.time_base))
        return replace(picture, display=display)

    def _note(self, frame: av.VideoFrame, index: int) -> None:
        """Collect warnings about one frame, each sentence once."""
        if frame.is_corrupt:
            self._warn(f"the file is damaged: parts of frame {index} or later ones are guessed")
        sides: Any = frame.side_data
        for side in sides:
            if side.type.name in LOST:
                self._warn(f"{LOST[side.type.name]} in the frames: not kept")

    def _warn(self, message: str) -> None:
        kinds = {warning[:24] for warning in self.warnings}
        if message[:24] not in kinds:
            self.warnings.append(message)

    @contextmanager
    def tracks(self) -> Iterator[TrackReader | None]:
        """Open the file once more, for what lies beside the pictures."""
        with open_container(self._path, self._form) as container:
            yield TrackReader(container, self._stream.index, self._origin_s)

    def close(self) -> None:
        """Close the file."""
        with suppress(*AV_ERRORS):
            self._container.close()


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
    time_base: Fraction | None = None
    n_bytes: int | None = None

    def __init__(self, source: Path, form: InputFormat) -> None:
        """Find the files of a folder or pattern; InputError if there is none."""
        self.rates: Sequence[Fraction] = (form.frame_rate or DEFAULT_RATE,)
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

    def tracks(self) -> AbstractContextManager[None]:
        """Pictures come alone."""
        return nullcontext()

    def close(self) -> None:
        """Do nothing: files are closed one by one."""
