"""One encode or decode in a process of its own, so that its time and memory are its own.

`python -m nvcodec.bench.worker` reads a job as JSON on standard input and writes NDJSON on standard
output: {"progress": ...} and {"log": ...} now and then, and at last {"result": ...} or
{"error": sentence, "code": exit code}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO

from nvcodec.bench.anchors import decode_with_av, encode_with_av
from nvcodec.bench.external import fill, read_raw, run_command
from nvcodec.bench.ours import decode_own, encode_own
from nvcodec.ending import failure, stop_requests
from nvcodec.events import Event, Log, Progress

_PROGRESS_INTERVAL_S = 0.5


def peak_memory_bytes(*, children: bool = False) -> int | None:
    """Return the most resident memory that this process, or its largest child, ever had."""
    status = Path("/proc/self/status")
    if not children and status.exists():
        # The resource module's figure begins with the memory of the process that started this one.
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    try:
        import resource
    except ImportError:
        return None
    who = resource.RUSAGE_CHILDREN if children else resource.RUSAGE_SELF
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(who).ru_maxrss


def encode(job: dict[str, Any], say: Callable[[Event], None], stop: Callable[[], bool]) -> Any:
    """Carry out an encode; return fields of a Point."""
    output, q = Path(job["output"]), job["q"]
    frames = (Path(job["source"]), job["start"], job["count"])
    codec = job["codec"]
    if codec["encoder"] == "command":
        values = {**job["values"], "input": job["input"], "output": output, "q": f"{q:g}"}
        encode_s = run_command(fill(codec["encode"], values), output)
    elif codec["encoder"] == "nvcodec":
        encode_s = encode_own(codec, q, *frames, output, listener=say, stop=stop)
    else:
        encode_s = encode_with_av(codec, q, *frames, output)
    memory = peak_memory_bytes(children=codec["encoder"] == "command")
    return {"encode_s": encode_s, "encode_peak_memory_bytes": memory}


def decode(job: dict[str, Any]) -> Any:
    """Carry out a decode and drop the frames; return fields of a Point.

    The time runs from opening the file to the last 8-bit frame in memory, 4:2:0 or RGB, whichever
    the decoder makes; a program writes its frames to a file, which is read.
    """
    codec, path, threads = job["codec"], Path(job["stream"]), job["threads"]
    began = time.perf_counter()
    frames: Iterator[Any]
    if codec["decoder"] == "command":
        output = Path(job["decoded"])
        values = {**job["values"], "input": path, "output": output}
        run_command(fill(codec["decode"], values), output)
        width, height = job["values"]["width"], job["values"]["height"]
        frames = read_raw(output, width, height, job["count"])
    elif codec["decoder"] == "nvcodec":
        frames = decode_own(path, device=codec["device"], threads=threads)
    else:
        frames = decode_with_av(path, threads)
    n_frames = sum(1 for _ in frames)
    elapsed_s = time.perf_counter() - began
    outside = codec["decoder"] == "command"
    return {
        "decode_fps": n_frames / max(elapsed_s, 1e-9),
        "decode_threads": None if outside else threads,
        "peak_memory_bytes": peak_memory_bytes(children=outside),
    }


def _write(out: TextIO, values: dict[str, Any]) -> None:
    out.write(json.dumps(values) + "\n")
    out.flush()


def _speaker(out: TextIO) -> Callable[[Event], None]:
    """Return a listener that prints events, progress at most twice a second."""
    shown_s = 0.0

    def say(event: Event) -> None:
        nonlocal shown_s
        now = time.monotonic()
        if isinstance(event, Progress) and now - shown_s >= _PROGRESS_INTERVAL_S:
            shown_s = now
            _write(out, {"progress": asdict(event)})
        elif isinstance(event, Log):
            _write(out, {"log": asdict(event)})

    return say


def main() -> None:
    """Carry out the job on standard input."""
    # Encoders print what they like on standard output: it becomes standard error.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as out:
        os.dup2(2, 1)
        job = json.loads(sys.stdin.read())
        # Imports are no part of anybody's time.
        if job["codec"][f"{job['task']}r"] == "nvcodec":
            importlib.import_module(f"nvcodec.codec.{job['task']}r")
        try:
            if job["task"] == "decode":
                answer = {"result": decode(job)}
            elif job["codec"]["encoder"] == "nvcodec":
                with stop_requests() as stop:
                    answer = {"result": encode(job, _speaker(out), stop)}
            else:
                answer = {"result": encode(job, _speaker(out), lambda: False)}
        except (Exception, KeyboardInterrupt) as error:
            code, message = failure(error)
            answer = {"error": message, "code": code}
        _write(out, answer)


if __name__ == "__main__":
    main()
