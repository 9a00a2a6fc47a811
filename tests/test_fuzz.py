"""A short run of every fuzzer; long ones are by hand: `python tests/fuzz/run.py`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parent / "fuzz" / "run.py"


@pytest.mark.parametrize(("name", "n"), [("container", 300), ("tensors", 300), ("decode_tiny", 60)])
def test_a_few_inputs(tmp_path, name, n):
    pytest.importorskip("atheris", reason="needs nvcodec[fuzz]")
    out = tmp_path / "fuzz.json"
    command = [sys.executable, RUN, "--runs", n, "--seconds", 600, "--only", name, "-o", out]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    result = json.loads(out.read_text())
    assert result["findings"] == 0, result["fuzzers"][0]["findings"]
    assert done.returncode == 0, done.stderr
    assert result["inputs"] >= n


def test_seed_files_are_valid(monkeypatch):
    monkeypatch.syspath_prepend(str(RUN.parent))
    import targets

    for data in targets.seed_files():
        assert targets.with_checksums(data) == data
        targets.container(data)
        targets.decode_tiny(data)
        again = targets.with_new_words(data, 1)
        assert targets.unpack_stream(again).header == targets.unpack_stream(data).header
        targets.decode_tiny(again)
