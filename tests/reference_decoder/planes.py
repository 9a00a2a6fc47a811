"""Section 10: from three channels of Y'CbCr to planes."""

from __future__ import annotations

import numpy as np

from reference_decoder.container import Record
from reference_decoder.errors import check

HALVED = {420: "xy", 422: "x", 444: "", 400: ""}
ON_LUMA = {0: "x", 1: "x", 2: "", 3: "xy", 4: "y"}
"""By siting: the axes along which a chroma sample lies on one of luma."""


def check_planes(header: Record) -> None:
    """Refuse a network of Y'CbCr in a video that has none."""
    check(header["chroma"] != 0, "chroma is RGB")
    check(header["matrix"] != 0, "the matrix is RGB")
    check(header["siting"] in ON_LUMA, "the siting is not supported")


def planes(channels: np.ndarray, header: Record, bits: int = 8) -> list[np.ndarray]:
    """Return codes that are not rounded, from (3, height, width) in [0, 1]."""
    s = 2 ** (bits - 8)
    black, span, chroma_span = 16 * s, 219 * s, 224 * s
    if header["full_range"]:
        black, span, chroma_span = 0, 2**bits - 1, 2**bits - 1
    found = [black + span * channels[0]]
    for channel in channels[1:] if header["chroma"] != 400 else ():
        for axis in HALVED[header["chroma"]]:
            channel = halve(channel, "yx".index(axis), axis in ON_LUMA[header["siting"]])
        found.append(128 * s + chroma_span * (channel - 0.5))
    return found


def halve(channel: np.ndarray, axis: int, on_luma: bool) -> np.ndarray:
    n = channel.shape[axis]

    def at(offset: int) -> np.ndarray:
        places = 2 * np.arange((n + 1) // 2) + offset
        return channel.take(places.clip(0, n - 1), axis)

    return (at(-1) + 2 * at(0) + at(1)) / 4 if on_luma else (at(0) + at(1)) / 2
