"""Pictures among the tensors: every symbol is coded around what its decoded neighbours predict.

The last two axes of a tensor are a picture's rows and columns. The mean of a symbol is a weighted
sum of six neighbours above and before it; how wide it spreads follows from their magnitudes, each
activity level having its own Laplace scale (as lossless picture coders do: CALIC, Wu and Memon
1997). All of it is integer arithmetic. Symbols that depend on none of each other, along x + 2 y,
are coded together, so that both sides work on vectors.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.laplace import N_SCALES, level_costs

NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (-2, 0), (0, -2))
"""Rows and columns from a symbol to those that predict it."""
ACTIVITY = (2, 2, 1, 1, 1, 1)
"""How much the magnitude of each neighbour counts."""
LEVEL_EDGES = (1, 2, 3, 5, 7, 11, 15, 22, 31, 45, 63, 90, 127, 181)
"""An activity of at least the n-th edge has level n, counted from 1; about two levels an octave."""
N_LEVELS = len(LEVEL_EDGES) + 1
LEVEL_OF = np.searchsorted(LEVEL_EDGES, np.arange(LEVEL_EDGES[-1] + 1), side="right")
"""The level of every activity up to the last edge."""
MIN_SIDE, MIN_AREA = 4, 50
"""Smaller ones, such as the kernels of convolutions, are no pictures."""
WEIGHT_UNIT = 64
N_WEIGHTS = 256
"""Weights are -128 to 127 units of 1 / 64."""

_QUARTER = WEIGHT_UNIT // 4
_HALF_WRAP = 1 << 15
_COUNTS = np.array(ACTIVITY)
_COLUMNS_BEFORE, _ROWS_BEFORE, _COLUMNS_AFTER = 2, 2, 1

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Prediction:
    """Everything the encoder decides about one tensor of pictures."""

    weights: Ints
    """Six weights, in units of 1 / 64."""
    scales: NDArray[np.uint8]
    """Scale index of each activity level."""
    symbol_bits: float


def is_picture(shape: tuple[int, ...]) -> bool:
    """Say whether a tensor of this shape may be coded as pictures."""
    return len(shape) > 2 and min(shape[-2:]) >= MIN_SIDE and math.prod(shape[-2:]) >= MIN_AREA


def plan(symbols: Ints) -> Prediction:
    """Return the weights and scales that suit symbols of the int16 range, (..., H, W)."""
    near = _neighbours(symbols)
    weights = _best_weights(near, symbols)
    centre, fraction, level = _context(near, weights)
    costs = np.zeros((N_LEVELS, N_SCALES))
    residual = _residual(symbols.ravel(), centre, fraction)
    for shift in range(3):
        here = np.abs(fraction) == shift
        costs += level_costs(residual[here], level[here], N_LEVELS, shift)
    scales, bits = best_scales(costs, np.isin(np.arange(N_LEVELS), level))
    return Prediction(weights, scales, bits)


def best_scales(
    costs: NDArray[np.float64], used: NDArray[np.bool_]
) -> tuple[NDArray[np.uint8], float]:
    """Return the scale index of each level, and the bits, from costs (N_LEVELS, N_SCALES).

    A level that does not occur takes the scale of the one before it, which costs least to say.
    """
    scales = costs.argmin(axis=1).astype(np.uint8)
    last = np.maximum.accumulate(np.where(used, np.arange(N_LEVELS), -1))
    scales = scales[np.where(last < 0, np.argmax(used), last)]
    return scales, float(costs[used, scales[used]].sum())


def write(writer: SymbolWriter, symbols: Ints, prediction: Prediction) -> None:
    """Code symbols (..., H, W) of the int16 range."""
    centre, fraction, level = _context(_neighbours(symbols), prediction.weights)
    residual = _residual(symbols.ravel(), centre, fraction)
    scale = prediction.scales.astype(np.int64)[level]
    height, width = symbols.shape[-2:]
    for row, column in _waves(height, width):
        where = _places(symbols.size // (height * width), height, width, row, column)
        for k, shift, members in groups(scale[where], fraction[where]):
            writer.laplace(residual[where[members]], k, shift)


def read(
    reader: SymbolReader, shape: tuple[int, ...], weights: Ints, scales: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """Decode what `write` coded; raise CorruptError."""
    if scales[0] == 0:
        # Where all neighbours are 0, so is the symbol, from the first one on.
        return np.zeros(shape, dtype=np.int32)
    height, width = shape[-2:]
    n = math.prod(shape[:-2])
    high, wide = height + _ROWS_BEFORE, width + _COLUMNS_BEFORE + _COLUMNS_AFTER
    padded = np.zeros(n * high * wide, dtype=np.int64)
    back = np.array([[dy * wide + dx] for dy, dx in NEIGHBOURS])
    table = scales.astype(np.int64)
    for row, column in _waves(height, width):
        where = _places(n, high, wide, row + _ROWS_BEFORE, column + _COLUMNS_BEFORE)
        centre, fraction, level = _context(padded[where + back], weights)
        residual = np.zeros_like(centre)
        for k, shift, members in groups(table[level], fraction):
            residual[members] = reader.laplace(len(members), k, shift)
        padded[where] = _wrap(centre + np.where(fraction < 0, -residual, residual))
    inner = padded.reshape(n, high, wide)[:, _ROWS_BEFORE:, _COLUMNS_BEFORE:-_COLUMNS_AFTER]
    return inner.astype(np.int32).reshape(shape)


def _neighbours(symbols: Ints) -> Ints:
    """Return the neighbours (6, n) of all symbols in C order; those outside are 0."""
    height, width = symbols.shape[-2:]
    margins = ((0, 0), (_ROWS_BEFORE, 0), (_COLUMNS_BEFORE, _COLUMNS_AFTER))
    padded = np.pad(symbols.reshape(-1, height, width), margins)
    near = [
        padded[:, _ROWS_BEFORE + dy :, _COLUMNS_BEFORE + dx :][:, :height, :width]
        for dy, dx in NEIGHBOURS
    ]
    return np.stack(near).reshape(len(NEIGHBOURS), -1)


def _best_weights(near: Ints, symbols: Ints) -> Ints:
    """Return the least squares solution, rounded."""
    columns = near.astype(np.float64)
    normal = columns @ columns.T + 1e-3 * np.eye(len(NEIGHBOURS))
    exact = np.linalg.solve(normal, columns @ symbols.ravel())
    low, high = -N_WEIGHTS // 2, N_WEIGHTS // 2 - 1
    weights: Ints = np.rint(WEIGHT_UNIT * exact).clip(low, high).astype(np.int64)
    return weights


def _context(near: Ints, weights: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the nearest integer to each mean, the quarters beyond it (-2 to 1) and the level.

    near is (6, n), the results (n,).
    """
    quarters = (weights @ near + _QUARTER // 2) // _QUARTER
    centre = (quarters + 2) >> 2
    return centre, quarters - 4 * centre, level_of(_COUNTS @ np.abs(near))


def level_of(activity: NDArray[np.integer]) -> Ints:
    """Return the levels 0 to N_LEVELS - 1 of activities."""
    levels: Ints = LEVEL_OF[np.minimum(activity, LEVEL_EDGES[-1])]
    return levels


def _residual(symbols: Ints, centre: Ints, fraction: Ints) -> Ints:
    """Return what is coded: differences, turned so that their mean is not negative."""
    difference = symbols - centre
    return _wrap(np.where(fraction < 0, -difference, difference))


def _wrap(values: Ints) -> Ints:
    """Return the int16 that equals values modulo 2^16, so that every symbol can be reached."""
    wrapped: Ints = ((values + _HALF_WRAP) & (2 * _HALF_WRAP - 1)) - _HALF_WRAP
    return wrapped


def _waves(height: int, width: int) -> Iterator[tuple[Ints, Ints]]:
    """Yield rows and columns of equal x + 2 y, in coding order."""
    for t in range(width + 2 * (height - 1)):
        row = np.arange(max(0, (t - width + 2) // 2), min(height - 1, t // 2) + 1)
        # In pictures of one column every other wave is empty.
        if row.size:
            yield row, t - 2 * row


def _places(n: int, height: int, width: int, row: Ints, column: Ints) -> Ints:
    """Return where rows and columns of n pictures lie in C order."""
    pictures: Ints = np.arange(n)[:, None] * (height * width)
    return (pictures + (row * width + column)).ravel()


def groups(scale: Ints, fraction: Ints) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """Yield scale index, quarters of the mean (0 to 2) and places of what one table codes."""
    key = 3 * scale + np.abs(fraction)
    order = key.argsort(kind="stable")
    sorted_key = key[order]
    ends = [*(np.diff(sorted_key).nonzero()[0] + 1).tolist(), len(order)]
    first = 0
    for end in ends:
        k, shift = divmod(int(sorted_key[first]), 3)
        yield k, shift, order[first:end]
        first = end
