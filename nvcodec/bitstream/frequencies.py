"""Transform coefficients among the tensors: the lower frequencies tell how large a higher one is.

A tensor (..., n^2, h, w) holds n x n frequencies of h x w blocks. Those of frequency 0 are
pictures (prediction.py). All others have a mean of 0 and a Laplace scale by activity level: a sum
of magnitudes of lower frequencies, in the same block and in the four beside it, which are all known
before, so that both sides work on whole planes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream import prediction
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.laplace import level_costs
from nvcodec.bitstream.prediction import N_LEVELS, Ints, Prediction, groups, level_of

NEAR, DIAGONAL, FAR, BESIDE = 4, 2, 1, 1
"""How much magnitudes count: of the two next lower frequencies in the block, of the one lower in
both directions, of the two lower by 2, and of the two next lower ones in the four blocks beside."""


@dataclass(frozen=True, slots=True)
class Spectrum:
    """Everything the encoder decides about one tensor of coefficients."""

    means: Prediction
    """Of frequency 0."""
    scales: NDArray[np.uint8]
    """Scale index of each activity level of the others."""
    levels: NDArray[np.uint8]
    """Of the others, in coding order: (side^2 - 1, C, h, w)."""
    symbol_bits: float


def order(side: int) -> list[tuple[int, int]]:
    """Return all frequencies (u, v) but the first, in coding order: lower sums first."""
    pairs = [(u, v) for u in range(side) for v in range(side)]
    return sorted(pairs, key=lambda pair: (sum(pair), pair))[1:]


def plan(symbols: Ints, side: int) -> Spectrum:
    """Return what suits symbols (..., C side^2, h, w) of the int16 range."""
    planes = _planes(symbols, side)
    means = prediction.plan(planes[:, 0, 0])
    magnitudes = np.abs(planes).astype(np.int32)
    levels = np.stack([_level(magnitudes, u, v).astype(np.uint8) for u, v in order(side)])
    coded = np.stack([planes[:, u, v] for u, v in order(side)])
    used = np.bincount(levels.ravel(), minlength=N_LEVELS) > 0
    scales, bits = prediction.best_scales(level_costs(coded, levels, N_LEVELS), used)
    return Spectrum(means, scales, levels, means.symbol_bits + bits)


def write(writer: SymbolWriter, symbols: Ints, side: int, spectrum: Spectrum) -> None:
    """Code symbols (..., C side^2, h, w) of the int16 range."""
    planes = _planes(symbols, side)
    prediction.write(writer, planes[:, 0, 0], spectrum.means)
    table = spectrum.scales.astype(np.int64)
    for (u, v), level in zip(order(side), spectrum.levels, strict=True):
        scale = table[level].ravel()
        values = planes[:, u, v].ravel()
        for k, _, members in groups(scale, np.zeros_like(scale)):
            writer.laplace(values[members], k)


def read(
    reader: SymbolReader,
    shape: tuple[int, ...],
    side: int,
    weights: Ints,
    mean_scales: NDArray[np.uint8],
    scales: NDArray[np.uint8],
) -> NDArray[np.int32]:
    """Decode what `write` coded; raise CorruptError."""
    height, width = shape[-2:]
    n = math.prod(shape[:-2]) // (side * side)
    planes = np.zeros((n, side, side, height, width), dtype=np.int64)
    planes[:, 0, 0] = prediction.read(reader, (n, height, width), weights, mean_scales)
    magnitudes, table = np.abs(planes).astype(np.int32), scales.astype(np.int64)
    for u, v in order(side):
        scale = table[_level(magnitudes, u, v)].ravel()
        values = np.zeros_like(scale)
        for k, _, members in groups(scale, np.zeros_like(scale)):
            values[members] = reader.laplace(len(members), k)
        planes[:, u, v] = values.reshape(n, height, width)
        magnitudes[:, u, v] = np.abs(planes[:, u, v])
    return planes.astype(np.int32).reshape(shape)


def _planes(symbols: Ints, side: int) -> Ints:
    return symbols.reshape(-1, side, side, *symbols.shape[-2:])


def _level(magnitudes: NDArray[np.int32], u: int, v: int) -> Ints:
    """Return the activity levels (n, h, w) of a frequency from magnitudes (n, side, side, h, w)."""
    near = _pair(magnitudes, u, v, 1)
    activity = NEAR * near + FAR * _pair(magnitudes, u, v, 2)
    if u and v:
        activity += DIAGONAL * magnitudes[:, u - 1, v - 1]
    padded = np.pad(near, ((0, 0), (1, 1), (1, 1)))
    activity += BESIDE * (padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1])
    activity += BESIDE * (padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:])
    return level_of(activity)


def _pair(magnitudes: NDArray[np.int32], u: int, v: int, by: int) -> NDArray[np.int32]:
    """Return the sum of the two frequencies lower by `by`; one counts twice if it is the only."""
    found = [magnitudes[:, a, b] for a, b in ((u - by, v), (u, v - by)) if a >= 0 and b >= 0]
    if not found:
        return np.zeros_like(magnitudes[:, u, v])
    return found[0] + found[-1]
