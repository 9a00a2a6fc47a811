"""Mends what a network draws wrong: few blocks, by the frame before and by DCT coefficients."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.bitstream.block_maps import Bits
from nvcodec.bitstream.corrections import N_KEPT, N_VALUES, Corrections
from nvcodec.bitstream.tensors import step_size
from nvcodec.depth import peak

_COLOURS = (
    (1 / math.sqrt(3), 1 / math.sqrt(3), 1 / math.sqrt(3)),
    (1 / math.sqrt(2), 0.0, -1 / math.sqrt(2)),
    (1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)),
)
"""Rows: grey, red against blue, both against green, an orthonormal basis of R, G, B."""


@lru_cache(8)
def block_basis(side: int) -> Tensor:
    """Return the orthonormal waves (3 * 8 * 8, 3 side^2) of the values of a block.

    Values are in the order (colour, v, u): colour of `_COLOURS`, frequency down, across; pixels in
    the order (row, column, R G B).
    """
    with torch.inference_mode(False):
        n = torch.arange(side, dtype=torch.float64)
        k = torch.arange(N_KEPT, dtype=torch.float64)
        waves = torch.cos((2 * n + 1) * k[:, None] * (math.pi / (2 * side)))
        waves *= torch.where(k == 0, 1 / side, 2 / side).sqrt()[:, None]
        colours = torch.tensor(_COLOURS, dtype=torch.float64)
        basis = torch.einsum("ck,vy,ux->cvuyxk", colours, waves, waves)
        return basis.reshape(N_VALUES, 3 * side * side).float()


def shown_before(before: Tensor, corners: Tensor, vectors: Tensor, side: int) -> Tensor:
    """Return what blocks (n, side, side, C) show of the frame before (H, W, C), as float32.

    Corners (n, 2) are those of the blocks, in pixels; vectors (n, 2) count half pixels, between
    which values are the mean of two or four. Beyond the frame its edges go on.
    """
    height, width, n_channels = before.shape
    margin = side + 1
    wide = before.new_empty(height + 2 * margin, width + 2 * margin, n_channels)
    wide[margin:-margin, margin:-margin] = before
    wide[:margin], wide[-margin:] = wide[margin], wide[-margin - 1]
    wide[:, :margin] = wide[:, margin, None]
    wide[:, -margin:] = wide[:, -margin - 1, None]
    # Of windows that lie farther outside all pixels are alike.
    y, x = (corners + margin + vectors.div(2, rounding_mode="floor")).unbind(1)
    y, x = y.clamp(0, height + margin - 1), x.clamp(0, width + margin - 1)
    line = n_channels * (width + 2 * margin)
    shape = (height + margin, width + margin, side + 1, n_channels * (side + 1))
    windows = wide.as_strided(shape, (line, n_channels, line, 1))
    values = windows[y, x].view(-1, side + 1, side + 1, n_channels).float()
    half = (vectors % 2).float()[:, :, None, None, None] / 2
    values = torch.lerp(values[:, :-1], values[:, 1:], half[:, 0])
    shown: Tensor = torch.lerp(values[:, :, :-1], values[:, :, 1:], half[:, 1])
    return shown


class _Blocks:
    """Where the blocks are that something is true of, frame by frame."""

    def __init__(self, maps: Bits, side: int) -> None:
        frames, rows, columns = torch.from_numpy(maps).nonzero(as_tuple=True)
        self.corners = side * torch.stack([rows, columns], dim=1)
        """Pixels (blocks, 2)."""
        self.first_pieces = rows * side * maps.shape[2] + columns
        """A line of pixels consists of as many pieces as there are columns."""
        self.lines = torch.arange(side) * maps.shape[2]
        self.ends = torch.bincount(frames, minlength=len(maps)).cumsum(0).tolist()

    def of(self, number: int) -> slice:
        """Return which blocks are those of a frame."""
        return slice(self.ends[number - 1] if number else 0, self.ends[number])

    def n_of(self, number: int) -> int:
        """Return how many blocks of a frame there are."""
        here = self.of(number)
        return int(here.stop - here.start)

    def pieces(self, number: int) -> Tensor:
        """Return the pieces (blocks, side) of a frame's blocks."""
        pieces: Tensor = self.first_pieces[self.of(number), None] + self.lines
        return pieces


class Corrector:
    """The corrections of a segment, ready to be applied to its frames."""

    def __init__(self, corrections: Corrections, height: int, width: int) -> None:
        """Prepare for frames of this size."""
        self.side, self.height, self.width = corrections.side, height, width
        maps = corrections.blocks
        n_frames, n_rows, n_columns = maps.shape
        self.pad = (0, 0, 0, n_columns * self.side - width, 0, n_rows * self.side - height)
        """To whole blocks, of (H, W, 3)."""
        self.coded = _Blocks(maps, self.side)
        """Those with coefficients."""
        symbols = torch.from_numpy(corrections.symbols).float().flatten(1)
        self.values = symbols * float(step_size(corrections.step))  # type: ignore[arg-type]
        moved, vectors = np.zeros_like(maps), np.zeros((0, 2), dtype=np.int64)
        if corrections.motion is not None:
            moved, vectors = corrections.motion.blocks, corrections.motion.vectors
        self.moved = _Blocks(moved, self.side)
        """Those that show what the frame before shows."""
        self.vectors = torch.from_numpy(vectors)
        numbers = np.where(moved, moved.reshape(n_frames, -1).cumsum(1).reshape(moved.shape), 0)
        self.copies = torch.from_numpy(numbers[maps] - 1)
        """Of each block with coefficients its number among the moved ones of its frame, or -1."""

    @property
    def moves(self) -> bool:
        """Whether any frame needs the one before it."""
        return bool(len(self.vectors))

    def start_of(self, number: int) -> int:
        """Return the last frame up to this one that needs none before it."""
        while self.moved.n_of(number):
            number -= 1
        return number

    def correct(
        self, samples: Tensor, index: Tensor, bit_depth: int, before: Tensor | None = None
    ) -> Tensor:
        """Return samples (B, 3, H, W), perhaps changed in their own memory, of frames `index`.

        A sample becomes round(sample + correction), limited to its range, where sample is the
        network's or, where its block moves, that of the frame before. Frames that need the one
        before them follow it in `index`; for the first it is `before` (3, H, W).
        """
        pixels = samples.permute(0, 2, 3, 1).contiguous()
        if bit_depth > 8:
            pixels = pixels.int()
        whole = F.pad(pixels, self.pad) if any(self.pad) else pixels
        last = None if before is None else before.permute(1, 2, 0).to(pixels.dtype)
        for frame, number in zip(whole, index.tolist(), strict=True):
            self._correct(frame, number, peak(bit_depth), last)
            last = frame[: self.height, : self.width]
        drawn = whole[:, : self.height, : self.width]
        mended: Tensor = drawn.contiguous().to(samples.dtype).permute(0, 3, 1, 2)
        return mended

    def _correct(self, frame: Tensor, number: int, white: int, before: Tensor | None) -> None:
        pieces = frame.view(-1, self.side * 3)
        coded, moved = self.coded.of(number), self.moved.of(number)
        places = self.coded.pieces(number).to(frame.device)
        found = self.values[coded].to(frame.device) @ block_basis(self.side).to(frame.device)
        found = found.mul_(white).view(-1, self.side, self.side * 3)
        if moved.start < moved.stop:
            assert before is not None
            corners, vectors = self.moved.corners[moved], self.vectors[moved]
            shown = shown_before(
                before, corners.to(frame.device), vectors.to(frame.device), self.side
            )
            shown = shown.view(-1, self.side, self.side * 3)
            copies = self.copies[coded].to(frame.device)
            shown.index_add_(0, copies[copies >= 0], found[copies >= 0])
            put_copies(pieces, self.moved.pieces(number).to(frame.device), shown, number, white)
            found, places = found[copies < 0], places[copies < 0]
        put_sums(pieces, places, found, white)


def put_sums(pieces: Tensor, places: Tensor, found: Tensor, white: int) -> None:
    """Add corrections (n, side, 3 side) to samples (pieces, 3 side) at their places (n, side)."""
    wanted = found.add_(pieces[places]).round_()
    pieces[places] = wanted.clamp_(0, white).to(pieces.dtype)


def put_copies(pieces: Tensor, places: Tensor, shown: Tensor, number: int, white: int) -> None:
    """Set the samples at these places of frame `number` to what blocks show.

    Halves are rounded up and down by turns, so that what is copied again and again stays as bright
    as it is; to the even one they would make two of a difference of one between two decoders.
    """
    wanted = shown.add_(0.5).floor_() if number % 2 else shown.sub_(0.5).ceil_()
    pieces[places] = wanted.clamp_(0, white).to(pieces.dtype)
