"""Plots for papers: one SVG and one PNG for each panel, drawn by matplotlib off screen."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from nvcodec import storage
from nvcodec.bench.report.panels import Panel, Series, distinct_series
from nvcodec.bench.report.scale import Scale, fit_scale, tick_text

_COLORS = ("#d1490b", "#0b6cb0", "#00805e", "#a8528e", "#8c6a00", "#4b5a8c", "#5c5c5c")
_MARKERS = ("o", "s", "^", "D", "v", "p", "P", "X")
_DASHES: tuple[tuple[float, ...], ...] = ((), (5, 2), (1, 1.5), (6, 2, 1, 2), (1, 4))
_INCHES = (4.6, 3.3)
_DPI = 200
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.usetex": False,
    "text.parse_math": False,
    "axes.linewidth": 0.6,
    "svg.hashsalt": "nvcodec",
    "svg.fonttype": "path",
    "path.simplify": True,
}
"""Given explicitly, so that the user's matplotlibrc does not change the plots."""


def write_plots(folder: Path, panels: list[Panel], *, log_x: bool | None = None) -> list[Path]:
    """Write KEY.svg and KEY.png of each panel; `log_x` overrides the panels' own axis.

    matplotlib's settings and its backend are as before afterwards.
    """
    paths = []
    for panel in panels:
        with rc_context(_STYLE):
            figure = draw(panel, log_x=panel.log_x if log_x is None else log_x)
            for suffix in ("svg", "png"):
                out = io.BytesIO()
                metadata = {"Date": None} if suffix == "svg" else {"Software": None}
                figure.savefig(out, format=suffix, dpi=_DPI, metadata=metadata, bbox_inches="tight")
                path = folder / f"{panel.key}.{suffix}"
                storage.write_atomic(path, out.getvalue())
                paths.append(path)
    return paths


def draw(panel: Panel, *, log_x: bool) -> Figure:
    """Return the figure of a panel."""
    figure = Figure(figsize=_INCHES, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    points = [point for series in panel.series for point in series.points]
    x = fit_scale([point.x for point in points], log=log_x, whole=panel.by_frame)
    y = fit_scale([point.y for point in points], log=False)
    _set_axes(axes, panel, x, y)
    for series in panel.series:
        axes.add_line(_line(series, panel.by_frame))
    names = distinct_series([panel])
    legend = figure.legend(
        [_line(series, panel.by_frame, empty=True) for series in names],
        [f"{number}" for number, _ in enumerate(names)],
        loc="outside lower center", ncols=_columns(names), frameon=False, fontsize=7.5,
        handlelength=2.6,
    )  # fmt: skip
    for text, series in zip(legend.get_texts(), names, strict=True):
        # As labels, names that begin with _ would be left out.
        _set_text(text, _label(series))
    return figure


def _label(series: Series) -> str:
    return f"{series.name} ({series.note})" if series.note else series.name


def _columns(names: list[Series]) -> int:
    """Return how many columns of the legend are about as wide as the plot."""
    longest = max(len(_label(series)) for series in names)
    return max(1, min(3, len(names), 72 // (longest + 8)))


def _set_axes(axes: Axes, panel: Panel, x: Scale, y: Scale) -> None:
    axes.set_xscale("log" if x.log else "linear")
    axes.set_xlim(x.low, x.high)
    axes.set_ylim(y.low, y.high)
    for axis, scale in ((axes.xaxis, x), (axes.yaxis, y)):
        axis.set_major_locator(FixedLocator(scale.ticks()))
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))
    _set_text(axes.xaxis.label, panel.x_label)
    _set_text(axes.yaxis.label, panel.y_label)
    _set_text(axes.title, panel.title)
    axes.title.set_fontsize(8.5)
    axes.grid(visible=True, color="#e3e5e8", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(length=2.5, width=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _line(series: Series, by_frame: bool, *, empty: bool = False) -> Line2D:
    """Return the curve of a series; an empty one stands for it in the legend."""
    style = series.style
    color = _COLORS[style.color]
    width = (1.1 if by_frame else 1.7) if style.ours else (0.7 if by_frame else 1.0)
    line = Line2D(
        [] if empty else [point.x for point in series.points],
        [] if empty else [point.y for point in series.points],
        color=color, linewidth=width,
        marker="" if by_frame else _MARKERS[style.marker], markersize=4.2,
        markerfacecolor=color if style.filled else "white", markeredgecolor=color,
        markeredgewidth=0.9, zorder=4 if style.ours else 3,
    )  # fmt: skip
    if _DASHES[style.variant]:
        line.set_dashes(_DASHES[style.variant])
    return line


def _set_text(text: Text, content: str) -> None:
    """Set a text in the letters that the font has for sure."""
    printable = "".join(c if c.isprintable() else " " for c in content)
    text.set_text(printable.encode("latin-1", "replace").decode("latin-1"))
