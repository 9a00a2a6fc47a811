"""Which blocks are worth correcting, and how, in given steps and at a given price of bits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvcodec.bitstream.block_maps import around
from nvcodec.bitstream.block_motion import Motion
from nvcodec.bitstream.corrections import (
    N_KEPT,
    N_VALUES,
    Corrections,
    grid_shape,
    pack_corrections,
)
from nvcodec.bitstream.tensors import step_size
from nvcodec.codec.corrections import block_basis, put_copies, put_sums, shown_before
from nvcodec.codec.find_motion import Field, VideoMotion
from nvcodec.depth import peak
from nvcodec.workers import n_at_once, spread

_LARGE_FRAME = 400_000
"""Pixels from which on blocks have 16 pixels a side, of which a quarter of the frequencies is kept:
a fourth of the coefficients to decode."""
PRICE = 0.06
"""What a bit must save at least, in squares of the step."""
_LEAST_MAGNITUDE = 0.6
"""In steps; what is smaller becomes 0 in any case."""
_ROUNDING = 0.44
"""What is added to a magnitude in steps before it is cut: less than a half, as small ones are
cheaper."""
_ZERO_BITS, _OTHER_BITS, _SIDE_BITS = 0.06, 6.0, 320.0
"""About the bits of a 0, of a magnitude of 1 (2 more for each doubling), of probabilities and
scales."""
_KIND_BITS = (0.0, 3.0, 5.0, 6.0)
"""Of saying that a block is left as it is, has coefficients, is copied, or both."""
_SIGN_BITS = 1.5
"""Of a magnitude of 1 beyond those of not being 0: its sign, and that it is not 2."""
_LEAST_ENERGY = 1.2
"""Squared error of a block, in squares of the finest step, from which on a coefficient may be worth
its bits."""
NONE, CODED, COPIED, BOTH = 0, 1, 2, 1 | 2


@dataclass(frozen=True, slots=True)
class Costs:
    """About the bits of a 0 and of a magnitude of 1, for each of 192 coefficients of a block."""

    zero: Tensor
    other: Tensor
    kinds: Tensor | None = None
    """About the bits (4, n) of saying how each block that may be is corrected."""


FLAT = Costs(torch.full((N_VALUES,), _ZERO_BITS), torch.full((N_VALUES,), _OTHER_BITS))


@dataclass(frozen=True, slots=True)
class _Frame:
    """A frame and its blocks that may be corrected."""

    drawn: Tensor
    """What the network draws: samples (rows side, columns side, 3)."""
    weight: float
    """The frame's part in the mean PSNR."""
    places: Tensor
    """Indices (n,) of the blocks, ascending."""
    pieces: Tensor
    """Where their lines are in the frame (n, side), in lines of blocks."""
    wanted: Tensor
    """Samples (n, side, 3 side) of the video."""
    mask: Tensor | None
    """Of these, (n, side, 3 side): 0 where they do not count."""
    values: Tensor
    """Coefficients (n, 192) of what the network draws wrong."""
    energies: Tensor
    """Sums (n,) of its squares."""
    corners: Tensor
    """Of the blocks, in pixels (n, 2)."""
    vectors: Tensor
    """From where in the frame before they are best copied (n, 2), in half pixels."""
    vector_bits: Tensor


@dataclass(frozen=True, slots=True)
class Choice:
    """How each block that may be is corrected, those of all frames in a row."""

    kinds: Tensor
    """NONE, CODED, COPIED or BOTH (n,)."""
    symbols: Tensor
    """Coefficients (CODED and BOTH blocks, 192) in steps, int16."""
    bits: float
    """Estimated."""
    gain: float
    """How much the weighted error falls."""


class Errors:
    """What a network draws wrong, block by block, and where the frames before show it better."""

    def __init__(
        self,
        draw: Callable[[Tensor], Tensor],
        frames: Tensor,
        mask: Tensor | None,
        bit_depth: int,
        motion: VideoMotion,
        least_step: float,
    ) -> None:
        """Draw all frames; for arguments see `find_corrections`.

        least_step is the finest step that will be asked for, in deviations of all errors.
        """
        self._draw, self._true, self._mask, self._motion = draw, frames, mask, motion
        n_frames, _, self.height, self.width = frames.shape
        self.device = frames.device
        self.white = peak(bit_depth)
        self.side, self.group = motion.side, motion.group
        self.shape = grid_shape(n_frames, self.height, self.width, self.side)
        self._lines = torch.arange(self.side, device=self.device) * self.shape[2]
        self.basis = block_basis(self.side).to(self.device)
        looks = list(spread(self._look, range(n_frames), n_at_once(self.device)))
        squares = np.array([look[1] for look in looks])
        mean = float(squares.mean())
        self.deviation = mean**0.5 if np.isfinite(mean) else 0.0
        """Of all errors; 0 if there is none, or no number."""
        self.least_step = least_step * self.deviation
        weights = mean / np.maximum(squares, 1e-3 * mean) if self.deviation else squares
        self._frames = list(
            spread(
                lambda t: self._prepare(t, looks[t][0], float(weights[t])),
                range(n_frames if self.deviation else 0),
                n_at_once(self.device),
            )
        )
        n_blocks = self.shape[1] * self.shape[2]
        places = [t * n_blocks + frame.places for t, frame in enumerate(self._frames)]
        self._places = torch.cat(places).cpu().numpy() if places else np.zeros(0, dtype=np.int64)
        """Of all blocks that may be corrected, in those of all frames."""
        self._ends = np.cumsum([len(frame.places) for frame in self._frames])

    @property
    def n_groups(self) -> int:
        """How many groups of frames there are that do not need each other."""
        return -(-len(self._frames) // self.group)

    @property
    def energies(self) -> Tensor:
        """Sums (n,) of the squared errors of all blocks that may be corrected."""
        return torch.cat([frame.energies for frame in self._frames])

    @torch.inference_mode()
    def _look(self, t: int) -> tuple[Tensor, float]:
        """Return a frame as the network draws it, in whole blocks, and its mean squared error."""
        drawn = self._draw(torch.tensor([t], device=self.device))[0]
        error = (self._true[t].float() - drawn.float()) / self.white
        if self._mask is not None:
            error = error * self._mask[t]
        return self._whole(drawn), float(error.square().mean())

    def _whole(self, frame: Tensor) -> Tensor:
        """Return a frame (C, H, W) as (rows side, columns side, C)."""
        if frame.dtype == torch.uint16:
            frame = frame.int()
        _, rows, columns = self.shape
        pad = (0, columns * self.side - self.width, 0, rows * self.side - self.height)
        return F.pad(frame, pad).permute(1, 2, 0).contiguous()

    def _of_blocks(self, frame: Tensor, pieces: Tensor) -> Tensor:
        """Return the values (n, side, C side) of blocks of such a frame."""
        return frame.view(-1, self.side * frame.shape[2])[pieces]

    @torch.inference_mode()
    def _prepare(self, t: int, drawn: Tensor, weight: float) -> _Frame:
        true = self._whole(self._true[t])
        error = (true.float() - drawn.float()) / self.white
        mask = None
        if self._mask is not None:
            mask = self._whole(self._mask[t].expand(3, -1, -1)).float()
            error *= mask
        _, rows, columns = self.shape
        row = torch.arange(rows, device=self.device)[:, None] * self.side * columns
        first = (row + torch.arange(columns, device=self.device)).flatten()
        values = self._of_blocks(error, first[:, None] + self._lines).flatten(1)
        energies = values.square().sum(1)
        places = (energies >= _LEAST_ENERGY * self.least_step**2).nonzero()[:, 0]
        pieces = first[places, None] + self._lines
        vectors = self._motion.vectors(t) if t % self.group else places.new_zeros(rows * columns, 2)
        field = Field(places, self.shape[1:])
        vectors = vectors[places]
        return _Frame(
            drawn,
            weight,
            places,
            pieces,
            self._of_blocks(true, pieces),
            None if mask is None else self._of_blocks(mask, pieces),
            values[places] @ self.basis.T,
            energies[places],
            self.side * torch.stack([field.rows, field.columns], dim=1),
            vectors,
            field.bits(vectors),
        )

    def choose(self, costs: Costs, step: int, price: float, every: int = 1) -> Choice:
        """Return the blocks that are worth their bits in these steps.

        A bit must save `price` squares of a step: of blocks, and of coefficients too (RDOQ). Only
        each `every`th group of frames is looked at; bits and gain count for all.
        """
        firsts = range(0, len(self._frames), self.group * every)
        groups = spread(
            lambda first: self._choose_group(first, costs, step, price),
            firsts,
            n_at_once(self.device),
        )
        kinds = torch.zeros(len(self._places), dtype=torch.int8, device=self.device)
        symbols, n_seen, bits, gain = [], 0, 0.0, 0.0
        for first, choices in zip(firsts, groups, strict=True):
            for t, choice in enumerate(choices, first):
                kinds[self._of(t)] = choice.kinds
                symbols.append(choice.symbols)
                bits, gain, n_seen = bits + choice.bits, gain + choice.gain, n_seen + 1
        scale = len(self._frames) / n_seen
        return Choice(kinds, torch.cat(symbols), scale * bits + _SIDE_BITS, scale * gain)

    def _of(self, t: int) -> slice:
        """Return which of all blocks that may be corrected are those of a frame."""
        return slice(self._ends[t] - len(self._frames[t].places), self._ends[t])

    @torch.inference_mode()
    def _choose_group(self, first: int, costs: Costs, step: int, price: float) -> list[Choice]:
        found, before = [], None
        size = float(step_size(np.array(step)))
        for t in range(first, min(first + self.group, len(self._frames))):
            choice, before = self._choose_frame(t, before, costs, size, price)
            found.append(choice)
        return found

    def _choose_frame(
        self, t: int, before: Tensor | None, costs: Costs, size: float, price: float
    ) -> tuple[Choice, Tensor]:
        """Return how blocks of a frame are corrected, and the frame (H, W, 3) after that."""
        frame = self._frames[t]
        bit = price * size**2 / frame.weight
        kind_bits = self._kind_bits(t, costs)
        ways = [_Way(frame.values, frame.energies, costs, size, price)]
        errors = [frame.energies, ways[0].errors]
        bits = [kind_bits[NONE], ways[0].bits + kind_bits[CODED]]
        shown = None
        if before is not None and len(frame.places):
            shown = shown_before(before, frame.corners, frame.vectors, self.side)
            shown = shown.view(-1, self.side, 3 * self.side)
            error = (frame.wanted.float() - shown) / self.white
            if frame.mask is not None:
                error *= frame.mask
            error = error.flatten(1)
            ways.append(_Way(error @ self.basis.T, error.square().sum(1), costs, size, price))
            errors += [ways[1].energies, ways[1].errors]
            bits += [
                frame.vector_bits + kind_bits[COPIED],
                ways[1].bits + frame.vector_bits + kind_bits[BOTH],
            ]
        all_errors, all_bits = torch.stack(errors), torch.stack(bits)
        kinds = (all_errors + bit * all_bits).argmin(0)
        chosen = kinds[None]
        gain = frame.energies.sum() - all_errors.gather(0, chosen).sum()
        symbols = ways[0].symbols
        if shown is not None:
            symbols = torch.where((kinds == BOTH)[:, None], ways[1].symbols, symbols)
        symbols = symbols[(kinds & CODED) > 0]
        choice = Choice(
            kinds.to(torch.int8),
            symbols.to(torch.int16),
            float(all_bits.gather(0, chosen).sum()),
            frame.weight * float(gain),
        )
        return choice, self._correct(t, kinds, symbols * size, shown)

    def _correct(self, t: int, kinds: Tensor, values: Tensor, shown: Tensor | None) -> Tensor:
        """Return a frame (H, W, 3) with these coefficients (CODED and BOTH blocks, 192)."""
        frame = self._frames[t]
        whole = frame.drawn.clone()
        pieces = whole.view(-1, 3 * self.side)
        found = (values @ self.basis).mul_(self.white).view(-1, self.side, 3 * self.side)
        kinds_found = kinds[(kinds & CODED) > 0]
        if shown is not None:
            copied = (kinds & COPIED) > 0
            shown[kinds == BOTH] += found[kinds_found == BOTH]
            put_copies(pieces, frame.pieces[copied], shown[copied], t, self.white)
        put_sums(pieces, frame.pieces[kinds == CODED], found[kinds_found == CODED], self.white)
        return whole[: self.height, : self.width]

    def _kind_bits(self, t: int, costs: Costs) -> Tensor:
        """Return about the bits of saying how each block of a frame is corrected (4, n)."""
        if costs.kinds is not None:
            return costs.kinds[:, self._of(t)]
        flat = torch.tensor(_KIND_BITS, device=self.device)
        return flat[:, None].expand(-1, len(self._frames[t].places))

    def maps(self, choice: Choice) -> NDArray[np.int8]:
        """Return how every block is corrected (frames, rows, columns)."""
        kinds = np.zeros(self.shape, dtype=np.int8)
        kinds.reshape(-1)[self._places] = choice.kinds.cpu().numpy()
        return kinds

    def learn_costs(self, choice: Choice) -> Costs:
        """Return what coefficients and kinds of blocks cost where such a choice is coded."""
        symbols = choice.symbols.cpu()
        share = ((symbols != 0).sum(0) + 0.5) / (len(symbols) + 10)
        zero, other = -torch.log2(1 - share), _SIGN_BITS - torch.log2(share)
        kinds = self.maps(choice)
        copied = (kinds & COPIED) > 0
        may_copy = (np.arange(len(kinds)) % self.group > 0)[:, None, None] & np.ones_like(copied)
        coded = (kinds & CODED) > 0
        touched = copied | coded
        move = _map_bits(copied, copied, may_copy)
        plain, on_copy = (_map_bits(coded, touched, given) for given in (~copied, copied))
        bits = np.stack(
            [move[0] + plain[0], move[0] + plain[1], move[1] + on_copy[0], move[1] + on_copy[1]]
        )
        bits = bits.reshape(4, -1)[:, self._places]
        return Costs(zero, other, torch.from_numpy(bits).to(self.device))

    def pack(self, step: int, choice: Choice) -> bytes:
        """Return the words of corrections, none if there is no block."""
        kinds = self.maps(choice)
        if not kinds.any():
            return b""
        copied = (kinds & COPIED) > 0
        motion = None
        if copied.any():
            vectors = torch.cat([frame.vectors for frame in self._frames]).cpu().numpy()
            motion = Motion(copied, vectors[copied.reshape(-1)[self._places]])
        symbols = choice.symbols.cpu().numpy().astype(np.int32).reshape(-1, 3, N_KEPT, N_KEPT)
        blocks = (kinds & CODED) > 0
        return pack_corrections(Corrections(self.side, step, blocks, symbols, motion))


class _Way:
    """Errors of blocks rounded to steps."""

    def __init__(
        self, values: Tensor, energies: Tensor, costs: Costs, size: float, price: float
    ) -> None:
        """Values (n, 192) are coefficients of the errors, energies the sums of all squares."""
        other = (costs.other - costs.zero).to(values.device)
        # Where (x - 0)^2 - (x - 1)^2 pays for the bits of a 1 beyond those of a 0.
        least = (0.5 + price / 2 * other).clamp_min(_LEAST_MAGNITUDE)
        sizes = values.abs() / size
        magnitudes = (sizes + _ROUNDING).floor_().clamp_min_(1).mul_(sizes >= least)
        self.energies = energies
        self.errors = energies - size**2 * (magnitudes * (2 * sizes - magnitudes)).sum(1)
        """Sums of squares (n,) that are left."""
        more = 2 * magnitudes.clamp_min(1).log2_().sum(1)
        self.bits = (magnitudes > 0).float() @ other + float(costs.zero.sum()) + more
        self.symbols = magnitudes.copysign_(values)


def block_side(height: int, width: int) -> int:
    """Return the side, in pixels, of the blocks of frames of this size."""
    return N_KEPT if height * width < _LARGE_FRAME else 2 * N_KEPT


def _map_bits(
    chosen: NDArray[np.bool_], neighbours: NDArray[np.bool_], among: NDArray[np.bool_]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return about the bits of saying of each block that it is not, and that it is chosen.

    They follow from how often blocks `among` all are, by their neighbours in space and time.
    """
    beside = around(neighbours)
    past = np.zeros_like(beside)
    past[1:] = 2 * neighbours[:-1] + beside[:-1]
    context = 5 * past + beside
    counts = [np.bincount(context[among & (chosen == on)], minlength=35) for on in (False, True)]
    total = counts[0] + counts[1]
    share = (counts[1] + 0.5) / (total + 20)
    bits = np.stack([-np.log2(1 - share), -np.log2(share)]).astype(np.float32)
    return bits[0][context], bits[1][context]
