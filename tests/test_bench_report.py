import base64
import csv
import hashlib
import math
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib
import numpy as np
import pytest
from bench_results import BPPS, N_FRAMES, bench_results, write_bench
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from nvcodec.bench.report import write_report
from nvcodec.bench.report.groups import rate_groups
from nvcodec.bench.report.markdown import code_block, code_span, markdown_report, plain
from nvcodec.bench.report.markup import element, escape
from nvcodec.bench.report.page import html_page
from nvcodec.bench.report.panels import bd_ladder, cost_panels, frame_panels, rd_panels, styles
from nvcodec.bench.report.plots import write_plots
from nvcodec.bench.report.scale import fit_scale
from nvcodec.bench.report.words import cautions
from nvcodec.bench.results import BD, CodecResult, Point
from nvcodec.errors import InputError
from nvcodec.video.reader import open_video
from nvcodec.video.sinks import PngEncoder

HOSTILE = (
    "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> $x_1$ _a_ `b`` | **c** \\\n"
    "# d [e](https://example.org) &lt; \x00\x1b \ud800 \u202e \U0001f600"
)


class Page(HTMLParser):
    """Collects elements, and checks that they are closed in order."""

    VOID = ("meta", "link", "img", "input")

    def __init__(self, text):
        super().__init__()
        self.elements = []
        self.texts = []
        self._open = []
        self.feed(text)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)

    def all(self, tag, **wanted):
        return [a for t, a in self.elements if t == tag and wanted.items() <= a.items()]

    @property
    def text(self):
        return " ".join(self.texts)


@pytest.fixture(scope="module")
def results():
    return bench_results()


@pytest.fixture(scope="module")
def written(tmp_path_factory, results):
    folder = write_bench(tmp_path_factory.mktemp("bench") / "out", results)
    return folder, write_report(folder)


@pytest.fixture(scope="module")
def page(written):
    return Page((written[0] / "report.html").read_text(encoding="utf-8"))


# Files


def test_files_of_the_report(written):
    folder, paths = written
    plots = ["rd_psnr_rgb", "rd_psnr_yuv", "rd_psnr_y", "rd_ms_ssim", "rd_xpsnr"]
    plots += ["encode_bd", "decode_bd", "encode_psnr", "decode_psnr", "mac_psnr"]
    plots += [f"per_frame_{i}" for i in (1, 2, 3, 4)]
    names = ["report.html", "report.md", "results.csv"]
    names += [f"{plot}.{suffix}" for plot in plots for suffix in ("svg", "png")]
    assert [path.name for path in paths] == names
    assert {p.name for p in folder.iterdir()} == {*names, "results.json", "samples"}


def test_results_must_be_there(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        write_report(tmp_path)


def test_csv_has_every_point_unrounded(written, results):
    with open(written[0] / "results.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    points = [(codec, point) for codec in results.codecs for point in codec.points]
    assert len(rows) == len(points)
    for row, (codec, point) in zip(rows, points, strict=True):
        assert (row["codec"], row["parameters"]) == (codec.name, codec.parameters)
        assert row["status"] == point.status
        for name in ("bpp", "psnr_rgb_db", "encode_s"):
            value = getattr(point, name)
            assert row[name] == ("" if value is None else repr(value))


def test_empty_bench_is_reported(tmp_path, results):
    codecs = tuple(replace(codec, points=()) for codec in results.codecs)
    folder = write_bench(tmp_path / "out", replace(results, codecs=codecs, bd=()))
    names = [path.name for path in write_report(folder)]
    assert names == ["report.html", "report.md", "results.csv"]
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert not page.all("svg")
    assert "vvencapp was not found" in page.text


# The page


def test_page_stands_alone(written, page):
    text = (written[0] / "report.html").read_text(encoding="utf-8")
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "#").startswith(("data:", "#"))
    assert "@import" not in text
    assert "url(" not in text
    (policy,) = page.all("meta", **{"http-equiv": "Content-Security-Policy"})
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy["content"]
    assert not any("style" in attributes for _, attributes in page.elements)


def test_page_has_everything(page, results):
    for codec in results.codecs:
        assert codec.name in page.texts
        assert codec.parameters in page.text
        assert (codec.reason or "") in page.text
    for part in ("0.0220", "+25.0 %", "+24.5 %", "27.00 to 33.50 dB", "h264 at 0.15 bpp"):
        assert part in page.text
    for part in ("none: the curves do not overlap", "failed: memory does not suffice", "0123abc"):
        assert part in page.text
    for part in ("A CPU", results.command, results.source.frames_sha256, "torch 2.13.0"):
        assert part in page.text


def test_curves_of_the_page(page, results):
    measured = [i for i, codec in enumerate(results.codecs) if codec.good_points]
    shown = [a for a in page.all("g") if "data-codec" in a]
    assert {int(a["data-codec"]) for a in shown} == set(measured)
    charts = page.all("svg", role="img")
    assert len(charts) == 2 * 5 + 2 + 3 + 4
    assert all(chart["aria-label"] for chart in charts)
    by_frame = [a for a in shown if "data-values" in a]
    assert {len(a["data-values"].split(",")) for a in by_frame} == {N_FRAMES}


def test_pictures_have_texts_and_are_there_once(page, results):
    pictures = page.all("img")
    n_samples = sum(p.sample is not None for codec in results.codecs for p in codec.points)
    urls = {picture["src"] for picture in pictures}
    # The two best points of x265 are too far from every rate of ours.
    assert len(urls) == len(pictures) == 1 + n_samples - 3
    assert all(picture["alt"] for picture in pictures)
    assert all(url.startswith("data:image/png;base64,") for url in urls)


def test_nothing_outside_the_folder_is_shown(tmp_path, results):
    write_bench(tmp_path / "out", results)
    (tmp_path / "secret.png").write_bytes((tmp_path / "out/samples/source.png").read_bytes())
    (tmp_path / "out/samples/text.png").write_text("no picture")
    names = ["../secret.png", str(tmp_path / "secret.png"), "samples/text.png", "samples", "a\x00"]
    first = results.codecs[0]
    for name in names:
        point = replace(first.points[0], sample=name)
        shown = replace(results, codecs=(replace(first, points=(point,)),))
        assert not Page(html_page(tmp_path / "out", shown, rate_groups(shown))).all("img")


def test_large_pictures_are_cropped_to_their_centre(tmp_path, results):
    folder = write_bench(tmp_path / "out", results)
    rows, columns = np.mgrid[0:366, 0:700]
    frame = np.stack([rows % 256, columns % 256, (rows + columns) % 256], -1).astype(np.uint8)
    (folder / "samples/ours_0.png").write_bytes(PngEncoder(700, 366).encode(frame))
    source = replace(results.source, width=700, height=366)
    page = Page(html_page(folder, replace(results, source=source), rate_groups(results)))
    (url,) = [
        p["src"] for p in page.all("img") if p["data-codec"] == "0" and p["data-rates"] == "0"
    ]
    (tmp_path / "part.png").write_bytes(base64.b64decode(url.partition(",")[2]))
    with open_video(tmp_path / "part.png") as reader:
        assert np.array_equal(next(iter(reader)), frame[3:363, 30:670])
    assert "the central 640 \u00d7 360 pixels" in page.text


def test_text_of_files_is_no_markup(tmp_path, results):
    codecs = tuple(
        replace(
            codec, name=f"{codec.name} {HOSTILE}", parameters=HOSTILE, reason=HOSTILE,
            points=tuple(replace(p, reason=HOSTILE) for p in codec.points),
        )
        for codec in results.codecs
    )  # fmt: skip
    names = {codec.name: f"{codec.name} {HOSTILE}" for codec in results.codecs}
    bd = tuple(replace(b, codec=names[b.codec], anchor=names[b.anchor]) for b in results.bd)
    source = replace(results.source, file=HOSTILE, frame_rate="1/0", notes=(HOSTILE,))
    hostile = replace(
        results, codecs=codecs, bd=bd, command=HOSTILE, source=source, started=HOSTILE
    )
    groups = rate_groups(hostile)
    page = Page(html_page(tmp_path, hostile, groups))
    before = Page(html_page(tmp_path, results, rate_groups(results)))
    assert [t for t, _ in page.elements if t in ("script", "img", "iframe")] == ["script"]
    assert {k for _, a in page.elements for k in a} == {k for _, a in before.elements for k in a}
    assert page.text.count("<script>alert(1)</script>") > 20

    text = markdown_report(hostile, rd_panels(hostile))
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inline = [child for token in tokens for child in token.children or []]
    kinds = {token.type for token in [*tokens, *inline]}
    assert not kinds & {"html_block", "html_inline", "link_open", "em_open", "strong_open"}
    # Warnings (of glyphs, of formulas) are errors here.
    write_plots(tmp_path, [*rd_panels(hostile), *frame_panels(hostile, groups)][:1])


# Markup and Markdown


@given(st.text())
def test_html_gives_the_text_back(text):
    page = Page(element("p", text, title=text))
    (attributes,) = page.all("p")
    shown = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", text)
    assert "".join(page.texts) == attributes["title"] == shown
    assert escape(escape(text)) == escape(text)


@given(st.text(st.sampled_from("ab1 \t\n\\`*_{}[]<>()#+-=.!|~$&;:/\"'"), max_size=30))
def test_markdown_gives_the_text_back(text):
    line = " ".join(text.split())
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    tokens = parser.parse(plain(text))
    if line:
        assert [t.type for t in tokens] == ["paragraph_open", "inline", "paragraph_close"]
        assert "".join(child.content for child in tokens[1].children) == line
    (block,) = parser.parse(code_block(text))
    assert (block.type, block.content.strip()) == ("fence", line)
    table = parser.parse(f"| a | b |\n| --- | --- |\n| {code_span(text)} | b |\n")
    cells = [token for token in table if token.type == "inline"][2:]
    assert [child.content for child in cells[0].children] == ([line] if line else [])
    assert cells[1].content == "b"


def test_markdown_tables_are_whole(written, results):
    text = (written[0] / "report.md").read_text(encoding="utf-8")
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    assert sum(token.type == "table_open" for token in tokens) == 5
    n_columns = None
    for line in text.splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line))
        assert n_columns in (None, cells) or not line.startswith("|")
        n_columns = cells if line.startswith("|") else None
    for name in re.findall(r"!\[.*\]\((.*)\)", text):
        assert (written[0] / name).is_file()
    assert all(codec.name.replace("_", "\\_") in text for codec in results.codecs)


# What is shown


def test_cautions_name_every_weakness(results):
    found = "\n".join(cautions(results))
    for part in (
        "The source is lossy (h264 at 0.15 bpp)",
        "at or above the source's own rate: nvcodec hnerv, x264 medium, x265 slow, VTM.",
        "vvenc medium was not run: vvencapp was not found; give its path with --vvenc.",
        "svtav1 6 failed: libsvtav1 is not in this build.",
        "with times of another machine: VTM.",
        "for context only: HiNeRV (UVG).",
        "nvcodec hnerv failed at q 0.4: memory does not suffice.",
        "4 of 18 points come from an earlier run",
    ):
        assert part in found
    assert "threads" not in found
    quiet = replace(
        results, source=replace(results.source, lossy=False), codecs=results.codecs[2:3]
    )
    assert cautions(quiet) == []


def test_groups_hold_the_nearest_points(results):
    groups = rate_groups(results)
    assert [group.bpp for group in groups] == list(BPPS)
    for group in groups:
        for index, point in group.points.items():
            ratios = [abs(math.log(p.bpp / group.bpp)) for p in results.codecs[index].good_points]
            assert abs(math.log(point.bpp / group.bpp)) == min(ratios) <= math.log(1.5)
    assert [sorted(group.points) for group in groups] == [
        [0, 1, 3],
        [0, 1, 3],
        [0, 1, 3],
        [0, 1, 2, 3],
    ]


def test_ladder_is_the_same_from_both_ends(results):
    given = {"metric": "psnr_rgb_db", "method": "pchip"}
    names = ("a", "b", "c")
    down = [BD(codec="ours", anchor=name, rate_percent=100.0, **given) for name in names]
    up = [BD(codec=name, anchor="ours", rate_percent=-50.0, **given) for name in names]
    expected = {"ours": 0.0, "a": -50.0, "b": -50.0, "c": -50.0}
    for bd in (down, up):
        ladder = bd_ladder(replace(results, bd=tuple(bd)))
        assert (ladder.reference, ladder.percent) == ("ours", expected)
    assert bd_ladder(replace(results, bd=())) is None


def test_styles_tell_codecs_apart(results):
    names = ["x264 medium", "x264 slow", "x264 fast", "x265", "svtav1 6", "vp9", "vtm ra", "vtm ld"]
    given = {"parameters": "", "points": (Point(q=1),)}
    codecs = [CodecResult(name=name, kind="anchor", **given) for name in names]
    codecs.append(CodecResult(name="x264 of ours", kind="nvcodec", **given))
    codecs += [CodecResult(name=name, kind="published", **given) for name in ("NeRV", "HiNeRV")]
    found = styles(replace(results, codecs=tuple(codecs)))
    looks = [(look.color, look.marker, look.variant) for look in found]
    assert len(set(looks)) == len(looks)
    assert found[0].color == found[1].color == found[2].color
    assert [look.color == 0 for look in found] == [look.ours for look in found]
    assert {look.color for look in found[-2:]} == {6}
    assert 6 not in {look.color for look in found[:-2]}


def test_costs_are_geometric_means(results):
    panels = {panel.key: panel for panel in cost_panels(results)}
    series = panels["encode_bd"].series
    assert [one.name for one in series] == ["nvcodec hnerv", "x264 medium"]
    for one in series:
        assert one.points[0].x == pytest.approx((1.5 * 2.5 * 3.5 * 4.5) ** 0.25)
    assert "mac_bd" not in panels


def test_frames_that_equal_the_source_are_drawn(results):
    point = Point(q=1, bpp=0.1, psnr_rgb_per_frame_db=(30.0, None, 31.0))
    codec = CodecResult(name="x264", kind="anchor", parameters="", points=(point,))
    shown = replace(results, codecs=(codec,))
    (panel,) = frame_panels(shown, rate_groups(shown))
    assert [p.y for p in panel.series[0].points] == [30.0, 100.0, 31.0]


positive = st.floats(1e-6, 1e9)


@given(st.lists(positive, min_size=1, max_size=5), st.booleans())
def test_scales_show_all_values(values, log):
    scale = fit_scale(values, log=log)
    assert all(0 < scale(value) < 1 for value in values)
    ticks = scale.ticks()
    assert 2 <= len(ticks) <= 14
    assert ticks == sorted(set(ticks))
    assert all(-1e-6 <= scale(tick) <= 1 + 1e-6 for tick in ticks)


@pytest.mark.parametrize("n_frames", [1, 2, 6, 12, 132, 600])
def test_frames_have_whole_ticks(n_frames):
    ticks = fit_scale(range(n_frames), log=False, whole=True).ticks()
    assert 1 <= len(ticks) <= 7
    assert all(tick == int(tick) for tick in ticks)


# Plots


def test_plots_leave_matplotlib_alone(tmp_path, results):
    before = matplotlib.rcParams.copy()
    panels = rd_panels(results)[:1]
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        write_plots(tmp_path / name, panels, log_x=True)
    assert matplotlib.rcParams.copy() == before
    svg = (tmp_path / "a/rd_psnr_rgb.svg").read_text(encoding="utf-8")
    assert svg == (tmp_path / "b/rd_psnr_rgb.svg").read_text(encoding="utf-8")
    assert (tmp_path / "a/rd_psnr_rgb.png").read_bytes().startswith(b"\x89PNG")
    write_plots(tmp_path, panels, log_x=False)
    assert svg != (tmp_path / "rd_psnr_rgb.svg").read_text(encoding="utf-8")
