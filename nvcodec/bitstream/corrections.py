"""Corrections: what the network draws wrong in few blocks of few frames.

Such blocks show what the frame before them shows elsewhere, or get DCT coefficients, or both. The
words of a segment's corrections are a stream of their own. Coding order: log2 of the side of a
block over 8, the step index, whether any block moves, and if so which and from where
(block_motion.py); then which blocks have coefficients (block_maps.py), at last these, laid out in
rows, as one tensor of coefficients (frequencies.py). A block of any side has the 8 x 8 lowest
frequencies of three colours.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream import frequencies
from nvcodec.bitstream.block_maps import Bits, read_maps, write_maps
from nvcodec.bitstream.block_motion import Motion, read_motion, write_motion
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


@dataclass(frozen=True, slots=True, eq=False)
class Corrections:
    """What is added to the frames of a segment, in units of the range of samples."""

    side: int
    """Of blocks, in pixels; the last ones of rows and columns reach beyond the frame."""
    step: int
    """Index of the quantiser step (tensors.py) of all coefficients."""
    blocks: Bits
    """Which blocks have coefficients: (frames, rows, columns)."""
    symbols: NDArray[np.int32]
    """Coefficients (corrected blocks, 3, 8, 8) in steps; blocks in the order of `blocks`."""
    motion: Motion | None = None
    """Blocks that are copied from the frame before; what `blocks` have is added to the copies."""


def grid_shape(n_frames: int, height: int, width: int, side: int) -> tuple[int, int, int]:
    """Return the shape of `Corrections.blocks`."""
    return n_frames, -(-height // side), -(-width // side)


def pack_corrections(corrections: Corrections) -> bytes:
    """Return the coded words; raise ValueError for symbols beyond int16."""
    writer = SymbolWriter()
    shift = (corrections.side // N_KEPT).bit_length() - 1
    writer.uniform(np.array([shift]), N_SIDES)
    writer.uniform(np.array([corrections.step]), N_STEPS)
    motion = corrections.motion
    writer.uniform(np.array([motion is not None]), 2)
    if motion is not None:
        write_motion(writer, motion)
    write_maps(writer, corrections.blocks, None if motion is None else motion.blocks)
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
    moves = bool(reader.uniform(1, 2)[0])
    shape = grid_shape(n_frames, height, width, side)
    _check_limit("blocks", shape[0] * shape[1] * shape[2], limits)
    motion = read_motion(reader, shape) if moves else None
    blocks = read_maps(reader, shape, None if motion is None else motion.blocks)
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
    return Corrections(side, step, blocks, np.ascontiguousarray(symbols), motion)


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
