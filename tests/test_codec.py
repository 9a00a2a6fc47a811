"""Encode and decode real files, end to end, with networks and schedules small enough for a test."""

import dataclasses
from fractions import Fraction

import numpy as np
import pytest
import torch
from conftest import make_video, moving_frames

import nvcodec
from nvcodec.bitstream.header import Segment, Stream, pack_stream, unpack_stream
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.contents import check_structure
from nvcodec.codec.encoder import dry_run
from nvcodec.codec.fit import Fit
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.plan import make_plan
from nvcodec.codec.settings import FitSettings
from nvcodec.errors import (
    CorruptError,
    Interrupted,
    LimitError,
    ResourceError,
    UnsupportedError,
    UsageError,
)
from nvcodec.events import Log
from nvcodec.limits import Limits
from nvcodec.metrics import QualityMeter
from nvcodec.models.canvas import Canvas
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.video.reader import open_video


def options(n_steps=80, **changes):
    target = changes.pop("target", Target(bpp=1.0))
    return EncodeOptions(target=target, passes=n_steps, batch=1, **changes)


def encode_frames(tmp_path, frames, opts=None, **more):
    """Encode RGB frames through a lossless file; return the bytes, result and source frames."""
    path = make_video(tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", frames=frames)
    opts = opts or options(max(1, 160 // len(frames)))
    data, result = nvcodec.encode(path, None, opts, device="cpu", **more)
    with open_video(path) as reader:
        return data, result, list(reader)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A ten-frame file whose frames differ enough to be told apart."""
    folder = tmp_path_factory.mktemp("clip")
    frames = [np.roll(f, 6 * i, axis=1) for i, f in enumerate(moving_frames(10, 48, 32))]
    return encode_frames(folder, frames, options(60))


def test_reported_figures_are_those_of_the_file(clip):
    data, result, source = clip
    meter = QualityMeter()
    for decoded, truth in zip(nvcodec.open(data), source, strict=True):
        meter.add(decoded, truth)
    assert meter.psnr_db == pytest.approx(result.psnr_db, abs=1e-9)
    assert result.n_bytes == len(data)
    assert result.bpp == 8 * len(data) / (10 * 48 * 32)
    assert result.ms_ssim is None
    assert result.psnr_db > 17


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_frames_come_in_order_for_any_batch(clip, batch):
    data, _, source = clip
    decoded = list(nvcodec.open(data, batch=batch))
    assert len(decoded) == len(source)
    for i, frame in enumerate(decoded):
        errors = [np.square(frame.astype(int) - truth).mean() for truth in source]
        assert int(np.argmin(errors)) == i
    alone = np.stack(list(nvcodec.open(data, batch=1)))
    assert np.abs(np.stack(decoded).astype(int) - alone).max() <= 1


@pytest.fixture
def drawn(monkeypatch):
    """How many frames each call of a Canvas draws; with more threads each draws a part."""
    counts, whole, n_threads = [], Canvas.draw_samples, torch.get_num_threads()

    def count(model, index, bit_depth):
        counts.append(len(index))
        return whole(model, index, bit_depth)

    monkeypatch.setattr(Canvas, "draw_samples", count)
    torch.set_num_threads(1)
    yield counts
    torch.set_num_threads(n_threads)


def test_frames_are_drawn_only_when_asked_for(clip, drawn):
    data, _, _ = clip
    with nvcodec.open(data, batch=3) as video:
        stream = video.frames(range(10))
        assert drawn == []
        next(stream)
        assert drawn == [3]
        video[7]
        assert drawn == [3, 1]
        assert len(list(stream)) == 9
        assert drawn == [3, 1, 3, 3, 1]


def test_a_frame_asked_for_again_and_again_takes_no_more_memory(clip, drawn):
    data, _, _ = clip
    with nvcodec.open(data, batch=3) as video:
        assert len(list(video.frames([4] * 8))) == 8
    assert drawn == [3, 3, 2]


def test_rendering_conforms_to_float64(clip):
    data, _, _ = clip
    video = nvcodec.open(data)
    exact = video.load(0).double()
    index = torch.arange(10)
    with torch.inference_mode():
        reference = (exact(index).clamp(0, 1) * 255).round().permute(0, 2, 3, 1).numpy()
    difference = np.abs(nvcodec.open(data)[:] - reference)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def test_indexing_and_slicing(clip):
    data, _, _ = clip
    with nvcodec.open(data) as video:
        everything = video[:]
        assert everything.shape == (10, 32, 48, 3)
        assert everything.dtype == np.uint8
        np.testing.assert_array_equal(video[-1], everything[9])
        np.testing.assert_array_equal(video[8:2:-3], everything[8:2:-3])
        assert video[5:5].shape == (0, 32, 48, 3)
        with pytest.raises(IndexError, match="frame 10 is outside the video's 10 frames"):
            video[10]


@pytest.mark.parametrize(
    ("width", "height", "n_frames"),
    [(16, 16, 1), (33, 17, 3), (27, 48, 2), (19, 40, 5)],
    ids=["smallest", "odd", "portrait", "odd portrait"],
)
def test_any_size_comes_back(tmp_path, width, height, n_frames):
    data, result, source = encode_frames(
        tmp_path, moving_frames(n_frames, width, height), options(100, target=Target(size=700))
    )
    decoded = nvcodec.open(data)[:]
    assert decoded.shape == np.stack(source).shape == (n_frames, height, width, 3)
    assert result.psnr_db > 11


@pytest.mark.parametrize(
    "target",
    [Target(bpp=0.6), Target(bpp=2.0), Target(size=900), Target(bitrate=30_000.0)],
    ids=str,
)
def test_the_file_ends_within_two_percent_below_the_target(tmp_path, target):
    frames = moving_frames(6, 64, 48)
    data, result, _ = encode_frames(tmp_path, frames, options(40, target=target))
    n_pixels = 6 * 64 * 48
    most = {
        "bpp": target.bpp and target.bpp * n_pixels / 8,
        "size": target.size,
        "bitrate": target.bitrate and target.bitrate * 6 / (24000 / 1001) / 8,
    }
    most = next(value for value in most.values() if value)
    assert result.target_bytes == int(most)
    assert 0.98 * int(most) <= len(data) <= most


def test_bytes_that_a_network_has_no_use_for_are_not_spent(tmp_path):
    frames, said = moving_frames(6, 64, 48), []
    asked = options(40, target=Target(bpp=1.0), n_params=4000)
    data, result, _ = encode_frames(tmp_path, frames, asked)
    more, spent, _ = encode_frames(
        tmp_path, frames, dataclasses.replace(asked, target=Target(bpp=60.0)), listener=said.append
    )
    assert spent.psnr_db > result.psnr_db
    assert len(data) < len(more) < 0.98 * spent.target_bytes
    (warning,) = [event.message for event in said if isinstance(event, Log)]
    assert f"the file has {len(more):,} bytes" in warning
    assert "--params gives it more" in warning


def test_psnr_target_is_reached(tmp_path):
    data, result, _ = encode_frames(
        tmp_path, moving_frames(4, 48, 32), options(150, target=Target(psnr=20.0))
    )
    assert result.psnr_db >= 20.0
    assert len(data) < 4 * 48 * 32 * 3


@pytest.mark.parametrize("level", [0, 255, 77])
def test_flat_video(tmp_path, level):
    frames = [np.full((24, 24, 3), level, np.uint8)] * 3
    data, result, _ = encode_frames(tmp_path, frames, options(60, target=Target(bpp=4.0)))
    assert len(data) <= result.target_bytes
    assert result.psnr_db > 25


@pytest.mark.parametrize("optimizer", ["muon", "soap"])
def test_stop_and_resume_give_the_uninterrupted_file(tmp_path, optimizer):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(4, 32, 32))
    asked = options(15, optimizer=optimizer)
    whole, result = nvcodec.encode(path, None, asked, device="cpu")
    for stop_at in (5, 13, 40, 55):
        out = tmp_path / f"out{stop_at}.nrv"
        stops = iter([False] * (stop_at - 1) + [True])
        with pytest.raises(Interrupted, match=f"stopped at step {stop_at}; the state is in"):
            nvcodec.encode(path, out, asked, device="cpu", stop=stops.__next__)
        assert not out.exists()
        assert checkpoint_path(out).exists()
        resumed, again = nvcodec.encode(path, out, asked, device="cpu", resume=True)
        assert resumed == whole == out.read_bytes()
        assert not checkpoint_path(out).exists()
        assert again.n_steps == result.n_steps == 60


def test_checkpoint_of_another_run_is_refused(tmp_path):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(2, 32, 32))
    out = tmp_path / "out.nrv"
    # Its first step comes at once, on a busy machine too.
    short = options(5, arch="hnerv")
    with pytest.raises(UsageError, match="nothing to resume"):
        nvcodec.encode(path, out, short, device="cpu", resume=True)
    with pytest.raises(Interrupted):
        nvcodec.encode(path, out, short, device="cpu", stop=lambda: True)
    with pytest.raises(UsageError, match=r"made with another seed \(0 there, 3 here\)"):
        nvcodec.encode(path, out, dataclasses.replace(short, seed=3), device="cpu", resume=True)
    seen = []
    with pytest.raises(Interrupted):
        nvcodec.encode(path, out, short, device="cpu", stop=lambda: True, listener=seen.append)
    warnings = [event.message for event in seen if isinstance(event, Log)]
    assert warnings == [
        f"{checkpoint_path(out)} holds an interrupted run, which starts anew without --resume"
    ]
    checkpoint_path(out).write_bytes(b"\x10\0\0\0\0\0\0\0garbage")
    with pytest.raises(UsageError, match="is damaged"):
        nvcodec.encode(path, out, short, device="cpu", resume=True)


def test_time_limit_still_ends_annealed(tmp_path):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(4, 32, 32))
    data, result = nvcodec.encode(path, None, options(max_time_s=2.0), device="cpu")
    assert result.n_steps > 5
    assert len(nvcodec.open(data)) == 4


def test_prune_really_removes_weights(tmp_path):
    data, _, _ = encode_frames(tmp_path, moving_frames(3, 48, 32), options(40, prune=0.5))
    from nvcodec.codec.contents import read_tensors

    stream = unpack_stream(data)
    _, tensors = read_tensors(stream.segments[0], stream.header)
    weights = [q.symbols for q in tensors if q.spec.name.endswith("weight")]
    assert np.concatenate([w.ravel() == 0 for w in weights]).mean() >= 0.5


def test_seed_decides_the_bytes(tmp_path):
    frames = moving_frames(2, 32, 32)
    one, two, other = (
        encode_frames(tmp_path, frames, options(20, seed=seed))[0] for seed in (1, 1, 2)
    )
    assert one == two != other


def make_fit(**changes):
    frames = torch.from_numpy(np.stack(moving_frames(4, 32, 32))).permute(0, 3, 1, 2)
    torch.manual_seed(0)
    model = HNeRV(HNeRVConfig(embed_dim=4, fc_dim=12, strides=(4, 2)), 4, 32, 32)
    settings = FitSettings(**{"n_steps": 40, "target_bits": 8000.0} | changes)
    return Fit(model, frames, settings, lambda tensors: 8000.0)


def test_divergence_is_rolled_back():
    fit = make_fit()
    for _ in range(15):
        fit.advance()
    with torch.no_grad():
        fit.model.head.weight.fill_(torch.nan)
    fit.advance()
    assert fit.n_rollbacks == 1
    assert fit.lr_factor == 0.5
    while not fit.done:
        fit.advance()
    assert all(torch.isfinite(p).all() for p in fit.parameters().values())


def test_values_end_away_from_the_edges_of_symbols():
    fit = make_fit(n_steps=300)
    while not fit.done:
        fit.advance()
    # Within 2 % of a step on both sides; evenly spread values would be 4 %.
    up, down = (fit.quantized(deadzone=deadzone) for deadzone in (-0.02, 0.02))
    differs = [(a.symbols != b.symbols).ravel() for a, b in zip(up, down, strict=True)]
    assert np.concatenate(differs).mean() < 0.03


def poison(fit):
    """Advance with weights that make the loss not a number."""
    fit.model.head.weight.data.fill_(torch.nan)
    fit.advance()


def test_hopeless_divergence_is_an_error():
    fit = make_fit()
    fit.advance()
    for _ in range(5):
        poison(fit)
    with pytest.raises(ResourceError, match="training diverged 6 times"):
        poison(fit)


def test_every_frame_is_drawn_once_a_pass():
    fit = make_fit(batch=3)
    seen = [fit._next_batch().tolist() for _ in range(4)]
    assert [len(batch) for batch in seen] == [3, 1, 3, 1]
    assert sorted(seen[0] + seen[1]) == sorted(seen[2] + seen[3]) == [0, 1, 2, 3]


def test_too_small_a_target_names_the_smallest():
    with pytest.raises(UsageError, match="the smallest hnerv file has about") as caught:
        make_plan(
            options(target=Target(bpp=0.001), arch="hnerv"),
            n_frames=10,
            height=64,
            width=64,
            frame_rate=Fraction(25),
            overhead_bytes=140,
        )
    assert "bpp" in str(caught.value)


@pytest.mark.parametrize(
    ("arch", "n_processes", "batch"),
    [("hnerv", 1, 2), ("hnerv", 3, 3), ("3dnerv", 1, 2), ("3dnerv", 3, 6)],
)
def test_without_a_batch_every_process_has_a_clip(arch, n_processes, batch):
    args = {"n_frames": 12, "height": 32, "width": 32, "frame_rate": 25, "overhead_bytes": 140}
    wanted = EncodeOptions(arch=arch, target=Target(bpp=8), model={})
    if arch == "3dnerv":
        wanted = dataclasses.replace(wanted, model={"clip_frames": 2})
    assert make_plan(wanted, n_processes=n_processes, **args).fit.batch == batch


@pytest.mark.parametrize("coding", ["rd", "ptq"])
def test_too_few_parameters_are_said(coding):
    args = {"n_frames": 4, "height": 32, "width": 32, "frame_rate": 25, "overhead_bytes": 140}
    small = EncodeOptions(arch="enerv", n_params=20, coding=coding, weight_bits=8)
    with pytest.raises(UsageError, match=r"needs at least \d+ parameters .* allows 20") as failure:
        make_plan(small, **args)
    least = int(str(failure.value).split("at least ")[1].split()[0])
    for weight_bits in (2, 8):
        fits = dataclasses.replace(small, n_params=least, weight_bits=weight_bits, prune=0.9)
        assert make_plan(fits, **args).n_params == least


def test_dry_run_tells_the_plan(tmp_path):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(3, 32, 32))
    plan = dry_run(path, options(7), device="cpu")
    assert plan["steps"] == 21
    assert plan["frames"] == 3
    assert plan["encoder_parameters"] == 0
    assert plan["expected_bpp"] == pytest.approx(1.0, rel=0.01)
    assert plan["predicted_s"] >= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arch": "nerd"}, "arch is nerd, allowed are auto, hnerv"),
        ({"preset": "quick"}, "preset is quick, allowed are fast, medium, slow"),
        ({"weight_bits": 1}, "weight_bits is 1, allowed is 2 to 16"),
        ({"prune": 1.5}, "prune is 1.5"),
    ],
)
def test_bad_options(changes, message):
    with pytest.raises(UsageError, match=message):
        EncodeOptions(**changes)


def test_targets_exclude_each_other():
    with pytest.raises(UsageError, match="--bpp and --size exclude each other"):
        Target(bpp=0.1, size=1000)
    with pytest.raises(UsageError, match="bpp is nan"):
        Target(bpp=float("nan"))


def test_several_segments_play_as_one_video(clip):
    data, _, _ = clip
    stream = unpack_stream(data)
    (segment,) = stream.segments
    second = Segment(
        dataclasses.replace(segment.header, first_frame=10), segment.config, segment.payload
    )
    header = dataclasses.replace(stream.header, n_frames=20, n_segments=2)
    joined = pack_stream(Stream(header, (segment, second)))
    assert check_structure(joined) == 2
    video, alone = nvcodec.open(joined), nvcodec.open(data)[:]
    assert len(video) == 20
    np.testing.assert_array_equal(video[8:13], alone[[8, 9, 0, 1, 2]])


def with_segment(data, **changes):
    stream = unpack_stream(data)
    (segment,) = stream.segments
    config = changes.pop("config", segment.config)
    payload = changes.pop("payload", segment.payload)
    header = dataclasses.replace(segment.header, **changes)
    return pack_stream(Stream(stream.header, (Segment(header, config, payload),)))


def test_attacks_with_valid_checksums(clip):
    data, _, _ = clip
    config = unpack_stream(data).segments[0].config
    huge = config[:1] + b"\x00\x08" + config[3:]
    with pytest.raises(UnsupportedError, match="architecture 99 is unknown"):
        check_structure(with_segment(data, arch_id=99))
    with pytest.raises(CorruptError, match="do not match their hash"):
        check_structure(with_segment(data, tensors_sha256=1))
    with pytest.raises(CorruptError):
        check_structure(with_segment(data, config=b"\x00" + config[1:]))
    with pytest.raises(CorruptError, match="bytes too many"):
        check_structure(with_segment(data, config=config + b"\x01" * 9))
    with pytest.raises(CorruptError):
        check_structure(with_segment(data, payload=b""))
    with pytest.raises((CorruptError, LimitError)):
        check_structure(with_segment(data, config=huge))
    with pytest.raises(LimitError, match="limit of this decoder is 100"):
        check_structure(data, Limits(max_params=100))
    with pytest.raises(LimitError, match="feature map values"):
        nvcodec.open(data, limits=Limits(max_activations=10))[0]
