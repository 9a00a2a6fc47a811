"""How much of a file corrections should have, and those that fill it best."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nvcodec.bitstream.tensors import N_STEPS, step_index
from nvcodec.codec.choose_corrections import (
    FLAT,
    NONE,
    PRICE,
    Choice,
    Costs,
    Errors,
)
from nvcodec.codec.find_motion import VideoMotion
from nvcodec.events import Listener, Progress, ignore

_LEAST_STEPS = (7.0, 0.2)
"""Finest steps looked at, in standard deviations of the error: few blocks have so much of it that
the first can be much; where these do not fill a file, nearly all blocks have to be looked at."""
_FIRST_STEP = 8.0
"""Where a search begins."""
_STEPS_A_DOUBLING = 5.0
"""About how many indices of steps halve or double the bits; those of prices go with the square."""
_N_TRIES = 3
_N_SAMPLES = 4
"""Groups of frames that say enough of all of them, where what is looked for is not known yet."""
_N_FILLS = 4
_FULL = 0.97
"""Share of a budget that suffices."""
_FILLED = 0.99
"""Share of it at which nothing is tried any more."""
_SHARES = (0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)
"""Shares that are looked at. More would be asked for in short runs at high rates, whose errors are
still large where it is decided, and lose (benchmarks/NOTES.md)."""
_RUNG = 4
"""Indices between steps of which it is found out what corrections in them cost and save."""
_FEW = 0.05
"""Share of the chosen blocks with so little error that they hardly need corrections."""
_TYPICAL_SCALE = 0.75
"""Bits of the words for each one that is estimated."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run leaves to corrections."""

    share: float
    """Of the bits of the file."""
    limit: float
    """Mean squared error from which on a block is mended, in that of the whole video."""


def find_corrections(
    draw: Callable[[Tensor], Tensor],
    frames: Tensor,
    mask: Tensor | None,
    bit_depth: int,
    motion: VideoMotion,
    max_bytes: int,
    listener: Listener = ignore,
) -> bytes:
    """Return the words of the corrections that help most, at most max_bytes; none if none fit.

    draw(index) gives samples (B, 3, H, W) of frames, which are compared with frames (N, 3, H, W);
    where mask (N, 1, H, W) is 0, pixels do not count. motion is that of the frames.
    """
    best = b""
    for least_step in _LEAST_STEPS:
        listener(Progress(stage="correct", done=0, total=0, unit="look"))
        errors = Errors(draw, frames, mask, bit_depth, motion, least_step)
        best = _fill(errors, max_bytes, listener) if errors.deviation else b""
        if len(best) > _FULL * max_bytes:
            break
    return best


def _fill(errors: Errors, max_bytes: int, listener: Listener) -> bytes:
    """Return the words of the blocks that help most."""
    finest, first = _step_range(errors)
    best, best_gain, best_step = b"", 0.0, first
    n_looks = 0

    def look(step: int, costs: Costs, price: float) -> tuple[float, Choice]:
        """Return by how many octaves the words are too long, and what they say."""
        nonlocal best, best_gain, best_step, n_looks
        choice = errors.choose(costs, step, price)
        words = errors.pack(step, choice)
        n_looks += 1
        listener(Progress(stage="correct", done=n_looks, total=0, unit="look"))
        if len(words) <= max_bytes and choice.gain > best_gain:
            best, best_gain, best_step = words, choice.gain, step
        return math.log2(max(4, len(words)) / max(4, max_bytes)), choice

    step = _rough_step(errors, finest, first, 8 * max_bytes / _TYPICAL_SCALE)
    costs = FLAT
    tried: set[int] = set()
    while step not in tried and (len(tried) < _N_TRIES or not best):
        excess, choice = look(step, costs, PRICE)
        if len(choice.symbols):
            costs = errors.learn_costs(choice)
        tried.add(step)
        # Finer ones that just do not fit are looked at below.
        step += math.ceil(_STEPS_A_DOUBLING * excess)
        step = min(max(step, finest), N_STEPS - 1)
    # What is left is filled by cheaper blocks, or by the best ones in finer steps.
    for step in {best_step, max(finest, best_step - 1)}:
        price = PRICE
        for _ in range(_N_FILLS):
            excess, _choice = look(step, costs, price)
            if math.log2(_FILLED) <= excess <= 0:
                break
            before, price = price, min(max(price * 4 ** (excess + 0.003), PRICE / 4), 4 * PRICE)
            if price == before:
                break
    return best


def _rough_step(errors: Errors, finest: int, step: int, bits: float) -> int:
    """Return about the step in which corrections take so many bits, from some frames alone."""
    for _ in range(_N_TRIES):
        found = errors.choose(FLAT, step, PRICE, _every(errors)).bits
        more = round(_STEPS_A_DOUBLING * math.log2(found / bits))
        step = min(max(step + more, finest), N_STEPS - 1)
        if abs(more) < 2:
            break
    return step


def _every(errors: Errors) -> int:
    """Return of how many groups one is looked at where it is not known yet what is wanted."""
    return max(1, errors.n_groups // _N_SAMPLES)


def _step_range(errors: Errors) -> tuple[int, int]:
    """Return the indices of the finest step and of where to begin."""
    steps = np.array([errors.least_step, max(errors.least_step, _FIRST_STEP * errors.deviation)])
    finest, first = step_index(steps).tolist()
    return int(finest), int(first)


def find_budget(
    draw: Callable[[Tensor], Tensor],
    frames: Tensor,
    mask: Tensor | None,
    bit_depth: int,
    motion: VideoMotion,
    max_bits: float,
    slope: float,
    share: float | None,
) -> Budget:
    """Return the share of max_bits that corrections should have, unless it is given.

    Without a share x the network loses slope ln(1 / (1 - x)) in the logarithm of its error: slope
    is the multiplier of the rate in training. See `find_corrections` for the other arguments.
    """
    errors = Errors(draw, frames, mask, bit_depth, motion, _LEAST_STEPS[0])
    if not errors.deviation:
        return Budget(share or 0.0, math.inf)
    shares = _SHARES if share is None else (share,)
    bits, gains, limits = _ladder(errors, shares[0] * max_bits, shares[-1] * max_bits)
    n_values = frames[0].numel() * len(frames)
    best, most = Budget(0.0, math.inf), -math.inf if share else 0.0
    for x in shares:
        at = math.log(x * max_bits)
        gain = float(np.interp(at, bits, gains)) / (n_values * errors.deviation**2)
        worth = slope * math.log1p(-x) - math.log1p(-min(gain, 0.99))
        if worth > most:
            best, most = Budget(x, float(np.interp(at, bits, limits))), worth
    return best


def _ladder(
    errors: Errors, least_bits: float, most_bits: float
) -> tuple[list[float], list[float], list[float]]:
    """Return what corrections in coarse to fine steps cost (ln of bits), save, and their limits."""
    finest, first = _step_range(errors)
    rungs = {}

    def climb(step: int) -> float:
        choice = errors.choose(FLAT, step, PRICE, _every(errors))
        bits = _TYPICAL_SCALE * choice.bits
        rungs[step] = math.log(bits), choice.gain, _limit(errors, choice)
        return bits

    step, bits = first, climb(first)
    while bits > least_bits and step + _RUNG < N_STEPS:
        step += _RUNG
        bits = climb(step)
    step, bits = first, math.exp(rungs[first][0])
    while bits < most_bits and step - _RUNG >= finest:
        step -= _RUNG
        bits = climb(step)
    costs, gains, limits = zip(*(rungs[step] for step in sorted(rungs, reverse=True)), strict=True)
    return list(costs), list(gains), list(limits)


def _limit(errors: Errors, choice: Choice) -> float:
    """Return the mean square, in those of all, that nearly all of the chosen blocks have."""
    energies = errors.energies[choice.kinds != NONE]
    if not len(energies):
        return math.inf
    few = float(torch.quantile(energies, _FEW))
    return few / (3 * errors.side**2) / errors.deviation**2
