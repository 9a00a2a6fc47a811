"""NeRV and E-NeRV are the published networks, and draw what the specification says."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_video, moving_frames

import nvcodec
from nvcodec import fields
from nvcodec.codec.fit import Fit
from nvcodec.codec.settings import FitSettings
from nvcodec.errors import UsageError
from nvcodec.models.base import count_params, shape_only
from nvcodec.models.enerv import ENeRV, ENeRVConfig
from nvcodec.models.layers import ACTIVATIONS, conv_1x1
from nvcodec.models.nerv import NeRV, NeRVConfig

MODELS = {"nerv": NeRV, "enerv": ENeRV}


@pytest.mark.parametrize(
    ("fc_dim", "n_params"), [(26, 3_201_905), (58, 6_282_001), (112, 12_524_563)]
)
def test_published_nervs_have_their_size(fc_dim, n_params):
    config = NeRVConfig(fc_dim=fc_dim, strides=(5, 2, 2, 2, 2))
    assert count_params(shape_only(NeRV, config, 132, 720, 1280)) == n_params


def test_published_e_nerv_has_its_size_without_the_coordinates():
    config = ENeRVConfig(fc_dim=196, strides=(5, 2, 2, 2, 2))
    assert config.widths() == [588, 294, 147, 96, 96]
    model = shape_only(ENeRV, config, 132, 720, 1280)
    assert count_params(model) + 2 * 9 * 16 == 12_490_602
    assert round(model.macs_per_frame() / 1e9) == 152


def test_published_nerv_costs_what_was_computed():
    config = NeRVConfig(fc_dim=112, strides=(5, 2, 2, 2, 2))
    assert round(shape_only(NeRV, config, 132, 720, 1280).macs_per_frame() / 1e9) == 102


def encoding(t, base, n_levels):
    if n_levels == 0:
        return np.array([t])
    parts = [
        (math.sin(base**k * math.pi * t), math.cos(base**k * math.pi * t)) for k in range(n_levels)
    ]
    return np.array(parts).ravel()


def doubles(model):
    return {name: p.detach().double() for name, p in model.named_parameters()}


def linear(p, name, x):
    y = x @ p[f"{name}.weight"].T
    return y + p[f"{name}.bias"] if f"{name}.bias" in p else y


def random_model(cls, config, n_frames=5, height=21, width=34):
    torch.manual_seed(2)
    return cls(config, n_frames, height, width).eval()


def test_nerv_draws_the_formula():
    config = NeRVConfig(
        pe_levels=6,
        stem_dim=9,
        fc_dim=6,
        strides=(3, 2),
        lower_width=4,
        blocks=(1, 2),
        activation=5,
    )
    model = random_model(NeRV, config)
    p = doubles(model)
    act = ACTIVATIONS["swish"]
    x = torch.from_numpy(encoding(3 / 5, 1.25, 6))
    x = act(linear(p, "stem.1", act(linear(p, "stem.0", x))))
    x = x.view(1, 6, 4, 6)
    for name, stride in (("stages.0.0", 3), ("stages.1.0", 2), ("stages.1.1", 1)):
        x = F.conv2d(x, p[f"{name}.conv.weight"], p[f"{name}.conv.bias"], padding=1)
        x = act(F.pixel_shuffle(x, stride))
    x = F.conv2d(x, p["head.weight"], p["head.bias"])
    plain = (torch.tanh(x) / 2 + 0.5)[:, :, :21, :34]
    drawn = model(torch.tensor([3])).double()
    torch.testing.assert_close(drawn, plain, atol=1e-5, rtol=0)


@pytest.mark.parametrize("fc_dim", [5, 16])
def test_e_nerv_draws_the_formula(fc_dim):
    config = ENeRVConfig(
        pe_levels=5, stem_dim=7, block_dim=8, mlp_dim=6, heads_2=2, head_dim=4, style_dim=5,
        fc_dim=fc_dim, expansion_percent=50 if fc_dim == 16 else 300, strides=(3, 2), lower_width=4,
    )  # fmt: skip
    model = random_model(ENeRV, config)
    p = doubles(model)
    h, w, t = 4, 6, 3
    act = F.gelu

    def transformer(x, name, n_heads):
        qkv = linear(p, f"{name}.qkv", x).view(h * w, 3, n_heads, 4)
        heads = []
        for i in range(n_heads):
            q, k, v = qkv[:, 0, i], qkv[:, 1, i], qkv[:, 2, i]
            heads.append(torch.softmax(q @ k.T / 2, dim=1) @ v)
        x = x + linear(p, f"{name}.out", torch.cat(heads, 1))
        return x + linear(p, f"{name}.project", act(linear(p, f"{name}.expand", x)))

    cells = [
        np.concatenate([encoding(i / h, 1.25, 5), encoding(j / w, 1.25, 5)])
        for i in range(h)
        for j in range(w)
    ]
    tau = torch.from_numpy(encoding(t / 4, 1.25, 5))
    tokens = act(linear(p, "place.0", torch.from_numpy(np.stack(cells))))
    tokens = transformer(tokens, "before", 1)
    tokens = tokens * act(linear(p, "time.1", act(linear(p, "time.0", tau))))
    tokens = transformer(tokens, "after", 2)
    x = act(linear(p, "to_map.0", tokens)).T.reshape(1, fc_dim, h, w)
    style = act(linear(p, "style.1", act(linear(p, "style.0", tau))))

    def modulate(x, name):
        scale, shift = act(linear(p, f"{name}.modulate.0", style)).view(2, 1, -1, 1, 1)
        x = (x - x.mean((2, 3), keepdim=True)) / torch.sqrt(
            x.var((2, 3), correction=0, keepdim=True) + 1e-5
        )
        return x * scale + shift

    def conv(x, name):
        return F.conv2d(x, p[f"{name}.weight"], p[f"{name}.bias"], padding=1)

    x = modulate(x, "stages.0")
    if config.fc_dim <= config.widths()[0]:
        x = conv(F.pixel_shuffle(conv(x, "stages.0.block.conv1"), 3), "stages.0.block.conv2")
    else:
        x = F.pixel_shuffle(conv(conv(x, "stages.0.block.conv1"), "stages.0.block.conv2"), 3)
    x = modulate(act(x), "stages.1")
    x = act(F.pixel_shuffle(conv(x, "stages.1.block.conv"), 2))
    plain = torch.sigmoid(F.conv2d(x, p["head.weight"], p["head.bias"]))[:, :, :21, :34]
    drawn = model(torch.tensor([t])).double()
    torch.testing.assert_close(drawn, plain, atol=1e-5, rtol=0)


OPTIONS = [
    {"upsampling": "deconv"},
    {"upsampling": "bilinear", "norm": "in"},
    {"norm": "bn", "output": "sigmoid"},
    {"pe_levels": 0},
    *({"activation": name} for name in ACTIVATIONS),
]


@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.parametrize("options", OPTIONS)
def test_every_option_trains(arch, options):
    cls = MODELS[arch]
    config = cls.solve(20_000, 3, 24, 40, **options)
    torch.manual_seed(0)
    frames = torch.randint(0, 256, (3, 3, 24, 40), dtype=torch.uint8)
    settings = FitSettings(n_steps=4, target_bits=5e4, side_weight=0.3, float_share=0.5)
    fit = Fit(cls(config, 3, 24, 40), frames, settings, lambda tensors: 5e4)
    while not fit.done:
        fit.advance()
    assert fit.n_rollbacks == 0
    drawn = fit.model(torch.arange(3))
    assert drawn.shape == (3, 3, 24, 40)
    assert torch.isfinite(drawn).all()


@pytest.mark.parametrize("arch", MODELS)
def test_side_heads_draw_coarser_pictures(arch):
    model = MODELS[arch](MODELS[arch].solve(50_000, 4, 45, 80, strides="3,2,2"), 4, 45, 80)
    heads = model.side_heads()
    frames, *coarse = model.draw_all(torch.tensor([0, 2]), None, heads)
    assert frames.shape == (2, 3, 45, 80)
    assert len(coarse) == len(model.config.strides) - 1
    sizes = [picture.shape[-1] for picture in coarse]
    assert sizes == sorted(sizes)
    assert sizes[-1] < 80


@pytest.mark.parametrize("arch", MODELS)
@pytest.mark.parametrize("n_params", [6_000, 60_000, 600_000])
@pytest.mark.parametrize(("n_frames", "height", "width"), [(1, 16, 16), (7, 48, 27), (33, 90, 160)])
def test_solved_width_fits_the_budget(arch, n_params, n_frames, height, width):
    cls = MODELS[arch]
    config = cls.solve(n_params, n_frames, height, width)
    fields.check(config)
    model = shape_only(cls, config, n_frames, height, width)
    assert 0.5 * n_params < count_params(model) <= n_params or config.fc_dim == 2048
    assert model.peak_activations() >= height * width


@pytest.mark.parametrize("arch", MODELS)
def test_bad_options(arch):
    cls = MODELS[arch]
    with pytest.raises(UsageError, match="has no option embed_dim"):
        cls.solve(1e5, 4, 64, 64, embed_dim=3)
    with pytest.raises(UsageError, match="activation is 'tanh', allowed is gelu, relu"):
        cls.solve(1e5, 4, 64, 64, activation="tanh")
    with pytest.raises(UsageError, match="goes beyond the frequency"):
        cls.solve(1e5, 4, 64, 64, pe_levels=255)
    with pytest.raises(UsageError, match="needs at least"):
        cls.solve(10, 4, 64, 64)
    if arch == "nerv":
        with pytest.raises(UsageError, match="blocks has 3 entries"):
            cls.solve(1e5, 4, 64, 64, blocks="1,2,3", strides="4,4")


@pytest.mark.parametrize("arch", MODELS)
def test_encode_and_decode(tmp_path, arch):
    path = make_video(
        tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", frames=moving_frames(5, 33, 47)
    )
    options = nvcodec.EncodeOptions(arch=arch, target=nvcodec.Target(bpp=3.0), passes=30, batch=1)
    data, result = nvcodec.encode(path, None, options, device="cpu")
    # So short a run may have no use for all of its bytes.
    assert 0.5 <= 8 * len(data) / (3.0 * 5 * 33 * 47) <= 1
    with nvcodec.open(data, device="cpu") as video:
        assert video[:].shape == (5, 47, 33, 3)
        np.testing.assert_array_equal(video[3], video[:][3])
    assert result.psnr_db > 10


@pytest.mark.parametrize("batch", [1, 2])
def test_the_heads_product_is_a_1x1_convolution(batch):
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(5, 3, 1).double()
    x = torch.randn(batch, 5, 7, 9, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(batch, 3, 7, 9, dtype=torch.float64)
    inputs = (x, layer.weight, layer.bias)
    found, expected = conv_1x1(layer, x), layer(x)
    torch.testing.assert_close(found, expected)
    gradients = (torch.autograd.grad(y, inputs, weights) for y in (found, expected))
    torch.testing.assert_close(*gradients)
