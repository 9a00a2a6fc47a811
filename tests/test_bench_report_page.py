"""The page of the report in a real browser."""

import io
import tempfile
from dataclasses import replace

import av
import pytest
from bench_results import bench_results, write_bench
from browser import Browser, find_browser

from nvcodec.bench.report.groups import rate_groups
from nvcodec.bench.report.page import html_page

BROWSER = find_browser()
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium or Chrome on the PATH (or named by NVCODEC_BROWSER)"
)
ATTACK = (
    '</script><script>hacked = 1</script><img src="https://example.org/x" onerror="hacked = 1">'
)


@pytest.fixture(scope="module")
def browser():
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Browser(BROWSER, profile) as browser,
    ):
        yield browser


def write_page(folder, results):
    """Write report.html, without the plots that are files of their own; return its address."""
    text = html_page(write_bench(folder, results), results, rate_groups(results))
    path = folder / "report.html"
    path.write_text(text, encoding="utf-8")
    return path.as_uri()


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    return write_page(tmp_path_factory.mktemp("page") / "out", bench_results())


@pytest.fixture
def page(browser, url):
    browser.problems.clear()
    browser.requests.clear()
    browser.resize(1280, 900)
    browser.open(url)
    yield browser
    assert not browser.problems


def box(page, selector):
    """Return x, y, width and height of an element in the window, after scrolling to it."""
    return page.run(
        f"(() => {{ const e = document.querySelector({selector!r});"
        "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )


def click(page, selector):
    x, y, width, height = box(page, selector)
    page.click(x + width / 2, y + height / 2)


def colors(page, *shares):
    """Return the colours of the stage at these shares of its width."""
    x, y, width, height = box(page, ".stage")
    top = page.run("scrollY")
    png = page.screenshot(x, y + top, width, height)
    with av.open(io.BytesIO(png)) as container:
        image = next(container.decode(video=0)).to_ndarray(format="rgb24")
    rows, columns = image.shape[:2]
    return [tuple(map(int, image[rows // 2, round(share * (columns - 1))])) for share in shares]


def choose(page, name, value):
    page.run(
        f"(() => {{ const e = document.querySelector('select[name={name}]');"
        f"e.value = {value!r}; e.dispatchEvent(new Event('change')); }})()"
    )


def shown_text(page, selector):
    return page.run(f"document.querySelector({selector!r}).textContent")


def sample_color(page, codec, rate):
    """Return the colour of a sample, as the browser decodes it."""
    return tuple(
        page.run(
            "(() => { const image = [...document.querySelectorAll('.stage img')].find("
            f"(i) => i.dataset.codec === {codec!r} && i.dataset.rates.split(' ')"
            f".includes({rate!r}));"
            "const canvas = document.createElement('canvas').getContext('2d');"
            "canvas.drawImage(image, 0, 0); return [...canvas.getImageData(5, 5, 1, 1).data]; })()"
        )[:3]
    )


def test_page_asks_for_nothing(page, url):
    assert page.requests[0] == url
    assert all(request.startswith("data:") for request in page.requests[1:])
    assert page.run("document.querySelectorAll('svg.chart').length") == 2 * 5 + 2 + 3 + 4
    assert page.run("document.querySelectorAll('table').length") == 4
    assert page.run("[...document.images].every((i) => i.complete && i.naturalWidth === 64)")


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_window(page, width):
    page.resize(width, 800)
    assert page.run("document.documentElement.scrollWidth") == width


def test_dark_follows_the_system(page):
    script = "getComputedStyle(document.documentElement).backgroundColor"
    seen = []
    for scheme in ("dark", "light"):
        page.prefer(scheme)
        seen.append(page.run(script))
    assert seen == ["rgb(22, 24, 27)", "rgb(255, 255, 255)"]


def test_slider_moves_the_divider(page):
    # First at the middle rate: this codec on the left, the first other one on the right.
    left, right = sample_color(page, "0", "2"), sample_color(page, "1", "2")
    assert left != right
    assert colors(page, 0.2, 0.45, 0.55, 0.8) == [left, left, right, right]
    page.run("document.querySelector('.divider input').focus()")
    for _ in range(10):
        page.press("ArrowRight")
    assert colors(page, 0.2, 0.55, 0.65, 0.8) == [left, left, right, right]
    page.press("End")
    assert colors(page, 0.2, 0.8) == [left, left]
    page.press("Home")
    assert colors(page, 0.2, 0.8) == [right, right]
    x, y, width, height = box(page, ".stage")
    page.click(x + 0.3 * width, y + height / 2)
    assert colors(page, 0.25, 0.35) == [left, right]


def test_flicker_alternates_in_place(page):
    both = {"left": sample_color(page, "0", "2"), "right": sample_color(page, "1", "2")}
    click(page, "[data-flicker]")
    assert page.run("document.querySelector('[data-flicker]').ariaPressed") == "true"
    shown = "document.querySelector('.stage').dataset.shown"
    seen = set()
    for _ in range(40):
        before, found, after = page.run(shown), colors(page, 0.2, 0.8), page.run(shown)
        if before == after:
            assert found == [both[before]] * 2
            seen.add(before)
        if len(seen) == 2:
            break
    assert seen == set(both)
    click(page, "[data-flicker]")
    assert colors(page, 0.2, 0.8) == [both["left"], both["right"]]


def test_codecs_and_rate_can_be_chosen(page):
    choose(page, "left", "source")
    assert shown_text(page, "[data-caption=left]") == "source"
    choose(page, "left", "1")
    choose(page, "right", "0")
    assert colors(page, 0.2, 0.8) == [sample_color(page, c, "2") for c in ("1", "0")]
    assert "9 % fewer bits than the left picture" in shown_text(page, "[data-caption=right]")
    far = "document.querySelector('select[name=right] option[value=\"2\"]').disabled"
    assert page.run(far)
    click(page, "label:has(input[name=rate][value='3'])")
    assert not page.run(far)
    choose(page, "right", "2")
    assert colors(page, 0.2, 0.8) == [sample_color(page, c, "3") for c in ("1", "2")]
    click(page, "label:has(input[name=rate][value='0'])")
    assert page.run("document.querySelector('select[name=right]').value") != "2"


def test_legend_shows_and_hides_a_codec(page):
    visible = (
        "[...document.querySelectorAll('.chart .series[data-codec=\"1\"]')]"
        ".filter((s) => getComputedStyle(s).display !== 'none').length"
    )
    n_curves = page.run(visible)
    assert n_curves > 10
    click(page, "#cost .legend button[data-codec='1']")
    assert page.run(visible) == 0
    pressed = (
        "[...document.querySelectorAll('.legend [data-codec=\"1\"]')].map((b) => b.ariaPressed)"
    )
    assert set(page.run(pressed)) == {"false"}
    click(page, "#curves .legend button[data-codec='1']")
    assert page.run(visible) == n_curves


def test_axis_of_the_rate_can_be_chosen(page):
    heights = "['.log-x', '.linear-x'].map((s) => document.querySelector(s).offsetHeight > 0)"
    assert page.run(heights) == [True, False]
    click(page, "label:has(input[value=linear])")
    assert page.run(heights) == [False, True]


def test_values_appear_under_the_pointer(page):
    x, y, width, height = box(page, ".log-x .series[data-codec='0'] .marker")
    page.click(x + width / 2, y + height / 2)
    tip = shown_text(page, ".tip")
    assert "nvcodec hnerv, q 0.02\n0.0200 bpp\nPSNR-RGB 26.00 dB" in tip
    page.press("Escape")
    assert page.run("document.querySelector('.tip').hidden")
    x, y, width, height = box(page, "#chart-per_frame_1 svg")
    page.click(x + 0.97 * width, y + height / 2)
    lines = shown_text(page, ".tip").split("\n")
    assert lines[0] == "frame 5"
    assert lines[1:] == ["29.04 dB  VTM", "26.04 dB  x264 medium", "25.04 dB  nvcodec hnerv"]


def test_names_from_files_run_nothing(page, tmp_path):
    results = bench_results()
    codecs = tuple(
        replace(codec, name=f"{codec.name} {ATTACK}", parameters=ATTACK) for codec in results.codecs
    )
    source = replace(results.source, file=ATTACK)
    results = replace(results, codecs=codecs, command=ATTACK, source=source)
    address = write_page(tmp_path / "out", results)
    page.requests.clear()
    page.open(address)
    assert page.run("typeof hacked") == "undefined"
    assert all(request.startswith(("file:", "data:")) for request in page.requests)
    assert page.run("document.title") == f"Rate-distortion bench: {ATTACK}"
    assert ATTACK in page.run("document.body.innerText")
