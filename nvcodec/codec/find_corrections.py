"""Which blocks of which frames are worth correcting, and how exactly, so that a budget is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from nvcodec.bitstream.corrections import N_KEPT, Corrections, grid_shape, pack_corrections
from nvcodec.bitstream.tensors import N_STEPS, step_index, step_size
from nvcodec.codec.corrections import block_basis
from nvcodec.depth import peak

_LARGE_FRAME = 400_000
"""Pixels from which on blocks have 16 pixels a side, of which a quarter of the frequencies is kept:
a fourth of the coefficients to decode."""
_LEAST_STEP = 3.0
"""Finest step looked at, in standard deviations of the error."""
_ROUNDING = 0.3
"""What is added to a magnitude in steps before it is cut: less than a half, as zeros are cheap."""
_PRICE = 0.06
"""What a bit must save at least, in squares of the step."""
_ZERO_BITS, _OTHER_BITS, _BLOCK_BITS = 0.06, 6.0, 3.0
"""About the bits of a 0, of a magnitude of 1 (2 more for each doubling) and of saying where."""


@dataclass(frozen=True, slots=True)
class _Errors:
    """Blocks that may be corrected."""

    side: int
    shape: tuple[int, int, int]
    places: NDArray[np.int64]
    """Index of each block into a grid of `shape`."""
    values: NDArray[np.float32]
    """Coefficients (blocks, 192)."""
    weights: NDArray[np.float32]
    """Of each block: its frame's part in the mean PSNR."""
    deviation: float


def find_corrections(
    draw: Callable[[Tensor], Tensor],
    frames: Tensor,
    mask: Tensor | None,
    bit_depth: int,
    max_bytes: int,
) -> bytes:
    """Return the words of the corrections that help most, at most max_bytes; none if none fit.

    draw(index) gives samples (B, 3, H, W) of frames, which are compared with frames (N, 3, H, W);
    where mask (N, 1, H, W) is 0, pixels do not count.
    """
    errors = _measure(draw, frames, mask, bit_depth)
    if errors is None:
        return b""
    finest = int(step_index(np.array([_LEAST_STEP * errors.deviation]))[0])
    low, high = finest, N_STEPS - 1
    # The finest step that fits; then blocks are dropped from the next finer one.
    while low < high:
        middle = (low + high) // 2
        fits = len(_coded(errors, middle, _PRICE)[0]) <= max_bytes
        low, high = (low, middle) if fits else (middle + 1, high)
    best, best_gain = b"", 0.0
    words, gain = _coded(errors, high, _PRICE)
    if len(words) <= max_bytes:
        best, best_gain = words, gain
    cheap, dear = _PRICE, 16 * _PRICE
    for _ in range(6):
        price = (cheap * dear) ** 0.5
        words, gain = _coded(errors, max(finest, high - 1), price)
        fits = len(words) <= max_bytes
        cheap, dear = (cheap, price) if fits else (price, dear)
        if fits and gain > best_gain:
            best, best_gain = words, gain
    return best


@torch.inference_mode()
def _measure(
    draw: Callable[[Tensor], Tensor], frames: Tensor, mask: Tensor | None, bit_depth: int
) -> _Errors | None:
    n_frames, _, height, width = frames.shape
    side = N_KEPT if height * width < _LARGE_FRAME else 2 * N_KEPT
    shape = grid_shape(n_frames, height, width, side)
    basis = block_basis(side).to(frames.device).T
    places, values, squares = [], [], torch.zeros(n_frames, dtype=torch.float64)
    least = 0.0
    for number in range(n_frames):
        index = torch.tensor([number], device=frames.device)
        error = (frames[number].float() - draw(index)[0].float()) / peak(bit_depth)
        if mask is not None:
            error = error * mask[number]
        squares[number] = error.square().mean()
        pad = (0, shape[2] * side - width, 0, shape[1] * side - height)
        blocks = F.pad(error, pad).view(3, shape[1], side, shape[2], side)
        found = blocks.permute(1, 3, 2, 4, 0).reshape(-1, 3 * side * side) @ basis
        # What no step looked at makes more than 0 of is left out at once.
        least = (1 - _ROUNDING) * _LEAST_STEP * float(squares[: number + 1].mean().sqrt())
        large = found.abs().amax(1) >= 0.5 * least
        places.append((large.nonzero()[:, 0] + number * len(found)).cpu().numpy())
        values.append(found[large].cpu().numpy())
    mean = float(squares.mean())
    if mean == 0 or not np.isfinite(mean):
        return None
    kept = [np.abs(v).max(1, initial=0) >= least for v in values]
    weights = (mean / squares.clamp_min(1e-3 * mean)).float().numpy()
    per_frame = [np.full(int(k.sum()), w, np.float32) for k, w in zip(kept, weights, strict=True)]
    return _Errors(
        side,
        shape,
        np.concatenate([p[k] for p, k in zip(places, kept, strict=True)]),
        np.concatenate([v[k] for v, k in zip(values, kept, strict=True)]),
        np.concatenate(per_frame),
        mean**0.5,
    )


def _coded(errors: _Errors, step: int, price: float) -> tuple[bytes, float]:
    """Return the words of corrections in these steps and how much they lower the error."""
    size = float(step_size(np.array(step)))
    magnitudes = np.floor(np.abs(errors.values) / size + _ROUNDING)
    rounded = np.copysign(magnitudes, errors.values)
    gains = errors.values**2 - (errors.values - rounded * size) ** 2
    others = _OTHER_BITS + 2 * np.log2(np.maximum(magnitudes, 1))
    bits = np.where(magnitudes > 0, others, _ZERO_BITS).sum(1) + _BLOCK_BITS
    gain = gains.sum(1) * errors.weights
    chosen = gain > price * size**2 * bits
    if not chosen.any():
        return b"", 0.0
    blocks = np.zeros(errors.shape, dtype=np.bool_)
    blocks.reshape(-1)[errors.places[chosen]] = True
    symbols = rounded[chosen].astype(np.int32).reshape(-1, 3, N_KEPT, N_KEPT)
    found = Corrections(errors.side, step, blocks, symbols)
    return pack_corrections(found), float(gain[chosen].sum())
