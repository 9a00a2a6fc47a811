"""Kill an encode with SIGKILL at seeded random moments, resume it each time, compare the files.

`python benchmarks/kills.py --kills 50 -o benchmarks/results/kills.json`: every encode must end in
the bytes of the one that was never killed, with nothing left beside its output. Checkpoints are
written every 50 ms instead of every minute, so that many kills hit the writing of one.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests"), str(ROOT)]
os.environ["OMP_NUM_THREADS"] = "1"

from conftest import make_video, moving_frames  # noqa: E402

from nvcodec import cli, storage  # noqa: E402
from nvcodec.codec import encoder, work  # noqa: E402, F401  imported before the forks
from nvcodec.codec.checkpoint import checkpoint_path  # noqa: E402

N_FRAMES = 16
OPTIONS = ("--arch", "hnerv", "--bpp", "2", "--device", "cpu", "--threads", "1")


def start(source: Path, output: Path, *more: str) -> int:
    """Start an encode in a process of its own, which has everything imported; return its id."""
    child = os.fork()
    if child:
        return child
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):
            os.dup2(null, fd)
        work.CHECKPOINT_INTERVAL_S = 0.05
        cli.main(["encode", str(source), "-o", str(output), *OPTIONS, "-q", *more])
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) else 1)
    finally:
        os._exit(1)


def wait(child: int) -> None:
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != 0:
        raise SystemExit(f"an encode ended with {os.waitstatus_to_exitcode(status)}")


def left_by(output: Path) -> str:
    """Return what a killed encode had on disk."""
    part = storage.part_path(checkpoint_path(output)).exists() or storage.part_path(output).exists()
    saved = "a checkpoint" if checkpoint_path(output).exists() else "no checkpoint"
    return f"{saved}, a file half written" if part else saved


def survive(folder: Path, n_kills: int, seed: int, passes: int) -> dict[str, Any]:
    """Kill so many times; return what happened. Raises SystemExit where a file is another one."""
    source = make_video(
        folder / "in.mkv", codec="ffv1", pixel_format="bgr0",
        frames=moving_frames(N_FRAMES, width=32, height=32),
    )  # fmt: skip
    whole = folder / "whole.nrv"
    length = ("--passes", str(passes))
    began = time.monotonic()
    wait(start(source, whole, *length))
    once_s = time.monotonic() - began
    rng = random.Random(seed)
    output = folder / "out" / "out.nrv"
    output.parent.mkdir()
    kills: Counter[str] = Counter()
    finished = resumed = 0
    while True:
        last = kills.total() >= n_kills
        again = checkpoint_path(output).exists()
        child = start(source, output, *length, *(["--resume"] if again else []))
        resumed += again
        if not last:
            time.sleep(rng.uniform(0, 0.8 * once_s))
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
                if not output.exists():
                    kills[left_by(output)] += 1
                    continue
                # Killed between the rename and the removal of the checkpoint: the file is whole.
                kills["the finished file"] += 1
        else:
            wait(child)
        if output.read_bytes() != whole.read_bytes():
            raise SystemExit(f"after {kills.total()} kills the file is another one")
        finished += 1
        for path in output.parent.iterdir():
            if path == output or kills["the finished file"]:
                path.unlink()
            else:
                raise SystemExit(f"{path.name} is left beside the finished file")
        if last:
            break
    return {
        "kills": kills.total(),
        "left_on_disk": dict(kills),
        "resumed": resumed,
        "finished_and_identical": finished,
        "sha256": hashlib.sha256(whole.read_bytes()).hexdigest(),
        "uninterrupted_s": round(once_s, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--passes", type=int, default=12, help="over the 16 frames of the clip")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = survive(Path(folder), args.kills, args.seed, args.passes)
    described = {
        "command": f"python benchmarks/kills.py --kills {args.kills} --seed {args.seed}",
        "python": platform.python_version(),
        "platform": platform.platform(),
        **result,
    }
    text = json.dumps(described, indent=1) + "\n"
    if args.output:
        args.output.write_text(text)
    print(text, end="")


if __name__ == "__main__":
    main()
