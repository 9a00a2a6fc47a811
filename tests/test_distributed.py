"""Processes that share every batch train the network that one process would."""

import os
import random
import socket
import subprocess
import sys
from contextlib import suppress

import numpy as np
import pytest
from conftest import make_video, moving_frames
from test_cli import fail

import nvcodec
from nvcodec.codec.launch import FIRST_PORT, N_PORTS, team_variables
from nvcodec.errors import UsageError

ENCODE = (
    "--arch", "hnerv", "--passes", "6", "--batch", "2", "--device", "cpu", "--threads", "1",
    "--lr", "0.002", "--optimizer", "adam", "--analysis", "conv", "--analysis-share", "0.3",
)  # fmt: skip


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """Five frames: the last batch of a pass leaves one process without a frame."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=moving_frames(5, 48, 32))


def torchrun_variables(rank, n, port):
    return {
        "WORLD_SIZE": n, "RANK": rank, "LOCAL_RANK": rank,
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port,
    }  # fmt: skip


def srun_variables(rank, n, port):
    return {
        "SLURM_NTASKS": n, "SLURM_PROCID": rank, "SLURM_LOCALID": rank,
        "SLURM_STEP_NODELIST": "node07", "SLURM_JOB_ID": port - FIRST_PORT,
    }  # fmt: skip


def free_port():
    """A port that a job's number can stand for."""
    for port in random.sample(range(FIRST_PORT, FIRST_PORT + N_PORTS), 50):
        with socket.socket() as tried, suppress(OSError):
            tried.bind(("127.0.0.1", port))
            return port
    raise AssertionError("50 ports are taken")


def together(*args, n=2, told=torchrun_variables):
    """Run the program in n processes at once; return their exit codes and what they said."""
    port = free_port()
    processes = []
    for rank in range(n):
        variables = {"GLOO_SOCKET_IFNAME": "lo"} | told(rank, n, port)
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


def test_two_processes_train_scene_after_scene(tmp_path):
    first = moving_frames(8, 48, 32)
    frames = first + [np.ascontiguousarray(255 - frame[::-1]) for frame in first]
    clip = make_video(tmp_path / "cut.mkv", codec="ffv1", pixel_format="bgr0", frames=frames)
    out = tmp_path / "out.nrv"
    codes, said = together("encode", clip, *ENCODE, "--bpp", "2", "-o", out)
    assert codes == [0, 0], said
    assert "scene 2 of 2: frames 8 to 15" in said[0][1]
    with nvcodec.open(out) as video:
        assert len(video.stream.segments) == 2
        assert len(video[:]) == 16


def test_srun_starts_what_torchrun_does(tmp_path, clip):
    a, b = tmp_path / "a.nrv", tmp_path / "b.nrv"
    args = ("encode", clip, *ENCODE, "--passes", "1", "--coding", "ptq", "--params", "3k")
    codes, said = together(*args, "-o", a)
    assert codes == [0, 0], said
    codes, said = together(*args, "-o", b, told=srun_variables)
    assert codes == [0, 0], said
    assert said[1] == ("", "")
    assert a.read_bytes() == b.read_bytes()


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


SRUN = {"SLURM_NTASKS": "4", "SLURM_PROCID": "2", "SLURM_LOCALID": "1", "SLURM_JOB_ID": "1234567"}
SRUN |= {"SLURM_JOB_NODELIST": "node[03-05,7],other1"}


def variables_of(monkeypatch, **variables):
    """What the processes would meet by, told these and no others."""
    monkeypatch.setattr(os, "environ", dict(variables))
    return team_variables()


def test_what_srun_says(monkeypatch):
    expected = {"WORLD_SIZE": "4", "RANK": "2", "LOCAL_RANK": "1"}
    expected |= {"MASTER_ADDR": "node03", "MASTER_PORT": "24567"}
    assert variables_of(monkeypatch, **SRUN) == expected
    # What somebody set counts, and torchrun within a task of srun.
    given = {"MASTER_ADDR": "10.0.0.7", "MASTER_PORT": "5000"}
    assert variables_of(monkeypatch, **SRUN, **given) == expected | given
    inner = {"WORLD_SIZE": "2", "RANK": "1"}
    assert variables_of(monkeypatch, **SRUN, **inner) == inner
    # A single task, and an allocation without srun.
    assert variables_of(monkeypatch, **SRUN | {"SLURM_NTASKS": "1"}) == {}
    assert variables_of(monkeypatch, SLURM_NTASKS="4") == {}


@pytest.mark.parametrize(
    ("nodes", "host"),
    [
        ("node7", "127.0.0.1"),
        ("node[07]", "127.0.0.1"),
        ("node[7,9]", "node7"),
        ("node[007-100]", "node007"),
        ("a1.site.org,b[1-2]", "a1.site.org"),
        ("rack[2-3]-n[10-12,4],x", "rack2-n10"),
        ("10.0.0.[4-5]", "10.0.0.4"),
    ],
)
def test_the_first_host_of_a_list(monkeypatch, nodes, host):
    found = variables_of(monkeypatch, **SRUN, SLURM_STEP_NODELIST=nodes)
    assert found["MASTER_ADDR"] == host


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("SLURM_NTASKS", "four", "SLURM_NTASKS is 'four', allowed is 2 or more"),
        ("SLURM_NTASKS", "0", "SLURM_NTASKS is '0', allowed is 2 or more"),
        ("SLURM_PROCID", "4", "SLURM_PROCID is '4', allowed is 0 to 3"),
        ("SLURM_PROCID", "-1", "SLURM_PROCID is '-1', allowed is 0 to 3"),
        ("SLURM_LOCALID", None, "the variable SLURM_LOCALID is missing"),
        ("SLURM_JOB_ID", "9" * 5000, "SLURM_JOB_ID is '9"),
        ("SLURM_JOB_ID", None, "the variable SLURM_JOB_ID is missing"),
        ("SLURM_JOB_NODELIST", None, "the variable SLURM_JOB_NODELIST is missing"),
        ("SLURM_JOB_NODELIST", "node[", "SLURM_JOB_NODELIST is 'node[', but hosts such as"),
        ("SLURM_JOB_NODELIST", "", "SLURM_JOB_NODELIST is '', but hosts such as"),
    ],
)
def test_what_srun_cannot_have_said(monkeypatch, name, value, message):
    told = SRUN | {name: value}
    with pytest.raises(UsageError) as caught:
        variables_of(monkeypatch, **{k: v for k, v in told.items() if v is not None})
    assert message in str(caught.value)


def test_wrong_variables_of_srun_end_an_encode(tmp_path, clip, monkeypatch):
    for name, value in (SRUN | {"SLURM_PROCID": "x"}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("RANK", raising=False)
    args = ("encode", clip, "-o", tmp_path / "a.nrv", "--distributed")
    assert "SLURM_PROCID is 'x', allowed is 0 to 3" in fail(2, *args)
    assert list(tmp_path.iterdir()) == []
