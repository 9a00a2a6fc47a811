"""Samples of 8 to 16 bits: how they are held, and how one depth becomes another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.unsignedinteger[Any]]
"""uint8 holds 8 bits; uint16 holds more, in its lower bits."""
RGB = Samples
"""A frame, (H, W, 3)."""


def peak(bit_depth: int) -> int:
    """Return the largest sample of a depth, which is white."""
    return (1 << bit_depth) - 1


def sample_type(bit_depth: int) -> Any:
    """Return the numpy type that holds samples of a depth."""
    return np.uint8 if bit_depth == 8 else np.uint16


def change_depth(samples: Samples, before: int, after: int) -> Samples:
    """Return full-range samples of another depth, to the nearest; white stays white."""
    if before == after:
        return samples
    scaled = samples * np.float64(peak(after) / peak(before))
    changed: Samples = np.rint(scaled).astype(sample_type(after))
    return changed
