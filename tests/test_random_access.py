"""Single frames of a file: by number and by time, as numpy and torch, from several threads."""

from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import numpy as np
import pytest
import torch
from nrv_factory import join_nrv, make_nrv, make_tiny

import nvcodec
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.errors import UsageError
from nvcodec.media import Timing

UNEVEN = Timing(time_base=Fraction(1, 1000), pts=[40, 80, 140, 141, 300], duration=20)


@pytest.fixture(scope="module")
def data() -> bytes:
    """Two segments, 11 frames."""
    return join_nrv(make_nrv(6), make_nrv(5, seed=1))


@pytest.fixture(scope="module")
def uneven() -> bytes:
    """Five frames with times of their own, from 0.04 to 0.32 s."""
    from dataclasses import replace

    return pack_stream(replace(unpack_stream(make_nrv(5)), timing=UNEVEN))


@pytest.mark.parametrize(
    ("time_s", "index"),
    [("0.04", 0), ("0.0799", 0), ("0.08", 1), ("0.1405", 2), ("0.141", 3), ("0.299999", 3),
     ("0.2999996", 4), ("0.3", 4), ("0.3199", 4), ("0.0399996", 0)],
)  # fmt: skip
def test_times_are_exact(uneven, time_s, index):
    with nvcodec.open(uneven) as video:
        assert video.index_at(Fraction(time_s)) == index
        assert (video.frame_at(Fraction(time_s)) == video[index]).all()


@pytest.mark.parametrize("time_s", [0, 0.0399, 0.32, 1e9, -1.0, float("nan"), float("inf")])
def test_times_outside_are_refused(uneven, time_s):
    with pytest.raises(UsageError, match=r"shown from 0\.04 s to before 0\.32 s"):
        nvcodec.open(uneven).frame_at(time_s)


def test_every_time_finds_its_frame(data):
    video = nvcodec.open(data)
    times = [video.timing.seconds(i) for i in range(len(video))]
    assert [video.index_at(time) for time in times] == list(range(11))
    assert [video.index_at(float(time)) for time in times] == list(range(11))
    assert [video.index_at(Fraction(f"{float(time):.6f}")) for time in times] == list(range(11))


@pytest.mark.parametrize("key", [3, -1, slice(2, 9, 3), [10, 0, 0, 7], np.array([1, -2]), []])
def test_tensors_are_the_frames(data, key):
    video = nvcodec.open(data, batch=2)
    tensor, frames = video.tensor(key), video[key]
    assert tensor.dtype == torch.uint8
    assert frames.dtype == np.uint8
    assert (tensor.movedim(-3, -1).numpy() == frames).all()
    tensor += 1  # an ordinary tensor, which its owner may change


@pytest.mark.parametrize(("key", "error"), [
    (11, IndexError), (-12, IndexError), ([0, 11], IndexError), ("3", TypeError), (1.5, TypeError),
])  # fmt: skip
def test_wrong_keys(data, key, error):
    video = nvcodec.open(data)
    with pytest.raises(error):
        video[key]
    with pytest.raises(error):
        video.tensor(key)


def test_sixteen_bits_round_to_eight(data):
    fine, plain = nvcodec.open(data, bit_depth=16), nvcodec.open(data)
    frames = fine[[0, 7]]
    assert frames.dtype == np.uint16
    assert (fine.tensor([0, 7]).movedim(-3, -1).numpy() == frames).all()
    assert len(np.unique(frames)) > 256
    rounded = np.rint(frames / 257.0)
    assert (rounded == plain[[0, 7]]).mean() > 0.99
    assert np.abs(rounded - plain[[0, 7]]).max() <= 1
    for wrong in (7, 17):
        with pytest.raises(UsageError, match=f"bit depth is {wrong}, allowed are 8 to 16"):
            nvcodec.open(data, bit_depth=wrong)


def test_threads_share_an_object(data):
    wanted = nvcodec.open(data)[:]
    with nvcodec.open(data) as video, ThreadPoolExecutor(8) as pool:
        jobs = [i * 7 % 11 for i in range(44)]
        frames = list(pool.map(video.__getitem__, jobs))
    assert all((frame == wanted[i]).all() for frame, i in zip(frames, jobs, strict=True))


@pytest.mark.parametrize("arch", ["canvas", "3dnerv", "hinerv"])
def test_cores_draw_clips_of_their_own(arch):
    data = make_tiny(arch, 7, 48, 32)
    asked = [0, 1, 1, 6, 3, 4, 5]
    alone = nvcodec.open(data, device="cpu")[asked]
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        with nvcodec.open(data, device="cpu", batch=None) as video:
            assert video.batch == 3
            together, tensor = video[asked], video.tensor(asked)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    difference = np.abs(together.astype(int) - alone)
    assert difference.max() <= 1
    assert (difference == 0).mean() > 0.999
    assert torch.equal(tensor, torch.from_numpy(together).permute(0, 3, 1, 2))


def test_a_core_that_fails_fails_all(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        video = nvcodec.open(make_tiny("canvas", 4, 48, 32), device="cpu", batch=2)
        model = video.load(0)
        whole = model.draw_samples
        failing = lambda i, depth: whole(i, depth) // (1 // (1 - int(i[0])))  # noqa: E731
        monkeypatch.setattr(model, "draw_samples", failing)
        with pytest.raises(ZeroDivisionError):
            video[[0, 1]]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_one_may_go_to_and_fro_between_scenes(monkeypatch):
    data = join_nrv(*(make_nrv(2, 48, 32, seed=seed) for seed in range(6)))
    read, n_read = nvcodec.VideoFile._read, []
    watched = lambda video, number: n_read.append(number) or read(video, number)  # noqa: E731
    monkeypatch.setattr(nvcodec.VideoFile, "_read", watched)
    with nvcodec.open(data, device="cpu") as video:
        in_order = list(video)
        assert n_read == list(range(6))
        for index in (11, 5, 10, 4, 9, 11, 0, 11):
            np.testing.assert_array_equal(video[index], in_order[index])
    assert n_read == [*range(6), 0]
