"""First steps: as coarse as the pictures bear it, and no more bits than training can save."""

import dataclasses

import pytest
import torch

from nvcodec.codec.first_steps import first_bits, set_first_steps, squared_slopes
from nvcodec.codec.quantize import Quantizer, tensor_specs
from nvcodec.models.canvas import Canvas, CanvasConfig
from nvcodec.models.dct import dct_weights

N_FRAMES, HEIGHT, WIDTH = 5, 40, 64
CONFIG = CanvasConfig(
    widths=(6, 3),
    depths=(1, 1),
    strides=(2, 2),
    canvas_channels=(2, 2),
    grid_channels=(2, 1),
    detail_channels=1,
    dct_shift=1,
    motion=1,
)


def make_model(**changes):
    torch.manual_seed(3)
    model = Canvas(dataclasses.replace(CONFIG, **changes), N_FRAMES, HEIGHT, WIDTH).eval()
    with torch.no_grad():
        for name in (*model.latent_names, *model.field_names):
            for own, parameter in model.named_parameters():
                if own.startswith(name):
                    parameter.normal_()
    return model


def named(model):
    return {name: p.detach() for name, p in model.named_parameters()}


def look_at(model, *, n_times=1, mask=None):
    clips = torch.arange(N_FRAMES).repeat(n_times)[:, None]
    generator = torch.Generator().manual_seed(0)
    return squared_slopes(model, named(model), list(clips), generator, mask)


def make_quantizer(model, n_bits):
    quantizer = Quantizer(
        tensor_specs(model), weight_bits=16, embed_bits=16, picture_names=model.picture_names
    )
    steady = model.steady_names[:1]
    slopes = look_at(model, n_times=4)
    set_first_steps(quantizer, named(model), slopes, n_bits, steady_names=steady)
    return quantizer, steady


def test_slopes_are_those_of_every_pixel():
    model = make_model(widths=(2,), depths=(0,), strides=(2,), canvas_channels=(1,))
    bias = model.head.bias
    exact = torch.zeros_like(bias)
    for t in range(N_FRAMES):
        pixels = model(torch.tensor([t])).flatten()
        for pixel in pixels[::7]:
            (slope,) = torch.autograd.grad(pixel, bias, retain_graph=True)
            exact += 7 * slope.square() / N_FRAMES
    seen = look_at(model, n_times=40)["head.bias"]
    torch.testing.assert_close(seen, exact, rtol=0.35, atol=0.0)


def test_what_is_hidden_has_no_slope():
    model = make_model()
    mask = torch.ones(N_FRAMES, 1, HEIGHT, WIDTH)
    mask[2] = 0
    slopes = look_at(model, mask=mask)
    assert not slopes["grid"][2].any()
    assert slopes["grid"][1].any()


@pytest.mark.parametrize("bits_per_value", [0.5, 3.0])
def test_first_steps_leave_the_bits_that_are_asked_for(bits_per_value):
    model = make_model()
    n_bits = bits_per_value * sum(p.numel() for p in model.parameters())
    quantizer, steady = make_quantizer(model, n_bits)
    assert quantizer.count_bits(named(model), steady) == pytest.approx(n_bits, rel=0.1)


def test_short_runs_begin_near_the_target():
    assert first_bits(1e4, 0) == 1e4
    assert 1e4 < first_bits(1e4, 20) < 2e4
    assert first_bits(1e4, 400) == first_bits(1e4, 100) == 2.5e4


def test_first_steps_are_about_equal_for_all_frequencies_of_a_picture():
    quantizer, _ = make_quantizer(make_model(), 5e4)
    steps = quantizer.log_step.detach()[quantizer.rows["detail"]].exp().view(2, 2) * dct_weights(2)
    assert float(steps.max() / steps.min()) < 2


def test_what_matters_less_is_kept_less_exactly():
    model = make_model()
    with torch.no_grad():
        model.grid.mul_(0.1)
        model.stems[0].weight[:, :2].mul_(10)
    before, _ = make_quantizer(make_model(), 5e4)
    after, _ = make_quantizer(model, 5e4)
    finer = before.log_step[before.rows["grid"]] - after.log_step[after.rows["grid"]]
    assert (finer > 1.5).all()


def test_networks_without_values_get_steps():
    model = make_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    quantizer, _ = make_quantizer(model, 2.5e4)
    assert torch.isfinite(quantizer.log_step).all()
    assert (quantizer.log_step.exp() <= 1.001).all()
