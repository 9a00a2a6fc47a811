"""What happens to an encode that is killed, starved or interrupted: whole files or none."""

import dataclasses
import json
import os
import resource
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import make_video, moving_frames
from nrv_factory import make_nrv, make_tiny
from test_cli import QUICK, environment, fail, listing, program, run, run_json
from test_codec import options

import nvcodec
from nvcodec import storage
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.errors import Interrupted, ResourceError, UsageError
from nvcodec.video.reader import open_video

KILLS = Path(__file__).parents[1] / "benchmarks" / "kills.py"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """32 x 32, 6 frames, lossless RGB."""
    path = tmp_path_factory.mktemp("crashes") / "clip.mkv"
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=moving_frames(6, 32, 32))


@contextmanager
def tiny_disk(folder: Path, size: str, *flags: str):
    """Mount a disk of this size on a new folder; skip where that is not allowed."""
    folder.mkdir()
    options = ",".join((f"size={size}", *flags))
    mount = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system needs Linux and its administrator")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@contextmanager
def files_up_to(n_bytes):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def begin(clip, output, *more):
    """Start a long encode; return its process once it trains."""
    command = ("encode", clip, "-o", output, "--bpp", "2", "--passes", 9999, "--device", "cpu")
    process = program(*command, "--json", *more)
    while json.loads(process.stdout.readline())["stage"] in ("read", "prepare"):
        pass
    return process


# Killed


def test_killed_encodes_end_in_the_same_file(tmp_path):
    out = tmp_path / "kills.json"
    options = ("--kills", "3", "--passes", "2", "--seed", "7")
    command = [sys.executable, str(KILLS), *options, "-o", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    assert result["kills"] >= 3
    assert result["finished_and_identical"] >= 1


def test_what_a_killed_encode_leaves_is_recognised(tmp_path, clip):
    output = tmp_path / "a.nrv"
    with begin(clip, output) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    assert listing(tmp_path) == [".a.nrv.lock"]
    for path in (output, checkpoint_path(output)):
        storage.part_path(path).write_bytes(b"torn")
    assert len(listing(tmp_path)) == 3
    run("encode", clip, "-o", output, *QUICK)
    assert listing(tmp_path) == ["a.nrv"]


# Two of them


def test_two_encoders_on_one_output(tmp_path, clip):
    output = tmp_path / "a.nrv"
    with begin(clip, output) as process:
        for more in ((), ("-y",), ("--resume",)):
            message = fail(2, "encode", clip, "-o", output, *QUICK, *more)
            assert message == (
                f"output {output} is being made by another process; wait for it, or choose "
                "another name"
            )
        run("encode", clip, "-o", tmp_path / "b.nrv", *QUICK)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)
    assert process.returncode == 130
    assert listing(tmp_path) == [".a.nrv.resume", "b.nrv"]


def test_a_claim_is_exclusive_and_leaves_nothing(tmp_path):
    path = tmp_path / "a.nrv"
    with storage.claim(path):
        with pytest.raises(UsageError, match="by another process"), storage.claim(path):
            pass
        with storage.claim(tmp_path / "b.nrv"):
            assert listing(tmp_path) == [".a.nrv.lock", ".b.nrv.lock"]
    with storage.claim(path):
        pass
    assert listing(tmp_path) == []


@pytest.mark.parametrize("name", ["a.y4m", "a.mkv", "png/"])
def test_two_decoders_on_one_output(tmp_path, name):
    """The second one is told; what the first one leaves is whole and its own."""
    paths = tmp_path / "first.nrv", tmp_path / "second.nrv"
    for seed, path in enumerate(paths):
        path.write_bytes(make_nrv(400, 64, 48, seed=seed))
    output = f"{tmp_path}/{name}"
    place = Path(output)
    with program("decode", paths[0], "-o", output, "--device", "cpu", "--json") as process:
        while json.loads(process.stdout.readline()).get("stage") != "decode":
            pass
        process.send_signal(signal.SIGSTOP)
        try:
            for more in ((), ("-y",)):
                assert fail(2, "decode", paths[1], "-o", output, "--device", "cpu", *more) == (
                    f"output {place} is being made by another process; wait for it, or choose "
                    "another name"
                )
        finally:
            process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert [left for left in listing(tmp_path) if "part" in left or "lock" in left] == []
    alone = tmp_path / "alone"
    alone.mkdir()
    run("decode", paths[0], "-o", f"{alone}/{name}", "--device", "cpu")
    with open_video(place) as ours, open_video(alone / name) as expected:
        for i, (frame, other) in enumerate(zip(ours, expected, strict=True)):
            np.testing.assert_array_equal(frame, other, err_msg=f"frame {i}")
    assert i == 399


def test_what_a_killed_decode_leaves_is_recognised(tmp_path):
    nrv = tmp_path / "a.nrv"
    nrv.write_bytes(make_nrv(400, 64, 48))
    for name, left in (
        ("a.y4m", [".a.part.y4m", ".a.y4m.lock", "a.nrv"]),
        ("png/", ["a.nrv", "png", "png/.lock", "png/.part"]),
    ):
        output = f"{tmp_path}/{name}"
        with program("decode", nrv, "-o", output, "--device", "cpu", "--json") as process:
            while json.loads(process.stdout.readline()).get("stage") != "decode":
                pass
            process.send_signal(signal.SIGKILL)
            process.wait(timeout=60)
        assert [path for path in listing(tmp_path) if not path.endswith(".png")] == left
        run("decode", nrv, "-o", output, "--frames", 1, "--device", "cpu", "-y")
        path = Path(output)
        path = path / "000001.png" if path.is_dir() else path
        assert path.stat().st_size > 100
        path.unlink()
    assert listing(tmp_path) == ["a.nrv", "png"]


def test_an_output_that_another_process_finished_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    clip = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(2, 32, 32))
    output = tmp_path / "a.nrv"
    claim = storage.claim

    def late(path, *leftovers):
        path.write_bytes(b"of the other process")
        return claim(path, *leftovers)

    monkeypatch.setattr(storage, "claim", late)
    with pytest.raises(UsageError, match="use -y"):
        nvcodec.encode(clip, output, options(2), device="cpu")
    assert output.read_bytes() == b"of the other process"
    assert listing(tmp_path) == ["a.nrv", "in.mkv"]


# Disks


def test_a_full_disk(tmp_path, clip):
    with tiny_disk(tmp_path / "full", "4k") as full:
        size = ("--arch", "hnerv", "--size", 6000, "--passes", 2, "--device", "cpu")
        message = fail(7, "encode", clip, "-o", full / "a.nrv", *size, "-q")
        assert "a.nrv cannot be written: No space left on device" in message
        assert listing(full) == []
        nrv = tmp_path / "a.nrv"
        nrv.write_bytes(make_nrv(8, 160, 96))
        for name in ("a.mkv", "a.y4m", "png/"):
            assert "o space left" in fail(7, "decode", nrv, "-o", f"{full}/{name}", "-q")
            assert [name for name in listing(full) if name != "png"] == []


def test_raw_frames_without_room_are_refused_before_they_are_drawn(tmp_path):
    """A file of a few kilobytes that asks for 2.3 GB."""
    stream = unpack_stream(make_tiny("nerv"))
    header = dataclasses.replace(stream.header, width=16_000, height=16_000, chroma=444)
    nrv = tmp_path / "a.nrv"
    nrv.write_bytes(pack_stream(dataclasses.replace(stream, header=header)))
    with tiny_disk(tmp_path / "small", "64k") as folder:
        message = fail(7, "decode", nrv, "-o", folder / "a.y4m")
        assert "no space left for its 2304000" in message
        assert listing(folder) == []


def test_a_disk_that_takes_no_state(tmp_path, clip, monkeypatch):
    """A state that cannot be saved now and then costs a warning; at the end, the exit code 7."""
    monkeypatch.setattr("nvcodec.codec.work.CHECKPOINT_INTERVAL_S", 0.0)
    said = []
    output = tmp_path / "a.nrv"
    with files_up_to(8000):
        data, _ = nvcodec.encode(clip, output, options(2), device="cpu", listener=said.append)
        assert "the state is not saved: " in next(e.message for e in said if hasattr(e, "message"))
        with pytest.raises(ResourceError, match="cannot be written: File too large"):
            nvcodec.encode(
                clip, tmp_path / "b.nrv", options(2, arch="hnerv"), device="cpu", stop=lambda: True
            )
    assert output.read_bytes() == data
    assert listing(tmp_path) == ["a.nrv"]


def test_a_folder_that_is_read_only(tmp_path, clip):
    with tiny_disk(tmp_path / "ro", "64k", "ro") as folder:
        assert "is not writable" in fail(2, "encode", clip, "-o", folder / "a.nrv", *QUICK)
        nrv = tmp_path / "a.nrv"
        nrv.write_bytes(make_nrv(2, 32, 32))
        assert "is not writable" in fail(2, "decode", nrv, "-o", folder / "a.mp4")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the administrator may write")
def test_a_folder_without_permission(tmp_path, clip):
    folder = tmp_path / "ro"
    folder.mkdir(mode=0o555)
    assert "is not writable" in fail(2, "encode", clip, "-o", folder / "a.nrv", *QUICK)


# Memory

STARVE = """
import resource, sys
import numpy as np, torch
import nvcodec

torch.set_num_threads(1)
path, hard = sys.argv[1], resource.getrlimit(resource.RLIMIT_AS)[1]

def starve(spare_mib):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + (spare_mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

video = nvcodec.open(sys.argv[2], device="cpu", batch=2)
video.load(0)
starve(int(sys.argv[3]))
try:
    list(video)
except nvcodec.errors.ResourceError as error:
    print(error.exit_code, error)
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))

expected = list(nvcodec.open(path, device="cpu"))
for n_before in (0, 1):
    video = nvcodec.open(path, device="cpu")
    video.load(0)
    frames = video.frames(range(20))
    drawn = [next(frames) for _ in range(n_before)]
    video.batch = 19
    starve(60)
    drawn += frames
    resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
    difference = max(int(np.abs(a.astype(int) - b).max()) for a, b in zip(drawn, expected))
    print(len(drawn), difference, video.batch)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
@pytest.mark.parametrize("spare_mib", [0, 4])
def test_memory_runs_out_while_decoding(tmp_path, spare_mib):
    """At the first batch: smaller ones; at a later one: as well; for one frame: a sentence.

    None of oneDNN's kernels can be built at first, and later ones can.
    """
    paths = tmp_path / "a.nrv", tmp_path / "b.nrv"
    paths[0].write_bytes(make_nrv(20, 320, 192))
    paths[1].write_bytes(make_nrv(2, 640, 384))
    command = [sys.executable, "-c", STARVE, *map(str, paths), str(spare_mib)]
    # Otherwise each thread reserves 64 MiB of addresses, which is what the limit counts.
    env = environment() | {"MALLOC_ARENA_MAX": "1"}
    done = subprocess.run(command, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    never, *others = done.stdout.splitlines()
    assert never == "7 memory does not suffice to draw 1 frame of 640x384 at once on cpu"
    assert len(others) == 2
    for line in others:
        n_frames, difference, batch = map(int, line.split())
        assert n_frames == 20
        assert difference <= 1
        assert 1 <= batch < 19


STARVE_FIT = """
import resource, sys
import torch
from nvcodec.codec.device import _keep_freed_memory, return_freed_memory
from nvcodec.codec.fit import Fit
from nvcodec.codec.settings import FitSettings
from nvcodec.ending import failure
from nvcodec.models.hnerv import HNeRV, HNeRVConfig

_keep_freed_memory()
n_threads = int(sys.argv[1])
torch.set_num_threads(n_threads)
hard = resource.getrlimit(resource.RLIMIT_AS)[1]

def starve(spare_mib):
    pages = int(open("/proc/self/statm").read().split()[0])
    limit = pages * resource.getpagesize() + (spare_mib << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))

def make(height, width, batch):
    torch.manual_seed(0)
    frames = torch.randint(256, (batch, 3, height, width), dtype=torch.uint8)
    config = HNeRVConfig(embed_dim=4, fc_dim=12, strides=(4, 2), lower_width=12)
    model = HNeRV(config, batch, height, width)
    settings = FitSettings(n_steps=50, target_bits=8e5, batch=batch, analysis="none")
    fit = Fit(model, frames, settings, lambda tensors: 8e5)
    if fit.batch_loss.workers is not None:
        # Threads take memory of their own when they begin.
        fit.batch_loss.workers.map(lambda i: sum(range(10**6)), range(n_threads))
    return fit

short = make(192, 320, 16)
starve(int(sys.argv[2]))
short.advance()
short.advance()
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
enough = make(192, 320, 16)
enough.advance()
enough.advance()
print(enough.batch_loss.one_by_one, short.batch_loss.one_by_one, abs(short.loss - enough.loss))

never = make(768, 1280, 2)
# So that a large tensor is the first to miss memory: some native code cannot bear it.
return_freed_memory()
starve(4)
try:
    never.advance()
except Exception as error:
    found = failure(error)
resource.setrlimit(resource.RLIMIT_AS, (hard, hard))
print(*found)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
@pytest.mark.parametrize(("n_threads", "spare_mib"), [(1, 200), (2, 200)])
def test_memory_runs_out_while_encoding(n_threads, spare_mib):
    """For a batch: its clips one by one, to the same end; for one frame: a sentence."""
    command = [sys.executable, "-c", STARVE_FIT, str(n_threads), str(spare_mib)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    fitted, never = done.stdout.splitlines()
    *flags, difference = fitted.split()
    assert flags == ["False", "True"]
    assert float(difference) < 1e-3
    assert never.startswith("7 memory does not suffice; take fewer frames")


# Signals


def test_sigterm_keeps_the_state(tmp_path, clip):
    output = tmp_path / "a.nrv"
    with begin(clip, output) as process:
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert "--resume" in json.loads(out.splitlines()[-1])["hint"]
    assert listing(tmp_path) == [".a.nrv.resume"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_decode_leaves_nothing(tmp_path, number, monkeypatch):
    nrv = tmp_path / "a.nrv"
    nrv.write_bytes(make_nrv(8, 64, 48))

    def stopped(draw):
        def frames(video, *given):
            for done, frame in enumerate(draw(video, *given)):
                if done == 4:
                    os.kill(os.getpid(), number)
                yield frame

        return frames

    # Outputs in RGB and in Y'CbCr.
    for name in ("frames", "drawn"):
        monkeypatch.setattr(nvcodec.VideoFile, name, stopped(getattr(nvcodec.VideoFile, name)))
    for name in ("a.mp4", "a.y4m", "png/"):
        assert fail(130, "decode", nrv, "-o", f"{tmp_path}/{name}") == "interrupted"
        assert [left for left in listing(tmp_path) if left not in ("a.nrv", "png")] == []


def test_success_leaves_only_the_output(tmp_path, clip):
    run_json("encode", clip, "-o", tmp_path / "a.nrv", *QUICK)
    run("decode", tmp_path / "a.nrv", "-o", tmp_path / "a.mp4")
    assert listing(tmp_path) == ["a.mp4", "a.nrv"]
    with pytest.raises(Interrupted):
        nvcodec.encode(
            clip, tmp_path / "b.nrv", options(5, arch="hnerv"), device="cpu", stop=lambda: True
        )
    assert listing(tmp_path) == [".b.nrv.resume", "a.mp4", "a.nrv"]
