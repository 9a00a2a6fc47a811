"""report.html: one file that shows everything and asks for nothing outside itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from nvcodec.bench.report import words
from nvcodec.bench.report.chart import legend, svg_chart
from nvcodec.bench.report.groups import RateGroup
from nvcodec.bench.report.html_tables import html_table
from nvcodec.bench.report.markup import Markup, element, join
from nvcodec.bench.report.panels import (
    Panel,
    bd_ladder,
    cost_panels,
    distinct_series,
    frame_panels,
    rd_panels,
)
from nvcodec.bench.report.samples import find_samples
from nvcodec.bench.report.tables import bd_table, point_table, settings_table, summary_table
from nvcodec.bench.report.viewer import choice, viewer
from nvcodec.bench.results import BenchResults


def html_page(folder: Path, results: BenchResults, groups: list[RateGroup]) -> str:
    """Return the page; sample pictures are read from the folder."""
    style, script = (_resource(name) for name in ("page.css", "page.js"))
    sections = [
        section
        for section in (
            _rd_section(results),
            _cost_section(results),
            _frame_section(results, groups),
            _sample_section(folder, results, groups),
            _table_section(results),
            _method_section(results),
        )
        if section is not None
    ]
    title = f"Rate-distortion bench: {results.source.file}"
    # Nothing but this very script and style may run, whatever else got into the page.
    policy = (
        f"default-src 'none'; img-src data:; style-src '{_digest(style)}'; "
        f"script-src '{_digest(script)}'; base-uri 'none'; form-action 'none'"
    )
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", title),
        element("link", rel="icon", href="data:,"),
        element("style", Markup(style)),
    )
    main = element("main", *(section for _, _, section in sections))
    body = element(
        "body", _header(results, [(key, name) for key, name, _ in sections]), main,
        element("script", Markup(script)),
    )  # fmt: skip
    return f"<!DOCTYPE html>\n{element('html', head, body, lang='en')}\n"


Section = tuple[str, str, Markup]
"""Anchor, title, content."""


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


def _section(key: str, title: str, *children: str | None) -> Section:
    heading = element("h2", title, id=f"{key}-title")
    content = element("section", heading, *children, id=key, aria_labelledby=f"{key}-title")
    return key, title, content


def _list(items: Sequence[str]) -> Markup:
    return element("ul", *(element("li", item) for item in items))


def _header(results: BenchResults, contents: list[tuple[str, str]]) -> Markup:
    source = results.source
    n_points = sum(len(codec.good_points) for codec in results.codecs)
    n_codecs = sum(bool(codec.good_points) for codec in results.codecs)
    subtitle = (
        f"{source.width} \u00d7 {source.height}, {source.n_frames} frames \u00b7 "
        f"{n_codecs} codecs, {n_points} points \u00b7 {results.started[:10]}"
    )
    summary, cautions = summary_table(results), words.cautions(results)
    found = join(
        element("h2", summary.title),
        element("p", words.SUMMARY),
        html_table(summary, summary.title),
    )
    warned = element(
        "aside", element("h2", "Before you read the figures", id="cautions"), _list(cautions),
        class_="cautions", aria_labelledby="cautions",
    )  # fmt: skip
    links = [element("li", element("a", name, href=f"#{key}")) for key, name in contents]
    return element(
        "header",
        element("p", "Rate-distortion bench", class_="kicker"),
        element("h1", source.file),
        element("p", subtitle, class_="subtitle"),
        element("nav", element("ul", *links), aria_label="Contents"),
        found if summary.rows else None,
        warned if cautions else None,
    )


def _figures(panels: list[Panel], *, both_axes: bool = False) -> Markup:
    figures = []
    for letter, panel in enumerate(panels):
        caption = element(
            "figcaption", f"({_letter(letter)}) {panel.title or panel.y_label} ",
            element("small", panel.y_label) if panel.title else None,
        )  # fmt: skip
        if both_axes:
            charts = [
                element("div", svg_chart(panel, log_x=log), class_=f"{name}-x")
                for name, log in (("log", True), ("linear", False))
            ]
        else:
            charts = [svg_chart(panel, log_x=panel.log_x)]
        figures.append(element("figure", caption, *charts, id=f"chart-{panel.key}"))
    return element("div", *figures, class_="panels")


def _legend(panels: list[Panel]) -> Markup:
    return legend(distinct_series(panels))


def _caption(text: str) -> Markup:
    return element("p", text, class_="caption")


def _letter(number: int) -> str:
    return chr(ord("a") + number) if number < 26 else str(number + 1)


def _rd_section(results: BenchResults) -> Section | None:
    panels = rd_panels(results)
    if not panels:
        return None
    axis = choice("axis", "Axis of the rate", (("log", "logarithmic"), ("linear", "linear")))
    content = element(
        "div",
        element("div", axis, class_="controls"),
        _legend(panels),
        _figures(panels, both_axes=True),
        id="rd",
        data_axis="log",
    )
    return _section("curves", "Rate and distortion", content, _caption(words.CURVES))


def _cost_section(results: BenchResults) -> Section | None:
    panels = cost_panels(results)
    if not panels:
        return None
    ladder = bd_ladder(results)
    compared = ladder.percent if ladder else {}
    missing = [c.name for c in results.codecs if c.good_points and c.name not in compared]
    caption = words.cost_caption(ladder.reference if ladder else None, missing)
    return _section("cost", "Cost", _legend(panels), _figures(panels), _caption(caption))


def _frame_section(results: BenchResults, groups: list[RateGroup]) -> Section | None:
    panels = frame_panels(results, groups)
    if not panels:
        return None
    return _section(
        "frames", "Frame by frame", _legend(panels), _figures(panels), _caption(words.FRAMES)
    )


def _sample_section(folder: Path, results: BenchResults, groups: list[RateGroup]) -> Section | None:
    content = viewer(find_samples(folder, results, groups), groups)
    if content is None:
        return None
    text = words.samples_text(results.source)
    return _section("samples", "Side by side", element("p", text), content)


def _table_section(results: BenchResults) -> Section:
    tables = [
        t for t in (bd_table(results), point_table(results), settings_table(results)) if t.rows
    ]
    titles = [f"Table {number}. {table.title}" for number, table in enumerate(tables, 1)]
    return _section(
        "tables", "Tables",
        *(
            join(element("h3", title), html_table(table, title))
            for title, table in zip(titles, tables, strict=True)
        ),
    )  # fmt: skip


def _facts(facts: list[tuple[str, str]]) -> Markup:
    return element(
        "dl", *(join(element("dt", name), element("dd", value)) for name, value in facts)
    )


def _method_section(results: BenchResults) -> Section:
    return _section(
        "method",
        "How it was measured",
        element("p", words.DEFINITIONS),
        element("h3", "Source"),
        _facts(words.source_facts(results)),
        element("h3", "Machine and program"),
        _facts(words.run_facts(results)),
        element("h3", "Command"),
        element("pre", element("code", results.command)),
    )
