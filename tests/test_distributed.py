"""Processes that share every batch train the network that one process would."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
from conftest import make_video, moving_frames
from test_cli import fail

import nvcodec

ENCODE = (
    "--arch", "hnerv", "--passes", "6", "--batch", "2", "--device", "cpu", "--threads", "1",
    "--lr", "0.002", "--optimizer", "adam", "--analysis", "conv", "--analysis-share", "0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Five frames: the last batch of a pass leaves one process without a frame."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=moving_frames(5, 48, 32))


def together(*args, n=2):
    """Run the program in n processes at once; return their exit codes and what they said."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(n):
        variables = {"WORLD_SIZE": n, "RANK": rank, "LOCAL_RANK": rank}
        variables |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "GLOO_SOCKET_IFNAME": "lo"}
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "nvcodec", *map(str, args), "--distributed"],
                env=os.environ | {name: str(value) for name, value in variables.items()},
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
        )  # fmt: skip
    try:
        said = [process.communicate(timeout=240) for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], said


@pytest.mark.parametrize("coding", [("--bpp", "2"), ("--coding", "ptq", "--params", "3k")])
def test_two_processes_train_as_one(tmp_path, clip, coding):
    one, two = tmp_path / "one.nrv", tmp_path / "two.nrv"
    args = ("encode", clip, *ENCODE, *coding, "--json")
    codes, said = together(*args, "-o", two)
    assert codes == [0, 0], said
    assert '"kind": "encode"' in said[0][0]
    assert said[1][0] == ""
    subprocess.run(
        [sys.executable, "-m", "nvcodec", *map(str, args), "-o", one],
        check=True, capture_output=True, timeout=240,
    )  # fmt: skip
    with nvcodec.open(one) as a, nvcodec.open(two) as b:
        # Sums in another order differ in their last bits, and 18 steps make them a little larger.
        difference = np.abs(a[:].astype(int) - b[:].astype(int))
    assert difference.mean() < 0.3
    assert difference.max() <= 8


def test_a_batch_that_cannot_be_shared(tmp_path, clip):
    codes, said = together(
        "encode", clip, "-o", tmp_path / "a.nrv", *ENCODE, "--bpp", "2", "--batch", "3"
    )
    assert codes == [2, 2]
    assert "batch is 3, but 2 processes share it: a multiple of 2 frames is needed" in said[0][1]
    assert list(tmp_path.iterdir()) == []


def test_who_cannot_write_stops_all(tmp_path, clip):
    output = tmp_path / "a.nrv"
    output.write_bytes(b"mine")
    codes, said = together("encode", clip, "-o", output, *ENCODE, "--bpp", "2")
    assert codes == [2, 7]
    assert "use -y to overwrite" in said[0][1]
    assert "another process of this encode ended" in said[1][1]
    assert output.read_bytes() == b"mine"


def test_one_process_alone_says_how_to_start(tmp_path, clip):
    args = ("encode", clip, "-o", tmp_path / "a.nrv", "--distributed")
    assert "start it with torchrun" in fail(2, *args)
    assert "needs a run of fixed length" in fail(2, *args, "--max-time", "9m")
