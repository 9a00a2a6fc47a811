"""report.md: the tables, plots and cautions of a bench as Markdown."""

from __future__ import annotations

import re
from collections.abc import Sequence

from nvcodec.bench.report import words
from nvcodec.bench.report.panels import Panel
from nvcodec.bench.report.tables import (
    Column,
    Row,
    Table,
    bd_table,
    point_table,
    settings_table,
    summary_table,
)
from nvcodec.bench.results import BenchResults

_SPECIAL = re.compile(r"([\\`*_\[\]<>#|~$&])")
_LIST = re.compile(r"^(\d*)([-+=.)])(?=[\s=-]|$)")


def plain(text: str) -> str:
    """Return text whose characters mean only themselves in Markdown, on one line."""
    return _LIST.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", " ".join(text.split())))


def code_span(text: str) -> str:
    """Return text as code for a table's cell, on one line."""
    line = " ".join(text.split())
    fence = "`" * (_longest_run(line) + 1)
    edge = " " if "`" in line else ""
    # A table ends its cell at |, even within code.
    return f"{fence}{edge}{line}{edge}{fence}".replace("|", "\\|") if line else ""


def code_block(text: str) -> str:
    """Return text as a block of code."""
    fence = "`" * max(3, _longest_run(text) + 1)
    return f"{fence}\n{' '.join(text.split())}\n{fence}"


def _longest_run(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)


def markdown_report(results: BenchResults, panels: Sequence[Panel]) -> str:
    """Return the report; the plots of the panels lie beside it."""
    summary, cautions = summary_table(results), words.cautions(results)
    parts = [f"# Rate-distortion bench: {plain(results.source.file)}"]
    if summary.rows:
        parts += [plain(words.SUMMARY), _table(summary)]
    if cautions:
        parts += ["## Before you read the figures", _list(cautions)]
    plots = [_plot(panel) for panel in panels]
    if plots:
        parts += ["## Plots", "\n".join(plots)]
    for table in (bd_table(results), point_table(results), settings_table(results)):
        if table.rows:
            parts += [f"## {table.title}", _table(table)]
    parts += [
        "## How it was measured",
        plain(words.DEFINITIONS),
        _table(_facts(words.source_facts(results) + words.run_facts(results))),
        "Command:",
        code_block(results.command),
    ]
    return "\n\n".join(parts) + "\n"


def _plot(panel: Panel) -> str:
    title = f"{panel.title}: {panel.y_label}" if panel.title else panel.y_label
    return f"![{plain(title)}]({panel.key}.svg)"


def _list(items: Sequence[str]) -> str:
    return "\n".join(f"- {plain(item)}" for item in items)


def _facts(facts: Sequence[tuple[str, str]]) -> Table:
    columns = (Column(name="what"), Column(name="value"))
    rows = tuple(Row(cells=fact) for fact in facts)
    return Table(key="facts", title="", columns=columns, rows=rows)


def _table(table: Table) -> str:
    """Return a table whose first column is the group, where it has groups."""
    lead = [table.group] if table.group else []
    names = [*lead, *(column.name for column in table.columns)]
    rules = [*("---" for _ in lead), *("--:" if c.numeric else "---" for c in table.columns)]
    lines = [[plain(name) for name in names], rules]
    for row in table.rows:
        cells = [
            code_span(text) if column.code else plain(text)
            for column, text in zip(table.columns, row.cells, strict=False)
        ]
        if row.note:
            cells.append(plain(row.note))
        cells += [""] * (len(table.columns) - len(cells))
        lines.append([*(plain(row.group) for _ in lead), *cells])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
