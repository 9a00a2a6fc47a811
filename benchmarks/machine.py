"""What every result file says of where and from what it was measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch

import nvcodec
from nvcodec.bench.machine import cpu_name

RESULTS = Path(__file__).parent / "results"


def short(argument: str) -> str:
    """Return the name of a file without the folder that it lies in here."""
    return Path(argument).name if Path(argument).exists() else argument


def describe() -> dict[str, Any]:
    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("describe", "--always")
    # Results that an earlier program of this folder wrote are no change of the code.
    if git("status", "--porcelain", "--untracked-files=no", "--", ".", f":(exclude){RESULTS}"):
        commit += "-dirty"
    return {
        "command": " ".join(["python", sys.argv[0], *map(short, sys.argv[1:])]),
        "nvcodec": nvcodec.__version__,
        "commit": commit,
        "cpu": cpu_name(),
        "n_cores": os.cpu_count(),
        "n_threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "torch": torch.__version__,
    }


def save(name: str, results: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and print it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(describe() | results, indent=2) + "\n"
    (RESULTS / f"{name}.json").write_text(text)
    print(text)
