"""Changed files and words at random; with nvcodec[fuzz] also a minute of every fuzzer.

Long runs are by hand: `python tests/fuzz/run.py`.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parent / "fuzz"))

import targets

from nvcodec.bitstream.tensors import pack_tensors, unpack_tensors
from nvcodec.codec.contents import read_corrections
from nvcodec.codec.decoder import VideoFile
from nvcodec.errors import BitstreamError

RUN = Path(__file__).parent / "fuzz" / "run.py"


PICTURE = targets.SPECS[-1].shape


def changed(data, rng):
    """Return bytes with a few of them set, cut out, repeated or taken from elsewhere."""
    out = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        at, length = int(rng.integers(len(out) + 1)), int(rng.integers(1, 9))
        other = int(rng.integers(len(out) + 1))
        piece = (
            rng.bytes(length), bytes(length), b"\xff" * length, out[other : other + length], b"",
        )[int(rng.integers(5))]  # fmt: skip
        kept = at + (length if rng.integers(2) else len(piece))
        out[at:kept] = piece
    return bytes(out)


@pytest.mark.parametrize(
    ("name", "n"), [("container", 1000), ("tensors", 500), ("decode_tiny", 120)]
)
def test_random_changes(name, n):
    """What the fuzzers do, without coverage to guide it: for machines that have no atheris."""
    rng = np.random.default_rng(0)
    seeds = targets.seed_tensors() if name == "tensors" else targets.seed_files()
    target = getattr(targets, name)
    for i in range(n):
        data = changed(seeds[i % len(seeds)], rng)
        target(targets.with_checksums(data) if name != "tensors" and i % 8 else data)


def fuzz(name, out, **given):
    """Run one fuzzer; return its figures."""
    pytest.importorskip("atheris", reason="needs nvcodec[fuzz]")
    options = [word for key, value in given.items() for word in (f"--{key}", str(value))]
    command = [sys.executable, str(RUN), "--only", name, "-o", str(out), *options]
    done = subprocess.run(command, capture_output=True, text=True)
    result = json.loads(out.read_text())
    assert result["findings"] == 0, result["fuzzers"][0]["findings"]
    assert done.returncode == 0, done.stderr
    return result


@pytest.mark.parametrize("name", ["container", "tensors", "decode_tiny"])
def test_a_minute(tmp_path, name):
    assert fuzz(name, tmp_path / "fuzz.json", seconds=60)["inputs"] > 100


def test_seed_files_are_valid():
    for data in targets.seed_files():
        assert targets.with_checksums(data) == data
        targets.container(data)
        targets.decode_tiny(data)
        again = targets.with_new_weights(data, 1)
        assert targets.unpack_stream(again).header == targets.unpack_stream(data).header
        targets.decode_tiny(again)


def test_words_are_repaired():
    """A writer's words stay, changed ones become valid; the fuzzers get behind the range coder."""
    rng = np.random.default_rng(0)
    n_pictures = 0
    for seed, data in enumerate(targets.seed_tensors()):
        assert targets.with_closed_words(data, seed) == data
        kept = 1 + len(data) // 2
        changed = data[:kept] + rng.bytes(len(data) - kept)
        try:
            repaired = targets.with_closed_words(changed, seed)
        except BitstreamError:
            continue
        specs, predicts = targets.picked(repaired)
        found = unpack_tensors(specs, repaired[1:], predicts=predicts)
        n_pictures += predicts and any(q.spec.shape == PICTURE and q.symbols.any() for q in found)
        targets.tensors(repaired)
    assert n_pictures > 5


def test_coefficients_of_blocks_are_among_the_seeds():
    """Where they are coded by lower frequencies, they are shorter than as rows."""
    spec = next(spec for spec in targets.SPECS if spec.dct_side)
    n_shorter = 0
    for data in targets.seed_tensors():
        specs, predicts = targets.picked(data)
        if predicts and spec in specs:
            found = unpack_tensors(specs, data[1:], predicts=True)[specs.index(spec)]
            as_rows, shorter = (pack_tensors([found], predicts=how) for how in (False, True))
            n_shorter += len(shorter) < len(as_rows)
    assert n_shorter > 5


def motion_of(data):
    """Return the corrections of the first segment if any block of them moves."""
    stream = targets.unpack_stream(data)
    found = read_corrections(stream.segments[0], stream.header, targets.TINY)
    moves = found is not None and found.motion is not None and len(found.motion.vectors) > 0
    return found if moves else None


def test_blocks_that_move_are_among_the_seeds():
    """By whole and half pixels, with coefficients and without."""
    found = [motion for motion in map(motion_of, targets.seed_files()) if motion is not None]
    assert len(found) >= 3
    halves = np.concatenate([corrections.motion.vectors % 2 for corrections in found])
    assert len(np.unique(halves, axis=0)) == 4
    with_coefficients = [c.blocks[c.motion.blocks] for c in found]
    assert set(np.concatenate(with_coefficients).tolist()) == {False, True}


def test_other_blocks_move_in_other_ways():
    """The fuzzers get behind the range coder: to other vectors, which are drawn."""
    n_others = 0
    for data in filter(motion_of, targets.seed_files()):
        assert targets.with_new_weights(data, 0) == data
        given = motion_of(data)
        for seed in (1, 3, 5, 7):
            again = targets.with_new_weights(data, seed)
            found = motion_of(again)
            n_others += found is not None and not np.array_equal(
                found.motion.vectors, given.motion.vectors
            )
            targets.decode_tiny(again)
    assert n_others >= 5


def test_files_with_pictures_are_among_the_seeds():
    pictured = [
        data
        for data in targets.seed_files()
        if any(segment.header.predicts for segment in targets.unpack_stream(data).segments)
    ]
    assert len(pictured) >= 3
    for data in pictured:
        assert targets.with_new_weights(data, 0) == data
        for seed in (1, 3):
            again = targets.with_new_weights(data, seed)
            assert again != data
            frames = VideoFile(again, device="cpu", limits=targets.TINY)
            assert frames[0].dtype == np.uint8
