"""Learning rate over the position in [0, 1] of a run: the schedules of the NeRV family."""

from __future__ import annotations

import math

from nvcodec.codec.settings import FitSettings

SCHEDULES = ("cosine", "const", "step", "hybrid", "onecycle")
_STEP_FACTOR = 0.1
_LOW_BETA1, _HIGH_BETA1 = 0.85, 0.95


def lr_share(settings: FitSettings, position: float, *, warmup: float) -> float:
    """Return the share of the peak learning rate at a position of the run.

    The first `warmup` share of the run climbs from `lr_start` to 1 as x^`lr_powers[0]`. Then
    "cosine" falls to `lr_floor` along half a cosine, "const" stays, "step" is cut to a tenth at
    each of `lr_steps` (NeRV), "hybrid" falls as 1 - (1 - floor) x^`lr_powers[1]` (HNeRV), and
    "onecycle" falls as "cosine" and also climbs along half a cosine (PyTorch's OneCycleLR, with
    which 3DNeRV trains).
    """
    s = settings
    if position < warmup:
        x = position / warmup
        risen = _half_cosine(x) if s.lr_schedule == "onecycle" else math.pow(x, s.lr_powers[0])
        return s.lr_start + (1 - s.lr_start) * risen
    x = min(1.0, (position - warmup) / max(1e-9, 1 - warmup))
    if s.lr_schedule == "const":
        return 1.0
    if s.lr_schedule == "step":
        return math.pow(_STEP_FACTOR, sum(position >= at for at in s.lr_steps))
    fallen = math.pow(x, s.lr_powers[1]) if s.lr_schedule == "hybrid" else _half_cosine(x)
    return 1 - (1 - s.lr_floor) * fallen


def beta1_at(settings: FitSettings, position: float, *, warmup: float) -> float:
    """Return Adam's first decay: with "onecycle" it falls while the learning rate climbs."""
    if settings.lr_schedule != "onecycle":
        return settings.beta1
    x = position / warmup if position < warmup else (1 - position) / max(1e-9, 1 - warmup)
    return _HIGH_BETA1 + (_LOW_BETA1 - _HIGH_BETA1) * _half_cosine(min(1.0, max(0.0, x)))


def _half_cosine(x: float) -> float:
    """Return the rise from 0 to 1 along half a cosine."""
    return 0.5 * (1 - math.cos(math.pi * x))
