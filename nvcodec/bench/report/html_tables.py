"""The tables of the report as HTML."""

from __future__ import annotations

from nvcodec.bench.report.markup import Markup, element
from nvcodec.bench.report.tables import Row, Table


def html_table(table: Table, title: str) -> Markup:
    """Return a table that scrolls sideways in its frame."""
    head = element(
        "tr",
        *(
            element("th", column.name, scope="col", class_="number" if column.numeric else None)
            for column in table.columns
        ),
    )
    bodies = []
    groups: dict[str, list[Row]] = {}
    for row in table.rows:
        groups.setdefault(row.group, []).append(row)
    for group, rows in groups.items():
        name = element("th", element("span", group), scope="rowgroup", colspan=len(table.columns))
        heading = element("tr", name) if group else None
        lines = [element("tr", *_cells(table, row)) for row in rows]
        bodies.append(element("tbody", heading, *lines))
    content = element(
        "table", element("thead", head), *bodies, class_=None if table.group else "ungrouped"
    )
    return element("div", content, class_="scroll", tabindex="0", role="region", aria_label=title)


def _cells(table: Table, row: Row) -> list[Markup]:
    found = []
    for i, (column, text) in enumerate(zip(table.columns, row.cells, strict=False)):
        content = element("code", text) if column.code and text else text
        kind = "number" if column.numeric else column.name if column.name == "remark" else None
        if i == 0:
            found.append(element("th", content, scope="row", class_=kind or "name"))
        else:
            found.append(element("td", content, class_=kind))
    if row.note:
        n_left = len(table.columns) - len(row.cells)
        found.append(element("td", element("span", row.note), colspan=n_left, class_="note"))
    return found
