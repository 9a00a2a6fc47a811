"""Runs a worker: passes on what it says, stops it when asked, and takes its answer."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import IO, Any

from nvcodec.errors import Interrupted, NvcodecError
from nvcodec.events import Listener, Log, Progress

_POLL_S = 0.2


class WorkerError(NvcodecError):
    """A worker failed; the message is its own."""


def run_worker(
    job: dict[str, Any], *, title: str, listener: Listener, stop: Callable[[], bool]
) -> dict[str, Any]:
    """Carry out a job in a process of its own; return fields of a Point.

    Args:
        job: see nvcodec.bench.worker.
        title: of the stages that the listener hears of.
        listener: receives the worker's progress and logs.
        stop: polled; when true, the worker is asked to stop.

    Raises:
        Interrupted: `stop` returned true.
        WorkerError: the job failed.
    """
    command = [sys.executable, "-m", "nvcodec.bench.worker"]
    with tempfile.TemporaryFile() as noise:
        # A session of its own: Ctrl-C reaches the worker through `stop` alone.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=noise, text=True,
            encoding="utf-8", start_new_session=True,
        )  # fmt: skip
        try:
            answer = _talk(process, job, title, listener, stop)
        finally:
            _end(process)
        if "result" in answer:
            result: dict[str, Any] = answer["result"]
            return result
        if stop():
            raise Interrupted(f"{title}: stopped; the same command continues")
        raise WorkerError(answer.get("error") or _last_line(noise, process.returncode))


def _talk(
    process: subprocess.Popen[str],
    job: dict[str, Any],
    title: str,
    listener: Listener,
    stop: Callable[[], bool],
) -> dict[str, Any]:
    """Hand over the job and listen until the worker has nothing more to say."""
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):
        process.stdin.write(json.dumps(job))
        process.stdin.close()
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_collect, args=(process.stdout, lines), daemon=True).start()
    answer: dict[str, Any] = {}
    asked = False
    while True:
        if stop() and not asked:
            asked = True
            process.send_signal(signal.SIGINT)
        try:
            line = lines.get(timeout=_POLL_S)
        except queue.Empty:
            continue
        if line is None:
            process.wait()
            return answer
        message = json.loads(line)
        if "progress" in message:
            event = Progress(**message["progress"])
            listener(replace(event, stage=f"{title}: {event.stage}"))
        elif "log" in message:
            log = Log(**message["log"])
            listener(replace(log, message=f"{title}: {log.message}"))
        else:
            answer = message


def _collect(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _end(process: subprocess.Popen[str]) -> None:
    """Leave no process behind: kill the worker and what it started, if they still run."""
    if process.poll() is None:
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _last_line(noise: IO[bytes], code: int | None) -> str:
    noise.seek(0)
    lines = noise.read().decode("utf-8", "replace").split("\n")
    last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
    return f"the process ended with exit code {code}: {last}"
