"""What a bench measured, and its JSON: results.json in the output folder."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Self, TypeVar

from nvcodec import storage
from nvcodec.errors import InputError

FORMAT = 1
FILE_NAME = "results.json"
KINDS = ("nvcodec", "anchor", "external", "imported", "published")
METRICS = ("psnr_rgb_db", "psnr_yuv_db", "psnr_y_db", "ms_ssim", "vmaf", "xpsnr_db")
"""The fields of Point that BD-rate is computed over."""

T = TypeVar("T")


def _known(cls: type[T], values: Any) -> dict[str, Any]:
    """Return those of the values that the dataclass has; a newer program may have written more."""
    if not isinstance(values, dict):
        raise TypeError(f"{cls.__name__} is {type(values).__name__}, an object is needed")
    names = {item.name for item in fields(cls)}  # type: ignore[arg-type]
    return {key: value for key, value in values.items() if key in names}


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the bench ran."""

    cpu: str
    n_threads: int
    """Threads of every encoder and decoder that takes a number."""
    device: str
    """Where nvcodec computed, such as "cpu" or "cuda NVIDIA H200"; the others use the CPU."""
    platform: str = ""
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceInfo:
    """The frames that every codec got."""

    file: str
    """Name without folder."""
    frames_sha256: str
    """Of size and 8-bit 4:2:0 planes of all frames."""
    width: int
    height: int
    n_frames: int
    frame_rate: str
    """A fraction such as "25/1"."""
    codec: str
    """FFmpeg's name of the source's codec."""
    n_bytes: int | None
    """Size of the source file."""
    bpp: float | None
    """Bits per pixel of the source's video stream; None where it has none of its own."""
    lossy: bool
    """True: the source was compressed with loss before."""
    chroma: str
    """Of the source, such as "4:2:0"; all codecs get 4:2:0."""
    bit_depth: int
    """Of the source; all codecs get 8 bits."""
    notes: tuple[str, ...] = ()
    """Sentences that a reader of the figures must know, such as that the source is lossy."""

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build from the values of the JSON object."""
        known = _known(cls, values)
        return cls(**known | {"notes": tuple(known.get("notes", ()))})


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One encode, measured on 8-bit frames decoded from the file on disk."""

    status: str = "ok"
    """"ok" or "failed"."""
    reason: str | None = None
    """Why it failed."""
    q: float
    """Quality parameter; for nvcodec the target in bits per pixel."""
    n_bytes: int | None = None
    """Of the whole stream on disk."""
    bpp: float | None = None
    """8 x n_bytes / (width x height x frames)."""
    psnr_rgb_db: float | None = None
    """Mean over frames."""
    psnr_rgb_of_mean_mse_db: float | None = None
    psnr_y_db: float | None = None
    """Mean over frames."""
    psnr_yuv_db: float | None = None
    """(6 Y + U + V) / 8, mean over frames."""
    ms_ssim: float | None = None
    """RGB, mean over frames; None where a side is under 161 pixels."""
    vmaf: float | None = None
    xpsnr_db: float | None = None
    """(6 Y + U + V) / 8 of the extended perceptually weighted PSNR."""
    psnr_rgb_per_frame_db: tuple[float, ...] = ()
    encode_s: float | None = None
    """Wall-clock seconds from opening the source to the finished stream."""
    decode_fps: float | None = None
    """Frames/s from opening the stream to the last 8-bit frame in memory, process start aside."""
    decode_threads: int | None = None
    """None: the decoder's own choice."""
    peak_memory_bytes: int | None = None
    """Peak resident memory of the process that decoded."""
    encode_peak_memory_bytes: int | None = None
    """Peak resident memory of the process that encoded."""
    n_params: int | None = None
    mac_per_pixel: float | None = None
    from_cache: bool = False
    """True: measured in an earlier run."""
    sample: str | None = None
    """PNG of the middle frame, relative to the output folder."""

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build from the values of the JSON object."""
        known = _known(cls, values)
        per_frame = tuple(known.get("psnr_rgb_per_frame_db", ()))
        return cls(**known | {"psnr_rgb_per_frame_db": per_frame})


@dataclass(frozen=True, slots=True, kw_only=True)
class CodecResult:
    """One codec at one setting, over its quality parameter."""

    name: str
    """Such as "x265 medium"."""
    kind: str
    """One of KINDS."""
    parameters: str
    """The exact settings, with {q} for the quality parameter; the source of published figures."""
    status: str = "ok"
    """"ok", "failed" (no point could be measured) or "not run"."""
    reason: str | None = None
    """Why it failed or did not run, and how to change that."""
    points: tuple[Point, ...] = ()
    """By rising rate; failed ones last."""

    @property
    def good_points(self) -> tuple[Point, ...]:
        """Points that could be measured."""
        return tuple(point for point in self.points if point.status == "ok")

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build from the values of the JSON object."""
        known = _known(cls, values)
        points = tuple(Point.from_dict(point) for point in known.get("points", ()))
        return cls(**known | {"points": points})


@dataclass(frozen=True, slots=True, kw_only=True)
class BD:
    """Bjontegaard difference of a codec against an anchor; negative rates are savings."""

    codec: str
    anchor: str
    metric: str
    """One of METRICS."""
    method: str
    """"pchip" or "akima"."""
    rate_percent: float | None = None
    psnr_db: float | None = None
    """BD-PSNR; for metrics other than PSNR the mean difference in that metric's unit."""
    low: float | None = None
    """Begin of the interval of quality that both curves cover."""
    high: float | None = None
    """End of that interval."""
    error: str | None = None
    """Why there is no figure."""

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build from the values of the JSON object."""
        return cls(**_known(cls, values))


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResults:
    """Everything that one bench measured."""

    nvcodec: str
    """Version."""
    commit: str | None
    command: str
    machine: Machine
    started: str
    """ISO 8601 date and time."""
    source: SourceInfo
    codecs: tuple[CodecResult, ...]
    bd: tuple[BD, ...] = ()
    format: int = FORMAT

    def to_dict(self) -> dict[str, Any]:
        """Return plain values; numbers that JSON lacks become None."""
        values: dict[str, Any] = _finite(asdict(self))
        return values

    @classmethod
    def from_dict(cls, values: Any) -> Self:
        """Build from the values of the JSON object."""
        known = _known(cls, values)
        return cls(
            **known
            | {
                "machine": Machine(**_known(Machine, known["machine"])),
                "source": SourceInfo.from_dict(known["source"]),
                "codecs": tuple(CodecResult.from_dict(codec) for codec in known["codecs"]),
                "bd": tuple(BD.from_dict(bd) for bd in known.get("bd", ())),
            }
        )


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def save_results(folder: Path, results: BenchResults) -> Path:
    """Write results.json into the folder, whole or not at all; return its path."""
    path = folder / FILE_NAME
    text = json.dumps(results.to_dict(), indent=1, allow_nan=False) + "\n"
    storage.write_atomic(path, text.encode())
    return path


def load_results(folder: Path) -> BenchResults:
    """Read results.json of a folder, or that file itself.

    Raises:
        InputError: the file is missing, damaged or of a newer format.
    """
    path = folder / FILE_NAME if folder.is_dir() else folder
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        number = values["format"]
        if number != FORMAT:
            raise InputError(f"{path} has format {number}; this version reads format {FORMAT}")
        return BenchResults.from_dict(values)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} does not hold the results of a bench: {error}") from error
