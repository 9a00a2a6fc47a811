"""Which blocks of which frames are worth correcting, and how exactly, so that a budget is kept."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvcodec.bitstream.corrections import (
    N_KEPT,
    N_VALUES,
    Corrections,
    grid_shape,
    pack_corrections,
)
from nvcodec.bitstream.tensors import N_STEPS, step_index, step_size
from nvcodec.codec.corrections import block_basis
from nvcodec.depth import peak
from nvcodec.workers import n_at_once, spread

_LARGE_FRAME = 400_000
"""Pixels from which on blocks have 16 pixels a side, of which a quarter of the frequencies is kept:
a fourth of the coefficients to decode."""
_LEAST_STEPS = (3.0, 0.2)
"""Finest steps looked at, in standard deviations of the error: few blocks have so much of it that
the first can be much; where these do not fill a file, nearly all blocks have to be looked at."""
_LEAST_MAGNITUDE = 0.6
"""In steps; what is smaller becomes 0 in any case."""
_ROUNDING = 0.44
"""What is added to a magnitude in steps before it is cut: less than a half, as small ones are
cheaper."""
_PRICE = 0.06
"""What a bit must save at least, in squares of the step."""
_ZERO_BITS, _OTHER_BITS, _BLOCK_BITS, _SIDE_BITS = 0.06, 6.0, 3.0, 320.0
"""About the bits of a 0, of a magnitude of 1 (2 more for each doubling), of saying where, and of
probabilities and scales."""
_SIGN_BITS = 1.5
"""Of a magnitude of 1 beyond those of not being 0: its sign, and that it is not 2."""
_N_TRIES = 4
_FULL = 0.97
"""Share of a budget that suffices."""
_SHARES = (0.03, 0.05, 0.08, 0.12, 0.16, 0.2, 0.25, 0.3)
"""Shares that are looked at. More would be asked for in short runs at high rates, whose errors are
still large where it is decided, and lose (benchmarks/NOTES.md)."""
_FEW = 0.05
"""Share of the chosen blocks with so little error that they hardly need corrections."""
_TYPICAL_SCALE = 0.75
"""Bits of the words for each one that is estimated."""


@dataclass(frozen=True, slots=True)
class _Errors:
    """Blocks that may be corrected."""

    side: int
    shape: tuple[int, int, int]
    places: NDArray[np.int64]
    """Index of each block into a grid of `shape`."""
    values: NDArray[np.float32]
    """Coefficients (blocks, 192)."""
    weights: NDArray[np.float32]
    """Of each block: its frame's part in the mean PSNR."""
    peaks: NDArray[np.float32]
    """The largest magnitude of each block; blocks are in falling order of it."""
    deviation: float
    """Of all errors."""
    least_step: float
    """Finest step that was looked at, in deviations."""

    @property
    def finest_step(self) -> int:
        """Its index."""
        return int(step_index(np.array([self.least_step * self.deviation]))[0])


@dataclass(frozen=True, slots=True)
class _Choice:
    """Blocks to be corrected, in the order of their places."""

    chosen: NDArray[np.int64]
    rows: NDArray[np.int64]
    """Of each coefficient other than 0, the block among all; the next two are its column and it."""
    columns: NDArray[np.int64]
    coefficients: NDArray[np.float32]
    bits: float
    """Estimated."""
    gain: float
    """How much the weighted error falls."""

    def symbols(self) -> NDArray[np.int32]:
        """Return the coefficients (chosen blocks, 192) in steps."""
        symbols = np.zeros((len(self.chosen), N_VALUES), np.int32)
        numbers = np.full(int(self.rows.max(initial=-1)) + 1, -1)
        numbers[self.chosen] = np.arange(len(self.chosen))
        number = numbers[self.rows]
        kept = number >= 0
        symbols[number[kept], self.columns[kept]] = self.coefficients[kept]
        return symbols


@dataclass(frozen=True, slots=True)
class Budget:
    """What a run leaves to corrections."""

    share: float
    """Of the bits of the file."""
    limit: float
    """Mean squared error from which on a block is mended, in that of the whole video."""


@dataclass(frozen=True, slots=True)
class _Costs:
    """About the bits of a 0 and of a magnitude of 1, for each of 192 coefficients of a block."""

    zero: NDArray[np.float32]
    other: NDArray[np.float32]


_FLAT = _Costs(
    np.full(N_VALUES, _ZERO_BITS, np.float32), np.full(N_VALUES, _OTHER_BITS, np.float32)
)


def block_side(height: int, width: int) -> int:
    """Return the side, in pixels, of the blocks of frames of this size."""
    return N_KEPT if height * width < _LARGE_FRAME else 2 * N_KEPT


def find_corrections(
    draw: Callable[[Tensor], Tensor],
    frames: Tensor,
    mask: Tensor | None,
    bit_depth: int,
    max_bytes: int,
) -> bytes:
    """Return the words of the corrections that help most, at most max_bytes; none if none fit.

    draw(index) gives samples (B, 3, H, W) of frames, which are compared with frames (N, 3, H, W);
    where mask (N, 1, H, W) is 0, pixels do not count.
    """
    best = b""
    for least_step in _LEAST_STEPS:
        errors = _measure(draw, frames, mask, bit_depth, least_step)
        best = b"" if errors is None else _fill(errors, max_bytes)
        if len(best) > _FULL * max_bytes:
            break
    return best


def _fill(errors: _Errors, max_bytes: int) -> bytes:
    """Return the words of the blocks that help most."""
    finest = errors.finest_step
    best, best_gain, best_step, scale = b"", 0.0, N_STEPS - 1, 1.0
    costs = _FLAT
    tried: set[int] = set()
    # Words tell how far estimates of their bits are off.
    for _ in range(_N_TRIES):
        step = _finest_step(errors, costs, 8 * max_bytes / scale)
        if step in tried:
            break
        choice = _choose(errors, costs, step, _PRICE)
        words = _pack(errors, step, choice)
        if len(words) <= max_bytes and choice.gain > best_gain:
            best, best_gain, best_step = words, choice.gain, step
        if not tried and len(choice.chosen):
            costs = _learn_costs(choice)
            choice = _choose(errors, costs, step, _PRICE)
        tried.add(step)
        scale = 8 * max(4, len(words)) / choice.bits
    # What is left is filled by cheaper blocks, or by the best ones in finer steps.
    for step in {best_step, max(finest, best_step - 1)}:
        exact = scale
        for _ in range(_N_TRIES):
            price = _lowest_price(errors, costs, step, 8 * max_bytes / exact)
            choice = _choose(errors, costs, step, price)
            words = _pack(errors, step, choice)
            if len(words) <= max_bytes:
                if choice.gain > best_gain:
                    best, best_gain = words, choice.gain
                break
            exact = 1.002 * 8 * len(words) / choice.bits
    return best


def _finest_step(errors: _Errors, costs: _Costs, max_bits: float) -> int:
    """Return the finest step whose corrections are estimated to take at most max_bits."""
    low, high = errors.finest_step, N_STEPS - 1
    while low < high:
        middle = (low + high) // 2
        fits = _choose(errors, costs, middle, _PRICE).bits <= max_bits
        low, high = (low, middle) if fits else (middle + 1, high)
    return low


def _lowest_price(errors: _Errors, costs: _Costs, step: int, max_bits: float) -> float:
    """Return the lowest price of bits, in these steps, that is estimated to keep to max_bits."""
    low, high = _PRICE / 4, 4 * _PRICE
    for _ in range(8):
        middle = math.sqrt(low * high)
        fits = _choose(errors, costs, step, middle).bits <= max_bits
        low, high = (low, middle) if fits else (middle, high)
    return high


def _learn_costs(choice: _Choice) -> _Costs:
    """Return what the coefficients of chosen blocks cost by how many of them are 0."""
    symbols = choice.symbols()
    share = ((symbols != 0).sum(0) + 0.5) / (len(symbols) + 10)
    zero, other = -np.log2(1 - share), _SIGN_BITS - np.log2(share)
    return _Costs(zero.astype(np.float32), other.astype(np.float32))


def _measure(
    draw: Callable[[Tensor], Tensor],
    frames: Tensor,
    mask: Tensor | None,
    bit_depth: int,
    least_step: float,
) -> _Errors | None:
    n_frames, _, height, width = frames.shape
    side = block_side(height, width)
    shape = grid_shape(n_frames, height, width, side)
    basis = block_basis(side).to(frames.device).T
    pad = (0, shape[2] * side - width, 0, shape[1] * side - height)

    @torch.inference_mode()
    def look_at(number: int) -> tuple[Tensor, Tensor]:
        """Return a frame's mean squared error and the coefficients of its blocks."""
        index = torch.tensor([number], device=frames.device)
        error = (frames[number].float() - draw(index)[0].float()) / peak(bit_depth)
        if mask is not None:
            error = error * mask[number]
        blocks = F.pad(error, pad).view(3, shape[1], side, shape[2], side)
        found = blocks.permute(1, 3, 2, 4, 0).reshape(-1, 3 * side * side) @ basis
        return error.square().mean(), found

    places, values, squares = [], [], torch.zeros(n_frames, dtype=torch.float64)
    least = 0.0
    looks = spread(look_at, range(n_frames), n_at_once(frames.device))
    for number, (square, found) in enumerate(looks):
        squares[number] = square
        # What no step looked at makes more than 0 of is left out at once.
        least = _LEAST_MAGNITUDE * least_step * float(squares[: number + 1].mean().sqrt())
        large = found.abs().amax(1) >= 0.5 * least
        places.append((large.nonzero()[:, 0] + number * len(found)).cpu().numpy())
        values.append(found[large].cpu().numpy())
    mean = float(squares.mean())
    if mean == 0 or not np.isfinite(mean):
        return None
    weights = (mean / squares.clamp_min(1e-3 * mean)).float().numpy()
    per_frame = [np.full(len(p), w, np.float32) for p, w in zip(places, weights, strict=True)]
    joined = [np.concatenate(parts) for parts in (places, values, per_frame)]
    peaks = np.abs(joined[1]).max(1, initial=0)
    order = np.argsort(-peaks, kind="stable")[: int((peaks >= least).sum())]
    where, rows, parts = joined
    return _Errors(
        side, shape, where[order], rows[order], parts[order], peaks[order], mean**0.5, least_step
    )


def _choose(errors: _Errors, costs: _Costs, step: int, price: float) -> _Choice:
    """Return the blocks that are worth their bits in these steps.

    A bit must save `price` squares of a step: of blocks, and of coefficients too (RDOQ).
    """
    size = float(step_size(np.array(step)))
    # Where (x - 0)^2 - (x - 1)^2 pays for the bits of a 1 beyond those of a 0.
    least = np.maximum(_LEAST_MAGNITUDE, 0.5 + price / 2 * (costs.other - costs.zero))
    # Others would be all zeros.
    n = int(np.searchsorted(-errors.peaks, -_LEAST_MAGNITUDE * size, side="right"))
    values = errors.values[:n]
    # Few are not 0, and what follows is about these alone.
    places = np.flatnonzero(np.abs(values) >= (least * size).astype(np.float32))
    rows, columns = np.divmod(places, N_VALUES)
    exact = values.reshape(-1)[places]
    sizes = np.abs(exact) * np.float32(1 / size)
    magnitudes = np.maximum(np.floor(sizes + np.float32(_ROUNDING)), 1)
    gains = size**2 * magnitudes * (2 * sizes - magnitudes)
    more_bits = costs.other[columns] - costs.zero[columns] + 2 * np.log2(magnitudes)
    gain = np.bincount(rows, gains, n) * errors.weights[:n]
    bits = np.bincount(rows, more_bits, n) + costs.zero.sum() + _BLOCK_BITS
    chosen = np.flatnonzero(gain > price * size**2 * bits)
    chosen = chosen[np.argsort(errors.places[chosen])]
    return _Choice(
        chosen,
        rows,
        columns,
        np.copysign(magnitudes, exact),
        float(bits[chosen].sum()) + _SIDE_BITS,
        float(gain[chosen].sum()),
    )


def _pack(errors: _Errors, step: int, choice: _Choice) -> bytes:
    """Return the words of corrections, none if there is no block."""
    if not len(choice.chosen):
        return b""
    blocks = np.zeros(errors.shape, dtype=np.bool_)
    blocks.reshape(-1)[errors.places[choice.chosen]] = True
    symbols = choice.symbols().reshape(-1, 3, N_KEPT, N_KEPT)
    return pack_corrections(Corrections(errors.side, step, blocks, symbols))


def find_budget(
    draw: Callable[[Tensor], Tensor],
    frames: Tensor,
    mask: Tensor | None,
    bit_depth: int,
    max_bits: float,
    slope: float,
    share: float | None,
) -> Budget:
    """Return the share of max_bits that corrections should have, unless it is given.

    Without a share x the network loses slope ln(1 / (1 - x)) in the logarithm of its error: slope
    is the multiplier of the rate in training. See `find_corrections` for the other arguments.
    """
    errors = _measure(draw, frames, mask, bit_depth, _LEAST_STEPS[0])
    if errors is None:
        return Budget(share or 0.0, math.inf)
    n_values = frames[0].numel() * len(frames)
    best, most = Budget(0.0, math.inf), -math.inf if share else 0.0
    for x in _SHARES if share is None else (share,):
        step = _finest_step(errors, _FLAT, x * max_bits / _TYPICAL_SCALE)
        choice = _choose(errors, _FLAT, step, _PRICE)
        gain = choice.gain / (n_values * errors.deviation**2)
        worth = slope * math.log1p(-x) - math.log1p(-min(gain, 0.99))
        if worth > most:
            best, most = Budget(x, _limit(errors, choice)), worth
    return best


def _limit(errors: _Errors, choice: _Choice) -> float:
    """Return the mean square, in those of all, that nearly all of the chosen blocks have."""
    if not len(choice.chosen):
        return math.inf
    energies = np.square(errors.values[choice.chosen]).sum(1) / (3 * errors.side**2)
    return float(np.quantile(energies, _FEW) / errors.deviation**2)
