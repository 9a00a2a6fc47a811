"""Run all fuzzers one after the other and write what they tried and found as JSON.

`python tests/fuzz/run.py --seconds 600 -o benchmarks/results/fuzz.json` needs nvcodec[fuzz]. An
input that made a fuzzer fail is tried again alone: where it fails again it is a finding, else (a
machine that stood still, memory that many other inputs took) it is listed as not reproduced. Then
the fuzzer goes on with another seed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
from importlib import metadata
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
NAMES = ("container", "tensors", "decode_tiny")
MAX_FINDINGS = 20
RSS_LIMIT_MB = 2048
INPUT_TIMEOUT_S = 120


def write_seeds(name: str, folder: Path) -> int:
    """Write the seed corpus of a fuzzer; return its size."""
    import targets

    seeds = targets.seed_tensors() if name == "tensors" else targets.seed_files()
    for i, data in enumerate(seeds):
        (folder / f"seed{i:03}").write_bytes(data)
    return len(seeds)


def fuzz(name: str, *, seconds: int, runs: int, seed: int, folder: Path) -> dict:
    """Run one fuzzer for so many seconds (or inputs); return its figures."""
    corpus = folder / name
    corpus.mkdir()
    n_seeds = write_seeds(name, corpus)
    figures = {"name": name, "seeds": n_seeds, "inputs": 0, "findings": [], "not_reproduced": []}
    began, cpu_s = time.monotonic(), children_s()
    while True:
        left_s = seconds - int(time.monotonic() - began)
        command = [
            sys.executable, str(HERE / f"fuzz_{name}.py"), str(corpus), "-print_final_stats=1",
            "-max_len=4096", f"-seed={seed}", f"-max_total_time={max(1, left_s)}",
            f"-rss_limit_mb={RSS_LIMIT_MB}", f"-timeout={INPUT_TIMEOUT_S}",
            f"-artifact_prefix={folder}/{name}-", *([f"-runs={runs}"] if runs else []),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, env=environment())
        said = done.stdout.decode(errors="replace") + done.stderr.decode(errors="replace")
        figures["inputs"] += number(r"number_of_executed_units:\s*(\d+)", said)
        figures["peak_rss_mb"] = number(r"peak_rss_mb:\s*(\d+)", said)
        figures["coverage"] = number(r".*\bcov: (\d+)", said)
        if done.returncode == 0:
            break
        found = finding(said)
        kind = "findings" if fails_alone(name, found["input_hex"], folder) else "not_reproduced"
        figures[kind].append(found)
        seed += 1
        if len(figures["findings"]) == MAX_FINDINGS or time.monotonic() - began >= seconds:
            break
    figures["corpus"] = len(list(corpus.iterdir()))
    figures["seconds"] = round(time.monotonic() - began, 1)
    figures["cpu_s"] = round(children_s() - cpu_s, 1)
    return figures


def children_s() -> float:
    """Return the processor time of all fuzzers so far: a busy machine lends them little."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}


def fails_alone(name: str, input_hex: str, folder: Path) -> bool:
    """Tell whether a fuzzer fails on this one input in a process of its own."""
    path = folder / "alone"
    path.write_bytes(bytes.fromhex(input_hex))
    limits = [f"-rss_limit_mb={RSS_LIMIT_MB}", f"-timeout={INPUT_TIMEOUT_S}"]
    command = [sys.executable, str(HERE / f"fuzz_{name}.py"), str(path), *limits]
    return subprocess.run(command, capture_output=True, env=environment()).returncode != 0


def number(pattern: str, said: str) -> int:
    found = re.findall(pattern, said)
    return int(found[-1]) if found else 0


def finding(said: str) -> dict:
    """Return the exception, where it came from, and the input's file."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Iteration)\b", line)]
    causes = [line for line in lines if line.startswith("==") and "ERROR" in line]
    places = [line for line in lines if line.startswith("File ") and "nvcodec" in line]
    artifact = re.search(r"Test unit written to (\S+)", said)
    data = Path(artifact[1]).read_bytes() if artifact else b""
    return {
        "error": (errors or causes or lines[-1:] or ["no output"])[0][:300],
        "place": places[-1] if places else None,
        "input_hex": data.hex(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="of each fuzzer")
    parser.add_argument("--runs", type=int, default=0, help="end after so many inputs each")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", choices=NAMES, help="run one of them")
    parser.add_argument("-o", "--output", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        fuzzers = [
            fuzz(name, seconds=args.seconds, runs=args.runs, seed=args.seed, folder=Path(temporary))
            for name in NAMES
            if args.only in (None, name)
        ]
    options = " ".join(arg for arg in sys.argv[1:])
    result = {
        "command": f"python tests/fuzz/run.py {options}",
        "versions": {
            "python": platform.python_version(),
            **{name: metadata.version(name) for name in ("atheris", "torch", "constriction")},
        },
        "inputs": sum(f["inputs"] for f in fuzzers),
        "findings": sum(len(f["findings"]) for f in fuzzers),
        "fuzzers": fuzzers,
    }
    text = json.dumps(result, indent=1) + "\n"
    if args.output:
        args.output.write_text(text)
    print(text, end="")
    return 1 if result["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
