"""Test sequences that the user has as raw 8-bit 4:2:0 files: UVG, MCL-JCV and HEVC's class B.

UVG: Mercat, Viitanen, Vanne, "UVG dataset: 50/120fps 4K sequences for video codec analysis and
development", MMSys 2020; the seven 1920x1080 sequences at 120 frames/s. MCL-JCV: Wang et al.,
"MCL-JCV: a JND-based H.264/AVC video quality assessment dataset", ICIP 2016; 30 sequences of 5 s.
Class B: Bossen, "Common test conditions and software reference configurations", JCTVC-L1100, 2013;
five sequences of 1920x1080, of which some copies have a frame more than is coded.
"""

from __future__ import annotations

from collections import abc
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from nvcodec.errors import InputError, UsageError
from nvcodec.video.color import chroma_shape
from nvcodec.video.frames import resolve_tags
from nvcodec.video.planes import Picture
from nvcodec.video.tracks import TrackReader


@dataclass(frozen=True, slots=True, kw_only=True)
class Sequence:
    """One test sequence."""

    name: str
    file: str
    frame_rate: int
    """Frames/s."""
    n_frames: int
    width: int = 1920
    height: int = 1080
    n_unused: int = 0
    """Most frames that the file may have beyond `n_frames`."""

    @property
    def n_bytes(self) -> int:
        """Size of the raw file, without unused frames."""
        return frame_bytes(self.width, self.height) * self.n_frames


def _uvg(name: str, n_frames: int = 600) -> Sequence:
    file = f"{name}_1920x1080_120fps_420_8bit_YUV.yuv"
    return Sequence(name=name, file=file, frame_rate=120, n_frames=n_frames)


def _mcl_jcv(number: int, frame_rate: int) -> Sequence:
    name = f"videoSRC{number:02d}"
    file = f"{name}_1920x1080_{frame_rate}.yuv"
    return Sequence(name=name, file=file, frame_rate=frame_rate, n_frames=5 * frame_rate)


def _class_b(name: str, frame_rate: int, n_frames: int) -> Sequence:
    file = f"{name}_1920x1080_{frame_rate}.yuv"
    return Sequence(name=name, file=file, frame_rate=frame_rate, n_frames=n_frames, n_unused=1)


_MCL_JCV_RATES = (
    *(30, 30, 30, 30, 25, 25, 25, 25, 25, 30),
    *(30, 30, 30, 30, 30, 30, 24, 25, 30, 25),
    *(24, 24, 24, 24, 24, 30, 30, 30, 24, 30),
)
DATASETS: dict[str, tuple[Sequence, ...]] = {
    "uvg": (
        _uvg("Beauty"),
        _uvg("Bosphorus"),
        _uvg("HoneyBee"),
        _uvg("Jockey"),
        _uvg("ReadySteadyGo"),
        _uvg("ShakeNDry", 300),
        _uvg("YachtRide"),
    ),
    "mcl-jcv": tuple(_mcl_jcv(i, rate) for i, rate in enumerate(_MCL_JCV_RATES, 1)),
    "hevc-b": (
        _class_b("Kimono1", 24, 240),
        _class_b("ParkScene", 24, 240),
        _class_b("Cactus", 50, 500),
        _class_b("BasketballDrive", 50, 500),
        _class_b("BQTerrace", 60, 600),
    ),
}


def frame_bytes(width: int, height: int) -> int:
    """Return the size of a raw frame in 8-bit 4:2:0."""
    return sum(rows * columns for rows, columns in _shapes(width, height))


def _shapes(width: int, height: int) -> list[tuple[int, int]]:
    """Return (rows, columns) of Y, U and V."""
    return [(height, width), *[chroma_shape(height, width, 420)] * 2]


class RawVideo:
    """Pictures of a raw 8-bit 4:2:0 file: Y, U, V of each frame, without any header."""

    codec = "rawvideo"

    def __init__(
        self,
        path: Path,
        width: int,
        height: int,
        frame_rate: Fraction,
        n_frames: int | None = None,
    ) -> None:
        """Take the file, or its first frames; InputError if it is no multiple of a frame."""
        self.name = str(path)
        self.rates: abc.Sequence[Fraction] = (frame_rate,)
        self.time_base: Fraction | None = None
        self.warnings: list[str] = []
        self._path = path
        self._shapes = _shapes(width, height)
        size = frame_bytes(width, height)
        try:
            self.n_bytes: int | None = path.stat().st_size
        except OSError as error:
            raise InputError(f"{path} cannot be read: {error.strerror}") from error
        if self.n_bytes == 0 or self.n_bytes % size:
            raise InputError(
                f"{path} has {self.n_bytes} bytes, no multiple of the {size} of a "
                f"{width}x{height} frame in 8-bit 4:2:0"
            )
        self._n_frames = self.n_bytes // size if n_frames is None else n_frames

    def pictures(self) -> Iterator[Picture]:
        """Yield every frame that is used."""
        tags = resolve_tags(height=self._shapes[0][0], chroma=420)
        counts = [rows * columns for rows, columns in self._shapes]
        with open(self._path, "rb") as file:
            for _ in range(self._n_frames):
                data = np.frombuffer(file.read(sum(counts)), np.uint8)
                parts = np.split(data, np.cumsum(counts)[:-1])
                y, u, v = (p.reshape(s) for p, s in zip(parts, self._shapes, strict=True))
                yield Picture(planes=(y, u, v), chroma=420, bit_depth=8, tags=tags)

    def tracks(self) -> AbstractContextManager[TrackReader | None]:
        """Open nothing: a raw file holds pictures alone."""
        return nullcontext(None)

    def close(self) -> None:
        """Do nothing: the file is open only while pictures are read."""


def find_sequences(dataset: str, folder: Path, names: tuple[str, ...] = ()) -> list[Sequence]:
    """Return the sequences of a data set that lie in a folder, or those asked for by name.

    Raises:
        UsageError: the data set or a name is unknown.
        InputError: none is there, one that was asked for is missing, or a file has another size.
    """
    if dataset not in DATASETS:
        raise UsageError(f"dataset is {dataset}, allowed are {', '.join(DATASETS)}")
    known = {sequence.name: sequence for sequence in DATASETS[dataset]}
    for name in names:
        if name not in known:
            raise UsageError(f"{dataset} has no sequence {name}; it has {', '.join(known)}")
    wanted = [known[name] for name in names] or list(known.values())
    found = [sequence for sequence in wanted if (folder / sequence.file).is_file()]
    if not found or (names and len(found) < len(wanted)):
        missing = next(s for s in wanted if s not in found)
        raise InputError(f"{folder} has no {missing.file}, a raw sequence of {dataset}")
    for sequence in found:
        n_bytes = (folder / sequence.file).stat().st_size
        n_unused, rest = divmod(
            n_bytes - sequence.n_bytes, frame_bytes(sequence.width, sequence.height)
        )
        if rest or not 0 <= n_unused <= sequence.n_unused:
            raise InputError(
                f"{folder / sequence.file} has {n_bytes} bytes; {sequence.name} of {dataset} has "
                f"{sequence.n_bytes} ({sequence.n_frames} frames)"
            )
    return found


def open_sequence(sequence: Sequence, folder: Path) -> RawVideo:
    """Return the pictures of a sequence."""
    rate = Fraction(sequence.frame_rate)
    path = folder / sequence.file
    return RawVideo(path, sequence.width, sequence.height, rate, sequence.n_frames)
