"""Networks that draw the source's own planes of Y'CbCr."""

import json
import math
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import make_video, moving_frames
from hypothesis import given, settings
from hypothesis import strategies as st
from nrv_factory import flat
from reference_decoder import planes as reference

import nvcodec
from nvcodec import cli
from nvcodec.bench.ours import decode_own
from nvcodec.bench.quality import measure
from nvcodec.bench.source import prepare_source
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.codec.contents import check_structure
from nvcodec.codec.dataset import NrvDataset
from nvcodec.codec.inspect import describe_file, verify_file
from nvcodec.codec.interpolate import frames_between
from nvcodec.codec.losses import distortion
from nvcodec.codec.plane_loss import PlaneLoss
from nvcodec.codec.restore import restore
from nvcodec.codec.source import read_source
from nvcodec.codec.ycbcr import to_codes, to_frames
from nvcodec.errors import UnsupportedError, UsageError
from nvcodec.metrics import planes_psnr_db, weighted
from nvcodec.video.color import chroma_shape, yuv_to_rgb
from nvcodec.video.forms import planes_to_rgb
from nvcodec.video.frames import VideoInfo, resolve_tags
from nvcodec.video.framing import Framing
from nvcodec.video.reader import open_video

ARCHS = ("canvas", "hnerv", "nerv", "enerv", "3dnerv", "hinerv")


def options(arch="hnerv", **more):
    target = nvcodec.Target(bpp=more.pop("bpp", 2.0))
    return nvcodec.EncodeOptions(
        **{"arch": arch, "target": target, "passes": 20, "color": "yuv"} | more
    )


def info_of(chroma, width, height, *, full_range=False, siting=0, bit_depth=8):
    tags = resolve_tags(height=height, chroma=chroma, full_range=full_range, siting=siting)
    return VideoInfo(
        width=width, height=height, frame_rate=Fraction(25), color=tags, bit_depth=bit_depth,
        chroma=chroma, codec="none", n_bytes=None,
    )  # fmt: skip


def random_planes(info, n=3, seed=0):
    rng = np.random.default_rng(seed)
    size = (info.height, info.width)
    sizes = [size] + [chroma_shape(*size, info.chroma)] * 2 * (info.chroma != 400)
    kind = np.uint8 if info.bit_depth == 8 else np.uint16
    return tuple(rng.integers(0, 1 << info.bit_depth, (n, *s), kind) for s in sizes)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """47 x 33, 5 frames, lossless 4:2:0 tagged BT.709."""
    path = tmp_path_factory.mktemp("yuv") / "clip.mkv"
    frames = moving_frames(5, 47, 33)
    return make_video(path, codec="ffv1", pixel_format="yuv420p", frames=frames, tags=(1, 1, 1, 1))


@pytest.fixture(scope="module")
def nrv(clip):
    path = clip.with_suffix(".nrv")
    _, result = nvcodec.encode(clip, path, options(), device="cpu")
    return path, result


def planes_of(path, count=None):
    with open_video(path, count=count) as reader:
        return [planes for _, planes in reader.with_planes()]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    chroma=st.sampled_from([420, 422, 444, 400]),
    siting=st.integers(0, 3),
    full_range=st.booleans(),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_planes_are_those_of_the_specification(chroma, siting, full_range, size):
    info = info_of(chroma, *size, full_range=full_range, siting=siting)
    drawn = torch.rand(1, 3, size[1], size[0], dtype=torch.float64)
    header = {"chroma": chroma, "siting": siting + 1, "full_range": full_range}
    expected = reference.planes(drawn[0].numpy(), header)
    found = to_codes(drawn, info, 8)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine[0, 0].numpy(), theirs, atol=1e-9)
    for mine, theirs in zip(to_frames(drawn, info, 8)[0], expected, strict=True):
        np.testing.assert_array_equal(mine, np.rint(theirs).clip(0, 255))


@pytest.mark.parametrize("bit_depth", [8, 10, 16])
@pytest.mark.parametrize("full_range", [False, True])
def test_black_white_and_neutral_are_those_of_the_range(bit_depth, full_range):
    info = info_of(420, 4, 2, full_range=full_range, bit_depth=bit_depth)
    unit = 1 << (bit_depth - 8)
    peak = (1 << bit_depth) - 1
    for y, code in ((0.0, 0 if full_range else 16 * unit), (1, peak if full_range else 235 * unit)):
        drawn = torch.tensor([y, 0.5, math.nan])[None, :, None, None].expand(1, 3, 2, 4)
        luma, cb, cr = to_frames(drawn, info, bit_depth)[0]
        assert luma.dtype == (np.uint8 if bit_depth == 8 else np.uint16)
        assert np.unique(luma).tolist() == [code]
        assert np.unique(cb).tolist() == [128 * unit]
        # The lowest code of chroma in full range is a tie, 0.5, that goes to the even 0.
        assert np.unique(cr).tolist() == [0 if full_range else 16 * unit]


@pytest.mark.parametrize("bit_depth", [8, 10])
@pytest.mark.parametrize("chroma", [420, 422, 444, 400])
@pytest.mark.parametrize("name", ["log-mse", "l2", "log-l1", "fusion6"])
def test_loss_is_weighted_over_the_planes(name, chroma, bit_depth):
    info = info_of(chroma, 31, 30, bit_depth=bit_depth)
    planes = random_planes(info)
    loss = PlaneLoss(planes, info, torch.device("cpu"))
    drawn = torch.rand(2, 3, 30, 31, requires_grad=True)
    index = torch.tensor([2, 0])
    value, mse = loss.distortion(name, drawn, index, None)
    peak = (1 << bit_depth) - 1
    targets = [torch.from_numpy(p[[2, 0]].astype(np.float32))[:, None] for p in planes]
    parts = [
        distortion(name, mine / peak, target / peak)
        for mine, target in zip(to_codes(drawn.detach(), info, bit_depth), targets, strict=True)
    ]
    expected = weighted([float(part) for part, _ in parts])
    assert float(value.detach()) == pytest.approx(expected, rel=1e-5)
    assert float(mse[1]) == pytest.approx(weighted([float(m[1]) for _, m in parts]), rel=1e-5)
    value.backward()
    assert drawn.grad[:, 0].any()
    assert bool(drawn.grad[:, 1:].any()) == (chroma != 400)


def test_loss_of_the_logarithm_is_the_figure_itself():
    info = info_of(420, 16, 16)
    planes = random_planes(info, n=1)
    drawn = torch.rand(1, 3, 16, 16)
    loss, _ = PlaneLoss(planes, info, torch.device("cpu")).distortion(
        "log-mse", drawn, torch.tensor([0]), None
    )
    rounded = to_frames(drawn, info, 8)[0]
    figure = weighted(planes_psnr_db(rounded, [plane[0] for plane in planes]))
    assert -10 / math.log(10) * float(loss) == pytest.approx(figure, abs=0.01)


@pytest.mark.parametrize("siting", [0, 1, 2, 3])
def test_hidden_pixels_count_in_no_plane(siting):
    info = info_of(420, 16, 12, siting=siting)
    planes = random_planes(info, n=1)
    drawn = torch.rand(1, 3, 12, 16, requires_grad=True)
    mask = torch.ones(1, 1, 12, 16)
    mask[..., 3:8, 5:11] = 0
    loss = PlaneLoss(planes, info, torch.device("cpu"))
    value, _ = loss.distortion("l2", drawn, torch.tensor([0]), mask)
    value.backward()
    assert not drawn.grad[:, :, 3:8, 5:11].any()
    assert drawn.grad[:, :, :2].all()
    changed = [plane.copy() for plane in planes]
    changed[0][0, 3:8, 5:11] ^= 255
    changed[1][0, 2:4, 3:5] ^= 255
    other = PlaneLoss(tuple(changed), info, torch.device("cpu"))
    assert torch.equal(value, other.distortion("l2", drawn, torch.tensor([0]), mask)[0])


@pytest.mark.parametrize("chroma", [420, 444, 400])
def test_pictures_are_what_would_be_drawn(chroma):
    info = info_of(chroma, 8, 6)
    codes = (126, 60, 200)
    planes = tuple(np.full_like(p, codes[i]) for i, p in enumerate(random_planes(info)))
    loss = PlaneLoss(planes, info, torch.device("cpu"))
    drawn = loss.pictures(torch.tensor([1]))
    assert drawn.shape == (1, 3, 6, 8)
    for plane, truth in zip(to_frames(drawn, info, 8)[0], planes, strict=True):
        np.testing.assert_array_equal(plane, truth[1])


def test_file_says_what_it_draws(nrv, clip):
    path, result = nrv
    header = unpack_stream(path.read_bytes())
    assert header.segments[0].header.draws_yuv
    assert header.header.version_minor == 1
    segment = describe_file(path)["segments"][0]
    assert (segment["arch"], segment["color"], result.color) == ("hnerv", "yuv", "yuv")
    _, plain = nvcodec.encode(clip, None, options(color="auto"), device="cpu")
    assert plain.color == "rgb"
    assert plain.psnr_yuv_db is not None


def test_figures_are_those_of_the_decoded_frames(nrv, clip):
    path, result = nrv
    truth = planes_of(clip)
    with nvcodec.open(path) as video:
        drawn = list(video.drawn(range(5)))
        rgb = video[:]
    values = [planes_psnr_db(a, b) for a, b in zip(drawn, truth, strict=True)]
    assert result.psnr_y_db == pytest.approx(np.mean([v[0] for v in values]))
    assert result.psnr_yuv_db == pytest.approx(np.mean([weighted(v) for v in values]))
    verified = verify_file(path, clip, reference=True)
    for key in ("psnr_db", "psnr_y_db", "psnr_yuv_db"):
        assert verified[key] == pytest.approx(getattr(result, key))
    assert verified["conformance"] == "C1, C2"
    for planes, frame in zip(drawn, rgb, strict=True):
        np.testing.assert_array_equal(yuv_to_rgb(*planes, video.info.color), frame)


@pytest.mark.parametrize("suffix", [".y4m", ".mkv"])
def test_outputs_in_yuv_hold_what_was_drawn(nrv, tmp_path, suffix):
    path, _ = nrv
    output = tmp_path / f"out{suffix}"
    result = CliRunner().invoke(cli.main, ["decode", str(path), "-o", str(output)])
    assert result.exit_code == 0, result.output
    with nvcodec.open(path) as video:
        for drawn, written in zip(video.drawn(range(5)), planes_of(output), strict=True):
            np.testing.assert_array_equal(flat(drawn), flat(written))


def test_deep_outputs_are_drawn_before_rounding(nrv, tmp_path):
    path, _ = nrv
    output = tmp_path / "out.mkv"
    args = ["decode", str(path), "-o", str(output), "--pix-fmt", "yuv420p10le"]
    assert CliRunner().invoke(cli.main, args).exit_code == 0
    with nvcodec.open(path) as video:
        for drawn, written in zip(video.drawn(range(5), 10), planes_of(output), strict=True):
            np.testing.assert_array_equal(flat(drawn), flat(written))
    with nvcodec.open(path, bit_depth=16) as deep:
        planes = next(deep.drawn([2], 16))
        np.testing.assert_array_equal(deep[2], planes_to_rgb(planes, deep.info, 16, 16))
        assert len(np.unique(deep[2] % 257)) > 1
        difference = deep[2].astype(int) - 257 * video[2].astype(int)
        # Planes of 8 bits are half a code off at most, and the matrix adds that up.
        assert np.abs(difference).max() < 257 * 3


def test_outputs_in_rgb_and_other_formats_convert(nrv, tmp_path):
    path, _ = nrv
    for name, more in (("a.mkv", ["--pix-fmt", "yuv444p"]), ("b.mp4", []), ("%03d.png", [])):
        output = tmp_path / name
        args = ["decode", str(path), "-o", str(output), *more]
        result = CliRunner().invoke(cli.main, args)
        assert result.exit_code == 0, result.output
    with open_video(tmp_path / "%03d.png") as reader, nvcodec.open(path) as video:
        np.testing.assert_array_equal(np.stack(list(reader)), video[:])
        np.testing.assert_array_equal(video.tensor(3).permute(1, 2, 0).numpy(), video[3])


@pytest.mark.parametrize("arch", ARCHS)
def test_every_architecture_draws_planes(arch, tmp_path):
    clip = make_video(
        tmp_path / "clip.mkv", codec="ffv1", pixel_format="yuv420p",
        frames=moving_frames(4, 48, 32),
    )  # fmt: skip
    output = tmp_path / "out.nrv"
    _, result = nvcodec.encode(clip, output, options(arch, bpp=4.0, passes=60), device="cpu")
    flat_db = weighted(
        planes_psnr_db([np.full_like(p, p.mean()) for p in planes_of(clip)[0]], planes_of(clip)[0])
    )
    assert result.psnr_yuv_db > flat_db + 1
    described = describe_file(output)["segments"][0]
    assert (described["arch"], described["color"]) == (arch, "yuv")


@pytest.mark.parametrize("pixel_format", ["yuv422p", "yuv444p", "gray", "yuvj420p", "yuv420p10le"])
def test_every_chroma_format(pixel_format, tmp_path):
    clip = make_video(
        tmp_path / "clip.mkv", codec="ffv1", pixel_format=pixel_format.replace("j", ""),
        frames=moving_frames(3, 37, 21), tags=(5, 2 if "j" in pixel_format else 1, 2, 2),
    )  # fmt: skip
    output = tmp_path / "out.nrv"
    _, result = nvcodec.encode(clip, output, options(bpp=3.0), device="cpu")
    truth = planes_of(clip)
    with nvcodec.open(output) as video:
        drawn = list(video.drawn(range(3)))
        assert [p.shape for p in drawn[0]] == [p.shape for p in truth[0]]
        assert drawn[0][0].dtype == truth[0][0].dtype
        assert video[0].shape == (21, 37, 3)
    depth = video.info.bit_depth
    values = [weighted(planes_psnr_db(a, b, depth)) for a, b in zip(drawn, truth, strict=True)]
    assert result.psnr_yuv_db == pytest.approx(np.mean(values))
    verified = verify_file(output, clip)
    for name in ("psnr_db", "psnr_yuv_db"):
        assert verified[name] == pytest.approx(getattr(result, name))
    for suffix in ("mkv", "y4m"):
        written = tmp_path / f"out.{suffix}"
        args = ["decode", str(output), "-o", str(written)]
        assert CliRunner().invoke(cli.main, args).exit_code == 0
        for mine, theirs in zip(drawn, planes_of(written), strict=True):
            np.testing.assert_array_equal(flat(mine), flat(theirs))


def test_a_changed_source_has_planes_too(clip, tmp_path):
    framing = {"framing": Framing(crop=(31, 20))}
    output = tmp_path / "out.nrv"
    _, result = nvcodec.encode(clip, output, options(), device="cpu", **framing)
    with nvcodec.open(output) as video:
        assert [p.shape for p in next(video.drawn([0]))] == [(20, 31), (10, 16), (10, 16)]
    verified = verify_file(output, clip, **framing)
    assert verified["psnr_yuv_db"] == pytest.approx(result.psnr_yuv_db)


def test_what_cannot_be_drawn_is_refused(tmp_path, small_mkv):
    with pytest.raises(UsageError, match="the source is RGB and has no planes"):
        nvcodec.encode(small_mkv, None, options(), device="cpu")
    assert nvcodec.encode(small_mkv, None, options(color="rgb"))[1].psnr_yuv_db is None
    small = make_video(
        tmp_path / "small.mkv", codec="ffv1", pixel_format="yuv420p",
        frames=moving_frames(2, 32, 20),
    )  # fmt: skip
    with pytest.raises(UsageError, match="sides of at least 11 pixels, but the chroma planes are"):
        nvcodec.encode(small, None, options(loss="fusion6"), device="cpu")
    with pytest.raises(UsageError, match="color is cmyk, allowed are auto, rgb, yuv"):
        options(color="cmyk")


def test_unknown_matrix_needs_a_newer_version(nrv):
    stream = unpack_stream(nrv[0].read_bytes())
    data = pack_stream(replace(stream, header=replace(stream.header, matrix=14)))
    with pytest.raises(UnsupportedError, match="colour matrix is 14"):
        check_structure(data)


def test_bench_measures_the_planes(nrv, clip, tmp_path):
    path, result = nrv
    source = prepare_source(clip, tmp_path)
    values = measure(source, decode_own(path, device="cpu", threads=1))
    assert values["psnr_yuv_db"] == pytest.approx(result.psnr_yuv_db)
    assert values["psnr_rgb_db"] == pytest.approx(result.psnr_db)


def test_weights_of_the_other_colour_are_no_start(nrv, clip):
    path, _ = nrv
    with pytest.raises(UsageError, match=r"another color \(yuv there, rgb here\)"):
        nvcodec.encode(clip, None, options(color="rgb"), device="cpu", init=path)
    _, again = nvcodec.encode(clip, None, options(), device="cpu", init=path)
    assert again.color == "yuv"


def test_encoder_networks_heads_and_rounding_afterwards(clip):
    _, result = nvcodec.encode(
        clip, None, options(analysis="conv", analysis_width=8, coding="ptq"), device="cpu"
    )
    assert result.float_psnr_db > 8
    heads = options("nerv", side_weight=1.0, bpp=4.0, model={"strides": (3, 2, 2)})
    _, result = nvcodec.encode(clip, None, heads, device="cpu")
    assert result.psnr_yuv_db > 8


def test_experiments_and_data_sets(nrv, clip, tmp_path):
    path, _ = nrv
    with nvcodec.open(path) as video:
        rgb = video[:]
        between = list(frames_between(video, [0, Fraction(1, 2), 4]))
    np.testing.assert_array_equal(between[0], rgb[0])
    np.testing.assert_array_equal(between[2], rgb[4])
    samples = NrvDataset([path], 2)
    np.testing.assert_array_equal(samples[1].permute(1, 2, 0).numpy(), rgb[2])
    for mask in ("boxes:6", None):
        output = tmp_path / f"{mask is None}.mkv"
        made = restore(clip, output, options(), mask=mask, device="cpu")
        assert made.encoded.color == "yuv"
        assert (made.frames, made.hidden_share > 0) == (5, mask is not None)
    thumb = tmp_path / "thumb.png"
    args = ["thumbnail", str(path), "-o", str(thumb), "--size", "24"]
    assert CliRunner().invoke(cli.main, args).exit_code == 0
    assert thumb.is_file()


def test_command_line(clip, tmp_path):
    output = tmp_path / "out.nrv"
    args = ["encode", str(clip), "-o", str(output), "--color", "yuv", "--passes", "10", "--json"]
    args += ["--arch", "hnerv", "--bpp", "2"]
    plan = CliRunner().invoke(cli.main, [*args, "--dry-run"])
    assert json.loads(plan.stdout.splitlines()[-2])["color"] == "yuv"
    done = CliRunner().invoke(cli.main, args)
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout.splitlines()[-2])
    assert values["color"] == "yuv"
    assert values["psnr_yuv_db"] > values["psnr_y_db"] - 3
    said = CliRunner().invoke(cli.main, ["verify", str(output), "--source", str(clip)])
    assert "(YUV 6:1:1)" in said.stderr + said.stdout


def test_a_video_in_memory_without_planes_is_refused(clip):
    source = read_source(clip, start=0, count=2)
    assert [p.shape for p in source.planes] == [(2, 33, 47), (2, 17, 24), (2, 17, 24)]
    with pytest.raises(UsageError, match="comes without its planes"):
        nvcodec.encode(replace(source, planes=None), None, options(), device="cpu")
