"""Where and from what a bench was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from contextlib import suppress
from pathlib import Path

import av
import torch

import nvcodec
from nvcodec.bench.results import Machine


def cpu_name() -> str:
    """Return the model of the CPU, and the vector instructions that PyTorch takes on it.

    Virtual machines hide the generation, and what differs between two of them is up to threefold.
    """
    name = platform.processor() or platform.machine()
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                name = line.split(":", 1)[1].strip()
                break
    return f"{name} ({torch.backends.cpu.get_cpu_capability()})"


def available_cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def commit() -> str | None:
    """Return the commit of the program, with -dirty; None where it does not run from a checkout."""
    root = Path(nvcodec.__file__).parents[1]
    if not (root / ".git").exists():
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "describe", "--always", "--dirty"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.strip()


def describe_machine(device: torch.device, threads: int) -> Machine:
    """Return what figures of time depend on."""
    gpu = f" {torch.cuda.get_device_name(device)}" if device.type == "cuda" else ""
    return Machine(
        cpu=cpu_name(),
        n_threads=threads,
        device=f"{device.type}{gpu}",
        platform=platform.platform(),
        versions={
            "python": platform.python_version(),
            "torch": torch.__version__,
            "av": av.__version__,
            "ffmpeg": av.ffmpeg_version_info,
        },
    )
