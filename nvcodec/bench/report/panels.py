"""What is plotted: the curves of a bench, sorted into panels, with one style for each codec."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import attrgetter

from nvcodec.bench.report.groups import RateGroup
from nvcodec.bench.report.numbers import METRIC_NAMES, METRIC_UNITS, value_text
from nvcodec.bench.results import BD, METRICS, BenchResults, CodecResult, Point
from nvcodec.metrics import PSNR_OF_EQUAL_DB

N_COLORS = 7
N_MARKERS = 8
N_VARIANTS = 5
MARKED_KINDS = ("imported", "published")

Value = Callable[[Point], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Style:
    """How a codec looks; all settings of one codec share colour and marker."""

    color: int
    """Below N_COLORS; 0 is nvcodec."""
    marker: int
    """Below N_MARKERS."""
    variant: int
    """Line pattern; below N_VARIANTS, of which the last is for published figures alone."""
    filled: bool
    """Whether the marker is."""
    ours: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlotPoint:
    """One marker; `text` is all that is known about it, in lines."""

    x: float
    y: float
    text: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One codec in one panel."""

    codec: int
    """Index in the results."""
    name: str
    note: str
    """One of MARKED_KINDS, or empty."""
    style: Style
    points: tuple[PlotPoint, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """One chart with its axes; it has at least one series, and every series a point."""

    key: str
    """Part of a file name."""
    title: str
    """What the labels of the axes do not say; often empty."""
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    log_x: bool = False
    by_frame: bool = False
    """x counts frames, and the curves have no markers."""


def styles(results: BenchResults) -> list[Style]:
    """Return the style of each codec; those whose names begin with the same word look related.

    Published figures are all in the last colour, grey; codecs without a point use up no colour.
    """
    families = {(False, "nvcodec"): 0}
    n_members: Counter[tuple[bool, str]] = Counter()
    found = []
    for codec in results.codecs:
        ours, published = codec.kind == "nvcodec", codec.kind == "published"
        family = (published, "nvcodec" if ours else codec.name.lower().partition(" ")[0])
        number = families.setdefault(family, len(families)) if codec.good_points else 0
        variant = N_VARIANTS - 1 if published else n_members[family] % (N_VARIANTS - 1)
        n_members[family] += 1
        # After the last colour comes that behind nvcodec's again, with another marker.
        color = number if number < N_COLORS - 1 else 1 + (number - 1) % (N_COLORS - 2)
        found.append(
            Style(
                color=N_COLORS - 1 if published else color,
                marker=number % N_MARKERS,
                variant=variant,
                filled=variant % 2 == 0 and not published,
                ours=ours,
            )
        )
    return found


def distinct_series(panels: list[Panel]) -> list[Series]:
    """Return one series for each codec that a panel shows, in the order of the results."""
    found = {series.codec: series for panel in panels for series in panel.series}
    return [found[index] for index in sorted(found)]


def rd_panels(results: BenchResults) -> list[Panel]:
    """Return one rate-distortion panel for each metric that any point has."""
    panels = []
    for metric in METRICS:
        unit = METRIC_UNITS[metric]
        panels += _panel(
            results, key=f"rd_{metric.removesuffix('_db')}", x_label="bits per pixel",
            y_label=METRIC_NAMES[metric] + (f" ({unit})" if unit else ""),
            x=attrgetter("bpp"), y=attrgetter(metric),
        )  # fmt: skip
    return panels


@dataclass(frozen=True, slots=True, kw_only=True)
class _Cost:
    key: str
    title: str
    label: str
    of: Value


_COSTS = (
    _Cost(
        key="encode", title="Encoding time", label="seconds for the clip", of=attrgetter("encode_s")
    ),
    _Cost(
        key="decode", title="Decoding speed", label="frames per second", of=attrgetter("decode_fps")
    ),
    _Cost(
        key="mac", title="Decoder complexity", label="multiply-accumulates per pixel",
        of=attrgetter("mac_per_pixel"),
    ),
)  # fmt: skip


def cost_panels(results: BenchResults) -> list[Panel]:
    """Return BD-rate against cost (one point a codec), then PSNR-RGB against cost (all points)."""
    panels: list[Panel] = []
    ladder = bd_ladder(results)
    if ladder is not None:
        for cost in _COSTS:
            panels += _bd_panel(results, ladder, cost)
    for cost in _COSTS:
        panels += _panel(
            results, key=f"{cost.key}_psnr", title=cost.title, x_label=cost.label,
            y_label="PSNR-RGB (dB)", x=cost.of, y=attrgetter("psnr_rgb_db"), log_x=True,
        )  # fmt: skip
    return panels


def is_main(bd: BD) -> bool:
    """Tell whether a difference is of the metric and method that stand for the rest."""
    return (bd.metric, bd.method) == ("psnr_rgb_db", "pchip")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ladder:
    """BD-rates of several codecs against one of them."""

    reference: str
    percent: dict[str, float]
    """By codec; 0 for the reference."""


def bd_ladder(results: BenchResults) -> Ladder | None:
    """Return the BD-rates against the codec that most others were compared with, in any direction.

    Exchanging codec and anchor inverts the mean ratio of the rates: -50 % becomes +100 %.
    """
    found: dict[str, dict[str, float]] = {}
    for bd in results.bd:
        if bd.rate_percent is not None and bd.rate_percent > -100 and is_main(bd):
            ratio = 1 + bd.rate_percent / 100
            found.setdefault(bd.anchor, {})[bd.codec] = 100 * (ratio - 1)
            found.setdefault(bd.codec, {})[bd.anchor] = 100 * (1 / ratio - 1)
    if not found:
        return None
    reference = max(found, key=lambda name: len(found[name]))
    return Ladder(reference=reference, percent={reference: 0.0, **found[reference]})


def frame_panels(results: BenchResults, groups: list[RateGroup]) -> list[Panel]:
    """Return the PSNR-RGB of every frame, one panel for each group of points of nearly one rate."""
    looks = styles(results)
    panels = []
    for number, group in enumerate(groups, 1):
        series = []
        for index, point in group.points.items():
            frames = enumerate(point.psnr_rgb_per_frame_db)
            # JSON has no infinity, which is the PSNR of a frame that equals the source's.
            points = [PlotPoint(x=i, y=PSNR_OF_EQUAL_DB if y is None else y) for i, y in frames]
            if points:
                series.append(_series(results, looks, index, points))
        if series:
            panels.append(
                Panel(
                    key=f"per_frame_{number}", title=f"About {group.bpp:.3g} bpp",
                    x_label="frame", y_label="PSNR-RGB (dB)", series=tuple(series), by_frame=True,
                )
            )  # fmt: skip
    return panels


def describe_point(codec: CodecResult, point: Point) -> str:
    """Return what is known about a point, in lines."""
    lines = [f"{codec.name}, q {point.q:g}", f"{value_text('bpp', point.bpp)} bpp"]
    for metric in METRICS:
        value = getattr(point, metric)
        if value is not None:
            unit = METRIC_UNITS[metric]
            lines.append(f"{METRIC_NAMES[metric]} {value_text(metric, value)} {unit}".rstrip())
    if point.encode_s is not None:
        lines.append(f"encoded in {value_text('encode_s', point.encode_s)} s")
    if point.decode_fps is not None:
        lines.append(f"decodes at {value_text('decode_fps', point.decode_fps)} frames/s")
    return "\n".join(lines)


def _series(
    results: BenchResults, looks: list[Style], index: int, points: list[PlotPoint]
) -> Series:
    codec = results.codecs[index]
    return Series(
        codec=index,
        name=codec.name,
        note=codec.kind if codec.kind in MARKED_KINDS else "",
        style=looks[index],
        points=tuple(points),
    )


def _points(codec: CodecResult, x: Value, y: Value, log_x: bool) -> Iterator[PlotPoint]:
    for point in codec.good_points:
        across, up = x(point), y(point)
        if across is None or up is None or not math.isfinite(across) or not math.isfinite(up):
            continue
        if across > 0 or not log_x:
            yield PlotPoint(x=across, y=up, text=describe_point(codec, point))


def _panel(
    results: BenchResults, *, key: str, x_label: str, y_label: str, x: Value, y: Value,
    title: str = "", log_x: bool = False,
) -> list[Panel]:  # fmt: skip
    """Return a panel of all points that have both values; none where no point has."""
    looks = styles(results)
    series = [
        _series(results, looks, i, points)
        for i, codec in enumerate(results.codecs)
        if (points := list(_points(codec, x, y, log_x)))
    ]
    if not series:
        return []
    return [
        Panel(
            key=key, title=title, x_label=x_label, y_label=y_label, series=tuple(series),
            log_x=log_x,
        )
    ]  # fmt: skip


def _bd_panel(results: BenchResults, ladder: Ladder, cost: _Cost) -> list[Panel]:
    """Return a panel of BD-rate against a codec's mean cost; none where it compares nothing."""
    looks = styles(results)
    series = []
    for i, codec in enumerate(results.codecs):
        costs = [c for point in codec.good_points if (c := cost.of(point)) is not None and c > 0]
        if codec.name not in ladder.percent or not costs:
            continue
        mean = math.exp(sum(map(math.log, costs)) / len(costs))
        up = ladder.percent[codec.name]
        lines = [codec.name, f"BD-rate {up:+.1f} %", f"{mean:.4g} {cost.label}"]
        point = PlotPoint(x=mean, y=up, text="\n".join(lines))
        series.append(_series(results, looks, i, [point]))
    if len(series) < 2:
        return []
    return [
        Panel(
            key=f"{cost.key}_bd", title=cost.title, x_label=cost.label,
            y_label=f"BD-rate against {ladder.reference} (%)", series=tuple(series), log_x=True,
        )
    ]  # fmt: skip
