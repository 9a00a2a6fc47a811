"""Numbers that are not finite, at any stage: rolled back, or said with exit code 7."""

import numpy as np
import pytest
import torch
from conftest import make_video, moving_frames
from test_codec import make_fit, options

import nvcodec
from nvcodec.bitstream.tensors import pack_tensors
from nvcodec.codec.batch import BatchLoss
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.fit import Fit
from nvcodec.codec.fit_state import load_state_tensors, state_tensors
from nvcodec.codec.losses import distortion
from nvcodec.codec.options import Target
from nvcodec.codec.rate import MAX_MU, RateController
from nvcodec.errors import ResourceError
from nvcodec.models.layers import to_samples


def poison_gradients(monkeypatch, steps, value=torch.nan):
    """Make the gradient of the loss `value` at these steps, the loss itself staying finite."""
    step = iter(range(10**6))
    now = 0
    backward = BatchLoss.backward

    def counted(*args):
        nonlocal now
        now = next(step)
        return backward(*args)

    def poisoned(*args):
        loss, mse = distortion(*args)
        if now in steps:
            loss = loss * 1.0
            loss.register_hook(lambda gradient: gradient * value)
        return loss, mse

    monkeypatch.setattr(BatchLoss, "backward", counted)
    monkeypatch.setattr("nvcodec.codec.batch.distortion", poisoned)


def finished(fit):
    while not fit.done:
        fit.advance()
    fit.check_finite()
    return fit


@pytest.mark.parametrize("value", [torch.nan, torch.inf, 1e30])
@pytest.mark.parametrize("step", [0, 5, 12, 24, 35, 39])
def test_a_poisoned_gradient_in_any_phase(monkeypatch, step, value):
    poison_gradients(monkeypatch, {step}, value)
    fit = make_fit()
    fit.measure_bits = lambda tensors: 8.0 * len(pack_tensors(tensors))
    finished(fit)
    assert (fit.n_rollbacks, fit.lr_factor) == (1, 0.5)
    assert fit.step == 40
    assert len(fit.quantized()) == len(list(fit.model.parameters()))


@pytest.mark.parametrize("step", [1, 24, 36])
def test_poisoned_parameters_in_any_phase(step):
    fit = make_fit()
    fit.measure_bits = lambda tensors: 8.0 * len(pack_tensors(tensors))
    while not fit.done:
        if fit.step == step:
            fit.model.head.weight.data.fill_(torch.inf)
        fit.advance()
    fit.check_finite()
    assert fit.n_rollbacks == 1


def test_a_snapshot_is_only_taken_of_a_sound_state(monkeypatch):
    monkeypatch.setattr("nvcodec.codec.fit._SNAPSHOT_STEPS", 10)
    fit = make_fit()
    while fit.step < 10:
        fit.advance()
    fit.model.head.weight.data.fill_(torch.nan)
    assert finished(fit).n_rollbacks == 1


def test_divergence_right_after_a_resume(monkeypatch):
    fit = make_fit()
    for _ in range(15):
        fit.advance()
    resumed = make_fit()
    load_state_tensors(resumed, state_tensors(fit))
    poison_gradients(monkeypatch, {0})
    assert finished(resumed).n_rollbacks == 1


def test_divergence_at_the_first_step():
    fit = make_fit()
    fit.model.head.weight.data.fill_(torch.nan)
    with pytest.raises(ResourceError, match="diverged at its first step"):
        fit.advance()


def test_parameters_that_end_as_no_number():
    fit = finished(make_fit())
    fit.quantizer.log_step.data[0] = torch.nan
    with pytest.raises(ResourceError, match="training ended with a log_step that is not finite"):
        fit.check_finite()


def test_a_rate_beyond_all_bounds_moves_mu_within_its_own():
    rate = RateController(target_bits=1000.0)
    rate.overhead_bits = -1e9
    for bits in (1e9, 0.0, float("inf")):
        for _ in range(300):
            rate.update(bits)
        assert 0 < rate.mu <= MAX_MU
        assert np.isfinite(rate.pressure)


def test_hopeless_divergence_keeps_the_state(tmp_path, monkeypatch):
    """Exit code 7, and --resume goes on from the last good state at a lower rate."""
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(3, 32, 32))
    out = tmp_path / "out.nrv"
    with monkeypatch.context() as patch:
        poison_gradients(patch, range(20, 99))
        with pytest.raises(ResourceError, match=r"diverged 6 times.*last good state") as caught:
            nvcodec.encode(path, out, options(20), device="cpu")
    assert caught.value.exit_code == 7
    assert not out.exists()
    assert checkpoint_path(out).exists()
    factors = []
    advance = Fit.advance

    def watched(fit):
        factors.append(fit.lr_factor)
        advance(fit)

    monkeypatch.setattr(Fit, "advance", watched)
    data, _ = nvcodec.encode(path, out, options(20), device="cpu", resume=True)
    assert out.read_bytes() == data
    assert set(factors) == {0.5**6}
    assert not checkpoint_path(out).exists()


@pytest.mark.parametrize("optimizer", ["muon", "soap", "adam"])
def test_an_absurd_learning_rate_ends_in_a_valid_file(tmp_path, optimizer):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(3, 32, 32))
    wild = options(40, arch="hnerv", lr=1.0, optimizer=optimizer, target=Target(bpp=3.0))
    data, result = nvcodec.encode(path, None, wild, device="cpu")
    assert len(data) <= result.target_bytes
    assert np.isfinite(result.psnr_db)


def test_drawn_values_beyond_all_numbers():
    drawn = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 0.5]).view(1, 3, 1, 2)
    assert to_samples(drawn).ravel().tolist() == [0, 255, 0, 255, 0, 128]
