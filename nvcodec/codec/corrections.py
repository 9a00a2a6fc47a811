"""Adds to drawn frames what their network draws wrong: few blocks, as DCT coefficients."""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

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


class Corrector:
    """The corrections of a segment, ready to be added to its frames."""

    def __init__(self, corrections: Corrections, height: int, width: int) -> None:
        """Prepare for frames of this size."""
        self.side, self.height, self.width = corrections.side, height, width
        n_frames, n_rows, self.n_columns = corrections.blocks.shape
        self.pad = (0, 0, 0, self.n_columns * self.side - width, 0, n_rows * self.side - height)
        """To whole blocks, of (H, W, 3)."""
        frames, rows, columns = torch.from_numpy(corrections.blocks).nonzero(as_tuple=True)
        self.first_pieces = rows * self.side * self.n_columns + columns
        """Of each block; a line of pixels consists of as many pieces as there are columns."""
        self.ends = torch.bincount(frames, minlength=n_frames).cumsum(0).tolist()
        symbols = torch.from_numpy(corrections.symbols).float().flatten(1)
        self.values = symbols * float(step_size(corrections.step))  # type: ignore[arg-type]

    def add(self, samples: Tensor, index: Tensor, bit_depth: int, weight: float = 1.0) -> Tensor:
        """Return samples (B, 3, H, W), perhaps changed in their own memory, of frames `index`.

        A sample becomes round(sample + weight correction), limited to its range.
        """
        pixels = samples.permute(0, 2, 3, 1).contiguous()
        if bit_depth > 8:
            pixels = pixels.int()
        whole = F.pad(pixels, self.pad) if any(self.pad) else pixels
        for frame, number in zip(whole, index.tolist(), strict=True):
            here = slice(self.ends[number - 1] if number else 0, self.ends[number])
            if here.start < here.stop:
                self._add_to(frame, here, peak(bit_depth), weight)
        drawn = whole[:, : self.height, : self.width]
        return drawn.contiguous().to(samples.dtype).permute(0, 3, 1, 2)

    def _add_to(self, frame: Tensor, here: slice, white: int, weight: float) -> None:
        pieces = frame.view(-1, self.side * 3)
        lines = torch.arange(self.side) * self.n_columns
        places = (self.first_pieces[here, None] + lines).flatten().to(frame.device)
        found = self.values[here].to(frame.device) @ block_basis(self.side).to(frame.device)
        wanted = found.view(-1, self.side * 3).mul_(white * weight).add_(pieces[places])
        pieces[places] = wanted.round_().clamp_(0, white).to(frame.dtype)
