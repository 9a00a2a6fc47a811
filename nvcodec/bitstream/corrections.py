"""Corrections: what the network draws wrong in few blocks of few frames, as DCT coefficients.

The words of a segment's corrections are a stream of their own. Coding order: log2 of the side of a
block over 8, the step index, the probabilities of contexts, for every frame which blocks are
corrected, at last the coefficients of these blocks, laid out in rows, as one tensor of coefficients
(frequencies.py). A block of any side has the 8 x 8 lowest frequencies of three colours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream import frequencies
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.tensors import N_STEPS, read_spectrum, write_spectrum
from nvcodec.errors import CorruptError, LimitError
from nvcodec.limits import DEFAULT, Limits

N_KEPT = 8
"""Frequencies of a block down and across, the lowest ones."""
N_SIDES = 4
"""Blocks have sides of 8, 16, 32 or 64 pixels."""
N_VALUES = 3 * N_KEPT * N_KEPT
"""Coefficients of a block."""
_MAX_COLUMNS = 64
_N_BEFORE, _N_AROUND = 7, 15
N_CONTEXTS = _N_BEFORE + _N_AROUND
N_PROBABILITIES = 256

Bits = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """What is added to the frames of a segment, in units of the range of samples."""

    side: int
    """Of blocks, in pixels; the last ones of rows and columns reach beyond the frame."""
    step: int
    """Index of the quantiser step (tensors.py) of all coefficients."""
    blocks: Bits
    """Which blocks are corrected: (frames, rows, columns)."""
    symbols: NDArray[np.int32]
    """Coefficients (corrected blocks, 3, 8, 8) in steps; blocks in the order of `blocks`."""


def grid_shape(n_frames: int, height: int, width: int, side: int) -> tuple[int, int, int]:
    """Return the shape of `Corrections.blocks`."""
    return n_frames, -(-height // side), -(-width // side)


def pack_corrections(corrections: Corrections) -> bytes:
    """Return the coded words; raise ValueError for symbols beyond int16."""
    writer = SymbolWriter()
    shift = (corrections.side // N_KEPT).bit_length() - 1
    writer.uniform(np.array([shift]), N_SIDES)
    writer.uniform(np.array([corrections.step]), N_STEPS)
    blocks = corrections.blocks
    counts = np.zeros((2, N_CONTEXTS))
    passes = []
    for frame, before in zip(blocks, _before(blocks), strict=True):
        for half, context in _contexts(frame, before):
            passes.append((frame[half], context[half]))
            for value in (0, 1):
                found = context[half & (frame == value)]
                counts[value] += np.bincount(found, minlength=N_CONTEXTS)
    probabilities = _probabilities(counts)
    writer.uniform(probabilities, N_PROBABILITIES)
    for values, context in passes:
        for index in range(N_CONTEXTS):
            writer.bits(values[context == index], int(probabilities[index]))
    if len(corrections.symbols):
        planes = _lay_out(corrections.symbols)
        write_spectrum(writer, planes, N_KEPT, frequencies.plan(planes, N_KEPT))
    return writer.finish()


def unpack_corrections(
    data: bytes, n_frames: int, height: int, width: int, limits: Limits = DEFAULT
) -> Corrections:
    """Decode the corrections of frames of this size; raise LimitError or CorruptError."""
    reader = SymbolReader(data)
    side = N_KEPT << int(reader.uniform(1, N_SIDES)[0])
    step = int(reader.uniform(1, N_STEPS)[0])
    probabilities = reader.uniform(N_CONTEXTS, N_PROBABILITIES)
    shape = grid_shape(n_frames, height, width, side)
    _check_limit("blocks", shape[0] * shape[1] * shape[2], limits)
    blocks = np.zeros(shape, dtype=np.bool_)
    for frame, before in zip(blocks, _before(blocks), strict=True):
        for half, context in _contexts(frame, before):
            here = context[half]
            values = np.zeros(len(here), dtype=np.bool_)
            for index in range(N_CONTEXTS):
                members = np.flatnonzero(here == index)
                values[members] = reader.bits(len(members), int(probabilities[index]))
            frame[half] = values
    n_blocks = int(blocks.sum())
    _check_limit("coefficients", n_blocks * N_VALUES, limits)
    symbols = np.zeros((0, 3, N_KEPT, N_KEPT), dtype=np.int32)
    if n_blocks:
        planes = read_spectrum(reader, (N_VALUES, *_layout(n_blocks)), N_KEPT, "corrections")
        symbols = planes.reshape(3, N_KEPT, N_KEPT, -1).transpose(3, 0, 1, 2)
        if symbols[n_blocks:].any():
            raise CorruptError("corrections have coefficients beyond their last block")
        symbols = symbols[:n_blocks]
    reader.close()
    return Corrections(side, step, blocks, np.ascontiguousarray(symbols))


def _layout(n_blocks: int) -> tuple[int, int]:
    """Return the rows and columns in which blocks are laid out, so that many are coded at once."""
    n_columns = min(n_blocks, _MAX_COLUMNS)
    return -(-n_blocks // n_columns), n_columns


def _lay_out(symbols: NDArray[np.int32]) -> NDArray[np.int64]:
    """Return coefficients as a tensor (192, rows, columns); what is left of the last row is 0."""
    n_rows, n_columns = _layout(len(symbols))
    filled = np.zeros((n_rows * n_columns, N_VALUES), dtype=np.int64)
    filled[: len(symbols)] = symbols.reshape(-1, N_VALUES)
    return filled.T.reshape(N_VALUES, n_rows, n_columns)


def _check_limit(what: str, count: int, limits: Limits) -> None:
    if count > limits.max_params:
        raise LimitError(f"corrections have {count} {what}, allowed are {limits.max_params}")


def _before(blocks: Bits) -> Iterator[Bits]:
    """Yield the frame before each one, of which the first has none."""
    yield np.zeros_like(blocks[0])
    yield from blocks[:-1]


def _contexts(frame: Bits, before: Bits) -> Iterator[tuple[Bits, NDArray[np.int64]]]:
    """Yield the two halves of a chequerboard and the contexts (rows, columns) of their blocks.

    Those of the first follow from the frame before alone, those of the second from the four blocks
    around as well, which must be known when it is asked for.
    """
    rows, columns = np.indices(frame.shape)
    even = (rows + columns) % 2 == 0
    past = 2 * before + _around(before)
    yield even, past
    yield ~even, _N_BEFORE + 3 * _around(frame) + (past > 0) + (past > 2)


def _around(frame: Bits) -> NDArray[np.int64]:
    """Return how many of the four blocks around each one are set."""
    padded = np.pad(frame.astype(np.int64), 1)
    across = padded[1:-1, :-2] + padded[1:-1, 2:]
    found: NDArray[np.int64] = padded[:-2, 1:-1] + padded[2:, 1:-1] + across
    return found


def _probabilities(counts: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return v of each context, whose bits are 1 with a probability of (2 v + 1) / 512."""
    share = counts[1] / np.maximum(counts.sum(0), 1)
    nearest: NDArray[np.float64] = np.clip(np.rint(256 * share - 0.5), 0, N_PROBABILITIES - 1)
    return nearest.astype(np.int64)
