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
"""What draws so nearly like training's own rounding that nothing else need be tried."""
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
    gives the bytes of the whole file. The steps that training used come first. What is too large is
    rounded with a deadzone; unless a tiny one suffices, psnr_db(tensors) chooses between that and
    coarser steps (figures in benchmarks/NOTES.md). Where training leaves more than 2 %, finer steps
    fill it only if they draw better; else values just below the middle of two integers are rounded
    up, if that costs next to nothing. Returns None when the coarsest steps give too much.
    """
    enough = (1 - TOLERANCE) * max_bytes
    as_trained = quantize(0.0, 0.0)
    n_bytes = measure(as_trained)
    if enough <= n_bytes <= max_bytes:
        return as_trained
    if n_bytes > max_bytes:
        sparser, coarser = (_Search(quantize, measure, max_bytes) for _ in range(2))
        if sparser.narrow(0.0, SMALL_DEADZONE):
            return sparser.found
        sparser.narrow(0.0, MAX_DEADZONE)
        coarser.scale_steps(0.0625)
        both = [search.found for search in (sparser, coarser) if search.found is not None]
        return max(both, key=psnr_db) if len(both) > 1 else next(iter(both), None)
    finer = _Search(quantize, measure, max_bytes)
    finer.scale_steps(-0.0625)
    trained_db = psnr_db(as_trained)
    # What was trained with its steps may like no others.
    if finer.found is not None and psnr_db(finer.found) > trained_db:
        return finer.found
    filled = _fill(quantize, measure, enough, max_bytes)
    if filled is not None and psnr_db(filled) > trained_db - _FILL_COST_DB:
        return filled
    return as_trained


class _Search:
    """Looks for the rounding whose file is the largest of at most max_bytes."""

    def __init__(
        self,
        quantize: Callable[[float, float], list[QTensor]],
        measure: Callable[[list[QTensor]], int],
        max_bytes: int,
    ) -> None:
        self.quantize, self.measure, self.max_bytes = quantize, measure, max_bytes
        self.found: list[QTensor] | None = None
        self.n_bytes = 0

    def fits(self, octaves: float, deadzone: float = 0.0) -> bool:
        """Try one rounding; tell whether it fits."""
        tensors = self.quantize(octaves, deadzone)
        n_bytes = self.measure(tensors)
        if self.n_bytes < n_bytes <= self.max_bytes:
            self.found, self.n_bytes = tensors, n_bytes
        return n_bytes <= self.max_bytes

    def narrow(self, octaves: float, largest: float) -> bool:
        """Bisect the deadzone's logarithm at steps that give too much; tell whether one fits."""
        low, high = _LEAST_DEADZONE, largest
        if not self.fits(octaves, high):
            return False
        for _ in range(8):
            if self.n_bytes >= self.max_bytes * (1 - TOLERANCE / 8):
                break
            middle = math.sqrt(low * high)
            low, high = (low, middle) if self.fits(octaves, middle) else (middle, high)
        return True

    def scale_steps(self, width: float) -> None:
        """Look along scaled steps, first `width` octaves away, and below what their grid leaves."""
        near = 0.0
        coarser = width > 0
        while abs(near) < MAX_OCTAVES and self.fits(near + width) != coarser:
            near, width = near + width, 2 * width
        # The edge lies between these two; sizes fall as the steps grow.
        low, high = sorted((near, near + width))
        for _ in range(8):
            if self.n_bytes >= (1 - TOLERANCE) * self.max_bytes:
                return
            middle = (low + high) / 2
            low, high = (low, middle) if self.fits(middle) else (middle, high)
        if self.n_bytes < (1 - TOLERANCE) * self.max_bytes:
            self.narrow(low, MAX_DEADZONE)


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
