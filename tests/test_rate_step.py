"""The rate's part of a training step: what it adds to gradients, and how long that is kept."""

import pytest
import torch

from nvcodec.codec.fit import Fit
from nvcodec.codec.rate_step import add_slopes, latents_as_decoded, rate_slopes, weights_as_decoded
from nvcodec.codec.settings import FitSettings
from nvcodec.models.hnerv import HNeRV, HNeRVConfig

N_FRAMES = 6


def make_fit(**changes) -> Fit:
    torch.manual_seed(3)
    config = HNeRVConfig(embed_dim=2, fc_dim=8, strides=(4, 2), lower_width=8)
    frames = torch.randint(0, 256, (N_FRAMES, 3, 16, 24), dtype=torch.uint8)
    settings = FitSettings(n_steps=40, target_bits=1e4, batch=2, analysis="none", **changes)
    return Fit(HNeRV(config, N_FRAMES, 16, 24), frames, settings, lambda _: 1e4)


def test_slopes_are_the_gradient_of_the_bits_of_all_that_clips_share():
    fit = make_fit(float_share=0.0)
    fit.advance()
    slopes, bits = rate_slopes(fit.model, fit.quantizer, {}, 0.5, frozen=False)
    weights = {n: p for n, p in fit.model.named_parameters() if n not in fit.model.latent_names}
    plain = 0.5 * fit.quantizer.bits(weights)
    assert 0.5 * bits == pytest.approx(float(plain.detach()))
    for p in fit.model.parameters():
        p.grad = torch.ones_like(p)
    add_slopes(fit.model, fit.quantizer, slopes)
    gradients = torch.autograd.grad(plain, [*weights.values(), fit.quantizer.log_step])
    for (name, p), gradient in zip(weights.items(), gradients, strict=False):
        torch.testing.assert_close(p.grad, 1 + gradient, msg=name)
    torch.testing.assert_close(slopes["quantizer.log_step"], gradients[-1])
    assert all(not name.endswith("embeddings") for name in slopes)


def test_slopes_are_found_every_fourth_step_and_when_steps_stand_still(monkeypatch):
    fit = make_fit(float_share=0.25, frozen_share=0.35)
    found = []

    def watched(*args, frozen):
        found.append((fit.step, frozen))
        return rate_slopes(*args, frozen=frozen)

    monkeypatch.setattr("nvcodec.codec.fit.rate_slopes", watched)
    while not fit.done:
        fit.advance()
    expected = [(step, step >= 26) for step in (10, 12, 16, 20, 24, 26, 28, 32, 36)]
    assert found == expected
    assert "quantizer.log_step" not in fit.rate_slopes


def test_what_is_pruned_is_decoded_as_zero_and_costs_nothing():
    fit = make_fit(float_share=0.0)
    fit.advance()
    named = fit.model.named_parameters()
    name, p = next((n, p) for n, p in named if p.dim() == 4 and n not in fit.model.latent_names)
    mask = (torch.arange(p.numel()).view(p.shape) % 2).float()
    values = weights_as_decoded(fit.model, fit.quantizer, {name: mask}, frozen=True)
    assert not values[name][mask == 0].any()
    slopes, _ = rate_slopes(fit.model, fit.quantizer, {name: mask}, 1.0, frozen=True)
    assert not slopes[f"model.{name}"][mask == 0].any()


def test_a_batch_of_all_clips_has_the_bits_of_all():
    fit = make_fit(float_share=0.0)
    fit.advance()
    every = torch.arange(N_FRAMES)
    latents, bits = latents_as_decoded(fit.model, fit.quantizer, every, N_FRAMES, frozen=True)
    assert float(bits.detach()) == pytest.approx(
        fit.quantizer.count_bits(
            {name: fit.model.get_parameter(name) for name in latents}, fit.model.steady_names
        )
    )


def test_gradients_lie_in_memory_as_their_parameters_do():
    fit = make_fit(float_share=0.0)
    fit.advance()
    name, p = max(fit.model.named_parameters(), key=lambda pair: pair[1].dim() * pair[1].numel())
    p.data = p.data.contiguous(memory_format=torch.channels_last)
    slope = torch.randn(p.shape)
    for grad in (None, torch.zeros(p.shape)):
        p.grad = grad
        add_slopes(fit.model, fit.quantizer, {f"model.{name}": slope})
        assert p.grad.stride() == p.stride() != slope.stride()
        torch.testing.assert_close(p.grad, slope)
