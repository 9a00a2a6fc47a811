"""The web page of a file: its server, and the page in a real browser."""

import http.client
import io
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from browser import Browser, find_browser
from click.testing import CliRunner
from conftest import RATE
from nrv_factory import make_nrv

import nvcodec
from nvcodec import cli
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.errors import ResourceError, VerificationError
from nvcodec.media import PLAIN
from nvcodec.metrics import psnr_db
from nvcodec.player.comparison import Comparison
from nvcodec.player.frames import FrameStore
from nvcodec.player.server import MAX_CONNECTIONS, PlayerServer, describe_page
from nvcodec.video.frames import VideoInfo, resolve_tags
from nvcodec.video.writer import open_writer

BROWSER = find_browser()
N_FRAMES = 9


@pytest.fixture(scope="module")
def nrv(tmp_path_factory):
    path = tmp_path_factory.mktemp("nrv") / "a <b>.nrv"
    path.write_bytes(make_nrv(N_FRAMES, 64, 48))
    return path


@pytest.fixture(scope="module")
def source(tmp_path_factory, nrv):
    """The decoded frames with noise: losslessly, so that the PSNR of each is known."""
    path = tmp_path_factory.mktemp("source") / "source.mkv"
    return write_source(path, nvcodec.open(nrv))


def write_source(path, frames):
    info = VideoInfo(
        width=64, height=48, frame_rate=RATE, bit_depth=8,
        color=resolve_tags(height=48, chroma=0), chroma=0, codec="", n_bytes=None,
    )  # fmt: skip
    noise = np.random.default_rng(0)
    with open_writer(path, info) as writer:
        for i, frame in enumerate(frames):
            shift = noise.integers(-3 - i, 4 + i, frame.shape)
            writer.write(np.clip(frame + shift, 0, 255).astype(np.uint8))
    return path


@contextmanager
def serving(path, source=None, host="127.0.0.1", **given):
    """Run a server in this process; it ends with the block."""
    with nvcodec.open(path) as video:
        store = FrameStore(video)
        comparison = None if source is None else Comparison(video, source, **given)
        with PlayerServer(host, 0, store, describe_page(path, store), comparison) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            if comparison is not None:
                comparison.start()
            try:
                yield server
            finally:
                server.shutdown()
                thread.join(30)
                if comparison is not None:
                    comparison.close()


@pytest.fixture(scope="module")
def server(nrv, source):
    with serving(nrv, source) as server:
        yield server


def get(server, path, method="GET", **headers):
    """Return status, headers and body."""
    with closing(http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=30)) as link:
        link.request(method, path, headers=headers)
        answer = link.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()


def pixels(data):
    with av.open(io.BytesIO(data)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


def test_any_frame_on_demand(server, nrv):
    video = nvcodec.open(nrv)
    for index in (8, 0, 5, 5):
        status, headers, body = get(server, f"/frame/{index}.png?again")
        assert (status, headers["Content-Type"]) == (200, "image/png")
        assert (pixels(body) == video[index]).all()
        status, headers, body = get(server, f"/frame/{index}.jpg")
        assert (status, headers["Content-Type"]) == (200, "image/jpeg")
        assert np.abs(pixels(body).astype(int) - video[index]).mean() < 4


def test_facts_of_the_page(server, nrv):
    status, headers, body = get(server, "/video.json")
    facts = json.loads(body)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert (facts["file"], facts["frames"], facts["width"]) == ("a <b>.nrv", N_FRAMES, 64)
    assert facts["times_s"] == [float(nvcodec.open(nrv).timing.seconds(i)) for i in range(10)]
    assert sum(facts["parts"].values()) == pytest.approx(nrv.stat().st_size)
    sizes = [tensor["bytes"] for tensor in facts["tensors"]]
    assert sizes == sorted(sizes, reverse=True)
    assert sum(sizes) == pytest.approx(
        facts["parts"]["symbols"] + facts["parts"]["side_information"]
    )


def test_every_answer_is_confined(server):
    for path in ("/", "/page.js", "/page.css", "/video.json", "/frame/0.png", "/none"):
        _, headers, body = get(server, path)
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Python" not in headers["Server"]
        _, head, nothing = get(server, path, "HEAD")
        assert (head["Content-Length"], nothing) == (str(len(body)), b"")
    for name in ("/page.js", "/page.css", "/"):
        assert b"http" not in get(server, name)[2]


@pytest.mark.parametrize("path", [
    "/frame/9.png", "/frame/-1.png", "/frame/1e1.png", "/frame/99999999999.png", "/frame/1.gif",
    "/frame/../../etc/passwd", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd", "/page.py", "/server.py", "/frame/0.png/", "/a%20%3Cb%3E.nrv",
])  # fmt: skip
def test_nothing_else_is_there(server, path):
    status, _, body = get(server, path)
    assert status == 404
    assert b"root:" not in body
    assert len(body) < 100


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
def test_nothing_can_be_changed(server, method):
    assert get(server, "/", method)[0] == 501


@pytest.mark.parametrize("host", [
    "example.org", "example.org:{port}", "127.0.0.1:1", "localhost", "127.0.0.1.example.org:{port}",
    "a@127.0.0.1:{port}", "127.0.0.1:{port}/x", "[", "10.0.0.1:{port}", "",
])  # fmt: skip
def test_other_names_are_refused(server, host):
    status, _, body = get(server, "/frame/0.png", Host=host.format(port=server.server_port))
    assert (status, body) == (421, b"this server does not have that name\n")


@pytest.mark.parametrize("host", ["localhost:{port}", "127.0.0.1:{port}", "[::1]:{port}"])
def test_names_of_this_machine(server, host):
    assert get(server, "/", Host=host.format(port=server.server_port))[0] == 200


def test_a_wildcard_knows_addresses_but_no_names(nrv):
    with nvcodec.open(nrv) as video, PlayerServer("0.0.0.0", 0, FrameStore(video), {}) as server:
        port = server.server_port
        assert server.url == f"http://127.0.0.1:{port}/"
        assert server.knows(f"192.0.2.7:{port}")
        assert not server.knows(f"example.org:{port}")
        assert not server.knows(None)


def test_a_port_that_is_taken(nrv, server):
    with pytest.raises(
        ResourceError, match=r"127\.0\.0\.1 port \d+ cannot be used: address already"
    ):
        PlayerServer("127.0.0.1", server.server_port, FrameStore(nvcodec.open(nrv)), {})
    with pytest.raises(ResourceError, match="cannot be used"):
        PlayerServer("203.0.113.1", 0, FrameStore(nvcodec.open(nrv)), {})


def test_too_many_connections_are_closed(nrv):
    with serving(nrv) as server:
        address = ("127.0.0.1", server.server_port)
        links = [socket.create_connection(address, timeout=30) for _ in range(MAX_CONNECTIONS + 1)]
        assert links[-1].recv(1) == b""
        for link in links:
            link.close()


def test_psnr_of_every_frame(server, nrv, source):
    from nvcodec.video.reader import open_video

    server.comparison._thread.join(60)
    state = json.loads(get(server, "/psnr.json")[2])
    with open_video(source) as reader:
        wanted = [psnr_db(a, b) for a, b in zip(nvcodec.open(nrv), reader, strict=True)]
    assert state["psnr_db"] == pytest.approx(wanted, abs=1e-3)
    assert (state["done"], state["error"]) == (True, None)


def test_sources_that_do_not_fit(tmp_path, nrv):
    video = nvcodec.open(nrv)
    with pytest.raises(VerificationError, match="frames of 32x32, the file has 64x48"):
        Comparison(nvcodec.open(make_nrv(2, 64, 48)), write_small(tmp_path / "small.mkv"))
    short = write_source(tmp_path / "short.mkv", video[:4])
    with serving(nrv, short) as server:
        server.comparison._thread.join(60)
        state = json.loads(get(server, "/psnr.json")[2])
    assert len(state["psnr_db"]) == 4
    assert "has 4 frames from frame 0 on, the file has 9" in state["error"]
    with serving(nrv) as server:
        assert get(server, "/psnr.json")[0] == 404


def write_small(path):
    video = nvcodec.open(make_nrv(8, 32, 32))
    with open_writer(path, video.info) as writer:
        writer.write(video[0])
    return path


def test_the_cache_is_bounded(nrv):
    store = FrameStore(nvcodec.open(nrv), cache_bytes=20_000)
    first = [store.picture(i, "png") for i in range(N_FRAMES)]
    assert sum(map(len, store._kept.values())) == store._n_bytes <= 20_000
    assert [store.picture(i, "png") for i in range(N_FRAMES)] == first


# The command


def test_mistakes_in_serve(tmp_path, nrv, server):
    small = write_small(tmp_path / "small.mkv")
    for code, words, *args in (
        (7, "cannot be used: address already in use", nrv, "--port", server.server_port),
        (2, "--port", nrv, "--port", 70000),
        (3, "cannot be read", tmp_path / "none.nrv"),
        (3, "does not exist", nrv, "--source", tmp_path / "none.mp4"),
        (4, "is not an .nrv file", Path(__file__)),
        (8, "the file has 64x48", nrv, "--source", small),
    ):
        arguments = ["serve", *map(str, args)]
        result = CliRunner().invoke(cli.main, arguments, prog_name="nvcodec")
        assert result.exit_code == code, result.output
        assert words in result.stderr


def test_the_command_serves_until_it_is_stopped(nrv):
    root = str(Path(nvcodec.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "nvcodec", "serve", nrv, "--json", "--device", "cpu"],
        env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        said = json.loads(process.stdout.readline())
        assert (said["kind"], said["host"]) == ("serve", "127.0.0.1")
        assert said["url"] == f"http://127.0.0.1:{said['port']}/"
        with closing(http.client.HTTPConnection("127.0.0.1", said["port"], timeout=30)) as link:
            link.request("GET", "/frame/3.png")
            assert (pixels(link.getresponse().read()) == nvcodec.open(nrv)[3]).all()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, err
    assert [json.loads(line)["type"] for line in out.splitlines()] == ["log", "done"]
    assert err == b""


# In a browser


@pytest.fixture(scope="module")
def browser():
    if BROWSER is None:
        pytest.skip("no Chromium or Chrome on the PATH (or named by NVCODEC_BROWSER)")
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        Browser(BROWSER, profile) as browser,
    ):
        yield browser


@pytest.fixture
def page(browser, server):
    browser.problems.clear()
    browser.requests.clear()
    browser.resize(1000, 900)
    browser.open(server.url)
    wait_for(browser, "document.querySelector('#picture').dataset.frame === '0'")
    yield browser
    assert browser.problems == []


def wait_for(page, condition):
    """Wait until a condition of the page holds; the browser itself watches."""
    held = page.run(
        "new Promise((resolve) => { let turns = 0; const look = () => {"
        f"if ({condition}) resolve(true); else if (++turns > 1500) resolve(false);"
        "else setTimeout(look, 20); }; look(); })"
    )
    assert held, condition


def shown_pixels(page):
    """Return what the canvas of the page holds, (H, W, 3)."""
    width, height, *values = page.run(
        "(() => { const shown = document.querySelector('#picture');"
        "const copy = document.createElement('canvas');"
        "const [w, h] = [copy.width, copy.height] = [shown.width, shown.height];"
        "const brush = copy.getContext('2d', {willReadFrequently: true});"
        "brush.drawImage(shown, 0, 0);"
        "return [w, h, ...brush.getImageData(0, 0, w, h).data]; })()"
    )
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def scrub(page, index):
    page.run(
        "(() => { const e = document.querySelector('#scrubber');"
        f"e.value = {index}; e.dispatchEvent(new Event('input')); }})()"
    )
    wait_for(page, f"document.querySelector('#picture').dataset.frame === '{index}'")


def text(page, selector):
    return page.run(f"document.querySelector({selector!r}).textContent")


def click(page, selector, across=0.5):
    x, y, width, height = page.run(
        f"(() => {{ const e = document.querySelector({selector!r});"
        "e.scrollIntoView({block: 'center'}); const r = e.getBoundingClientRect();"
        "return [r.x, r.y, r.width, r.height]; })()"
    )
    page.click(x + across * width, y + height / 2)


def test_page_shows_the_file_and_asks_no_one_else(page, server, nrv):
    assert text(page, "#name") == "a <b>.nrv"
    assert page.run("document.title") == "a <b>.nrv - nvcodec"
    assert f"{N_FRAMES} frames of 64x48, 23.976 frames/s" in text(page, "#facts")
    own = (server.url, "data:")
    assert all(request.startswith(own) for request in page.requests)
    assert (shown_pixels(page) == nvcodec.open(nrv)[0]).all()


def test_scrubber_shows_any_frame(page, nrv):
    video = nvcodec.open(nrv)
    for index in (7, 2, 8):
        scrub(page, index)
        assert (shown_pixels(page) == video[index]).all()
        assert text(page, "#place").startswith(f"frame {index} of {N_FRAMES}, ")
    page.run("document.querySelector('#scrubber').focus()")
    page.press("ArrowLeft")
    wait_for(page, "document.querySelector('#picture').dataset.frame === '7'")


def test_play_reaches_the_end_and_begins_again(page, nrv):
    scrub(page, 4)
    click(page, "#play")
    wait_for(page, f"document.querySelector('#picture').dataset.frame === '{N_FRAMES - 1}'")
    wait_for(page, "document.querySelector('#play').textContent === 'Play'")
    wait_for(page, "document.querySelector('#picture').dataset.kind === 'png'")
    assert (shown_pixels(page) == nvcodec.open(nrv)[N_FRAMES - 1]).all()
    # A slow machine leaves frames out.
    moving = [f"/frame/{i}.jpg" for i in range(5, N_FRAMES)]
    assert any(frame in request for request in page.requests for frame in moving)
    click(page, "#play")
    wait_for(page, f"Number(document.querySelector('#picture').dataset.frame) < {N_FRAMES - 1}")
    click(page, "#play")
    wait_for(page, "document.querySelector('#play').getAttribute('aria-pressed') === 'false'")


def test_quality_of_every_frame(page, server):
    server.comparison._thread.join(60)
    wait_for(page, "document.querySelector('#curve').points.numberOfItems === 9")
    values = server.comparison.state()["psnr_db"]
    assert f"RGB PSNR: {np.mean(values):.2f} dB on average" in text(page, "#quality-words")
    scrub(page, 3)
    assert text(page, "#place").endswith(f"{values[3]:.2f} dB")
    heights = page.run("[...document.querySelector('#curve').points].map((p) => p.y)")
    assert np.argsort(heights).tolist() == np.argsort(np.negative(values)).tolist()
    click(page, "#chart", across=6.5 / N_FRAMES)
    wait_for(page, "document.querySelector('#picture').dataset.frame === '6'")


def test_bars_are_the_bytes(page, server):
    facts = json.loads(get(server, "/video.json")[2])
    for table, names in (
        ("parts", [key.replace("_", " ") for key, n in facts["parts"].items() if n > 0]),
        ("tensors", [f"{t['name']} {'x'.join(map(str, t['shape']))}" for t in facts["tensors"]]),
    ):
        found = page.run(f"[...document.querySelectorAll('#{table} th')].map((e) => e.textContent)")
        assert found == names
    widths = page.run(
        "[...document.querySelectorAll('#tensors .bar')]"
        ".map((e) => e.getBoundingClientRect().width)"
    )
    sizes = np.array([tensor["bytes"] for tensor in facts["tensors"]])
    assert widths == pytest.approx(np.maximum(1, widths[0] * sizes / sizes[0]).tolist(), abs=0.5)


@pytest.mark.parametrize("width", [1000, 390])
def test_nothing_is_wider_than_the_window(page, width):
    page.resize(width, 800)
    assert page.run("document.documentElement.scrollWidth") == width


def test_turned_and_stretched_video(browser, tmp_path):
    stream = unpack_stream(make_nrv(2, 64, 48))
    display = replace(PLAIN, a=0, b=1 << 16, c=-1 << 16, d=0, sar_num=2, sar_den=1)
    path = tmp_path / "turned.nrv"
    path.write_bytes(pack_stream(replace(stream, display=display)))
    with serving(path) as server:
        browser.open(server.url)
        wait_for(browser, "document.querySelector('#picture').dataset.frame === '0'")
        assert (shown_pixels(browser) == np.rot90(nvcodec.open(path)[0], -1)).all()
        ratio = browser.run("getComputedStyle(document.querySelector('#picture')).aspectRatio")
        assert ratio == "48 / 128"
        assert browser.run("document.querySelector('#quality').hidden")


def test_a_server_that_is_gone(browser, nrv):
    with serving(nrv) as server:
        browser.open(server.url)
        wait_for(browser, "document.querySelector('#picture').dataset.frame === '0'")
    browser.run(
        "(() => { const e = document.querySelector('#scrubber');"
        "e.value = 5; e.dispatchEvent(new Event('input')); })()"
    )
    wait_for(browser, "!document.querySelector('#problem').hidden")
    assert "Frame 5 cannot be loaded" in text(browser, "#problem")
