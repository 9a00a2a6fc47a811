"""A panel as inline SVG: coloured by the page's style sheet, with the values in its elements."""

from __future__ import annotations

from collections.abc import Sequence

from nvcodec.bench.report.markup import Markup, element, join
from nvcodec.bench.report.panels import Panel, Series
from nvcodec.bench.report.scale import Scale, fit_scale, tick_text

WIDTH, HEIGHT = 420, 290
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 10, 40
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0z",
    "M-3.6-3.6h7.2v7.2h-7.2z",
    "M0-4.8L4.6 3.6H-4.6z",
    "M0-5.2L5.2 0L0 5.2L-5.2 0z",
    "M0 4.8L4.6-3.6H-4.6z",
    "M0-4.8L4.6-1.5L2.8 3.9H-2.8L-4.6-1.5z",
    "M-1.5-4.4h3v2.9h2.9v3h-2.9v2.9h-3v-2.9h-2.9v-3h2.9z",
    "M-4.6-2.4h9.2v4.8h-9.2z",
)
"""Outlines around the origin: circle, square, triangles, diamond, pentagon, cross, bar."""


def swatch(series: Series) -> Markup:
    """Return the piece of line and the marker that stand for a series in the legend."""
    line = element("path", class_="line", d="M0 7H30")
    return element(
        "svg", element("g", line, _marker(series, 15, 7), class_=_classes(series)),
        viewBox="0 0 30 14", width=30, height=14, aria_hidden="true",
    )  # fmt: skip


def svg_chart(panel: Panel, *, log_x: bool) -> Markup:
    """Return the chart of a panel; `log_x` asks for a logarithmic horizontal axis."""
    points = [point for series in panel.series for point in series.points]
    x = fit_scale([point.x for point in points], log=log_x, whole=panel.by_frame)
    y = fit_scale([point.y for point in points], log=False)
    # The first codec is drawn last, above the others.
    drawn = [_series(series, x, y, panel.by_frame) for series in reversed(panel.series)]
    # What the script needs to tell the frame under the pointer.
    frames = {
        "data_low": f"{x.low:.6g}", "data_high": f"{x.high:.6g}",
        "data_left": f"{_LEFT}", "data_width": f"{WIDTH - _LEFT - _RIGHT}",
    } if panel.by_frame else {}  # fmt: skip
    return element(
        "svg", _grid(panel, x, y), *drawn, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img",
        class_="chart by-frame" if panel.by_frame else "chart", aria_label=_description(panel),
        **frames,
    )  # fmt: skip


def _description(panel: Panel) -> str:
    names = ", ".join(series.name for series in panel.series)
    title = f"{panel.title}: " if panel.title else ""
    return f"{title}{panel.y_label} against {panel.x_label} for {names}"


def _classes(series: Series) -> str:
    style = series.style
    more = ("" if style.filled else " open") + (" ours" if style.ours else "")
    return f"series c{style.color} v{style.variant}{more}"


def _at_x(x: Scale, value: float) -> float:
    return _LEFT + x(value) * (WIDTH - _LEFT - _RIGHT)


def _at_y(y: Scale, value: float) -> float:
    return HEIGHT - _BOTTOM - y(value) * (HEIGHT - _TOP - _BOTTOM)


def _grid(panel: Panel, x: Scale, y: Scale) -> Markup:
    bottom, right = HEIGHT - _BOTTOM, WIDTH - _RIGHT
    pieces: list[Markup] = []
    for value in x.ticks():
        at = _at_x(x, value)
        pieces.append(element("path", class_="grid", d=f"M{at:.1f} {_TOP}V{bottom}"))
        pieces.append(element("text", tick_text(value), x=at, y=bottom + 15, class_="x"))
    for value in y.ticks():
        at = _at_y(y, value)
        pieces.append(element("path", class_="grid", d=f"M{_LEFT} {at:.1f}H{right}"))
        pieces.append(element("text", tick_text(value), x=_LEFT - 6, y=at + 3.5, class_="y"))
    pieces.append(element("path", class_="axis", d=f"M{_LEFT} {_TOP}V{bottom}H{right}"))
    label = element("text", panel.x_label, x=(_LEFT + right) / 2, y=HEIGHT - 6, class_="x label")
    return element("g", *pieces, label)


def _series(series: Series, x: Scale, y: Scale, by_frame: bool) -> Markup:
    at = [(_at_x(x, point.x), _at_y(y, point.y)) for point in series.points]
    children: list[Markup] = []
    if len(at) > 1:
        line = "M" + "L".join(f"{across:.1f} {down:.1f}" for across, down in at)
        children.append(element("path", class_="line", d=line))
    values: dict[str, str] = {}
    if by_frame:
        values["data_first"] = f"{series.points[0].x:g}"
        values["data_values"] = ",".join(f"{point.y:.2f}" for point in series.points)
    else:
        for point, (across, down) in zip(series.points, at, strict=True):
            children.append(_marker(series, across, down, point.text))
    return element(
        "g", *children, class_=_classes(series), data_codec=series.codec, data_name=series.name,
        **values,
    )  # fmt: skip


def _marker(series: Series, across: float, down: float, text: str | None = None) -> Markup:
    shape = element("path", d=_MARKERS[series.style.marker])
    if text is None:
        return element("g", shape, class_="marker", transform=f"translate({across:.1f} {down:.1f})")
    # A finger needs a larger target than the marker.
    target = element("circle", r=11, class_="target")
    return element(
        "g", element("title", text), target, shape, class_="marker",
        transform=f"translate({across:.1f} {down:.1f})",
    )  # fmt: skip


def legend(series: Sequence[Series]) -> Markup:
    """Return the buttons that name the codecs and show or hide their curves."""
    buttons = [
        element(
            "button", swatch(one), element("span", one.name),
            element("small", one.note) if one.note else None,
            type="button", aria_pressed="true", data_codec=one.codec,
        )
        for one in series
    ]  # fmt: skip
    return element("div", join(*buttons), class_="legend", role="group", aria_label="Codecs shown")
