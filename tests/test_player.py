"""Thumbnails and playing in the window of another program."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner
from media_factory import make_movie, packets_of
from nrv_factory import make_nrv

import nvcodec
from nvcodec import cli
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.cli import options
from nvcodec.media import PLAIN
from nvcodec.player.upright import shown_size, upright, upright_info
from nvcodec.player.window import PLAYERS
from nvcodec.video.reader import open_video

ONE, WIDTH, HEIGHT = 1 << 16, 48, 32
TURNS = {  # a, b, c, d: what it makes of a picture
    "plain": ((1, 0, 0, 1), lambda x: x),
    "90 counterclockwise": ((0, -1, 1, 0), lambda x: np.rot90(x, 1)),
    "180": ((-1, 0, 0, -1), lambda x: np.rot90(x, 2)),
    "90 clockwise": ((0, 1, -1, 0), lambda x: np.rot90(x, -1)),
    "mirrored": ((-1, 0, 0, 1), lambda x: x[:, ::-1]),
    "upside down": ((1, 0, 0, -1), lambda x: x[::-1]),
    "transposed": ((0, 1, 1, 0), lambda x: x.transpose(1, 0, 2)),
}


def run(*args, code=0):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")
    assert result.exit_code == code, result.output
    return result


def fail(code, *args):
    lines = run(*args, code=code).stderr.splitlines()
    assert lines[-1].startswith(("nvcodec: error: ", "Error: "))
    return lines[-1]


def display_of(matrix, **more):
    a, b, c, d = (ONE * value for value in matrix)
    return replace(PLAIN, a=a, b=b, c=c, d=d, **more)


@pytest.fixture(scope="module")
def data():
    return make_nrv(5, WIDTH, HEIGHT)


@pytest.fixture(scope="module")
def nrv(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("nrv") / "a.nrv"
    path.write_bytes(data)
    return path


def read_png(path):
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24")


@pytest.mark.parametrize("name", TURNS)
def test_frames_are_turned_upright(data, name):
    matrix, turn = TURNS[name]
    video = nvcodec.open(data)
    info = replace(video.info, display=display_of(matrix, sar_num=3, sar_den=2))
    frame = video[1]
    shown = upright(frame, info.display)
    assert (shown == turn(frame)).all()
    turned = upright_info(info)
    assert (turned.height, turned.width) == shown.shape[:2]
    sideways = (turned.width, turned.height) == (HEIGHT, WIDTH)
    assert turned.display.aspect == (Fraction(2, 3) if sideways else Fraction(3, 2))
    assert shown_size(info) == ((32, 72) if sideways else (72, 32))


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_turns_are_those_of_ffmpeg(tmp_path, degrees):
    """What PyAV calls a rotation is undone as `ffmpeg`'s own autorotation does."""
    source = make_movie(
        tmp_path / "a.mp4", n_frames=1, size=(48, 32),
        prepare=lambda stream: stream.set_display_rotation(degrees),
    )  # fmt: skip
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not on the PATH")
    picture = tmp_path / "a.png"
    command = ["ffmpeg", "-v", "error", "-i", source, "-frames:v", "1", picture]
    subprocess.run(command, check=True, timeout=60)
    with open_video(source) as reader:
        (frame,) = reader
        mine = upright(frame, reader.info.display)
    theirs = read_png(picture)
    assert mine.shape == theirs.shape
    assert np.abs(mine.astype(int) - theirs).mean() < 3


def test_thumbnails(tmp_path, nrv, data):
    video = nvcodec.open(data)
    for number, more in ((2, ()), (4, ("--frame", 4)), (3, ("--time", "0.126"))):
        output = tmp_path / f"{number}.png"
        run("thumbnail", nrv, "-o", output, *more)
        assert (read_png(output) == video[number]).all()
    said = json.loads(
        run("thumbnail", nrv, "-o", output, "-y", "--size", 24, "--json").stdout.splitlines()[0]
    )
    assert (said["kind"], said["frame"], said["width"], said["height"]) == ("thumbnail", 2, 24, 16)
    small = read_png(output).astype(float)
    assert small.shape == (16, 24, 3)
    halved = video[2].reshape(16, 2, 24, 2, 3).mean((1, 3))
    assert np.abs(small - halved).mean() < 6


def test_thumbnails_are_upright_and_square(tmp_path, data):
    stream = unpack_stream(data)
    display = display_of(TURNS["90 clockwise"][0], sar_num=3, sar_den=2)
    (tmp_path / "a.nrv").write_bytes(pack_stream(replace(stream, display=display)))
    said = run("thumbnail", tmp_path / "a.nrv", "-o", tmp_path / "a.png", "--size", 36)
    assert "frame 2, 16x36" in said.stderr
    assert read_png(tmp_path / "a.png").shape == (36, 16, 3)


def test_mistakes_in_thumbnail(tmp_path, nrv):
    out = ("-o", tmp_path / "a.png")
    for code, words, *args in (
        (2, "has another suffix than .png", nrv, "-o", tmp_path / "a.jpg"),
        (2, "exclude each other", nrv, *out, "--frame", 0, "--time", 0),
        (2, "frame 5 was asked for, but the file has 5 frames", nrv, *out, "--frame", 5),
        (2, "time is 9 s", nrv, *out, "--time", 9),
        (2, "--size", nrv, *out, "--size", 0),
        (2, "does not exist", nrv, "-o", tmp_path / "none" / "a.png"),
        (3, "cannot be read", tmp_path / "none.nrv", *out),
        (4, "is not an .nrv file", Path(__file__), *out),
    ):
        assert words in fail(code, "thumbnail", *args)
    assert list(tmp_path.iterdir()) == []


# Playing. A script stands in for the player, which is a program of others.


def make_player(folder, name, code):
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!{sys.executable} -IS\nimport sys\n{code}\n")
    path.chmod(0o755)
    return path


RECORD = "open(sys.argv[0] + '.y4m', 'wb').write(sys.stdin.buffer.read())"


def test_choices_are_those_of_the_window():
    assert tuple(PLAYERS) == options.PLAYERS


@pytest.mark.parametrize("name", ["ffplay", "mpv"])
def test_players_get_every_frame(tmp_path, nrv, data, monkeypatch, name):
    player = make_player(tmp_path / "bin", name, RECORD)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    result = run("play", nrv, "--start", 1, "--frames", 3, "--json")
    said = [json.loads(line) for line in result.stdout.splitlines()]
    assert said[-1] == {"type": "done"}
    assert (said[-2]["kind"], said[-2]["player"], said[-2]["frames"]) == ("play", str(player), 3)
    run("decode", nrv, "-o", tmp_path / "a.y4m", "--start", 1, "--frames", 3)
    assert Path(f"{player}.y4m").read_bytes() == (tmp_path / "a.y4m").read_bytes()


def test_players_get_upright_frames(tmp_path, data, monkeypatch):
    stream = unpack_stream(data)
    display = display_of(TURNS["90 clockwise"][0])
    (tmp_path / "a.nrv").write_bytes(pack_stream(replace(stream, display=display)))
    player = make_player(tmp_path / "bin", "mpv", RECORD)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "warning" not in run("play", tmp_path / "a.nrv").stderr
    with open_video(f"{player}.y4m") as reader:
        assert (reader.info.width, reader.info.height) == (HEIGHT, WIDTH)
        assert len(list(reader)) == 5


@pytest.fixture(scope="module")
def with_sound(tmp_path_factory):
    """Turned, in pixels of 3:2, with two tracks of sound and one of text."""
    folder = tmp_path_factory.mktemp("sound")
    tracks = [{"codec": "aac", "language": "fre"}, {"codec": "libopus", "start": 0.05}]
    movie = make_movie(folder / "a.mkv", audio=tracks, subtitles=[{"codec": "subrip"}])
    with open_video(movie) as reader:
        list(reader)
        extras = reader.read_extras()
    stream = unpack_stream(make_nrv(30, WIDTH, HEIGHT))
    display = display_of(TURNS["90 clockwise"][0], sar_num=3, sar_den=2)
    path = folder / "a.nrv"
    path.write_bytes(pack_stream(replace(stream, display=display, extras=extras)))
    return path


def test_players_get_the_sound(tmp_path, with_sound, monkeypatch):
    player = make_player(tmp_path / "bin", "mpv", RECORD.replace("y4m", "mkv"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "warning" not in run("play", with_sound).stderr
    got, video = Path(f"{player}.mkv"), nvcodec.open(with_sound)
    with open_video(got) as reader:
        frames = list(reader)
        extras = reader.read_extras()
        assert not reader.warnings
        assert reader.info.display == display_of((1, 0, 0, 1), sar_num=2, sar_den=3)
        assert [float(reader.info.timing.seconds(i)) for i in range(30)] == pytest.approx(
            [float(video.timing.seconds(i)) for i in range(30)], abs=0.001
        )
    for mine, frame in zip(frames, video, strict=True):  # rounded as planes of Y'CbCr
        theirs = upright(frame, video.info.display)
        assert np.abs(mine.astype(int) - theirs).max() <= 2
    for mine, theirs in zip(extras.tracks, video.stream.extras.tracks, strict=True):
        assert mine.header.language == theirs.header.language
        assert [p.data for p in mine.packets] == [p.data for p in theirs.packets]
    at = got.read_bytes().index
    sounds = [at(data) for time, _, data in packets_of(got, "audio") if time < 0.5]
    assert max(sounds) < got.stat().st_size // 2
    run("play", with_sound, "--audio", "none", "--start", 20)
    assert [t.header.codec for t in read_extras(got).tracks] == ["subrip"]
    run("play", with_sound, "--audio", "none", "--subtitles", "none", "--frames", 2)
    assert got.read_bytes().startswith(b"YUV4MPEG2")


def read_extras(path):
    with open_video(path) as reader:
        list(reader)
        return reader.read_extras()


@pytest.fixture(scope="module")
def long_nrv(tmp_path_factory):
    """Far more bytes of frames than a pipe holds."""
    path = tmp_path_factory.mktemp("nrv") / "long.nrv"
    path.write_bytes(make_nrv(60, 96, 64))
    return path


def test_closing_the_player_ends_it(tmp_path, long_nrv, with_sound, monkeypatch):
    make_player(tmp_path / "bin", "mpv", "sys.stdin.buffer.read(30000)")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for path in (long_nrv, with_sound):
        result = run("play", path)
        assert "error" not in result.stderr
        assert "played" in result.stderr


def test_a_failing_player_is_named(tmp_path, long_nrv, monkeypatch):
    make_player(tmp_path / "bin", "mpv", "sys.exit('first\\nno screen here')")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert "ended with exit code 1: no screen here" in fail(7, "play", long_nrv)


def test_no_player_is_one_sentence(tmp_path, nrv, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    words = fail(7, "play", nrv)
    assert "ffplay or mpv is needed to play and was not found; install it" in words
    assert "nvcodec decode FILE -o - | PLAYER -" in words
    make_player(tmp_path, "mpv", RECORD)
    assert "ffplay is needed" in fail(7, "play", nrv, "--player", "ffplay")
    assert "but the file has 5 frames" in fail(2, "play", nrv, "--start", 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupts_end_player_and_program(tmp_path, long_nrv, number):
    """Though the player sleeps, as a paused one does, and the pipe is full."""
    code = "import time, os\nopen(sys.argv[0] + '.pid', 'w').write(str(os.getpid()))\n"
    player = make_player(tmp_path / "bin", "mpv", code + "time.sleep(60)")
    pid = Path(f"{player}.pid")
    root = str(Path(nvcodec.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-m", "nvcodec", "play", long_nrv],
        env={"PATH": str(tmp_path / "bin"), "PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 60
        while not (pid.exists() and pid.read_text()) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.3)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 0, err
    assert b"Traceback" not in err
    assert b"stopped" in err
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.skipif(shutil.which("ffplay") is None, reason="ffplay is not on the PATH")
def test_the_real_ffplay(nrv, with_sound, monkeypatch):
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    monkeypatch.setenv("SDL_AUDIODRIVER", "dummy")
    assert "5 frames" in run("play", nrv, "--player", "ffplay").stderr
    assert "30 frames" in run("play", with_sound, "--player", "ffplay").stderr
