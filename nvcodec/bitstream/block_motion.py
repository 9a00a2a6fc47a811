"""Blocks that are copied from the frame before: which ones, and from where.

Coding order: for each frame but the first whether any block moves; for those with some which ones
(block_maps.py); 18 scale indices; the vectors. Of a vector its difference from a median is coded,
of the vectors left, above, above to the right, and at the same place of the last frame that has
any, as far as these blocks move. Blocks with the same sum of column, twice the row, and number of
the frame among those that have vectors do not depend on each other and are coded at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream.block_maps import Bits, read_maps, write_maps
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.laplace import N_SCALES, best_scale_index
from nvcodec.errors import CorruptError

MAX_VECTOR = 1023
"""Largest magnitude of a vector's parts, in half pixels."""
_SPREADS = (0, 2, 8)
_N_LEVELS = 3 + len(_SPREADS)
"""No neighbour moves, one does, several do: by how far their vectors lie apart."""
_N_CONTEXTS = 3 * _N_LEVELS
"""Of the part down, and of that across where the difference down is 0, or is not."""

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Motion:
    """Blocks that show what the frame before shows, there or elsewhere."""

    blocks: Bits
    """Which blocks move: (frames, rows, columns), none of the first frame."""
    vectors: Ints
    """To what they show (moved blocks, 2): down and across in half pixels, blocks in the order of
    `blocks`."""


def write_motion(writer: SymbolWriter, motion: Motion) -> None:
    """Code which blocks move and from where; raise ValueError for what no reader accepts."""
    moving = _moving(motion.blocks)
    if moving[0]:
        raise ValueError("blocks of the first frame move, which have no frame before them")
    if np.abs(motion.vectors).max(initial=0) > MAX_VECTOR:
        raise ValueError(f"vectors go beyond {MAX_VECTOR} half pixels")
    writer.uniform(moving[1:].astype(np.int64), 2)
    write_maps(writer, motion.blocks[moving])
    field = _Field(motion.blocks[moving])
    if not len(field.places):
        return
    field.vectors[field.places] = motion.vectors
    rounds = [(places, *field.look_around(places)) for places in field.rounds()]
    coded: list[list[tuple[int, Ints]]] = []
    for places, median, level in rounds:
        difference = field.vectors[places] - median
        coded.append(
            [
                (index, difference[members, part])
                for part in (0, 1)
                for index, members in _groups(difference, level, part)
            ]
        )
    scales = np.zeros(_N_CONTEXTS, dtype=np.int64)
    for index in range(_N_CONTEXTS):
        values = [part for groups in coded for i, part in groups if i == index]
        if values:
            scales[index] = best_scale_index(np.concatenate(values)[None])[0]
    writer.uniform(scales, N_SCALES)
    for groups in coded:
        for index, part in groups:
            writer.laplace(part, int(scales[index]))


def read_motion(reader: SymbolReader, shape: tuple[int, int, int]) -> Motion:
    """Decode which of the blocks (frames, rows, columns) move, and from where."""
    moving = np.zeros(shape[0], dtype=np.bool_)
    moving[1:] = reader.uniform(shape[0] - 1, 2)
    blocks = np.zeros(shape, dtype=np.bool_)
    blocks[moving] = read_maps(reader, (int(moving.sum()), *shape[1:]))
    if (_moving(blocks) != moving).any():
        raise CorruptError("corrections have a frame with motion, but no block of it moves")
    field = _Field(blocks[moving])
    if not len(field.places):
        return Motion(blocks, np.zeros((0, 2), dtype=np.int64))
    scales = reader.uniform(_N_CONTEXTS, N_SCALES)
    for places in field.rounds():
        median, level = field.look_around(places)
        difference = np.zeros_like(median)
        for part in (0, 1):
            for index, members in _groups(difference, level, part):
                difference[members, part] = reader.laplace(len(members), int(scales[index]))
        vectors = median + difference
        largest = int(np.abs(vectors).max())
        if largest > MAX_VECTOR:
            raise CorruptError(
                f"corrections move a block by {largest} half pixels, allowed are {MAX_VECTOR}"
            )
        field.vectors[places] = vectors
    return Motion(blocks, field.vectors[field.places])


class _Field:
    """Vectors of the frames that have any, with a margin of blocks that do not move."""

    def __init__(self, blocks: Bits) -> None:
        _, n_rows, n_columns = blocks.shape
        padded = np.pad(blocks, ((1, 0), (1, 0), (1, 1)))
        self.moves = padded.reshape(-1)
        self.places = np.flatnonzero(self.moves)
        """Of the blocks that move, in the order of `blocks`."""
        self.vectors = np.zeros((self.moves.size, 2), dtype=np.int64)
        line = n_columns + 2
        self.neighbours = np.array([-1, -line, 1 - line, -(n_rows + 1) * line])
        frame, rest = np.divmod(self.places, (n_rows + 1) * line)
        row, column = np.divmod(rest, line)
        self.turns = column + 2 * row + frame

    def rounds(self) -> Iterator[Ints]:
        """Yield the places that are coded at once."""
        order = np.argsort(self.turns, kind="stable")
        starts = np.flatnonzero(np.diff(self.turns[order], prepend=-1))
        yield from np.split(self.places[order], starts[1:])

    def look_around(self, places: Ints) -> tuple[Ints, Ints]:
        """Return the medians (n, 2) of the vectors around, and levels (n) of how alike they are."""
        around = places + self.neighbours[:, None]
        known = self.moves[around]
        count = known.sum(0)
        none = np.iinfo(np.int64).max
        ordered = np.sort(np.where(known[..., None], self.vectors[around], none), axis=0)
        columns = np.arange(len(places))
        median = ordered[np.maximum(count - 1, 0) // 2, columns]
        median[count == 0] = 0
        spread = (ordered[np.maximum(count - 1, 0), columns] - ordered[0]).sum(1)
        level = np.minimum(count, 2) + (count > 1) * np.searchsorted(_SPREADS, spread)
        return median, level


def _moving(blocks: Bits) -> Bits:
    """Return of each frame whether any of its blocks moves."""
    moving: Bits = np.bitwise_or.reduce(blocks, axis=(1, 2))
    return moving


def _groups(difference: Ints, level: Ints, part: int) -> Iterator[tuple[int, Ints]]:
    """Yield the contexts of one part of vectors, ascending, and which vectors have each."""
    context = level if part == 0 else level + _N_LEVELS * (1 + (difference[:, 0] != 0))
    for index in np.unique(context):
        yield int(index), np.flatnonzero(context == index)
