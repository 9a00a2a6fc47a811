"""10, 12 and 16 bits in: frames, the network's aim and the figures are at the source's depth."""

import json
import math
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from click.testing import CliRunner
from media_factory import make_movie

import nvcodec
from nvcodec import cli
from nvcodec.codec.batch import BatchLoss
from nvcodec.codec.restore import restore
from nvcodec.codec.settings import FitSettings
from nvcodec.codec.source import read_source
from nvcodec.metrics import QualityMeter, frame_ms_ssim
from nvcodec.video.color import rgb_to_yuv
from nvcodec.video.framing import Framing
from nvcodec.video.masks import fill_hidden, read_mask
from nvcodec.video.planes import read_picture, to_rgb
from nvcodec.video.reader import open_video

OPTIONS = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=8.0), passes=2)
RNG = np.random.default_rng(5)


def run(*args):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout.splitlines()[-2])


@pytest.fixture(scope="module")
def deep(tmp_path_factory):
    path = tmp_path_factory.mktemp("deep") / "a.mkv"
    return make_movie(path, n_frames=4, video="ffv1", pixel_format="yuv420p10le")


@pytest.fixture(scope="module")
def nrv(tmp_path_factory, deep):
    """The file of a 10-bit source, and what its encoder said."""
    path = tmp_path_factory.mktemp("nrv") / "a.nrv"
    _, result = nvcodec.encode(deep, path, OPTIONS)
    return path, result


@pytest.mark.parametrize(("pixel_format", "bits"), [("yuv420p12le", 12), ("gray16le", 16)])
def test_from_source_to_output(tmp_path, pixel_format, bits):
    source = make_movie(tmp_path / "a.mkv", n_frames=3, video="ffv1", pixel_format=pixel_format)
    _, result = nvcodec.encode(source, tmp_path / "a.nrv", OPTIONS)
    run("decode", tmp_path / "a.nrv", "-o", tmp_path / "b.mkv", "--json")
    with av.open(str(tmp_path / "b.mkv")) as container:
        written = list(container.decode(video=0))
    assert [frame.format.name for frame in written] == [pixel_format] * 3
    drawn = nvcodec.open(tmp_path / "a.nrv", bit_depth=bits)
    mse = []
    with open_video(source) as reader:
        color, chroma = reader.info.color, reader.info.chroma
        for mine, truth, frame in zip(drawn, reader, written, strict=True):
            mse.append(np.square(mine.astype(float) - truth).mean())
            planes = rgb_to_yuv(mine, color, chroma, bits)
            for a, b in zip(planes, read_picture(frame, "ffv1").planes, strict=True):
                assert not a.size or (a == b).all()
    psnr_db = 10 * np.log10((2**bits - 1) ** 2 / np.array(mse))
    assert result.psnr_per_frame_db == pytest.approx(psnr_db)


@pytest.mark.parametrize("bits", [8, 10, 12, 16])
def test_peak_of_psnr(bits):
    white = (1 << bits) - 1
    kind = np.uint8 if bits == 8 else np.uint16
    source = np.full((4, 4, 3), white, kind)
    meter = QualityMeter(bits)
    meter.add(np.zeros_like(source), source)
    meter.add(source - kind(3), source)
    assert meter.psnr_per_frame_db == pytest.approx([0, 20 * math.log10(white / 3)])


def test_ms_ssim_does_not_depend_on_the_depth():
    pair = [RNG.integers(0, 256, (176, 176, 3), dtype=np.uint8) for _ in range(2)]
    wide = [x.astype(np.uint16) * 257 for x in pair]
    assert frame_ms_ssim(*wide, 16) == pytest.approx(frame_ms_ssim(*pair), abs=1e-5)


def test_frames_are_held_at_their_depth(deep):
    source = read_source(deep, start=0, count=None)
    assert (source.frames.dtype, source.info.bit_depth) == (np.uint16, 10)
    assert 255 < source.frames.max() <= 1023
    with av.open(str(deep)) as container:
        for ours, frame in zip(source.frames, container.decode(video=0), strict=True):
            assert (ours == to_rgb(read_picture(frame, "ffv1"))).all()


def test_the_target_of_training_is_a_share_of_white(deep):
    """A network that draws the source itself has no error."""
    frames = torch.from_numpy(read_source(deep, start=0, count=None).frames).permute(0, 3, 1, 2)

    class Copy(torch.nn.Module):
        model = SimpleNamespace(clip_frames=1, latent_names=())

        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.ones(()))

        def forward(self, index, latents):
            return [frames[index].float() * self.scale / 1023]

    settings = FitSettings(n_steps=1, target_bits=1, bit_depth=10, loss="l2")
    copy = Copy()
    loss = BatchLoss(copy, frames, None, settings)
    value, mse = loss.backward(torch.arange(2), dict(copy.named_parameters()), None, None, None)
    assert value == pytest.approx(0, abs=1e-12)
    assert mse.max() < 1e-12


def test_figures_are_those_of_frames_at_the_source_depth(deep, nrv):
    path, result = nrv
    with nvcodec.open(path, bit_depth=None) as video:
        assert (video.bit_depth, video.info.bit_depth) == (10, 10)
        decoded = video[:]
        assert decoded.dtype == np.uint16
    source = read_source(deep, start=0, count=None).frames
    mse = np.square(decoded.astype(float) - source).mean((1, 2, 3))
    assert result.psnr_per_frame_db == pytest.approx(10 * np.log10(1023**2 / mse))
    said = run("verify", path, "--source", deep, "--reference", "--json")
    assert said["psnr_per_frame_db"] == pytest.approx(result.psnr_per_frame_db)
    assert said["reference"]["max_difference"] <= 1


def test_a_sample_is_the_rounded_share_of_white(nrv):
    path, _ = nrv
    video = nvcodec.open(path, bit_depth=10)
    with torch.inference_mode():
        drawn = video.load(0)(torch.arange(1)).clamp(0, 1)[0].permute(1, 2, 0).double().numpy()
    # Another number of threads may round a sample near a tie the other way.
    assert np.abs(video[0] - drawn * 1023).max() < 0.5 + 1e-3
    assert (video.tensor(0).permute(1, 2, 0).numpy() == video[0]).all()


def test_framing_keeps_the_depth(deep):
    framing = Framing(crop=(24, 16), resize=(12, 8), every=2)
    with open_video(deep, framing=framing) as reader:
        frames = list(reader)
    assert [(f.shape, f.dtype) for f in frames] == [((8, 12, 3), np.uint16)] * 2
    assert max(f.max() for f in frames) > 255


def test_deep_masks_and_holes(tmp_path, deep):
    mask = make_movie(tmp_path / "m.mkv", n_frames=1, video="ffv1", pixel_format="gray10le")
    with open_video(mask) as reader:
        gray = next(iter(reader))[..., 0]
    hidden = read_mask(mask, 4, 32, 32)
    assert (hidden[3] == (gray >= 512)).all()
    filled = fill_hidden(read_source(deep, start=0, count=None).frames, hidden)
    assert filled.dtype == np.uint16
    assert filled.max() > 255


@pytest.mark.parametrize("name", ["a.mkv", "a.mp4"])
def test_inpainting_keeps_known_samples(tmp_path, deep, name):
    output = tmp_path / name
    result = restore(deep, output, OPTIONS, mask="boxes:8")
    assert result.hidden_psnr_db < result.psnr_db
    if name == "a.mkv":
        with open_video(output) as made, open_video(deep) as source:
            assert made.info.bit_depth == 10
            known = next(iter(made))[0].astype(int) - next(iter(source))[0]
        assert np.median(np.abs(known)) <= 1  # once to planes and back, with halved chroma


def test_pairs_keep_the_depth(tmp_path, deep, nrv):
    path, _ = nrv
    run("verify", path, "--source", deep, "--dump", tmp_path / "d", "--dump-video",
        tmp_path / "p.mkv", "--json")  # fmt: skip
    with open_video(tmp_path / "p.mkv") as reader:
        assert (reader.info.bit_depth, reader.info.chroma) == (10, 0)
        pair = next(iter(reader))
    with open_video(deep) as reader:
        assert (pair[:, :32] == next(iter(reader))).all()
    assert (pair[:, 32:] == nvcodec.open(path, bit_depth=10)[0]).all()
    with open_video(tmp_path / "d") as reader:
        wide = next(iter(reader))
    assert np.abs(wide / 65535 - pair / 1023).max() < 1e-5
