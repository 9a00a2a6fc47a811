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

    pressure: float = 0.5
    """mu as the loss uses it: with a share that answers the present error at once."""

    def update(self, bits: float) -> None:
        """Move mu by at most 15 % after some steps, the last of which is estimated at `bits`."""
        # A run that diverges may be estimated far beyond its file, and the sum below nothing.
        error = math.log(max(1e-3, (bits + self.overhead_bits) / self.target_bits))
        self.mu *= math.exp(max(-0.15, min(0.15, 3 * error)))
        self.mu = max(MIN_MU, min(MAX_MU, self.mu))
        # Small networks answer so strongly that three times as much makes their size swing; of
        # large ones it moves the last percent before the run ends.
        self.pressure = self.mu * math.exp(max(-1.0, min(1.0, 10 * error)))


TOLERANCE = 0.02
"""How much smaller than the target a file may be."""
MAX_DEADZONE = 0.25
SMALL_DEADZONE = 2.0**-8
_LEAST_DEADZONE = 2.0**-20
_MAX_FILL, _FILL_COST_DB = 2.0**-4, 0.01
"""What is rounded up below the middle of two integers to fill a file, and what that may cost."""
MAX_OCTAVES = 8.0


def fit_size(
    quantize: Callable[[float, float], list[QTensor]],
    measure: Callable[[list[QTensor]], int],
    max_bytes: int,
    psnr_db: Callable[[list[QTensor]], float],
) -> list[QTensor] | None:
    """Return the rounded network whose file has at most max_bytes and at most 2 % fewer.

    quantize(octaves, deadzone) rounds the network (see `Quantizer.quantize`); measure(tensors)
    gives the bytes of the whole file. The steps that training used come first. Training leaves many
    values at the edge between two integers, so that a tiny deadzone saves up to some percent at
    little cost; then come slightly scaled steps, with a deadzone that bridges what the eighths of
    an octave leave open (figures in benchmarks/NOTES.md). Where training leaves more than 2 %,
    finer steps fill it only if psnr_db(tensors) says that they draw better; else values just below
    the middle of two integers are rounded up, if that costs next to nothing. Returns None when the
    coarsest steps give too much.
    """
    enough = (1 - TOLERANCE) * max_bytes
    best: tuple[int, list[QTensor]] | None = None

    def attempt(octaves: float, deadzone: float) -> bool:
        """Try one rounding; tell whether it fits."""
        nonlocal best
        tensors = quantize(octaves, deadzone)
        n_bytes = measure(tensors)
        if n_bytes <= max_bytes and (best is None or n_bytes > best[0]):
            best = (n_bytes, tensors)
        return n_bytes <= max_bytes

    def done() -> bool:
        return best is not None and best[0] >= enough

    def narrow(octaves: float, largest: float) -> None:
        """Bisect the deadzone's logarithm at steps that give slightly too much."""
        low, high = _LEAST_DEADZONE, largest
        for _ in range(8):
            if best is not None and best[0] >= max_bytes * (1 - TOLERANCE / 8):
                return
            middle = math.sqrt(low * high)
            low, high = (low, middle) if attempt(octaves, middle) else (middle, high)

    fits = attempt(0.0, 0.0)
    if not fits and attempt(0.0, SMALL_DEADZONE):
        narrow(0.0, SMALL_DEADZONE)
    if done():
        return best[1] if best else None
    as_trained = best[1] if fits and best else None
    finest = 0.0
    width = -0.0625 if fits else 0.0625
    while abs(finest) < MAX_OCTAVES and attempt(finest + width, 0.0) == fits:
        finest, width = finest + width, 2 * width
    # The edge lies between these two; sizes fall as the steps grow.
    low, high = sorted((finest, finest + width))
    for _ in range(8):
        if done():
            break
        middle = (low + high) / 2
        low, high = (low, middle) if attempt(middle, 0.0) else (middle, high)
    if not done():
        narrow(low, MAX_DEADZONE)
    found = best[1] if best else None
    if as_trained is None or found is None:
        return found
    trained_db = psnr_db(as_trained)
    # What was trained with its steps may like no others.
    if found is not as_trained and psnr_db(found) > trained_db:
        return found
    filled = _fill(quantize, measure, enough, max_bytes)
    if filled is not None and psnr_db(filled) > trained_db - _FILL_COST_DB:
        return filled
    return as_trained


def _fill(
    quantize: Callable[[float, float], list[QTensor]],
    measure: Callable[[list[QTensor]], int],
    enough: float,
    max_bytes: int,
) -> list[QTensor] | None:
    """Return the network with as little rounded up as gives a file of enough bytes, if any does."""
    low, high = _LEAST_DEADZONE, _MAX_FILL
    if measure(quantize(0.0, -high)) < enough:
        return None
    filled = None
    for _ in range(8):
        middle = math.sqrt(low * high)
        tensors = quantize(0.0, -middle)
        n_bytes = measure(tensors)
        low, high = (middle, high) if n_bytes < enough else (low, middle)
        if enough <= n_bytes <= max_bytes:
            filled = tensors
    return filled
