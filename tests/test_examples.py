"""The examples run, and the commands in README.md work as printed."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"


def run(*command, cwd=ROOT):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_clip_is_small_and_has_sound():
    import av

    assert (EXAMPLES / "bunny.mp4").stat().st_size <= 1_000_000
    with av.open(str(EXAMPLES / "bunny.mp4")) as container:
        assert [s.type for s in container.streams] == ["video", "audio"]


def test_api_example():
    out = run(sys.executable, str(EXAMPLES / "api.py"))
    assert "8 frames of 320x180" in out
    assert "frames 2 to 4: (3, 180, 320, 3)" in out


def readme_commands():
    """Return the lines of README blocks marked `console`, without the prompt."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```console\n(.*?)```", text, re.DOTALL)
    lines = [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]
    return [line for line in lines if line.startswith("nvcodec ")]


def test_readme_commands(tmp_path):
    commands = readme_commands()
    assert len(commands) >= 5
    shutil.copy(EXAMPLES / "bunny.mp4", tmp_path / "in.mp4")
    for command in commands:
        arguments = shlex.split(command)[1:]
        if arguments[0] in ("play", "serve"):
            continue  # they need a screen, and someone who ends them
        if "damaged.nrv" in arguments:
            # A whole file, since a damaged one ends with exit code 4 (test_lenient.py).
            shutil.copy(tmp_path / "out.nrv", tmp_path / "damaged.nrv")
        if arguments[0] in ("encode", "inpaint", "denoise"):
            # The same command on a few frames and steps.
            arguments += ["--passes", "2", "--frames", "4", "-y"]
        elif arguments[0] == "bench":
            arguments += ["--passes", "2", "--frames", "4"]
            arguments += ["--bpp", "0.5", "--anchors", "x264:fast"]
        run(sys.executable, "-m", "nvcodec", *arguments, cwd=tmp_path)
    assert (tmp_path / "report" / "report.html").exists()
    for name in ("out.nrv", "thumb.png", "filled.mp4", "clean.nrv", "smooth.mp4"):
        assert (tmp_path / name).exists()
    out = run(sys.executable, str(EXAMPLES / "dataset.py"), str(tmp_path / "out.nrv"))
    assert out.count("batch (4, 3, 180, 320)") == 1


@pytest.mark.slow
def test_demo():
    out = run(sys.executable, str(EXAMPLES / "demo.py"))
    assert "nvcodec decode" in out
