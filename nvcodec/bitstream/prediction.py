"""Pictures among the tensors: every symbol is coded around what its decoded neighbours predict.

The last two axes of a tensor are a picture's rows and columns. The mean of a symbol is a weighted
sum of six neighbours above and before it; how wide it spreads follows from their magnitudes, each
activity level having its own Laplace scale (as lossless picture coders do: CALIC, Wu and Memon
1997). All of it is integer arithmetic. Symbols that depend on none of each other, along x + 2 y,
are coded together, so that both sides work on vectors.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.laplace import N_SCALES, shifted_costs

NEIGHBOURS = ((0, -1), (-1, 0), (-1, -1), (-1, 1), (-2, 0), (0, -2))
"""Rows and columns from a symbol to those that predict it."""
ACTIVITY = (2, 2, 1, 1, 1, 1)
"""How much the magnitude of each neighbour counts."""
LEVEL_EDGES = (1, 2, 3, 5, 7, 11, 15, 22, 31, 45, 63, 90, 127, 181)
"""An activity of at least the n-th edge has level n, counted from 1; about two levels an octave."""
N_LEVELS = len(LEVEL_EDGES) + 1
MIN_SIDE = 4
"""Tensors with fewer rows or columns are no pictures."""
WEIGHT_UNIT = 64
N_WEIGHTS = 256
"""Weights are -128 to 127 units of 1 / 64."""

_QUARTER = WEIGHT_UNIT // 4
_WRAP = 1 << 16
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
    return len(shape) > 2 and min(shape[-2:]) >= MIN_SIDE


def plan(symbols: Ints) -> Prediction:
    """Return the weights and scales that suit symbols of the int16 range, (..., H, W)."""
    pictures = _pictures(symbols)
    near = _neighbours(pictures)
    weights = _best_weights(near, pictures)
    centre, fraction, level = _context(near, weights)
    costs = np.zeros((N_LEVELS, N_SCALES))
    residual = _residual(pictures, centre, fraction)
    for shift in range(3):
        for index in range(N_LEVELS):
            chosen = residual[(level == index) & (np.abs(fraction) == shift)]
            costs[index] += _costs(chosen, shift)
    scales = costs.argmin(axis=1).astype(np.uint8)
    used = np.isin(np.arange(N_LEVELS), level)
    # A level that does not occur takes the scale of the one before it, which costs least to say.
    last = np.maximum.accumulate(np.where(used, np.arange(N_LEVELS), -1))
    scales = scales[np.where(last < 0, np.argmax(used), last)]
    bits = float(costs[used, scales[used]].sum())
    return Prediction(weights, scales, bits)


def write(writer: SymbolWriter, symbols: Ints, prediction: Prediction) -> None:
    """Code symbols (..., H, W) of the int16 range."""
    pictures = _pictures(symbols)
    centre, fraction, level = _context(_neighbours(pictures), prediction.weights)
    residual = _residual(pictures, centre, fraction)
    scale = prediction.scales.astype(np.int64)[level]
    for where in _waves(pictures.shape):
        for k, shift, members in _groups(scale[where], fraction[where]):
            writer.laplace(residual[where][members], k, shift)


def read(
    reader: SymbolReader, shape: tuple[int, ...], weights: Ints, scales: NDArray[np.uint8]
) -> NDArray[np.int32]:
    """Decode what `write` coded; raise CorruptError."""
    height, width = shape[-2:]
    if scales[0] == 0:
        # Where all neighbours are 0, so is the symbol, from the first one on.
        return np.zeros(shape, dtype=np.int32)
    n = int(np.prod(shape[:-2], dtype=np.int64))
    padded = np.zeros(
        (n, height + _ROWS_BEFORE, width + _COLUMNS_BEFORE + _COLUMNS_AFTER), dtype=np.int64
    )
    table = scales.astype(np.int64)
    for picture, row, column in _waves((n, height, width)):
        y, x = row + _ROWS_BEFORE, column + _COLUMNS_BEFORE
        near = np.stack([padded[picture, y + dy, x + dx] for dy, dx in NEIGHBOURS])
        centre, fraction, level = _context(near, weights)
        residual = np.zeros_like(centre)
        for k, shift, members in _groups(table[level], fraction):
            residual[members] = reader.laplace(len(members), k, shift)
        padded[picture, y, x] = _wrap(centre + np.where(fraction < 0, -residual, residual))
    inner = padded[:, _ROWS_BEFORE:, _COLUMNS_BEFORE:-_COLUMNS_AFTER]
    return inner.astype(np.int32).reshape(shape)


def _pictures(symbols: Ints) -> Ints:
    return symbols.reshape(-1, *symbols.shape[-2:])


def _neighbours(pictures: Ints) -> Ints:
    """Return the neighbours (6, N, H, W) of every symbol; those outside are 0."""
    _, height, width = pictures.shape
    margins = ((0, 0), (_ROWS_BEFORE, 0), (_COLUMNS_BEFORE, _COLUMNS_AFTER))
    padded = np.pad(pictures, margins)
    return np.stack(
        [
            padded[:, _ROWS_BEFORE + dy :, _COLUMNS_BEFORE + dx :][:, :height, :width]
            for dy, dx in NEIGHBOURS
        ]
    )


def _best_weights(near: Ints, pictures: Ints) -> Ints:
    """Return the least squares solution, rounded."""
    columns = near.reshape(len(NEIGHBOURS), -1).astype(np.float64)
    normal = columns @ columns.T + 1e-3 * np.eye(len(NEIGHBOURS))
    exact = np.linalg.solve(normal, columns @ pictures.ravel())
    low, high = -N_WEIGHTS // 2, N_WEIGHTS // 2 - 1
    weights: Ints = np.rint(WEIGHT_UNIT * exact).clip(low, high).astype(np.int64)
    return weights


def _context(near: Ints, weights: Ints) -> tuple[Ints, Ints, Ints]:
    """Return the nearest integer to each mean, the quarters beyond it (-2 to 1) and the level."""
    quarters = (np.tensordot(weights, near, 1) + _QUARTER // 2) // _QUARTER
    centre = (quarters + 2) >> 2
    activity = np.tensordot(np.array(ACTIVITY), np.abs(near), 1)
    level = np.searchsorted(LEVEL_EDGES, activity, side="right")
    return centre, quarters - 4 * centre, level


def _residual(pictures: Ints, centre: Ints, fraction: Ints) -> Ints:
    """Return what is coded: differences, turned so that their mean is not negative."""
    difference = pictures - centre
    return _wrap(np.where(fraction < 0, -difference, difference))


def _wrap(values: Ints) -> Ints:
    """Return the int16 that equals values modulo 2^16, so that every symbol can be reached."""
    wrapped: Ints = (values + _WRAP // 2) % _WRAP - _WRAP // 2
    return wrapped


def _costs(residual: Ints, shift: int) -> NDArray[np.float64]:
    """Return the bits of these residuals under each scale index; inf where it is impossible."""
    costs: NDArray[np.float64] = np.zeros(N_SCALES)
    if residual.size:
        values, counts = np.unique(residual, return_counts=True)
        costs = counts @ shifted_costs(values, shift)
    return costs


def _waves(shape: tuple[int, int, int]) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield pictures, rows and columns of the symbols of equal x + 2 y, in coding order."""
    n, height, width = shape
    for t in range(width + 2 * (height - 1)):
        first = max(0, (t - width + 2) // 2)
        row = np.arange(first, min(height - 1, t // 2) + 1)
        if not row.size:
            # In pictures of one column, which only tests have, every other wave is empty.
            continue
        column = t - 2 * row
        picture = np.arange(n).repeat(len(row))
        yield picture, np.tile(row, n), np.tile(column, n)


def _groups(scale: Ints, fraction: Ints) -> Iterator[tuple[int, int, NDArray[np.intp]]]:
    """Yield scale index, quarters of the mean (0 to 2) and places of what one table codes."""
    key = 3 * scale + np.abs(fraction)
    order = np.argsort(key, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        k, shift = divmod(int(key[members[0]]), 3)
        yield k, shift, members
