"""Frames between frames: from latents, from time, in clips, across segments, and as a command."""

import json
from fractions import Fraction

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from nrv_factory import join_nrv, make_nrv
from torch import nn

import nvcodec
from nvcodec import cli
from nvcodec.codec.interpolate import frames_between
from nvcodec.errors import UsageError
from nvcodec.models.base import VideoModel
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.video.reader import open_video


def moments(*positions):
    return torch.tensor(positions, dtype=torch.float64)


@pytest.fixture(scope="module")
def data():
    return make_nrv(4, seed=1)


class Line(VideoModel):
    """Draws its latent, or its time, as the brightness of a frame of one pixel."""

    def __init__(self, n_frames, values=None, clip_frames=1):
        super().__init__(None, n_frames, 1, 1)
        self.n = clip_frames
        if values is not None:
            self.latent_names = ("values",)
            self.values = nn.Parameter(torch.tensor(values)[:, None, None, None])

    @property
    def clip_frames(self):
        return self.n

    def forward(self, index, latents=None):
        if not self.latent_names:
            return (index / self.n_frames)[:, None, None, None].expand(-1, 3, 1, 1)
        assert self.n == 1 or index.dtype == torch.int64
        clips = torch.unique_consecutive(index.long() // self.n)
        entries = self.values[clips] if latents is None else latents["values"]
        assert len(entries) == len(clips) or self.n == 1
        clip = torch.arange(len(entries)) if self.n == 1 else torch.zeros(len(index)).long()
        # A clip is a ramp: its k-th frame is k times a tenth brighter than its entry.
        return (entries[clip] + 0.1 * (index % self.n)[:, None, None, None]).expand(-1, 3, 1, 1)


def test_latents_are_interpolated_linearly():
    torch.manual_seed(0)
    model = HNeRV(HNeRVConfig(embed_dim=3, fc_dim=7, strides=(3, 2), lower_width=4), 3, 11, 17)
    nn.init.normal_(model.embeddings)
    drawn = model.draw_between(moments(0, 0.25, 1, 1.5, 2))
    z = model.embeddings
    latents = torch.stack([z[0], 0.75 * z[0] + 0.25 * z[1], z[1], (z[1] + z[2]) / 2, z[2]])
    expected = model(torch.zeros(5, dtype=torch.int64), {"embeddings": latents})
    torch.testing.assert_close(drawn, expected)


def test_a_function_of_time_needs_nothing_more():
    drawn = Line(5).draw_between(moments(0, 0.5, 3.2, 4))
    torch.testing.assert_close(drawn[:, 0, 0, 0], moments(0, 0.1, 0.64, 0.8))


def test_clips_begin_between_clips():
    # Frames 0, .1, .2, 1, 1.1, 1.2, 2, 2.1: the last clip is cut.
    model = Line(8, [0.0, 1.0, 2.0], clip_frames=3)
    whole = model.draw_between(torch.arange(8, dtype=torch.float64))
    expected = torch.cat([model(torch.tensor([i])) for i in range(8)])
    assert torch.equal(whole, expected)
    # One and a half frames after 1: the clip that begins at 1.5 frames, its first frame.
    between = model.draw_between(moments(1.5, 3.5, 6.5))[:, 0, 0, 0]
    # 6.5 is the second frame of a clip that begins at 5.5, before the last one at 6.
    torch.testing.assert_close(between, torch.tensor([0.5 / 3 + 0.1, 1 + 0.5 / 3, 5.5 / 3 + 0.1]))


def test_a_single_clip_has_no_neighbour():
    drawn = Line(3, [0.5], clip_frames=3).draw_between(moments(0, 0.5, 2))[:, 0, 0, 0]
    torch.testing.assert_close(drawn, torch.tensor([0.5, 0.6, 0.7]))


def test_whole_positions_are_the_decoded_frames(data):
    video = nvcodec.open(data, device="cpu")
    drawn = np.stack(list(frames_between(video, [Fraction(i, 3) for i in range(10)])))
    np.testing.assert_array_equal(drawn[::3], video[:])
    assert len({frame.tobytes() for frame in drawn}) == 10
    step = np.abs(np.diff(drawn.astype(int), axis=0)).mean((1, 2, 3))
    jump = np.abs(np.diff(video[:].astype(int), axis=0)).mean((1, 2, 3))
    assert (step.reshape(3, 3) < jump[:, None]).all()


def test_no_segment_reaches_into_the_next(data):
    video = nvcodec.open(join_nrv(data, make_nrv(3, seed=2)), device="cpu")
    drawn = list(frames_between(video, [3, 3.25, 3.5, 3.75, 4]))
    for frame, index in zip(drawn, [3, 3, 3, 4, 4], strict=True):
        np.testing.assert_array_equal(frame, video[index])
    (inside,) = frames_between(video, [4.5])
    alone = nvcodec.open(make_nrv(3, seed=2), device="cpu")
    np.testing.assert_array_equal(inside, next(frames_between(alone, [0.5])))


@pytest.mark.parametrize("position", [-0.5, 3.01])
def test_positions_outside(data, position):
    with pytest.raises(UsageError, match="allowed is 0 to 3"):
        list(frames_between(nvcodec.open(data), [position]))


def run(*args):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")


def test_command(tmp_path, data):
    coded, smooth = tmp_path / "a.nrv", tmp_path / "smooth.mp4"
    coded.write_bytes(data)
    result = run("interpolate", coded, "--factor", 3, "-o", smooth, "--json", "--device", "cpu")
    assert result.exit_code == 0, result.output
    values = json.loads(result.stdout.splitlines()[-2])
    assert values["kind"] == "interpolate"
    assert (values["frames"], values["factor"]) == (10, 3)
    assert values["frame_rate"] == pytest.approx(3 * 24000 / 1001)
    with open_video(smooth) as reader:
        assert reader.info.frame_rate == Fraction(72000, 1001)
        assert len(list(reader)) == 10


def test_a_single_frame_stays_one(tmp_path):
    coded = tmp_path / "a.nrv"
    coded.write_bytes(make_nrv(1))
    result = nvcodec.interpolate(coded, tmp_path / "a.y4m", 64, device="cpu")
    assert result.frames == 1


@pytest.mark.parametrize("factor", [1, 0, 65])
def test_factors_outside(tmp_path, data, factor):
    coded, smooth = tmp_path / "a.nrv", tmp_path / "smooth.mp4"
    coded.write_bytes(data)
    result = run("interpolate", coded, "--factor", factor, "-o", smooth)
    assert result.exit_code == 2
    assert result.stderr == f"nvcodec: error: factor is {factor}, allowed is 2 to 64\n"
    assert not smooth.exists()


def test_the_file_itself_is_safe(tmp_path, data):
    coded = tmp_path / "a.nrv"
    coded.write_bytes(data)
    assert run("interpolate", coded, "-o", coded, "-y").exit_code == 2
    assert run("interpolate", tmp_path / "none.nrv", "-o", tmp_path / "a.mp4").exit_code == 3
    (tmp_path / "b.mp4").write_bytes(b"kept")
    assert run("interpolate", coded, "-o", tmp_path / "b.mp4").exit_code == 2
    assert (tmp_path / "b.mp4").read_bytes() == b"kept"
