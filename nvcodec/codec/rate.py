"""Rate control: the multiplier that steers training to the target, and the exact fit at its end."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from nvcodec.bitstream.tensors import QTensor

MIN_MU, MAX_MU = 0.02, 4.0


@dataclass(slots=True, kw_only=True)
class RateController:
    """Adapts mu in loss = distortion + mu R / R_target so that R settles at R_target.

    mu moves slowly and within bounds: to squeeze late and hard destroys the network.
    """

    target_bits: float
    mu: float = 0.5
    overhead_bits: float = 0.0
    """Bits of the real file beyond the estimate: headers, steps, scales."""

    def update(self, bits: float) -> None:
        """Move mu by at most 3 % after a step that was estimated at `bits`."""
        error = math.log((bits + self.overhead_bits) / self.target_bits)
        self.mu *= math.exp(0.03 * max(-1.0, min(1.0, 4 * error)))
        self.mu = max(MIN_MU, min(MAX_MU, self.mu))


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedSize:
    """The result of `fit_size`."""

    tensors: list[QTensor]
    n_bytes: int
    step_octaves: float


def fit_size(
    quantize: Callable[[float], list[QTensor]],
    measure: Callable[[list[QTensor]], int],
    max_bytes: int,
    *,
    low: float = -6.0,
    high: float = 6.0,
    tolerance: float = 0.002,
) -> FittedSize | None:
    """Find the finest step scale, in octaves, whose file has at most max_bytes.

    quantize(octaves) rounds the network with all steps scaled; measure(tensors) gives whole-file
    bytes. Returns None when even the coarsest scale is too large. Size falls with the scale except
    for ripples of a few bytes, so bisection keeps the best admissible result it has seen.
    """
    best: FittedSize | None = None

    def attempt(octaves: float) -> int:
        nonlocal best
        tensors = quantize(octaves)
        n_bytes = measure(tensors)
        if n_bytes <= max_bytes and (best is None or octaves < best.step_octaves):
            best = FittedSize(tensors=tensors, n_bytes=n_bytes, step_octaves=octaves)
        return n_bytes

    # Training lands near 0, so widen a bracket from there before bisecting.
    width = 0.125
    if attempt(0.0) <= max_bytes:
        upper, lower = 0.0, -width
        while lower > low and attempt(lower) <= max_bytes:
            upper, lower, width = lower, lower - 2 * width, 2 * width
    else:
        lower, upper = 0.0, width
        while upper < high and attempt(upper) > max_bytes:
            lower, upper, width = upper, upper + 2 * width, 2 * width
    for _ in range(14):
        if best is not None and best.n_bytes >= (1 - tolerance) * max_bytes:
            break
        middle = (lower + upper) / 2
        if attempt(middle) <= max_bytes:
            upper = middle
        else:
            lower = middle
    return best
