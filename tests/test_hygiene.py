"""Rules that hold for the whole tree: nothing executable is ever loaded, start-up stays light."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "nvcodec").rglob("*.py"))
FORBIDDEN = re.compile(
    r"torch\.load|torch\.jit|\bpickle\b|allow_pickle|\beval\(|\bexec\(|shell=True|onnx"
)


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_code_is_loaded_from_files(path):
    # model.eval() switches a network to inference; it evaluates nothing.
    text = path.read_text(encoding="utf-8").replace(".eval()", "")
    docs = re.sub(r'""".*?"""', "", text, flags=re.DOTALL)
    assert not FORBIDDEN.findall(docs)


def loaded_by(statement):
    code = f"{statement}\nimport sys; print(' '.join(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_bitstream_needs_no_torch():
    modules = loaded_by("import nvcodec.bitstream.tensors, nvcodec.bitstream.header")
    assert not {"torch", "av", "click", "rich"} & modules


def test_package_import_is_light():
    assert not {"torch", "av", "numpy", "click", "rich"} & loaded_by("import nvcodec")


def test_decoder_does_not_import_training():
    modules = loaded_by("import nvcodec.codec.decoder")
    assert not {"nvcodec.codec.fit", "nvcodec.codec.optim", "nvcodec.codec.encoder"} & modules


def test_library_never_prints():
    for path in SOURCES:
        if path.name not in {"cli.py", "console.py"}:
            assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE)
