"""The report of a bench: a page, a Markdown text, a table for other programs and plots."""

from __future__ import annotations

from pathlib import Path

from nvcodec import storage
from nvcodec.bench.report.groups import rate_groups
from nvcodec.bench.report.markdown import markdown_report
from nvcodec.bench.report.page import html_page
from nvcodec.bench.report.panels import cost_panels, frame_panels, rd_panels
from nvcodec.bench.report.plots import write_plots
from nvcodec.bench.report.tables import results_csv
from nvcodec.bench.results import load_results


def write_report(folder: Path, *, log_bpp: bool = False) -> list[Path]:
    """Write the report of a folder's results.json into that folder; return the files' paths.

    report.html stands alone; report.md shows the plots beside it; results.csv has one row a point.

    Args:
        folder: Holds results.json and the PNGs that it names.
        log_bpp: Plots have a logarithmic axis for the rate; the page offers both.

    Raises:
        InputError: results.json is missing or damaged.
        ResourceError: a file cannot be written.
    """
    results = load_results(folder)
    groups = rate_groups(results)
    curves = rd_panels(results)
    others = [*cost_panels(results), *frame_panels(results, groups)]
    texts = {
        "report.html": html_page(folder, results, groups),
        "report.md": markdown_report(results, [*curves, *others]),
        "results.csv": results_csv(results),
    }
    for name, text in texts.items():
        storage.write_atomic(folder / name, text.encode())
    plots = write_plots(folder, curves, log_x=log_bpp) + write_plots(folder, others)
    return [*(folder / name for name in texts), *plots]
