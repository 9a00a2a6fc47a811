"""Any frames of many files, in any order, from this process or from workers."""

import numpy as np
import pytest
import torch
from nrv_factory import join_nrv, make_nrv
from torch.utils.data import DataLoader

import nvcodec
from nvcodec.codec.decoder import VideoFile
from nvcodec.codec.selection import evenly_spaced
from nvcodec.errors import BitstreamError, InputError, UsageError


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two files, of 5 and of 8 frames, the second in two segments."""
    folder = tmp_path_factory.mktemp("nrv")
    paths = [folder / "a.nrv", folder / "b.nrv"]
    paths[0].write_bytes(make_nrv(5, seed=1))
    paths[1].write_bytes(join_nrv(make_nrv(4, seed=2), make_nrv(4, seed=3)))
    return paths


@pytest.fixture(scope="module")
def truth(files):
    """All frames of both files, as `decode` draws them."""
    return np.concatenate([nvcodec.open(path)[:] for path in files])


def to_frame(sample):
    return sample.permute(1, 2, 0).numpy()


def halve(sample):
    return sample.float() / 510


def test_frames_differ(truth):
    assert len({frame.tobytes() for frame in truth}) == len(truth) == 13


def test_listed_frames(files, truth):
    video = nvcodec.open(files[1], batch=3)
    listed, alone = video[[6, 0, 6, -1, 2]], truth[5:][[6, 0, 6, 7, 2]]
    # Frames of another batch may differ in the last bit of a sum.
    assert np.abs(listed.astype(int) - alone).max() <= 1
    assert (listed == alone).mean() > 0.99
    assert video[()].shape == (0, 32, 48, 3)
    with pytest.raises(IndexError, match="frame 8 is outside the video's 8 frames"):
        video[[0, 8]]


def test_listed_frames_load_each_network_once(files):
    video = nvcodec.open(files[1], batch=8)
    loaded, drawn = [], []
    read = video._read

    def watched(number):
        found = read(number)
        found[0].register_forward_hook(lambda _, index, out: drawn.append(len(out)))
        loaded.append(number)
        return found

    video._read = watched
    video[[7, 0, 5, 1, 6]]
    assert loaded == [0, 1]
    assert drawn == [2, 3]


def test_samples_are_the_frames_of_all_files(files, truth):
    dataset = nvcodec.NrvDataset(files)
    assert len(dataset) == 13
    for i, frame in enumerate(truth):
        sample = dataset[i]
        assert sample.dtype == torch.uint8
        assert sample.is_contiguous()
        np.testing.assert_array_equal(to_frame(sample), frame)
    assert [dataset.locate(i) for i in (0, 4, 5, 12)] == [(0, 0), (0, 4), (1, 0), (1, 7)]
    for index in (-1, 13):
        with pytest.raises(IndexError, match="outside the 13 samples"):
            dataset[index]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize(("start_method", "n_workers"), [("fork", 2), ("spawn", 1)])
def test_workers_give_the_same_batches(files, truth, start_method, n_workers):
    if start_method not in torch.multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start_method}")
    dataset = nvcodec.NrvDataset(files, batch=2, n_open=1)
    order = torch.randperm(13, generator=torch.Generator().manual_seed(0)).tolist()
    dataset[order[0]]  # a file is open when the workers start
    loader = DataLoader(
        dataset,
        batch_size=4,
        sampler=order,
        num_workers=n_workers,
        multiprocessing_context=start_method,
    )
    batches = list(loader)
    assert [len(batch) for batch in batches] == [4, 4, 4, 1]
    for sample, i in zip(torch.cat(batches), order, strict=True):
        assert np.abs(to_frame(sample).astype(int) - truth[i]).max() <= 1


def test_transform(files, truth):
    sample = nvcodec.NrvDataset(files[:1], transform=halve)[2]
    np.testing.assert_allclose(to_frame(sample), truth[2] / 510, atol=1e-6)


def test_few_networks_stay_open(files, monkeypatch):
    opened = []
    begin = VideoFile.__init__
    monkeypatch.setattr(
        VideoFile, "__init__", lambda self, *a, **k: opened.append(a[0]) or begin(self, *a, **k)
    )
    dataset = nvcodec.NrvDataset([*files, files[0]], n_open=2)
    opened.clear()
    for i in (0, 5, 1, 6, 2):
        dataset[i]
    assert opened == files
    dataset[13]
    assert opened == [*files, files[0]]
    dataset[1]
    assert len(opened) == 3
    dataset[5]
    assert len(opened) == 4


@pytest.mark.parametrize("frames", [2, [0, 3], (0, 3)])
def test_some_frames_of_each_file(files, frames):
    dataset = nvcodec.NrvDataset(files, frames)
    wanted = [(0, 0), (0, 2), (1, 0), (1, 4)] if frames == 2 else [(0, 0), (0, 3), (1, 0), (1, 3)]
    assert [dataset.locate(i) for i in range(len(dataset))] == wanted


def test_evenly_spaced():
    assert evenly_spaced(132, 4) == [0, 33, 66, 99]
    assert evenly_spaced(7, 7) == list(range(7))
    assert evenly_spaced(10, 3) == [0, 3, 6]


def test_mistakes(tmp_path, files):
    with pytest.raises(UsageError, match=r"a\.nrv: 6 frames were asked for, allowed are 1 to 5"):
        nvcodec.NrvDataset(files, 6)
    with pytest.raises(UsageError, match=r"a\.nrv: frame 7 was asked for, allowed are 0 to 4"):
        nvcodec.NrvDataset(files, [7])
    with pytest.raises(InputError, match="cannot be read"):
        nvcodec.NrvDataset([tmp_path / "none.nrv"])
    bad = tmp_path / "bad.nrv"
    bad.write_bytes(files[0].read_bytes()[:-9])
    with pytest.raises(BitstreamError):
        nvcodec.NrvDataset([bad])
    assert len(nvcodec.NrvDataset([])) == 0
