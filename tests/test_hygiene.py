"""Rules that hold for the whole tree: nothing executable is ever loaded, start-up stays light."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "nvcodec").rglob("*.py"))
FORBIDDEN = re.compile(
    r"torch\.load|torch\.jit|torch\.hub|torch\.package|weights_only|\b(?:c|cloud)?[pP]ickle\b"
    r"|allow_pickle|\b(?:dill|marshal|shelve|joblib)\b|\beval\(|\bexec\(|(?<!\.)\bcompile\("
    r"|\b__import__\(|os\.system|os\.popen|shell=True|onnx|yaml\.load|numpy\.load|np\.load"
)
SCRIPTS = sorted(
    path
    for folder in ("benchmarks", "examples", "tests/fuzz")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", SOURCES + SCRIPTS, ids=lambda p: str(p.relative_to(ROOT)))
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


def test_drawing_needs_no_compiler():
    """PyTorch imports its own, and SymPy, for some operations on tensors without values: 2 s."""
    paths = sorted(str(path) for path in (ROOT / "tests" / "vectors").glob("*common/*.nrv"))
    assert len(paths) > 10
    modules = loaded_by(f"import nvcodec\nfor path in {paths}: nvcodec.open(path, device='cpu')[0]")
    assert "nvcodec.models.canvas" in modules
    assert not {"torch._dynamo", "sympy"} & modules


def test_library_never_prints():
    for path in SOURCES:
        if path.name not in {"cli.py", "console.py"}:
            assert not re.search(r"^\s*print\(", path.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize(
    "line",
    [
        "torch.load(path)", "import pickle", "import cPickle", "np.load(p, allow_pickle=True)",
        "eval(text)", "exec(code)", "subprocess.run(text, shell=True)", "os.system(text)",
        "torch.jit.load(path)", "marshal.loads(data)", "compile(text, name, mode)",
        "__import__(name)", "yaml.load(text)", "import dill",
    ],
)  # fmt: skip
def test_the_rule_sees_what_it_forbids(line):
    assert FORBIDDEN.search(line)


def test_durations_are_measured_by_clocks_that_nobody_sets():
    """A change of the system's clock moves no schedule, time limit or checkpoint."""
    wall = re.compile(r"time\.time\(|time\.localtime|utcnow|datetime\.now|date\.today")
    allowed = {"nvcodec/cli/encode.py", "nvcodec/bench/run.py"}
    for path in SOURCES:
        name = path.relative_to(ROOT).as_posix()
        assert name in allowed or not wall.search(path.read_text(encoding="utf-8")), name
    for name in allowed:
        # Written into logs and reports, and only there.
        assert len(wall.findall((ROOT / name).read_text(encoding="utf-8"))) == 1


OPTIMIZED = """
import sys
from pathlib import Path
import numpy as np
import nvcodec
from conftest import make_video, moving_frames
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.errors import BitstreamError

try:
    assert False
except AssertionError:
    sys.exit("python -O keeps assertions")
folder = Path(sys.argv[1])
path = make_video(folder / "in.mkv", codec="ffv1", frames=moving_frames(2, 32, 32))
options = EncodeOptions(target=Target(bpp=2.0), passes=4)
data, result = nvcodec.encode(path, folder / "out.nrv", options, device="cpu")
if nvcodec.open(data)[:].shape != (2, 32, 32, 3):
    sys.exit("other frames")
for position in range(0, 8 * len(data), 5):
    damaged = bytearray(data)
    damaged[position // 8] ^= 1 << position % 8
    try:
        nvcodec.open(bytes(damaged))[0]
    except BitstreamError:
        continue
    sys.exit(f"bit {position} was not seen")
for payload in (b"", b"x", bytes(36)):
    try:
        nvcodec.open(data[:8] + payload, lenient=True)
    except BitstreamError:
        continue
    sys.exit("accepted")
print(len(data))
"""


def test_nothing_depends_on_assertions(tmp_path):
    """`python -O` encodes, decodes and refuses damage as ever."""
    code = f"import sys; sys.path[:0] = {[str(ROOT / 'tests'), str(ROOT)]!r}" + OPTIMIZED
    command = [sys.executable, "-O", "-c", code, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) > 100


def test_licence_and_security_policy_are_there():
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    for word in ("Trusted", "Not trusted", "Limits", "marked security", "bitstream_spec.md"):
        assert word in policy
