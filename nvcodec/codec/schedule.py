"""Learning rate over the position in [0, 1] of a run: the schedules of the NeRV family."""

from __future__ import annotations

import math

SCHEDULES = ("cosine", "const", "step", "hybrid")
_WARMUP_START = 0.1
_STEP_AT: tuple[float, ...] = (0.5, 0.8)
_STEP_FACTOR = 0.1
_HYBRID_POWER = 2.0


def lr_share(kind: str, position: float, *, warmup: float, floor: float) -> float:
    """Return the share of the peak learning rate at a position of the run.

    The first `warmup` share of the run climbs linearly from 0.1 to 1. Then "cosine" falls to
    `floor` along half a cosine, "const" stays, "step" is cut to a tenth at 50 % and at 80 % of the
    run, and "hybrid" falls to `floor` as (1 - x)^2 (HNeRV's hybrid power schedule).
    """
    if position < warmup:
        return _WARMUP_START + (1 - _WARMUP_START) * position / warmup
    rest = min(1.0, (position - warmup) / max(1e-9, 1 - warmup))
    if kind == "const":
        return 1.0
    if kind == "step":
        return math.pow(_STEP_FACTOR, sum(position >= at for at in _STEP_AT))
    if kind == "hybrid":
        return floor + (1 - floor) * math.pow(1 - rest, _HYBRID_POWER)
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * rest))
