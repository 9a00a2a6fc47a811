"""Inpainting and denoising of tiny videos: what is learned, what is written, what is refused."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import make_video, moving_frames
from torch import nn

import nvcodec
from nvcodec import cli
from nvcodec.cli.options import encode_options
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.fit import Fit
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.restore import DENOISE, INPAINT
from nvcodec.codec.settings import FitSettings
from nvcodec.codec.source import read_source
from nvcodec.errors import Interrupted, UsageError
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.video.framing import Framing
from nvcodec.video.masks import boxes
from nvcodec.video.reader import open_video

HEIGHT, WIDTH, N_FRAMES = 32, 48, 6
HOLE = boxes(8, HEIGHT, WIDTH)
QUICK = ("--passes", "2", "--bpp", "2", "--device", "cpu")


def quick(**changes):
    return EncodeOptions(target=Target(bpp=2.0), passes=2, **changes)


def lossless(path, frames):
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=frames)


@pytest.fixture(scope="module")
def frames():
    return np.stack(moving_frames(N_FRAMES, WIDTH, HEIGHT))


@pytest.fixture(scope="module")
def clip(tmp_path_factory, frames):
    return lossless(tmp_path_factory.mktemp("clip") / "in.mkv", frames)


def read(path):
    with open_video(path) as reader:
        return np.stack(list(reader))


@pytest.mark.parametrize("loss", ["log-mse", "fusion6"])
def test_hidden_pixels_are_never_seen(tmp_path, frames, clip, loss):
    other = frames.copy()
    other[:, HOLE] = np.random.default_rng(0).integers(0, 256, (N_FRAMES, HOLE.sum(), 3))
    hidden = np.broadcast_to(HOLE, frames.shape[:3])
    encoded = []
    for path in (clip, lossless(tmp_path / "other.mkv", other)):
        source = read_source(path, start=0, count=None)
        options = quick(loss=loss, analysis_share=0.5)
        data, _ = nvcodec.encode(source, None, options, hidden=hidden, device="cpu")
        encoded.append(data)
    assert encoded[0] == encoded[1]


def test_coarse_heads_do_not_see_hidden_pixels():
    class WithHead(HNeRV):
        def side_heads(self):
            return nn.ModuleList([nn.Conv2d(8, 3, 1)])

        def draw_all(self, index, latents, heads):
            x = self.stages[0](self.stem(self.embeddings[index]))
            return [self(index, latents), heads[0](x)]

    losses = []
    for value in (0, 255):
        torch.manual_seed(0)
        model = WithHead(
            HNeRVConfig(embed_dim=2, fc_dim=8, strides=(4, 2), lower_width=8), 1, 16, 16
        )
        video = torch.full((1, 3, 16, 16), 100, dtype=torch.uint8)
        mask = torch.ones(1, 1, 16, 16)
        mask[..., :5, :5] = 0
        video[..., :5, :5] = value
        settings = FitSettings(n_steps=4, target_bits=1e4, side_weight=1.0, coding="ptq")
        fit = Fit(model, video, settings, lambda tensors: 1e4, mask)
        losses.append(fit._backward(torch.tensor([0])))
    assert losses[0] == losses[1]


def test_known_pixels_are_the_sources(tmp_path, frames, clip):
    out, kept = tmp_path / "out.mkv", tmp_path / "out.nrv"
    result = nvcodec.restore(clip, out, quick(), mask="boxes:8", keep=kept, device="cpu")
    written, drawn = read(out), nvcodec.open(kept, device="cpu")[:]
    np.testing.assert_array_equal(written[:, ~HOLE], frames[:, ~HOLE])
    np.testing.assert_array_equal(written[:, HOLE], drawn[:, HOLE])
    error = np.square(drawn.astype(float) - frames)
    assert result.hidden_share == pytest.approx(5 * 64 / (HEIGHT * WIDTH))
    hole_db = 10 * np.log10(255**2 / error[:, HOLE].mean((1, 2)))
    assert result.hidden_psnr_db == pytest.approx(hole_db.mean())
    network_db = 10 * np.log10(255**2 / error.mean((1, 2, 3)))
    assert result.encoded.psnr_db == pytest.approx(network_db.mean())
    whole = np.square(written.astype(float) - frames).mean((1, 2, 3))
    assert result.psnr_db == pytest.approx((10 * np.log10(255**2 / whole)).mean())
    assert result.encoded.n_bytes == kept.stat().st_size <= 2 * frames[..., 0].size / 8


def test_the_network_continues_into_the_hole(tmp_path):
    # A smooth picture: what the network draws is nearer than the mean colour of what is known.
    down, across = np.mgrid[0:HEIGHT, 0:WIDTH]
    ramp = np.stack([3 * down + 2 * across + 20, 200 - 2 * down, 4 * across], axis=-1)
    path = lossless(tmp_path / "ramp.mkv", [ramp.astype(np.uint8)] * 2)
    options = EncodeOptions(target=Target(bpp=4.0), passes=300, batch=1)
    result = nvcodec.restore(path, tmp_path / "out.mkv", options, mask="boxes:6", device="cpu")
    hole = boxes(6, HEIGHT, WIDTH)
    flat = np.square(ramp[hole] - ramp[~hole].mean(0)).mean()
    assert result.hidden_psnr_db > 10 * np.log10(255**2 / flat) + 6


def test_frames_without_a_hole_do_not_count(tmp_path, frames, clip):
    mask = np.zeros((N_FRAMES, HEIGHT, WIDTH, 3), np.uint8)
    mask[2, HOLE] = 255
    path = lossless(tmp_path / "mask.mkv", mask)
    out = tmp_path / "out.mkv"
    result = nvcodec.restore(clip, out, quick(), mask=path, device="cpu")
    written = read(out)
    np.testing.assert_array_equal(written[[0, 1, 3, 4, 5]], frames[[0, 1, 3, 4, 5]])
    error = np.square(written[2, HOLE].astype(float) - frames[2, HOLE]).mean()
    assert result.hidden_psnr_db == pytest.approx(10 * np.log10(255**2 / error))


def test_without_a_mask_all_is_drawn(tmp_path, clip):
    out, kept = tmp_path / "out.mkv", tmp_path / "out.nrv"
    result = nvcodec.restore(clip, out, quick(), keep=kept, device="cpu", start=1, frames=3)
    np.testing.assert_array_equal(read(out), nvcodec.open(kept, device="cpu")[:])
    assert result.frames == 3
    assert (result.hidden_share, result.hidden_psnr_db) == (0, None)
    assert result.psnr_db == pytest.approx(result.encoded.psnr_db)


def test_interrupted_run_is_continued_with_the_same_mask_only(tmp_path, clip):
    out, kept = tmp_path / "out.mkv", tmp_path / "out.nrv"
    given = {"mask": "boxes:8", "keep": kept, "device": "cpu"}
    with pytest.raises(Interrupted, match="the state is in"):
        nvcodec.restore(clip, out, quick(), stop=lambda: True, **given)
    assert not out.exists()
    with pytest.raises(UsageError, match="made with another frames_sha256"):
        nvcodec.restore(clip, out, quick(), resume=True, **given | {"mask": "boxes:9"})
    nvcodec.restore(clip, out, quick(), resume=True, **given)
    whole = tmp_path / "whole.nrv"
    nvcodec.restore(clip, tmp_path / "b.mkv", quick(), **given | {"keep": whole})
    assert kept.read_bytes() == whole.read_bytes()
    assert not checkpoint_path(kept).exists()


def run(*args):
    return CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")


def result_of(*args):
    done = run(*args, "--json")
    assert done.exit_code == 0, done.output
    *_, result, last = map(json.loads, done.stdout.splitlines())
    assert last == {"type": "done"}
    return result


def test_inpaint_command(tmp_path, clip):
    out = tmp_path / "out.mp4"
    result = result_of("inpaint", clip, "--mask", "boxes:8", "-o", out, *QUICK, "--frames", 2)
    assert result["kind"] == "inpaint"
    assert (result["file"], result["keep"], result["frames"]) == (str(out), None, 2)
    assert result["hidden_psnr_db"] < result["psnr_db"]
    assert result["encoded"]["n_bytes"] > 0
    assert out.exists()


def test_changed_sources(tmp_path, clip):
    """What is asked of the truth is done, and a mask of the source's size follows."""
    out = tmp_path / "out.mkv"
    changes = ("--crop", "40x24", "--every", 2, *QUICK)
    hole = lossless(tmp_path / "hole.mkv", [np.repeat(HOLE[..., None], 3, -1) * np.uint8(255)])
    for args in (("denoise", clip), ("inpaint", clip, "--mask", hole)):
        result = result_of(*args, "-o", out, *changes, "-y")
        assert (result["width"], result["height"], result["frames"]) == (40, 24, N_FRAMES // 2)
        assert result["encoded"]["framing"]["crop"] == [40, 24]
        with open_video(out) as reader:
            drawn = list(reader)
    with open_video(clip, framing=Framing(crop=(40, 24), every=2)) as reader:
        truth = list(reader)
    known = ~HOLE[(HEIGHT - 24) // 2 :, (WIDTH - 40) // 2 :][:24, :40]
    for frame, source in zip(drawn, truth, strict=True):
        assert (frame[known] == source[known]).all()
        assert (frame[~known] != source[~known]).any()


def test_raw_video(tmp_path):
    """Its format is given as for encode."""
    path = tmp_path / "raw.yuv"
    path.write_bytes(bytes(range(200)) * 18)
    given = ("--video-size", "40x30", "--pixel-format", "gray", "--framerate", "30000/1001")
    result = result_of("denoise", path, "-o", tmp_path / "out.y4m", *given, *QUICK)
    assert (result["width"], result["height"], result["frames"]) == (40, 30, 3)


def test_denoise_command(tmp_path, clip):
    out, kept = tmp_path / "out.y4m", tmp_path / "out.nrv"
    result = result_of("denoise", clip, "-o", out, "--keep", kept, *QUICK)
    assert result["kind"] == "denoise"
    assert result["encoded"]["bpp"] == 8 * kept.stat().st_size / (N_FRAMES * HEIGHT * WIDTH)
    again = run("denoise", clip, "-o", tmp_path / "b.y4m", "--frames", 2, *QUICK)
    assert "not kept (--keep)" in again.stderr


@pytest.mark.parametrize(("name", "suited"), [("inpaint", INPAINT), ("denoise", DENOISE)])
def test_defaults_of_the_command_are_those_of_the_library(name, suited):
    command = cli.main.commands[name]
    given = ["in.mp4", "-o", "out.mp4", *(["--mask", "boxes:4"] if name == "inpaint" else [])]
    with command.make_context(name, given, parent=None) as context:
        options = encode_options(context.params)
    assert dataclasses.replace(options, target=suited.target) == suited
    assert f"[default: {suited.target.bpp}]" in command.get_help(context)


def fail(*args):
    done = run(*args)
    (line,) = done.stderr.splitlines()
    assert done.exit_code == 2, done.output
    return line


def test_mistakes(tmp_path, clip):
    out = tmp_path / "out.mkv"
    inpaint = ("inpaint", clip, "-o", out, *QUICK, "--mask")
    assert "boxes:17, allowed for 48x32 is boxes:1 to boxes:16" in fail(*inpaint, "boxes:17")
    small = lossless(tmp_path / "small.mkv", moving_frames(1, 32, 32))
    assert f"mask {small} has 32x32 pixels, the video has 48x32" in fail(*inpaint, small)
    assert "has no option blocks" in fail(*inpaint, "boxes:4", "-m", "blocks=2")
    assert "--resume needs --keep" in fail(*inpaint, "boxes:4", "--resume")
    assert "is the input itself" in fail("denoise", clip, "-o", clip, "-y", *QUICK)
    assert "is the input itself" in fail("denoise", clip, "-o", out, "--keep", clip, "-y", *QUICK)
    with pytest.raises(UsageError, match="give --bpp or --size, not --psnr"):
        nvcodec.restore(clip, out, EncodeOptions(target=Target(psnr=30.0)))
    hidden = np.broadcast_to(HOLE, (N_FRAMES, HEIGHT, WIDTH))
    with pytest.raises(UsageError, match="with a mask give --bpp or --size"):
        nvcodec.encode(clip, None, EncodeOptions(target=Target(psnr=30.0)), hidden=hidden)
    with pytest.raises(UsageError, match=r"hidden is \(5, 32, 48\), but"):
        nvcodec.encode(clip, None, quick(), hidden=hidden[:5])
    assert not out.exists()
    out.write_bytes(b"kept")
    assert "use -y to overwrite it" in fail(*inpaint, "boxes:4")
    assert out.read_bytes() == b"kept"
