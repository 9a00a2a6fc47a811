"""HNeRV is the published network: its counts, rules and sizes, and frames of any size."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec import fields
from nvcodec.errors import UsageError
from nvcodec.models.base import count_params, shape_only
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.models.strides import solve_strides


def test_published_model_has_the_published_size():
    config = HNeRV.solve(1.506e6, 132, 640, 1280)
    assert config.strides == (5, 4, 4, 2, 2)
    assert config.fc_dim == 68
    model = shape_only(HNeRV, config, 132, 640, 1280)
    assert count_params(model) == 1_505_172
    assert sum(p.numel() for p in model.analysis("convnext").parameters()) == 306_160
    assert config.widths() == [57, 48, 40, 33, 28]
    assert config.kernels() == [1, 3, 5, 5, 5]
    assert round(model.macs_per_frame() / 1e9, 1) == 28.8


@pytest.mark.parametrize(("n_params", "total"), [(0.35e6, 32), (0.75e6, 48), (3.05e6, 97)])
def test_paper_widths(n_params, total):
    config = HNeRVConfig(embed_dim=16, fc_dim=total, strides=(5, 4, 4, 2, 2))
    assert abs(count_params(shape_only(HNeRV, config, 132, 640, 1280)) / n_params - 1) < 0.06


def test_draw_equals_the_plain_formula():
    torch.manual_seed(0)
    config = HNeRVConfig(embed_dim=3, fc_dim=7, strides=(3, 2), lower_width=4)
    model = HNeRV(config, 2, 11, 17)
    torch.nn.init.normal_(model.embeddings)
    x = F.gelu(model.stem(model.embeddings[[1]]))
    x = F.gelu(F.pixel_shuffle(model.stages[0].conv(x), 3))
    x = F.gelu(F.pixel_shuffle(model.stages[1].conv(x), 2))
    plain = torch.tanh(model.head(x)) / 2 + 0.5
    drawn = model(torch.tensor([1]))
    assert drawn.shape == (1, 3, 11, 17)
    torch.testing.assert_close(drawn, plain[:, :, :11, :17])


def test_widths_round_ties_to_even():
    config = HNeRVConfig(
        embed_dim=1, fc_dim=5, strides=(2, 2), reduction_percent=200, lower_width=1
    )
    assert config.widths() == [2, 1]
    config = HNeRVConfig(embed_dim=1, fc_dim=7, strides=(2,), reduction_percent=200, lower_width=1)
    assert config.widths() == [4]


@given(height=st.integers(16, 400), width=st.integers(16, 400))
@settings(max_examples=40, deadline=None)
def test_any_size_gets_strides_with_little_padding(height, width):
    strides = solve_strides(height, width)
    total = math.prod(strides)
    assert tuple(sorted(strides, reverse=True)) == strides
    padded = -(-height // total) * -(-width // total) * total**2
    assert padded <= 1.6 * height * width


@pytest.mark.parametrize("n_params", [500, 3_000, 20_000, 200_000])
@pytest.mark.parametrize(("height", "width"), [(16, 16), (48, 27), (90, 160)])
def test_solved_width_fits_the_budget(n_params, height, width):
    config = HNeRV.solve(n_params, 4, height, width)
    fields.check(config)
    assert count_params(shape_only(HNeRV, config, 4, height, width)) <= n_params


def test_unknown_option_names_the_allowed_ones():
    with pytest.raises(UsageError, match="no option blocks; allowed are"):
        HNeRV.solve(1e5, 4, 64, 64, blocks=3)


def test_hostile_config_costs_no_memory():
    config = HNeRVConfig(embed_dim=255, fc_dim=2048, strides=(8, 8, 8), lower_width=255, k_max=11)
    model = shape_only(HNeRV, config, 2_000_000, 32_768, 32_768)
    assert count_params(model) > 10**12


def test_encoder_makes_the_latents_of_a_padded_frame():
    config = HNeRVConfig(embed_dim=3, fc_dim=7, strides=(3, 2))
    latents = HNeRV(config, 1, 11, 17).analysis("convnext")(torch.rand(2, 3, 11, 17))
    assert latents.shape == (2, 3, 2, 3)
