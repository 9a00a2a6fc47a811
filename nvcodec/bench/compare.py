"""What changed between two benches of the same frames."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from nvcodec.bench.results import METRICS, BenchResults, Point
from nvcodec.errors import UsageError

FIGURES = ("n_bytes", "bpp", *METRICS, "encode_s", "decode_fps")
"""The fields of Point that are compared."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One figure before and after; None where it is missing."""

    old: float | None
    new: float | None

    @property
    def difference(self) -> float | None:
        """How much was added, where both are there."""
        return None if self.old is None or self.new is None else self.new - self.old


@dataclass(frozen=True, slots=True, kw_only=True)
class PointChange:
    """A point of a codec, which its quality parameter identifies."""

    codec: str
    q: float
    state: str
    """"same" (bytes and quality are equal), "changed", "failed" (only after), "repaired" (failed
    only before), "still failed", "new" or "missing"."""
    figures: dict[str, Change]
    """Those of FIGURES that either side has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BDChange:
    """A Bjontegaard difference in rate."""

    codec: str
    anchor: str
    metric: str
    method: str
    state: str
    """"same", "changed", "new" or "missing"."""
    rate_percent: Change


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Everything that two benches say about each other."""

    notes: tuple[str, ...]
    """What limits the comparison, such as another machine or other settings."""
    points: tuple[PointChange, ...]
    bd: tuple[BDChange, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def compare_results(old: BenchResults, new: BenchResults) -> Comparison:
    """Return what changed from `old` to `new`, codec by codec and point by point.

    Raises:
        UsageError: the benches are of different frames.
    """
    if old.source.frames_sha256 != new.source.frames_sha256:
        raise UsageError(
            f"the benches are of different frames ({old.source.file} and {new.source.file}); "
            "compare two of the same frames"
        )
    return Comparison(
        notes=tuple(_notes(old, new)), points=tuple(_points(old, new)), bd=tuple(_bd(old, new))
    )


def _notes(old: BenchResults, new: BenchResults) -> Iterator[str]:
    for what, before, after in (
        ("CPU", old.machine.cpu, new.machine.cpu),
        ("number of threads", str(old.machine.n_threads), str(new.machine.n_threads)),
        ("device", old.machine.device, new.machine.device),
    ):
        if before != after:
            yield f"the {what} changed, and times with it: {before} -> {after}"
    parameters = {codec.name: codec.parameters for codec in old.codecs}
    for codec in new.codecs:
        before = parameters.get(codec.name, codec.parameters)
        if before != codec.parameters:
            yield f"settings of {codec.name} changed: {before} -> {codec.parameters}"


def _points(old: BenchResults, new: BenchResults) -> Iterator[PointChange]:
    before, after = (
        {(codec.name, point.q): point for codec in results.codecs for point in codec.points}
        for results in (old, new)
    )
    for (codec, q), earlier, later in _pairs(before, after):
        figures = {
            name: Change(old=getattr(earlier, name, None), new=getattr(later, name, None))
            for name in FIGURES
        }
        known = {
            name: change
            for name, change in figures.items()
            if change.old is not None or change.new is not None
        }
        yield PointChange(codec=codec, q=q, state=_state(earlier, later), figures=known)


def _state(old: Point | None, new: Point | None) -> str:
    if old is None or new is None:
        return "new" if old is None else "missing"
    good = (old.status == "ok", new.status == "ok")
    if good != (True, True):
        return {(True, False): "failed", (False, True): "repaired"}.get(good, "still failed")
    names = ("n_bytes", "bpp", *METRICS)
    same = all(getattr(old, name) == getattr(new, name) for name in names)
    return "same" if same else "changed"


def _bd(old: BenchResults, new: BenchResults) -> Iterator[BDChange]:
    before, after = (
        {(bd.codec, bd.anchor, bd.metric, bd.method): bd.rate_percent for bd in results.bd}
        for results in (old, new)
    )
    for key, earlier, later in _pairs(before, after):
        codec, anchor, metric, method = key
        if key not in before or key not in after:
            state = "new" if key not in before else "missing"
        else:
            state = "same" if earlier == later else "changed"
        yield BDChange(
            codec=codec, anchor=anchor, metric=metric, method=method, state=state,
            rate_percent=Change(old=earlier, new=later),
        )  # fmt: skip


K = TypeVar("K")


def _pairs(old: Mapping[K, T], new: Mapping[K, T]) -> Iterator[tuple[K, T | None, T | None]]:
    """Yield every key with both its values: those of `new` in their order, then the lost ones."""
    for key in dict.fromkeys((*new, *old)):
        yield key, old.get(key), new.get(key)
