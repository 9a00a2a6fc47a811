"""HiNeRV is the published network, and draws what the specification says at any time and size."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_video, moving_frames

import nvcodec
from nvcodec import fields
from nvcodec.errors import UsageError
from nvcodec.models.base import count_params, shape_only
from nvcodec.models.hinerv import HiNeRV, HiNeRVConfig

CONFIG = HiNeRVConfig(
    channels=10,
    depths=(2, 1),
    expansions=(3, 1),
    strides=(3, 2),
    base_times=4,
    base_channels=2,
    local_channels=3,
)
BUNNY = {"n_frames": 132, "height": 720, "width": 1280}
UVG = {"n_frames": 600, "height": 1080, "width": 1920}


def small_model(config=CONFIG, n_frames=7, height=37, width=50):
    torch.manual_seed(1)
    model = HiNeRV(config, n_frames, height, width)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


# What the authors' code counts for its configs bunny-hinerv-xxs, -xs and -s, and uvg-hinerv-s to
# -xxl: everything is stored, grids and the layers of the hierarchical encoding included.
@pytest.mark.parametrize(
    ("size", "n_params", "channels", "depth", "base_times", "base_channels"),
    [
        (BUNNY, 766_691, 136, 3, 40, 2),
        (BUNNY, 1_585_666, 196, 3, 40, 4),
        (BUNNY, 3_249_819, 280, 3, 40, 8),
        (UVG, 3_188_933, 280, 3, 150, 2),
        (UVG, 6_489_553, 400, 3, 150, 4),
        (UVG, 12_818_953, 560, 3, 150, 8),
        (UVG, 25_649_557, 688, 4, 150, 16),
        (UVG, 50_726_919, 864, 5, 150, 32),
    ],
)
def test_published_networks(size, n_params, channels, depth, base_times, base_channels):
    config = HiNeRVConfig(
        channels=channels,
        depths=(depth, depth, depth, 1),
        expansions=(4, 4, 4, 1),
        strides=(5, 2, 2, 2) if size is BUNNY else (5, 3, 2, 2),
        base_times=base_times,
        base_channels=base_channels,
        local_channels=2 * base_channels,
    )
    assert count_params(shape_only(HiNeRV, config, **size)) == n_params
    options = {"base_times": 40} if size is BUNNY else {}
    if depth > 3:
        options["depths"] = config.depths
    assert HiNeRV.solve(n_params, **size, **options) == config


def test_published_networks_cost_what_the_paper_says():
    """180 GMAC a frame of 1080p for HiNeRV-S: 87k a pixel."""
    model = shape_only(HiNeRV, HiNeRV.solve(3_188_933, **UVG), **UVG)
    assert round(model.macs_per_frame() / 1080 / 1920, -3) == 87_000


def at(grid, t, n_frames):
    a = min(max((t + 0.5) * len(grid) / n_frames - 0.5, 0), len(grid) - 1)
    before, share = int(a), a - int(a)
    return grid[before] * (1 - share) + grid[min(before + 1, len(grid) - 1)] * share


def plain_frame(model, t):
    """Draw frame t, whole or fractional, from the formulas of the specification, in float64."""
    p = {name: value.detach().double() for name, value in model.named_parameters()}
    config, n = model.config, model.n_frames

    def norm(x):
        return (x - x.mean(1, keepdim=True)) / torch.sqrt(
            x.var(1, correction=0, keepdim=True) + 1e-6
        )

    def over_channels(x, weight):
        return torch.einsum("oc,bchw->bohw", weight, x)

    base = [at(p[f"base_grids.{level}"], t, n) for level in range(2)]
    x = F.conv2d(torch.cat(base)[None], p["stem.weight"], p["stem.bias"], padding=1)
    for i, s in enumerate(config.strides):
        x = F.interpolate(norm(x), scale_factor=s, mode="bilinear", align_corners=False)
        grids = (f"local_grids.{i}", f"slow_grids.{2 * i}", f"slow_grids.{2 * i + 1}")
        local = torch.cat([at(p[name], t, n) for name in grids])
        for v in range(x.shape[2]):
            for u in range(x.shape[3]):
                here = p[f"stages.{i}.encode.weight"] @ local[:, v % s, u % s]
                x[0, :, v, u] += here + p[f"stages.{i}.encode.bias"]
        for b in range(config.depths[i]):
            name = f"stages.{i}.blocks.{b}"
            kernels = p[f"{name}.depthwise.weight"]
            y = norm(F.conv2d(x, kernels, padding=1, groups=len(kernels)))
            y = F.gelu(over_channels(y, p[f"{name}.expand.weight"]))
            y = over_channels(y, p[f"{name}.project.weight"])
            x = x + y if x.shape[1] == y.shape[1] else y
    y = F.conv2d(x, p["head.weight"], p["head.bias"])
    return torch.sigmoid(y)[0, :, : model.height, : model.width].numpy()


def test_draw_equals_the_formula():
    model = small_model()
    with torch.inference_mode():
        drawn = model(torch.tensor([5, 0, 6])).numpy()
    for frame, t in zip(drawn, (5, 0, 6), strict=True):
        np.testing.assert_allclose(frame, plain_frame(model, t), atol=2e-5)


def test_moments_between_frames_are_drawn():
    model = small_model()
    moments = [0.0, 1.25, 4.5, 6.0]
    with torch.inference_mode():
        drawn = model.draw_between(torch.tensor(moments, dtype=torch.float64)).numpy()
    for frame, t in zip(drawn, moments, strict=True):
        np.testing.assert_allclose(frame, plain_frame(model, t), atol=2e-5)


def test_tensor_order_is_that_of_the_specification():
    names = [name for name, _ in small_model().named_parameters()]
    kinds = " ".join(dict.fromkeys(name.split(".")[0] for name in names))
    assert kinds == "base_grids local_grids slow_grids stem stages head"
    stage = [name.removeprefix("stages.1.") for name in names if name.startswith("stages.1.")]
    block = [f"blocks.0.{layer}.weight" for layer in ("depthwise", "expand", "project")]
    assert stage == ["encode.weight", "encode.bias", *block]


def test_grids_have_a_time_at_least():
    model = HiNeRV(HiNeRV.solve(3_000, 1, 16, 16), 1, 16, 16)
    grids = [p for name, p in model.named_parameters() if "grids" in name]
    assert {len(grid) for grid in grids} == {1}
    assert model(torch.tensor([0])).shape == (1, 3, 16, 16)


@pytest.mark.parametrize("n_params", [6_000, 60_000, 600_000])
@pytest.mark.parametrize(("n_frames", "height", "width"), [(1, 16, 16), (7, 48, 27), (33, 90, 160)])
def test_solved_width_fits_the_budget(n_params, n_frames, height, width):
    config = HiNeRV.solve(n_params, n_frames, height, width)
    fields.check(config)
    model = shape_only(HiNeRV, config, n_frames, height, width)
    assert 0.9 * n_params < count_params(model) <= n_params
    assert model.macs_per_frame() > 0
    assert model.peak_activations() >= 3 * height * width


@pytest.mark.parametrize("n_frames", [1, 60, 3_000])
def test_the_smallest_network_is_within_its_own_budget(n_frames):
    config = HiNeRV.smallest(n_frames, 90, 160)
    n_params = count_params(shape_only(HiNeRV, config, n_frames, 90, 160))
    assert HiNeRV.solve(n_params, n_frames, 90, 160) == config


def test_hours_of_video_get_a_base_grid_of_the_most_times():
    config = HiNeRV.solve(1e9, 2_592_000, 90, 160)
    fields.check(config)
    assert config.base_times == 65_535


def test_grids_leave_most_of_a_small_budget_to_the_layers():
    config = HiNeRV.solve(60_000, 132, 180, 320)
    model = shape_only(HiNeRV, config, 132, 180, 320)
    in_grids = sum(p.numel() for name, p in model.named_parameters() if "grids" in name)
    assert in_grids < 0.4 * count_params(model)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": "2"}, "depths, expansions and strides differ in length"),
        ({"expansions": "4,4,1"}, "depths, expansions and strides differ in length"),
        ({"base_times": 5}, "base_times is 5, allowed is 1 to the number of frames, 4"),
        ({"base_times": 0}, "base_times is 0, allowed is 1 to 65535"),
        ({"depths": "3,17"}, "depths is 17, allowed is 1 to 16"),
        ({"output": "relu"}, "output is 'relu', allowed is tanh, sigmoid, linear"),
        ({"channels": 8}, "HiNeRV has no option channels"),
        ({"strides": "2,2", "base_channels": 255}, r"HiNeRV needs at least \d+ parameters"),
    ],
)
def test_bad_options(changes, words):
    with pytest.raises(UsageError, match=words):
        HiNeRV.solve(1e5, 4, 64, 64, **{"strides": "4,2"} | changes)


def test_bad_configs():
    for changes, words in (
        ({"strides": (2,)}, "differ in length"),
        ({"base_times": 8}, "base_times is 8, allowed is 1 to the number of frames, 7"),
    ):
        config = {name: getattr(CONFIG, name) for name in HiNeRVConfig.__slots__} | changes
        with pytest.raises(ValueError, match=words):
            small_model(HiNeRVConfig(**config))


def test_hostile_configs_cost_no_memory():
    config = HiNeRVConfig(
        channels=2048, depths=(16,) * 8, expansions=(8,) * 8, strides=(8,) * 8, base_times=65535,
        base_channels=255, local_channels=255,
    )  # fmt: skip
    model = shape_only(HiNeRV, config, 2_000_000, 32_768, 32_768)
    assert count_params(model) > 10**11
    assert model.macs_per_frame() > 2**45
    assert math.log2(model.peak_activations()) > 30


def test_encode_and_decode(tmp_path):
    path = make_video(
        tmp_path / "in.mkv", codec="ffv1", pixel_format="bgr0", frames=moving_frames(5, 33, 47)
    )
    options = nvcodec.EncodeOptions(
        arch="hinerv", target=nvcodec.Target(bpp=3.0), passes=30, batch=1
    )
    data, result = nvcodec.encode(path, None, options, device="cpu")
    # So short a run may have no use for all of its bytes.
    assert 0.5 <= 8 * len(data) / (3.0 * 5 * 33 * 47) <= 1
    with nvcodec.open(data, device="cpu") as video:
        assert video[:].shape == (5, 47, 33, 3)
        np.testing.assert_array_equal(video[3], video[:][3])
    assert result.psnr_db > 15
