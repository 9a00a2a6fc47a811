"""Which blocks of which frames something is true of: bits whose probability follows from others.

A frame is coded in the two halves of a chequerboard. The first knows the frame before, the second
its neighbours of the first half as well.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter

_N_BEFORE, _N_AROUND = 7, 15
_N_CONTEXTS = _N_BEFORE + _N_AROUND
_N_PROBABILITIES = 256

Bits = NDArray[np.bool_]


def write_maps(writer: SymbolWriter, maps: Bits, hints: Bits | None = None) -> None:
    """Code maps (frames, rows, columns) after the probabilities of their contexts.

    Hints, known to the reader too, have contexts of their own; where one is set, neighbours count
    as if their bit were.
    """
    if not len(maps):
        return
    n = _N_CONTEXTS * (1 if hints is None else 2)
    counts = np.zeros((2, n))
    passes = []
    known = np.zeros_like(maps)
    for t, half, context in _passes(known, hints):
        values, here = maps[t][half], context[half]
        passes.append((values, here))
        for value in (0, 1):
            counts[value] += np.bincount(here[values == value], minlength=n)
        known[t][half] = values
    probabilities = _probabilities(counts)
    writer.uniform(probabilities, _N_PROBABILITIES)
    for values, here in passes:
        for index in range(n):
            writer.bits(values[here == index], int(probabilities[index]))


def read_maps(reader: SymbolReader, shape: tuple[int, int, int], hints: Bits | None = None) -> Bits:
    """Decode what `write_maps` wrote."""
    maps = np.zeros(shape, dtype=np.bool_)
    if not len(maps):
        return maps
    n = _N_CONTEXTS * (1 if hints is None else 2)
    probabilities = reader.uniform(n, _N_PROBABILITIES)
    for t, half, context in _passes(maps, hints):
        here = context[half]
        values = np.zeros(len(here), dtype=np.bool_)
        for index in range(n):
            members = np.flatnonzero(here == index)
            values[members] = reader.bits(len(members), int(probabilities[index]))
        maps[t][half] = values
    return maps


def _passes(maps: Bits, hints: Bits | None) -> Iterator[tuple[int, Bits, NDArray[np.int64]]]:
    """Yield frames, their halves, and the contexts (rows, columns) of blocks of these.

    `maps` must hold the bits of a half when the next one is asked for, 0 where nothing is known.
    """
    rows, columns = np.indices(maps.shape[1:])
    even = (rows + columns) % 2 == 0
    before = np.zeros(maps.shape[1:], dtype=np.bool_)
    for t, now in enumerate(maps):
        hint = np.zeros_like(now) if hints is None else hints[t]
        past = 2 * before + around(before)
        yield t, even, past + _N_CONTEXTS * hint
        beside = _N_BEFORE + 3 * around(now | hint)
        yield t, ~even, beside + (past > 0) + (past > 2) + _N_CONTEXTS * hint
        before = now | hint


def around(maps: Bits) -> NDArray[np.int64]:
    """Return how many of the four blocks around each one are set (..., rows, columns)."""
    margins = [(0, 0)] * (maps.ndim - 2) + [(1, 1), (1, 1)]
    padded = np.pad(maps.astype(np.int64), margins)
    across = padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
    found: NDArray[np.int64] = padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1] + across
    return found


def _probabilities(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return v of each context, whose bits are 1 with a probability of (2 v + 1) / 512."""
    share = counts[1] / np.maximum(counts.sum(0), 1)
    nearest: NDArray[np.float64] = np.clip(np.rint(256 * share - 0.5), 0, _N_PROBABILITIES - 1)
    return nearest.astype(np.int64)
