"""3DNeRV: its published sizes, its formula, and clips that end where they like."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from click.testing import CliRunner
from conftest import make_video, moving_frames
from reference_decoder import RangeDecoder, tensor

import nvcodec
from nvcodec import cli, fields
from nvcodec.bitstream.header import Segment, Stream, pack_stream, unpack_stream
from nvcodec.bitstream.tensors import pack_tensors
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.contents import check_structure, read_tensors
from nvcodec.codec.encoder import dry_run
from nvcodec.codec.fit import Fit
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.plan import make_plan
from nvcodec.codec.rate_step import latents_as_decoded, rate_slopes
from nvcodec.codec.settings import FitSettings
from nvcodec.errors import CorruptError, Interrupted, UsageError
from nvcodec.models.base import count_params, shape_only
from nvcodec.models.nerv3d import ClipConv, NeRV3D, NeRV3DConfig
from nvcodec.models.tubelets import TubeletEncoder

HEAD = {"clip_frames": 2, "embed_dim": 32, "strides": (5, 3, 2, 2, 2), "head_kernel": 7}
HEAD |= {"k_time": 7, "lower_width": 12}
V0 = {"clip_frames": 4, "embed_dim": 8, "strides": (5, 4, 3, 2), "reduction_percent": 300}
V0 |= {"k_time": 5, "lower_width": 6}
SMALL = {"clip_frames": 4, "embed_dim": 6, "fc_dim": 5, "strides": (3, 2), "lower_width": 2}


def small_model(n_frames=7, height=11, width=17, **changes):
    torch.manual_seed(1)
    model = NeRV3D(NeRV3DConfig(**SMALL | {"k_time": 5} | changes), n_frames, height, width)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


@pytest.mark.parametrize(
    ("fc_dim", "n_params", "n_gmacs"),
    [(52, 1_633_763, 248), (88, 4_644_579, 649), (132, 10_585_298, 1435)],
)
def test_last_generation_has_the_published_size(fc_dim, n_params, n_gmacs):
    model = shape_only(NeRV3D, NeRV3DConfig(**HEAD, fc_dim=fc_dim), 600, 1080, 1920)
    assert model.embeddings.shape == (300, 32, 1, 9, 16)
    assert model.embeddings.numel() == 1_382_400
    assert count_params(model) - model.embeddings.numel() == n_params
    assert round(model.macs_per_frame() / 1e9) == n_gmacs


@pytest.mark.parametrize(
    ("fc_dim", "n_params"), [(305, 2_734_907), (440, 5_666_012), (634, 11_638_695)]
)
def test_first_generation_has_the_size_of_its_formula(fc_dim, n_params):
    model = shape_only(NeRV3D, NeRV3DConfig(**V0, fc_dim=fc_dim), 300, 1080, 1920)
    # 2304 values for 4 frames.
    assert model.embeddings.numel() == 75 * 2304
    assert count_params(model) - model.embeddings.numel() == n_params
    assert model.config.kernels() == [1, 3, 5, 5]


@pytest.mark.parametrize("clip_frames", [2, 4])
@pytest.mark.parametrize("kernel", [(1, 1), (3, 3), (5, 5), (1, 5), (11, 3)])
def test_clip_convolution_is_a_3d_convolution(clip_frames, kernel):
    torch.manual_seed(0)
    conv = ClipConv(3, 5, kernel, clip_frames).double()
    x = torch.randn(2, 3, clip_frames, 6, 7, dtype=torch.float64)
    padding = tuple(k // 2 for k in conv.kernel_size)
    expected = F.conv3d(x, conv.weight, conv.bias, padding=padding)
    stacked = conv(x.transpose(1, 2).flatten(1, 2))
    torch.testing.assert_close(stacked.view(2, clip_frames, 5, 6, 7).transpose(1, 2), expected)
    expected.square().sum().backward()
    gradient, conv.weight.grad = conv.weight.grad, None
    stacked.square().sum().backward()
    torch.testing.assert_close(conv.weight.grad, gradient)


def plain_clip(model, m):
    """Draw clip m with PyTorch's own 3-D convolutions, as the specification says."""
    config = model.config
    embedding = model.embeddings[m]
    x = torch.zeros(config.embed_dim // 2, config.clip_frames, *embedding.shape[2:])
    x = x.to(embedding)
    for c in range(len(x)):
        for t in range(config.clip_frames):
            x[c, t] = embedding[2 * c + t % 2, t // 2]

    def conv(x, layer):
        padding = tuple(k // 2 for k in layer.kernel_size)
        return F.conv3d(x[None], layer.weight, layer.bias, padding=padding)[0]

    x = F.gelu(conv(x, model.stem))
    for stage, s in zip(model.stages, config.strides, strict=True):
        x = F.gelu(conv(x, stage))
        x = torch.stack([F.pixel_shuffle(x[:, t], s) for t in range(x.shape[1])], dim=1)
    y = conv(x, model.head)[:, :, : model.height, : model.width]
    y = torch.sigmoid(y) if config.output == 1 else torch.tanh(y) / 2 + 0.5
    return y.transpose(0, 1)


@pytest.mark.parametrize(
    "changes",
    [{}, {"clip_frames": 2, "k_time": 3}, {"k_time": 1, "output": 0}, {"k_min": 3, "k_max": 3}],
)
@torch.inference_mode()
def test_draw_equals_the_formula(changes):
    model = small_model(**changes).double()
    plain = torch.cat([plain_clip(model, m) for m in range(len(model.embeddings))])[:7]
    torch.testing.assert_close(model(torch.arange(7)), plain)


@torch.inference_mode()
def test_frames_come_in_the_order_asked_for():
    model = small_model()
    everything = model(torch.arange(7))
    assert everything.shape == (7, 3, 11, 17)
    assert float(everything.std(0).mean()) > 0.01
    for index in ([6], [5, 0], [3, 4, 3, 2, 6, 0], [6, 5, 4, 3, 2, 1, 0]):
        torch.testing.assert_close(model(torch.tensor(index)), everything[index])


@torch.inference_mode()
def test_given_latents_belong_to_the_clips_in_the_order_of_their_appearance():
    model = small_model(n_frames=12)
    index = torch.tensor([9, 1, 8, 4, 0])
    latents = {"embeddings": model.embeddings[[2, 0, 1]]}
    torch.testing.assert_close(model(index, latents), model(index))
    # Each clip is drawn once, and no other.
    torch.testing.assert_close(
        model(index[:1], {"embeddings": model.embeddings[2:]}), model(index[:1])
    )


@torch.inference_mode()
def test_clips_may_begin_between_clips():
    model = small_model()
    whole = model.draw_between(torch.arange(7, dtype=torch.float64))
    torch.testing.assert_close(whole, model(torch.arange(7)))
    (between,) = model.draw_between(torch.tensor([2.5], dtype=torch.float64))
    # Frame 2 of a clip that begins an eighth of a clip after the first.
    latent = torch.lerp(model.embeddings[:1], model.embeddings[1:], 0.125)
    expected = model(torch.tensor([2]), {"embeddings": latent})[0]
    torch.testing.assert_close(between, expected)


@pytest.mark.parametrize("n_frames", [1, 2, 3, 4, 5])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (33, 17), (48, 27), (180, 320)])
def test_any_size_and_number_of_frames(n_frames, height, width):
    config = NeRV3D.solve(4_000, n_frames, height, width)
    fields.check(config)
    model = NeRV3D(config, n_frames, height, width)
    assert len(model.embeddings) == -(-n_frames // model.clip_frames)
    with torch.inference_mode():
        assert model(torch.tensor([n_frames - 1])).shape == (1, 3, height, width)


@pytest.mark.parametrize("clip_frames", [2, 4])
@pytest.mark.parametrize("n_params", [1_500, 20_000, 300_000, 3_000_000])
def test_solved_width_fits_the_budget(n_params, clip_frames):
    config = NeRV3D.solve(n_params, 9, 90, 160, clip_frames=str(clip_frames))
    model = shape_only(NeRV3D, config, 9, 90, 160)
    assert 0.7 * n_params < count_params(model) <= n_params
    assert model.embeddings.numel() <= 0.3 * n_params
    assert config.k_time == 2 * clip_frames - 1
    smallest = NeRV3D.smallest(9, 90, 160, clip_frames=clip_frames)
    assert count_params(shape_only(NeRV3D, smallest, 9, 90, 160)) <= n_params


def test_whatever_is_no_smaller_than_the_smallest_is_solved():
    wide = {"lower_width": 12}
    smallest = NeRV3D.smallest(64, 180, 320, **wide)
    n_params = count_params(shape_only(NeRV3D, smallest, 64, 180, 320))
    assert NeRV3D.solve(n_params, 64, 180, 320, **wide) == smallest


def test_published_width_is_solved():
    config = NeRV3D.solve(1_633_763 + 1_382_400, 600, 1080, 1920, **HEAD, reduction_percent=120)
    assert config.fc_dim == 52


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"clip_frames": 3}, "option clip_frames is 3, 2 or 4 is needed"),
        ({"clip_frames": "8"}, "option clip_frames is 8, allowed is 2 to 4"),
        ({"embed_dim": 5}, "option embed_dim is 5, an even number is needed"),
        ({"head_kernel": 4}, "option head_kernel is 4, an odd number is needed"),
        ({"output": "relu"}, "option output is 'relu', allowed is tanh, sigmoid"),
        ({"tubelet": 2}, "NeRV3D has no option tubelet; allowed are clip_frames"),
    ],
)
def test_bad_options_are_said(given, message):
    for ask in (NeRV3D.smallest, lambda *size, **more: NeRV3D.solve(1e5, *size, **more)):
        with pytest.raises(UsageError, match=message):
            ask(4, 64, 64, **given)


def test_too_small_a_budget_is_said():
    with pytest.raises(UsageError, match="NeRV3D needs at least"):
        NeRV3D.solve(50, 4, 64, 64)


@pytest.mark.parametrize("changes", [{}, {"fc_dim": 1, "lower_width": 1}, {"embed_dim": 254}])
@torch.inference_mode()
def test_peak_is_the_largest_map_of_a_clip(changes):
    model = small_model(height=12, width=18, **changes)
    sizes = []
    for layer in model.modules():
        if isinstance(layer, ClipConv):
            layer.register_forward_hook(lambda _, x, y: sizes.extend([x[0].numel(), y.numel()]))
    model(torch.tensor([5]))
    assert model.peak_activations() == max(sizes)


@pytest.mark.parametrize("clip_frames", [2, 4])
def test_encoder_keeps_places_and_times_apart(clip_frames):
    """What changes in a frame must move the embedding of its own time and cell the most."""
    torch.manual_seed(0)
    encoder = TubeletEncoder((4, 2), 6, clip_frames)
    frames = torch.full((2 * clip_frames, 3, 30, 47), 0.5)
    with torch.inference_mode():
        still = encoder(frames)
        assert still.shape == (2, 6, clip_frames // 2, 4, 6)
        for clip, t, i, j in ((0, 0, 1, 2), (1, clip_frames - 1, 3, 0), (1, 0, 2, 5)):
            moved = frames.clone()
            moved[clip * clip_frames + t, :, 8 * i : 8 * i + 8, 8 * j : 8 * j + 8] = 1
            change = (encoder(moved) - still).abs().sum(1)
            assert np.unravel_index(int(change.argmax()), change.shape) == (clip, t // 2, i, j)


def test_encoder_follows_a_moving_object():
    torch.manual_seed(0)
    encoder = TubeletEncoder((4, 2), 6, 4)
    with torch.inference_mode():
        cells = []
        for t in range(4):
            frames = torch.zeros(4, 3, 32, 48)
            frames[t, :, 8:16, 8 * t : 8 * t + 8] = 1
            change = (encoder(frames) - encoder(torch.zeros(4, 3, 32, 48)))[0].abs().sum(0)
            cells.append(np.unravel_index(int(change.argmax()), change.shape))
    assert cells == [(0, 1, 0), (0, 1, 1), (1, 1, 2), (1, 1, 3)]


def test_encoder_comes_with_the_model():
    model = small_model(height=11, width=17)
    assert model.analysis("none") is None
    latents = model.analysis("conv3d", width=8, n_blocks=2)(torch.rand(8, 3, 11, 17))
    assert latents.shape == (2, *model.embeddings.shape[1:])


def small_frames(n_frames=7, width=48, height=32):
    return [np.roll(f, 6 * i, axis=1) for i, f in enumerate(moving_frames(n_frames, width, height))]


def small_options(passes=60, **changes):
    target = changes.pop("target", Target(bpp=1.5))
    return EncodeOptions(arch="3dnerv", target=target, passes=passes, **changes)


def write_clip(folder, frames):
    return make_video(folder / "in.mkv", codec="ffv1", pixel_format="bgr0", frames=frames)


@pytest.fixture(scope="module", params=[2, 4], ids=["clips of 2", "clips of 4"])
def coded(request, tmp_path_factory):
    """Seven frames, so that the last clip is not full, their file and result."""
    frames = small_frames()
    path = write_clip(tmp_path_factory.mktemp("clip"), frames)
    passes = {2: 100, 4: 160}[request.param]
    options = small_options(passes, model={"clip_frames": request.param})
    data, result = nvcodec.encode(path, None, options, device="cpu")
    return data, result, frames, path


def test_encode_verify_and_info(coded, tmp_path):
    data, result, _, source = coded
    assert 0.98 <= 8 * len(data) / (1.5 * 7 * 48 * 32) <= 1
    assert result.psnr_db > 17
    path = tmp_path / "a.nrv"
    path.write_bytes(data)
    for command in (["verify", str(path), "--source", str(source)], ["info", str(path)]):
        done = CliRunner().invoke(cli.main, [*command, "--json"])
        assert done.exit_code == 0, done.output
        values = json.loads(done.stdout.splitlines()[-2])
        if command[0] == "verify":
            assert values["psnr_db"] == pytest.approx(result.psnr_db, abs=0.01)
        else:
            assert values["segments"][0]["arch"] == "3dnerv"
            assert values["segments"][0]["parameters"] == result.n_params


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_frames_come_in_order_for_any_batch(coded, batch):
    data, _, truth, _ = coded
    with nvcodec.open(data, batch=batch, device="cpu") as video:
        drawn = []
        hook = video.load(0).register_forward_hook(lambda _, index, out: drawn.append(len(out)))
        decoded = list(video)
        hook.remove()
        n = video.load(0).clip_frames
        assert max(drawn) <= batch * n
        assert len(drawn) == -(-len(video.load(0).embeddings) // batch)
        everything = video[:]
        for index in ([6, 0, 5, 1], [3, 3, 3], [6]):
            asked = np.stack(list(video.frames(index))).astype(int)
            assert np.abs(asked - everything[index]).max() <= 1
    for i, frame in enumerate(decoded):
        errors = [np.square(frame.astype(int) - other).mean() for other in truth]
        assert int(np.argmin(errors)) == i


def test_rendering_conforms_to_float64(coded):
    data = coded[0]
    video = nvcodec.open(data, device="cpu")
    exact = video.load(0).double()
    with torch.inference_mode():
        drawn = (exact(torch.arange(7)).clamp(0, 1) * 255).round()
    reference = drawn.permute(0, 2, 3, 1).numpy()
    difference = np.abs(nvcodec.open(data, device="cpu")[:] - reference)
    assert difference.max() <= 1
    assert (difference == 0).mean() >= 0.999


def test_tensors_are_those_of_the_specification(coded):
    stream = unpack_stream(coded[0])
    segment = stream.segments[0]
    _, tensors = read_tensors(segment, stream.header)
    decoder = RangeDecoder(segment.payload)
    for q in tensors:
        steps, symbols = tensor(decoder, q.spec.shape, q.spec.name == "embeddings")
        assert steps == q.steps.tolist()
        assert symbols == q.symbols.ravel().tolist()
    assert decoder.finished()


def test_hostile_clip_length_is_corrupt(coded):
    stream = unpack_stream(coded[0])
    (segment,) = stream.segments
    config = bytes([3]) + segment.config[1:]
    changed = (Segment(segment.header, config, segment.payload),)
    with pytest.raises(CorruptError, match="clip_frames is 3"):
        check_structure(pack_stream(Stream(stream.header, changed)))


def test_segments_of_odd_length_play_on(coded):
    data = coded[0]
    stream = unpack_stream(data)
    (segment,) = stream.segments
    second = dataclasses.replace(segment.header, first_frame=7)
    header = dataclasses.replace(stream.header, n_frames=14, n_segments=2)
    both = (segment, Segment(second, segment.config, segment.payload))
    video = nvcodec.open(pack_stream(Stream(header, both)), batch=2, device="cpu")
    alone = nvcodec.open(data, device="cpu")[:].astype(int)
    assert np.abs(video[5:9] - alone[[5, 6, 0, 1]]).max() <= 1


@pytest.mark.parametrize(
    ("n_frames", "width", "height", "clip_frames"),
    [(1, 16, 16, 2), (3, 33, 17, 2), (2, 27, 48, 4), (5, 19, 40, 4)],
    ids=["one frame", "odd", "portrait", "odd portrait"],
)
def test_any_video_comes_back(tmp_path, n_frames, width, height, clip_frames):
    path = write_clip(tmp_path, moving_frames(n_frames, width, height))
    options = small_options(40, target=Target(size=1000), model={"clip_frames": clip_frames})
    data, result = nvcodec.encode(path, None, options, device="cpu")
    assert nvcodec.open(data, device="cpu")[:].shape == (n_frames, height, width, 3)
    assert result.psnr_db > 9


@pytest.mark.parametrize(
    "changes",
    [
        {"coding": "ptq", "weight_bits": 6, "embed_bits": 6, "prune": 0.3},
        {"analysis": "none", "prune": 0.3, "prune_scope": "layer"},
        {"optimizer": "adam", "loss": "fusion6", "batch": 5},
    ],
    ids=["ptq", "prune", "adam"],
)
def test_every_way_to_train_works_with_clips(tmp_path, changes):
    path = write_clip(tmp_path, small_frames(5, 32, 32))
    data, _ = nvcodec.encode(path, None, small_options(8, **changes), device="cpu")
    assert len(nvcodec.open(data, device="cpu")[:]) == 5


def test_stop_and_resume_give_the_uninterrupted_file(tmp_path):
    path = write_clip(tmp_path, small_frames(5, 32, 32))
    options = small_options(10)
    whole, result = nvcodec.encode(path, None, options, device="cpu")
    assert result.n_steps == 30
    for stop_at in (2, 5, 20):
        out = tmp_path / f"out{stop_at}.nrv"
        stops = iter([False] * (stop_at - 1) + [True])
        with pytest.raises(Interrupted):
            nvcodec.encode(path, out, options, device="cpu", stop=stops.__next__)
        assert checkpoint_path(out).exists()
        resumed, _ = nvcodec.encode(path, out, options, device="cpu", resume=True)
        assert resumed == whole == out.read_bytes()


@pytest.mark.parametrize(
    ("n_frames", "batch", "clip_frames", "in_batch", "steps"),
    [(16, None, 2, 2, 8), (16, 3, 2, 2, 8), (16, 7, 2, 6, 3), (7, 100, 4, 8, 1), (1, 1, 4, 4, 1)],
)
def test_a_step_takes_whole_clips(n_frames, batch, clip_frames, in_batch, steps):
    plan = make_plan(
        small_options(10, batch=batch, model={"clip_frames": clip_frames}),
        n_frames=n_frames,
        height=48,
        width=64,
        frame_rate=Fraction(25),
        overhead_bytes=140,
    )
    assert (plan.fit.batch, plan.fit.n_steps) == (in_batch, 10 * steps)


def make_fit(**changes):
    model = small_model(height=32, width=32)
    frames = torch.from_numpy(np.stack(small_frames(7, 32, 32))).permute(0, 3, 1, 2)
    return Fit(model, frames, FitSettings(n_steps=40, target_bits=2e4, **changes), lambda _: 2e4)


def test_every_clip_is_drawn_once_a_pass_and_the_last_without_what_is_beyond():
    fit = make_fit(batch=4)
    drawn = []
    fit.model.register_forward_hook(lambda _, given, out: drawn.append(given[0].tolist()))
    for _ in range(4):
        fit.advance()
    assert sorted(drawn[0] + drawn[1]) == sorted(drawn[2] + drawn[3]) == list(range(7))
    assert sorted(map(len, drawn[:2])) == [3, 4]


def test_estimated_bits_of_batches_are_those_of_the_file():
    fit = make_fit(batch=4, float_share=0.0, frozen_share=1.0, analysis="none")
    fit.model.embeddings.data.normal_(generator=torch.Generator().manual_seed(2))
    fit._change_phase()
    with torch.no_grad():
        of_both, *of_each = (
            float(latents_as_decoded(fit.model, fit.quantizer, clips, 2, frozen=True)[1])
            for clips in (torch.tensor([1, 0]), torch.tensor([0]), torch.tensor([1]))
        )
    assert fit.latent_bits == pytest.approx(of_both)
    assert sum(of_each) / 2 == pytest.approx(of_both)
    _, weight_bits = rate_slopes(fit.model, fit.quantizer, {}, 1.0, frozen=True)
    whole = weight_bits + of_both
    assert 8 * len(pack_tensors(fit.quantized())) == pytest.approx(whole, rel=0.1)


def test_dry_run_tells_clips(tmp_path):
    path = write_clip(tmp_path, small_frames(5, 32, 32))
    plan = dry_run(path, small_options(7), device="cpu")
    assert (plan["arch"], plan["config"]["clip_frames"]) == ("3dnerv", 2)
    assert (plan["batch"], plan["steps"]) == (2, 21)
    assert plan["predicted_s"] >= 0


def test_float32_on_a_cpu(tmp_path, monkeypatch):
    """Whatever is faster: PyTorch's bfloat16 gradients of Conv3d on a CPU are wrong."""
    monkeypatch.setattr("nvcodec.codec.work.bf16_pays", lambda device: True)
    clip = make_video(tmp_path / "in.mp4", frames=moving_frames(4, 32, 32))
    target = Target(size=4000)
    for arch, precision in (("3dnerv", "float32"), ("hnerv", "bfloat16")):
        options = EncodeOptions(arch=arch, target=target, passes=1)
        assert dry_run(clip, options, device="cpu")["precision"] == precision
