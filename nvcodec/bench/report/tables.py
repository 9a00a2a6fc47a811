"""The tables of the report as text, for the page and for Markdown, and results.csv."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, fields

from nvcodec.bench.report.numbers import METRIC_NAMES, METRIC_UNITS, NONE, signed, value_text
from nvcodec.bench.report.panels import MARKED_KINDS, is_main
from nvcodec.bench.report.words import KIND_WORDS, failure_reason
from nvcodec.bench.results import BD, BenchResults, CodecResult, Point


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column; `code` is text to be copied literally."""

    name: str
    numeric: bool = False
    code: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row; rows of one group follow each other."""

    group: str = ""
    cells: tuple[str, ...]
    """As many as there are columns, or only the first ones where `note` stands for the rest."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table; `group` names what the groups of its rows are, empty where there are none."""

    key: str
    title: str
    group: str = ""
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]


_POINT_COLUMNS = (
    ("q", "q"),
    ("n_bytes", "bytes"),
    ("bpp", "bpp"),
    *METRIC_NAMES.items(),
    ("psnr_rgb_of_mean_mse_db", "PSNR-RGB of mean MSE"),
    ("encode_s", "encode (s)"),
    ("decode_fps", "decode (frames/s)"),
    ("decode_threads", "decode threads"),
    ("encode_peak_memory_bytes", "encode memory (MiB)"),
    ("peak_memory_bytes", "decode memory (MiB)"),
    ("n_params", "parameters"),
    ("mac_per_pixel", "MAC/pixel"),
)


def point_table(results: BenchResults) -> Table:
    """Return every point with every value; columns that nothing fills are left out."""
    points = [point for codec in results.codecs for point in codec.points]
    shown = [
        (field, name)
        for field, name in _POINT_COLUMNS
        if field == "q" or any(getattr(point, field) is not None for point in points)
    ]
    columns = [Column(name=name, numeric=True) for _, name in shown]
    if any(point.from_cache for point in points):
        columns.append(Column(name="remark"))
    rows = []
    for codec in results.codecs:
        for point in codec.points:
            if point.status == "ok":
                cells = [_cell(field, point) for field, _ in shown]
                cells.append("cached" if point.from_cache else "")
                rows.append(Row(group=_title(codec), cells=tuple(cells[: len(columns)])))
            else:
                note = f"failed: {failure_reason(point.reason)}"
                rows.append(Row(group=_title(codec), cells=(_cell("q", point),), note=note))
    return Table(
        key="points", title="All points", group="codec", columns=tuple(columns), rows=tuple(rows)
    )


def _title(codec: CodecResult) -> str:
    return f"{codec.name} ({codec.kind})" if codec.kind in MARKED_KINDS else codec.name


def _cell(field: str, point: Point) -> str:
    value = getattr(point, field)
    if value is not None and field.endswith("memory_bytes"):
        return f"{value / 2**20:,.0f}"
    return value_text(field, value)


def summary_table(results: BenchResults) -> Table:
    """Return the main BD-rate of every codec that has one against every anchor."""
    found = {(bd.codec, bd.anchor): bd for bd in results.bd if is_main(bd)}
    codecs = dict.fromkeys(codec for codec, _ in found)
    rows = [
        Row(cells=(anchor, *(_summary(found.get((codec, anchor))) for codec in codecs)))
        for anchor in dict.fromkeys(anchor for _, anchor in found)
    ]
    columns = (Column(name="against"), *(Column(name=codec) for codec in codecs))
    return Table(key="summary", title="In short", columns=columns, rows=tuple(rows))


def _summary(bd: BD | None) -> str:
    if bd is None:
        return NONE
    if bd.rate_percent is None:
        return f"none: {failure_reason(bd.error)}"
    return f"{signed(bd.rate_percent, 1, ' %')} ({_overlap(bd)})"


def _overlap(bd: BD) -> str:
    """Return the interval of quality over which the curves were compared."""
    if bd.low is None or bd.high is None:
        return NONE
    low, high = (value_text(bd.metric, value) for value in (bd.low, bd.high))
    return f"{low} to {high} {METRIC_UNITS.get(bd.metric, '')}".strip()


def bd_table(results: BenchResults) -> Table:
    """Return every Bjontegaard difference, and the reason where there is none."""
    pairs: dict[tuple[str, str], dict[str, list[BD]]] = {}
    for bd in results.bd:
        pairs.setdefault((bd.codec, bd.anchor), {}).setdefault(bd.metric, []).append(bd)
    rows = []
    for (codec, anchor), metrics in pairs.items():
        group = f"{codec} against {anchor}"
        reasons = {bd.error for bds in metrics.values() for bd in bds}
        if len(metrics) > 1 and len(reasons) == 1 and None not in reasons:
            note = f"none: {failure_reason(reasons.pop())}"
            rows.append(Row(group=group, cells=("all metrics",), note=note))
        else:
            rows += [_bd_row(group, metric, bds) for metric, bds in metrics.items()]
    columns = (
        Column(name="metric"),
        Column(name="BD-rate, pchip", numeric=True),
        Column(name="BD-rate, akima", numeric=True),
        Column(name="mean difference", numeric=True),
        Column(name="overlap", numeric=True),
    )
    return Table(
        key="bd", title="Bjontegaard differences", group="pair", columns=columns, rows=tuple(rows)
    )


def _bd_row(group: str, metric: str, bds: list[BD]) -> Row:
    name = METRIC_NAMES.get(metric, metric)
    good = {bd.method: bd for bd in bds if bd.rate_percent is not None}
    if not good:
        reasons = dict.fromkeys(failure_reason(bd.error) for bd in bds)
        return Row(group=group, cells=(name,), note=f"none: {' '.join(reasons)}")
    first = next(iter(good.values()))
    rates = [good[m].rate_percent if m in good else None for m in ("pchip", "akima")]
    unit = METRIC_UNITS.get(metric, "")
    quality = signed(first.psnr_db, 4 if metric == "ms_ssim" else 2, f" {unit}" if unit else "")
    cells = (name, *(signed(rate, 1, " %") for rate in rates), quality, _overlap(first))
    return Row(group=group, cells=cells)


def settings_table(results: BenchResults) -> Table:
    """Return the exact settings and the state of every codec."""
    rows = [
        Row(
            cells=(
                codec.name,
                KIND_WORDS.get(codec.kind, codec.kind),
                codec.status if codec.status == "ok" else f"{codec.status}: {codec.reason}",
                codec.parameters,
            )
        )
        for codec in results.codecs
    ]
    columns = (
        Column(name="codec"),
        Column(name="kind"),
        Column(name="state"),
        Column(name="settings; {q} is the quality parameter", code=True),
    )
    return Table(key="settings", title="Settings", columns=columns, rows=tuple(rows))


def results_csv(results: BenchResults) -> str:
    """Return one row for each point: codec, kind, settings and every scalar value, unrounded."""
    names = [item.name for item in fields(Point) if item.name != "psnr_rgb_per_frame_db"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["codec", "kind", "parameters", *names])
    for codec in results.codecs:
        for point in codec.points:
            values = [getattr(point, name) for name in names]
            writer.writerow([codec.name, codec.kind, codec.parameters, *values])
    return out.getvalue()
