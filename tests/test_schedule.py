"""The learning rates are those of the papers' programs and of PyTorch."""

import math

import pytest
import torch
from test_codec import make_fit

from nvcodec.codec.options import EncodeOptions
from nvcodec.codec.schedule import SCHEDULES, beta1_at, lr_share
from nvcodec.codec.settings import FitSettings
from nvcodec.errors import UsageError


def settings(kind, **changes):
    return FitSettings(n_steps=100, target_bits=1e4, lr_schedule=kind, **changes)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_all_climb_to_the_peak_and_none_exceeds_it(kind):
    s = settings(kind, lr_start=0.1, lr_floor=0.0)
    shares = [lr_share(s, i / 100, warmup=0.2) for i in range(101)]
    assert shares[0] == pytest.approx(0.1)
    assert shares[:20] == sorted(shares[:20])
    assert shares[20] == pytest.approx(1) == max(shares)
    assert shares[20:] == sorted(shares[20:], reverse=True)
    assert lr_share(s, 0.0, warmup=0.0) == 1


def test_steps_are_where_they_are_wanted():
    s = settings("step", lr_steps=(0.3, 0.6, 0.9))
    shares = [lr_share(s, at, warmup=0.0) for at in (0.29, 0.3, 0.59, 0.6, 0.95)]
    assert shares == pytest.approx([1, 0.1, 0.1, 0.01, 0.001])


def test_hybrid_has_the_powers_of_hnerv():
    # up_ratio, up_pow, down_pow, min_lr, final_lr of its program: 0.25, 2, 3, 0.2, 0.1.
    s = settings("hybrid", lr_powers=(2.0, 3.0), lr_start=0.2, lr_floor=0.1)
    assert lr_share(s, 0.125, warmup=0.25) == pytest.approx(0.2 + 0.8 * 0.5**2)
    assert lr_share(s, 0.625, warmup=0.25) == pytest.approx(1 - 0.9 * 0.5**3)
    assert lr_share(s, 1.0, warmup=0.25) == pytest.approx(0.1)


def test_one_cycle_is_that_of_pytorch():
    n_steps, share = 1000, 0.3
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, n_steps, pct_start=share)
    s = settings("onecycle", lr_start=1 / 25, lr_floor=1 / 25e4)
    for step in range(n_steps):
        (group,) = optimizer.param_groups
        # A step is a thousandth of the way, and theirs begins to fall one step earlier.
        assert lr_share(s, step / n_steps, warmup=share) == pytest.approx(group["lr"], abs=6e-3)
        beta1 = beta1_at(s, step / n_steps, warmup=share)
        assert beta1 == pytest.approx(group["betas"][0], abs=1e-3)
        optimizer.step()
        theirs.step()


def test_training_follows_the_schedule():
    fit = make_fit(optimizer="adam", lr=1e-3, lr_schedule="onecycle", warmup_share=0.5)
    fit.advance()
    (group,) = fit.optimizers[0].param_groups
    assert (group["lr"], group["betas"][0]) == pytest.approx((1e-4, 0.95))
    for _ in range(20):
        fit.advance()
    (group,) = fit.optimizers[0].param_groups
    assert (group["lr"], group["betas"][0]) == pytest.approx((1e-3, 0.85), rel=0.01)
    assert beta1_at(settings("cosine", beta1=0.5), 0.3, warmup=0.5) == 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lr_powers": (1.0,)}, "that of the climb and of the fall"),
        ({"lr_powers": (1.0, 0.0)}, "lr_powers is 0.0, allowed is 0.01 to 100"),
        ({"lr_steps": (0.5, 1.5)}, "lr_steps is 1.5, allowed is 0.0 to 1.0"),
        ({"lr_start": math.nan}, "lr_start is nan"),
    ],
)
def test_impossible_schedules(changes, message):
    with pytest.raises(UsageError, match=message):
        EncodeOptions(**changes)
