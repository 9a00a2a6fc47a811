"""Quantisation: what training estimates is what the file weighs, and hostile tensors survive."""

from functools import partial

import numpy as np
import pytest
import torch
from nrv_factory import steps_of_deviations

from nvcodec.bitstream.tensors import (
    TensorSpec,
    dequantize,
    pack_tensors,
    step_size,
    tensor_bits,
    unpack_tensors,
)
from nvcodec.codec.optim import is_weight
from nvcodec.codec.prune import prune_masks, share_removed
from nvcodec.codec.ptq import QUANT_AXES, quantize_minmax
from nvcodec.codec.quantize import Quantizer, load_tensors, tensor_specs
from nvcodec.codec.rate import RateController, fit_size
from nvcodec.models.canvas import Canvas, CanvasConfig
from nvcodec.models.hnerv import HNeRV, HNeRVConfig


def small_model():
    torch.manual_seed(1)
    model = HNeRV(HNeRVConfig(embed_dim=4, fc_dim=24, strides=(4, 2)), 6, 32, 48)
    torch.nn.init.normal_(model.embeddings)
    model.embeddings.data.cumsum_(0)
    return model


def make_quantizer(model, **bits):
    bits = {"weight_bits": 16, "embed_bits": 16} | bits
    quantizer = Quantizer(tensor_specs(model), **bits)
    parameters = dict(model.named_parameters())
    steps = steps_of_deviations(quantizer, parameters)
    quantizer.initialize(parameters, steps, steady_names=model.steady_names)
    return quantizer


def test_estimated_bits_agree_with_the_coded_bytes():
    model = small_model()
    quantizer = make_quantizer(model)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    estimate = quantizer.count_bits(parameters, ("embeddings",))
    tensors = quantizer.quantize(parameters)
    coded = sum(tensor_bits(q).symbols for q in tensors)
    assert coded == pytest.approx(estimate, rel=0.01)
    assert 8 * len(pack_tensors(tensors)) == pytest.approx(estimate, rel=0.06)


def test_scales_follow_rows_that_turn_to_zeros():
    model = small_model()
    quantizer = make_quantizer(model)
    name = next(name for name, spec in quantizer.specs.items() if spec.row_axis == 0)
    parameters = {n: p.detach().clone() for n, p in model.named_parameters()}
    parameters[name][0] = 0
    quantizer.find_scales(parameters, model.steady_names)
    kept = quantizer.scales[quantizer.rows[name]]
    assert float(kept[0]) < 0.1 < float(kept[1:].min())


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_bits_cap_the_symbols(bits):
    model = small_model()
    quantizer = make_quantizer(model, weight_bits=bits, embed_bits=4)
    for q in quantizer.quantize(dict(model.named_parameters())):
        cap = 7 if q.spec.temporal else 2 ** (bits - 1) - 1
        assert np.abs(q.symbols).max() <= cap


def test_frozen_steps_draw_what_the_file_holds():
    model = small_model()
    quantizer = make_quantizer(model)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    seen = quantizer.as_decoded(parameters, frozen=True)
    for q in quantizer.quantize(parameters):
        value = seen[q.spec.name].detach().numpy()
        np.testing.assert_allclose(value, dequantize(q), rtol=1e-4, atol=1e-9)


def test_values_settle_on_what_the_file_holds():
    model = small_model()
    quantizer = make_quantizer(model, embed_bits=4)
    values = {name: p.detach().clone() for name, p in model.named_parameters()}
    tensors = quantizer.quantize(values)
    before = {name: value.numpy().copy() for name, value in values.items()}
    quantizer.settle(values, 0.25)
    for q in tensors:
        drawn = dequantize(q)
        wanted = before[q.spec.name] + 0.25 * (drawn - before[q.spec.name])
        np.testing.assert_allclose(values[q.spec.name].numpy(), wanted, rtol=1e-4, atol=1e-7)


def test_the_rate_draws_what_is_rounded_to_zero_nearer_to_it():
    torch.manual_seed(2)
    config = CanvasConfig(
        widths=(6,),
        depths=(1,),
        strides=(4,),
        canvas_channels=(3,),
        grid_channels=(4,),
        dct_shift=2,
    )
    model = Canvas(config, 6, 64, 96)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    parameters = dict(model.named_parameters())
    quantizer = Quantizer(
        tensor_specs(model), weight_bits=16, embed_bits=16, picture_names=model.picture_names
    )
    steps = {n: torch.ones_like(quantizer.as_rows(n, p)[:, 0]) for n, p in parameters.items()}
    quantizer.initialize({name: p.detach() for name, p in parameters.items()}, steps)
    assert model.dct_side("detail")
    bits = quantizer.bits(parameters)
    gradients = torch.autograd.grad(bits, list(parameters.values()))
    for (name, p), gradient in zip(parameters.items(), gradients, strict=True):
        small = (p.abs() > 0.05) & (p.abs() < 0.45)
        assert (gradient * p.sign())[small].mean() > 0, name


@pytest.mark.parametrize("value", [0.0, 1.0, -3e-9, 1e4])
def test_constant_tensors_survive(value):
    model = small_model()
    with torch.no_grad():
        for p in model.parameters():
            p.fill_(value)
    tensors = make_quantizer(model).quantize(dict(model.named_parameters()))
    restored = unpack_tensors(tensor_specs(model), pack_tensors(tensors))
    for q in restored:
        largest = float(np.max(step_size(q.steps)))
        assert np.abs(dequantize(q) - value).max() <= max(largest, 0.01 * abs(value))
        assert np.isfinite(dequantize(q)).all()


def test_load_tensors_restores_the_network():
    model, other = small_model(), small_model()
    tensors = make_quantizer(model).quantize(dict(model.named_parameters()))
    load_tensors(other, tensors)
    for q in tensors:
        np.testing.assert_array_equal(other.get_parameter(q.spec.name).detach(), dequantize(q))


def test_prune_removes_the_given_share_of_the_smallest():
    model = small_model()
    named = {name: p.detach() for name, p in model.named_parameters()}
    weights = {k: p for k, p in named.items() if is_weight(k, p, model.latent_names)}
    assert "embeddings" not in weights
    assert not any(name.endswith("bias") for name in weights)
    weights = {name: weight.abs() for name, weight in weights.items()}
    by_layer = prune_masks(weights, 0.4, "layer")
    assert all(abs(float(1 - m.mean()) - 0.4) < 2 / m.numel() + 1e-6 for m in by_layer.values())
    masks = prune_masks(weights, 0.4, "global")
    kept = torch.cat([m.flatten() for m in masks.values()])
    assert float(1 - kept.mean()) == pytest.approx(0.4, abs=0.01)
    dropped = max(float((weights[name] * (1 - m)).max()) for name, m in masks.items())
    least = min(float(weights[name][m > 0].min()) for name, m in masks.items() if m.any())
    assert dropped <= least


def test_pruning_steps_remove_equal_parts_of_the_rest():
    shares = [share_removed(0.64, step, 2) for step in (1, 2)]
    assert shares == pytest.approx([0.4, 0.64])


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("axis", QUANT_AXES)
def test_minmax_quantisation_has_the_levels_it_says(bits, axis):
    spec = TensorSpec(name="w", shape=(6, 50, 3, 3), row_axis=None)
    weight = torch.randn(6, 50, 3, 3, generator=torch.Generator().manual_seed(1))
    weight *= torch.logspace(-2, 0, 6).view(-1, 1, 1, 1)
    weight[:, ::3] = 0
    (q,) = quantize_minmax([spec], {"w": weight}, weight_bits=bits, embed_bits=16, quant_axis=axis)
    rows = q.symbols.reshape(1, -1)
    if q.spec.row_axis is not None:
        rows = np.moveaxis(q.symbols, q.spec.row_axis, 0).reshape(q.spec.n_rows, -1)
    assert (np.ptp(rows, axis=1) + 1).max() <= max(3, 2**bits)
    assert not q.symbols[:, ::3].any()
    assert q.symbols.any()
    # Half a step, and a step is at most an eighth of an octave more than asked for.
    span = np.ptp(np.append(weight.numpy(), 0.0))
    finest = np.abs(weight.numpy()).max() / 32_767
    bound = 0.5 * 2**0.125 * max(span / max(2, 2**bits - 1), finest)
    assert np.abs(dequantize(q) - weight.numpy()).max() <= bound * (1 + 1e-6)
    if axis == "best" and bits >= 4:
        assert q.spec.row_axis == 0
    if axis != "best":
        assert q.spec.row_axis == (None if axis == "tensor" else int(axis))


def test_minmax_quantisation_of_constants():
    specs = [TensorSpec(name=name, shape=(4,), row_axis=None) for name in "abc"]
    values = {"a": torch.zeros(4), "b": torch.full((4,), 3.0), "c": torch.full((4,), -1e-30)}
    tensors = quantize_minmax(specs, values, weight_bits=8, embed_bits=8)
    drawn = [dequantize(q) for q in tensors]
    assert not drawn[0].any()
    np.testing.assert_allclose(drawn[1], 3.0, rtol=0.01)
    np.testing.assert_allclose(drawn[2], 0.0, atol=1e-7)


@pytest.mark.parametrize("octaves", [-8.0, -0.0625, 0.0])
def test_minmax_steps_are_never_too_fine_for_the_largest_value(octaves):
    spec = TensorSpec(name="w", shape=(300,), row_axis=None)
    weight = torch.linspace(-0.1, 3, 300)
    (q,) = quantize_minmax([spec], {"w": weight}, weight_bits=16, embed_bits=16, octaves=octaves)
    np.testing.assert_allclose(dequantize(q), weight.numpy(), atol=1e-4)


def fit_small(max_bytes):
    model = small_model()
    quantizer = make_quantizer(model)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    return fit_size(
        lambda octaves, deadzone: quantizer.quantize(parameters, octaves, deadzone),
        lambda tensors: len(pack_tensors(tensors)),
        max_bytes,
        # The finer, the better.
        psnr_db=lambda tensors: len(pack_tensors(tensors)),
    )


@pytest.mark.parametrize("max_bytes", [700, 1500, 4000, 9000, 12000, 20000])
def test_fit_size_lands_just_under_the_target(max_bytes):
    n_bytes = len(pack_tensors(fit_small(max_bytes)))
    assert 0.98 * max_bytes <= n_bytes <= max_bytes


@pytest.mark.parametrize(("cost_db", "fills"), [(0.0, True), (0.02, False)])
def test_a_file_is_filled_only_where_that_costs_next_to_nothing(cost_db, fills):
    model = small_model()
    quantizer = make_quantizer(model)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    as_trained = pack_tensors(quantizer.quantize(parameters))
    max_bytes = int(1.025 * len(as_trained))
    finer = len(pack_tensors(quantizer.quantize(parameters, octaves=-0.25)))
    assert finer > max_bytes
    fitted = fit_size(
        partial(quantizer.quantize, parameters),
        lambda tensors: len(pack_tensors(tensors)),
        max_bytes,
        # Training likes its own steps best by far, and its own rounding by cost_db.
        psnr_db=lambda tensors: likes(tensors, quantizer, parameters, cost_db),
    )
    assert fitted is not None
    n_bytes = len(pack_tensors(fitted))
    assert (0.98 * max_bytes <= n_bytes <= max_bytes) == fills
    assert (pack_tensors(fitted) == as_trained) != fills


def likes(tensors, quantizer, parameters, cost_db):
    trained = quantizer.quantize(parameters)
    pairs = list(zip(tensors, trained, strict=True))
    if any((q.steps != own.steps).any() for q, own in pairs):
        return 10.0
    return 30.0 - cost_db * any((q.symbols != own.symbols).any() for q, own in pairs)


def test_finer_steps_do_not_cut_the_largest_values():
    model = small_model()
    quantizer = make_quantizer(model)
    parameters = {name: 1000 * p.detach() for name, p in model.named_parameters()}
    for q in quantizer.quantize(parameters, octaves=-12.0):
        exact = parameters[q.spec.name].numpy()
        assert np.abs(q.symbols).max() <= 32767
        np.testing.assert_allclose(dequantize(q), exact, atol=1e-4 * np.abs(exact).max())


def test_fit_size_says_when_nothing_fits():
    assert fit_small(4) is None


def test_controller_moves_toward_the_target_within_bounds():
    controller = RateController(target_bits=1000.0)
    for _ in range(1000):
        controller.update(5000.0)
    assert controller.mu == 4.0
    for _ in range(2000):
        controller.update(10.0)
    assert controller.mu == 0.02


def test_controller_stops_a_swing():
    """The size of a small network, as measured: 11 % less for e times the pressure."""
    controller = RateController(target_bits=1000.0, mu=1.0)
    bits, sizes = 1050.0, []
    for _ in range(40):
        controller.update(bits)
        bits *= controller.pressure**-0.11
        sizes.append(bits)
    assert max(abs(size / 1000 - 1) for size in sizes[-10:]) < 0.002
