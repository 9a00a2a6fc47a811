"""Every option of HNeRV: it draws as the specification says, trains, and fits its budget."""

import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import moving_frames
from hypothesis import given, settings
from hypothesis import strategies as st

import nvcodec
from nvcodec import fields
from nvcodec.bitstream.header import unpack_stream
from nvcodec.codec.contents import read_tensors
from nvcodec.codec.fit import Fit
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.quantize import tensor_specs
from nvcodec.codec.settings import FitSettings
from nvcodec.errors import UsageError
from nvcodec.models.base import count_params, shape_only
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.models.layers import ACTIVATION_NAMES, UpBlock
from nvcodec.models.strides import narrow_by_root

OPTIONS = [
    *({"upsampling": name} for name in ("pshuffle", "deconv", "bilinear")),
    {"upsampling": "deconv", "k_min": 3, "n_blocks": 2},
    *({"norm": name} for name in ("bn", "in")),
    *({"activation": name} for name in ACTIVATION_NAMES),
    *({"output": name} for name in ("tanh", "sigmoid", "linear")),
    {"reduction_percent": 0},
    {"n_blocks": 3},
    {"fc_scale": 2},
    {"lower_width": 20},
    {"embed": "pe"},
    {"embed": "pe", "pe_base_percent": 200, "pe_levels": 6, "norm": "bn"},
    {"embed": "pe", "pe_levels": 0},
    {"embed_dim": 5},
    {"embed_ratio_percent": 25},
]
N_FRAMES, HEIGHT, WIDTH = 3, 37, 50
BUDGET = 45_000


def build(n_params=BUDGET, **options):
    torch.manual_seed(0)
    config = HNeRV.solve(n_params, N_FRAMES, HEIGHT, WIDTH, **options)
    model = HNeRV(config, N_FRAMES, HEIGHT, WIDTH)
    for name in model.latent_names:
        torch.nn.init.normal_(model.get_parameter(name))
    return model


def frames(n_frames=N_FRAMES):
    video = np.stack(moving_frames(n_frames, WIDTH, HEIGHT))
    return torch.from_numpy(video).permute(0, 3, 1, 2)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_every_option_draws_trains_and_fits_the_budget(options):
    model = build(**options)
    fields.check(model.config)
    n_params = count_params(model)
    assert n_params == sum(spec.size for spec in tensor_specs(model)) <= BUDGET
    reader = fields.ByteReader(fields.pack(model.config), "config")
    assert fields.unpack(HNeRVConfig, reader) == model.config
    model.train()
    drawn = model(torch.arange(N_FRAMES))
    assert drawn.shape == (N_FRAMES, 3, HEIGHT, WIDTH)
    assert drawn.isfinite().all()
    drawn.square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        # What comes before a normalisation has a bias without effect.
        assert parameter.grad.any() or name.endswith("bias"), name
    model.freeze()
    assert not torch.equal(model(torch.tensor([0])), model(torch.tensor([2])))
    assert model.macs_per_frame() > 0
    with pytest.raises(UsageError, match="needs at least"):
        HNeRV.solve(30, N_FRAMES, HEIGHT, WIDTH, **options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_the_solved_width_is_the_widest(options):
    model = build(**options)
    wider = {name: getattr(model.config, name) for name in model.config.__dataclass_fields__}
    wider["fc_dim"] += 1
    assert count_params(HNeRV(HNeRVConfig(**wider), N_FRAMES, HEIGHT, WIDTH)) > BUDGET


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_costs_are_those_of_the_layers(options, monkeypatch):
    model = build(**options).eval()
    macs, peak = 0, 0

    def measured(convolution, transposed):
        def convolve(x, weight, *args, **kwargs):
            nonlocal macs, peak
            y = convolution(x, weight, *args, **kwargs)
            macs += (x if transposed else y)[0, 0].numel() * weight.numel()
            peak = max(peak, y.numel(), x.numel() * (weight is not model.stem.weight))
            return y

        return convolve

    for name in ("conv2d", "conv_transpose2d"):
        convolution = getattr(F, name)
        monkeypatch.setattr(F, name, measured(convolution, name == "conv_transpose2d"))
    model(torch.tensor([1]))
    assert model.macs_per_frame() == macs
    assert model.peak_activations() == peak


def expected_block(block, x):
    """What bitstream_spec.md says a block does, sum by sum, in float64."""
    w = block.conv.weight.detach().double().numpy()
    bias = block.conv.bias.detach().double().numpy()
    k, s = w.shape[-1], block.stride
    height, width = x.shape[1:]
    if block.kind == "deconv":
        p = -(-max(k - s, 0) // 2)
        y = np.tile(bias[:, None, None], (1, height * s, width * s))
        for i, j in np.ndindex(*y.shape[1:]):
            for u, v in np.ndindex(k, k):
                row, column = i + p - u, j + p - v
                whole = row % s == 0 and column % s == 0
                if whole and 0 <= row < height * s and 0 <= column < width * s:
                    y[:, i, j] += x[:, row // s, column // s] @ w[:, :, u, v]
        return y
    if block.kind == "bilinear":
        for axis in (1, 2):
            n = x.shape[axis]
            place = np.maximum(0, (np.arange(n * s) + 0.5) / s - 0.5)
            low = np.floor(place).astype(int)
            high = np.minimum(low + 1, n - 1)
            share = np.expand_dims(place - low, tuple({0, 1, 2} - {axis}))
            x = x.take(low, axis) * (1 - share) + x.take(high, axis) * share
    height, width = x.shape[1:]
    p = (k - 1) // 2
    padded = np.pad(x, ((0, 0), (p, k - 1 - p), (p, k - 1 - p)))
    y = np.tile(bias[:, None, None], (1, height, width))
    for u, v in np.ndindex(k, k):
        part = padded[:, u : u + height, v : v + width]
        y += np.einsum("oc,chw->ohw", w[:, :, u, v], part)
    if block.kind == "pshuffle":
        shuffled = np.empty((len(y) // s**2, height * s, width * s))
        for c, i, j, p, q in np.ndindex(len(shuffled), height, width, s, s):
            shuffled[c, i * s + p, j * s + q] = y[c * s**2 + p * s + q, i, j]
        y = shuffled
    return y


@pytest.mark.parametrize("upsampling", [0, 1, 2])
@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (4, 3), (2, 3), (5, 2), (6, 5)])
def test_blocks_are_those_of_the_specification(upsampling, kernel, stride):
    torch.manual_seed(0)
    if upsampling == 0 or stride == 1:
        kernel |= 1
    block = UpBlock(3, 2, stride=stride, kernel=kernel, upsampling=upsampling, activation=1)
    x = torch.randn(1, 3, 4, 3)
    expected = np.maximum(expected_block(block, x[0].double().numpy()), 0)
    np.testing.assert_allclose(block(x)[0].detach().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("gelu", lambda x: x * (1 + math.erf(x / math.sqrt(2))) / 2),
        ("relu", lambda x: max(0.0, x)),
        ("leaky", lambda x: x if x > 0 else 0.01 * x),
        ("leaky01", lambda x: x if x > 0 else 0.1 * x),
        ("relu6", lambda x: min(max(0.0, x), 6.0)),
        ("swish", lambda x: x / (1 + math.exp(-x))),
        ("softplus", lambda x: math.log(1 + math.exp(x))),
        ("hardswish", lambda x: x * min(max(0.0, x + 3), 6.0) / 6),
        ("sin", math.sin),
    ],
)
def test_activations_are_those_of_the_specification(name, function):
    from nvcodec.models.layers import activate

    x = torch.linspace(-8, 8, 41)
    expected = [function(float(value)) for value in x]
    y = activate(ACTIVATION_NAMES.index(name), x.requires_grad_()).detach()
    torch.testing.assert_close(y, torch.tensor(expected), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("norm", ["bn", "in"])
def test_norms_are_those_of_the_specification(norm):
    model = build(norm=norm, n_blocks=1, strides="4,2").eval()
    block = model.stages[0]
    if norm == "bn":
        torch.nn.init.normal_(block.norm.scale)
        torch.nn.init.normal_(block.norm.shift)
    x = torch.randn(1, block.conv.in_channels, 4, 3)
    y = expected_block(block, x[0].double().numpy())
    if norm == "in":
        y = (y - y.mean((1, 2), keepdims=True)) / np.sqrt(y.var((1, 2), keepdims=True) + 1e-5)
    else:
        scale, shift = (p.detach().numpy()[:, None, None] for p in block.norm.parameters())
        y = scale * y + shift
    y = torch.nn.functional.gelu(torch.from_numpy(y))
    torch.testing.assert_close(block(x)[0].double(), y, atol=1e-4, rtol=1e-4)


@given(width=st.integers(1, 4000), stride=st.integers(1, 8))
@settings(max_examples=300, deadline=None)
def test_roots_round_ties_to_even(width, stride):
    with localcontext() as context:
        context.prec = 60
        exact = Decimal(width) / Decimal(stride).sqrt()
        expected = int(exact.to_integral_value(rounding="ROUND_HALF_EVEN"))
    assert narrow_by_root(width, stride, 1) == max(1, expected)


def test_ties_of_roots():
    assert [narrow_by_root(width, 4, 1) for width in (5, 7, 9, 11)] == [2, 4, 4, 6]


def test_time_in_place_of_embeddings():
    config = HNeRVConfig(embed_dim=1, fc_dim=6, strides=(3, 2), lower_width=4, embed=1, pe_levels=3)
    model = HNeRV(config, 4, 11, 17)
    assert model.latent_names == ()
    assert model.analyses == ("none",)
    assert "embeddings" not in dict(model.named_parameters())
    assert model.stem.weight.shape == (6 * 2 * 3, 6, 1, 1)
    t = 3 / 4
    encoded = []
    for k in range(3):
        angle = 1.25**k * math.pi * t
        encoded += [math.sin(angle), math.cos(angle)]
    x = torch.nn.functional.gelu(model.stem(torch.tensor(encoded)[None, :, None, None]))
    for block in model.stages:
        x = block(x) if block is not model.stages[0] else block(x.view(1, 6, 2, 3))
    expected = torch.tanh(model.head(x)) / 2 + 0.5
    torch.testing.assert_close(model(torch.tensor([3])), expected[:, :, :11, :17])


def test_an_embedding_cell_becomes_a_square_of_cells():
    model = HNeRV(HNeRVConfig(embed_dim=2, fc_dim=5, strides=(2, 2), fc_scale=3), 2, 20, 30)
    assert model.embeddings.shape == (2, 2, 2, 3)
    assert model.stem.weight.shape == (45, 2, 1, 1)
    latents = model.analysis("conv")(torch.rand(2, 3, 20, 30))
    assert latents.shape == model.embeddings.shape
    assert model(torch.tensor([0]), {"embeddings": latents[:1]}).shape == (1, 3, 20, 30)


def test_embedding_size_by_ratio():
    config = HNeRV.solve(1.5e6, 132, 640, 1280, embed_ratio_percent=10, strides="5,4,4,2,2")
    # 10 % of 1.5 M for 132 frames of 2 x 4 cells.
    assert config.embed_dim == 142
    assert "embed_ratio_percent" not in config.__dataclass_fields__


def test_whatever_is_no_smaller_than_the_smallest_is_solved():
    wide = {"lower_width": 12}
    smallest = HNeRV.smallest(64, 180, 320, **wide)
    n_params = count_params(shape_only(HNeRV, smallest, 64, 180, 320))
    assert HNeRV.solve(n_params, 64, 180, 320, **wide) == smallest
    more = HNeRV.solve(1.1 * n_params, 64, 180, 320, **wide)
    assert more.embed_dim > 1
    with pytest.raises(UsageError, match="needs at least"):
        HNeRV.solve(n_params - 1, 64, 180, 320, **wide)


@pytest.mark.parametrize("n_blocks", [1, 2])
@pytest.mark.parametrize("kind", ["convnext", "conv", "pshuffle", "interpolate"])
def test_encoders_make_the_latents_of_a_padded_frame(kind, n_blocks):
    model = HNeRV(HNeRVConfig(embed_dim=3, fc_dim=7, strides=(3, 2)), 2, 11, 17)
    encoder = model.analysis(kind, width=8, n_blocks=n_blocks)
    latents = encoder(torch.rand(2, 3, 11, 17))
    assert latents.shape == model.embeddings.shape
    latents.square().sum().backward()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())
    more = model.analysis(kind, width=8, n_blocks=n_blocks + 1)
    assert count_params(more) > count_params(encoder)
    assert HNeRV.smallest(2, 11, 17).has_embeddings


def test_no_encoder():
    assert build().analysis("none") is None
    assert build().analyses == ("convnext", "conv", "pshuffle", "interpolate", "none")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k_min": 2}, "kernel sizes 2 and 5 must be odd"),
        ({"reduction_percent": 50}, "reduction_percent 50 is neither 0 nor 100-1000"),
        ({"embed": "pe", "pe_base_percent": 400}, "base 4.0 with 80 levels goes beyond"),
        ({"embed": "pe", "embed_dim": 4}, "with embed=pe there are none"),
        ({"embed_dim": 4, "embed_ratio_percent": 4}, "exclude each other"),
        ({"embed_ratio_percent": 0}, "embed_ratio_percent is 0, allowed is 1 to 90"),
        ({"upsampling": "nearest"}, "allowed is pshuffle, deconv, bilinear"),
    ],
)
def test_bad_options(options, message):
    for choose in (HNeRV.smallest, lambda *size, **given: HNeRV.solve(1e5, *size, **given)):
        with pytest.raises(UsageError, match=message):
            choose(N_FRAMES, HEIGHT, WIDTH, **options)


def test_a_single_pixel_cannot_be_normalised():
    with pytest.raises(UsageError, match="a map of a single pixel cannot be normalised"):
        HNeRV.solve(1e5, 1, 16, 16, strides="1,4,4", norm="in")


def test_hostile_configs_cost_no_memory():
    for options in ({"embed": 1}, {"n_blocks": 8, "upsampling": 1}, {"fc_scale": 16}):
        config = HNeRVConfig(
            embed_dim=255, fc_dim=2048, strides=(1, 8, 8), lower_width=255, k_max=11, **options
        )
        model = shape_only(HNeRV, config, 2_000_000, 32_768, 32_768)
        assert count_params(model) > 10**8
        assert model.peak_activations() > 10**9


def test_new_fields_leave_the_published_network_as_it_is():
    config = HNeRVConfig(embed_dim=16, fc_dim=68, strides=(5, 4, 4, 2, 2))
    assert count_params(shape_only(HNeRV, config, 132, 640, 1280)) == 1_505_172


@pytest.mark.parametrize(
    "options",
    [
        {"model": {"norm": "bn"}},
        {"model": {"embed": "pe", "pe_levels": 10}},
        {"model": {"upsampling": "deconv", "norm": "bn"}, "coding": "ptq", "weight_bits": 8},
        {"analysis": "pshuffle", "analysis_width": 8, "analysis_share": 1.0},
        {"analysis": "conv", "coding": "ptq", "analysis_share": 1.0, "optimizer": "adam"},
    ],
    ids=str,
)
def test_files_with_options_conform(tmp_path, video_factory, options):
    path = video_factory(
        tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", frames=moving_frames(3, 48, 32)
    )
    wanted = EncodeOptions(arch="hnerv", target=Target(bpp=2.0), passes=20, batch=2, **options)
    data, result = nvcodec.encode(path, None, wanted, device="cpu")
    assert result.psnr_db > 10
    video = nvcodec.open(data)
    exact = video.load(0).double()
    with torch.inference_mode():
        drawn = exact(torch.arange(3)).clamp(0, 1) * 255
    reference = drawn.round().permute(0, 2, 3, 1).numpy()
    assert np.abs(nvcodec.open(data)[:] - reference).max() <= 1
    stream = unpack_stream(data)
    model, tensors = read_tensors(stream.segments[0], stream.header)
    temporal = [q.spec.name for q in tensors if q.spec.temporal]
    assert temporal == list(model.latent_names)


def test_the_rate_phase_starts_from_what_the_encoder_made():
    torch.manual_seed(0)
    model = HNeRV(HNeRVConfig(embed_dim=4, fc_dim=8, strides=(4, 2)), 4, HEIGHT, WIDTH)
    settings = FitSettings(
        n_steps=10, target_bits=8e3, analysis="conv", analysis_share=1.0, float_share=0.5
    )
    fit = Fit(model, frames(4), settings, lambda tensors: 8e3)
    while fit.quantizer is None:
        assert fit.analysis is not None
        fit.advance()
    assert fit.analysis is None
    assert fit.step == 6
    assert all(frame.any() for frame in model.embeddings)
