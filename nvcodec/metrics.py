"""Quality of decoded frames against their source."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim

MS_SSIM_MIN_SIDE = 161
"""MS-SSIM halves the frame four times under an 11-tap window; smaller sides have no value."""
PSNR_OF_EQUAL_DB = 100.0
"""What equal frames count as in a mean over frames."""
PLANE_WEIGHTS = (6, 1, 1)
"""Of Y, U and V in figures of YUV."""


def mean_squared_error(decoded: NDArray[Any], source: NDArray[Any]) -> float:
    """Return the mean squared error of two arrays of one shape."""
    difference = decoded.astype(np.int32) - source
    return float(np.square(difference, dtype=np.float64).mean())


def mse_to_psnr_db(mse: float, bit_depth: int = 8) -> float:
    """Return the PSNR of samples with this mean squared error; infinity for none."""
    peak = (1 << bit_depth) - 1
    return math.inf if mse == 0 else 10 * math.log10(peak**2 / mse)


def psnr_db(decoded: NDArray[np.uint8], source: NDArray[np.uint8]) -> float:
    """Return the PSNR of one frame (H, W, 3); infinity for equal frames."""
    return mse_to_psnr_db(mean_squared_error(decoded, source))


def weighted(values: Sequence[float]) -> float:
    """Return the mean of figures of Y, U and V in proportions 6:1:1, or that of Y alone."""
    weights = PLANE_WEIGHTS[: len(values)]
    return sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)


def planes_psnr_db(
    decoded: Sequence[NDArray[Any]], source: Sequence[NDArray[Any]], bit_depth: int = 8
) -> tuple[float, ...]:
    """Return the PSNR of each plane of one frame; equal planes count as 100."""
    return tuple(
        min(PSNR_OF_EQUAL_DB, mse_to_psnr_db(mean_squared_error(a, b), bit_depth))
        for a, b in zip(decoded, source, strict=True)
    )


def frame_ms_ssim(decoded: NDArray[np.uint8], source: NDArray[np.uint8]) -> float | None:
    """Return the MS-SSIM of one RGB frame (H, W, 3); None where a side is under 161 pixels."""
    if min(source.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    pair = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() for x in (decoded, source)]
    return float(ms_ssim(*pair, data_range=255.0))


class QualityMeter:
    """Accumulates the quality of a sequence, frame by frame."""

    def __init__(self, *, with_ms_ssim: bool = True) -> None:
        self.with_ms_ssim = with_ms_ssim
        self.psnr_per_frame_db: list[float] = []
        self._ms_ssim: list[float] = []
        self._planes_db: list[tuple[float, ...]] = []

    def add(self, decoded: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
        """Take in one frame pair (H, W, 3)."""
        self.psnr_per_frame_db.append(psnr_db(decoded, source))
        value = frame_ms_ssim(decoded, source) if self.with_ms_ssim else None
        if value is not None:
            self._ms_ssim.append(value)

    def add_planes(
        self, decoded: Sequence[NDArray[Any]], source: Sequence[NDArray[Any]], bit_depth: int
    ) -> None:
        """Take in the planes of one frame pair: Y, and unless gray Cb and Cr."""
        self._planes_db.append(planes_psnr_db(decoded, source, bit_depth))

    @property
    def psnr_y_db(self) -> float | None:
        """Mean over frames of the PSNR of luma, or None where there were no planes."""
        values = [planes[0] for planes in self._planes_db]
        return sum(values) / len(values) if values else None

    @property
    def psnr_yuv_db(self) -> float | None:
        """Mean over frames of (6 Y + U + V) / 8, that of Y for gray, or None without planes."""
        values = [weighted(planes) for planes in self._planes_db]
        return sum(values) / len(values) if values else None

    @property
    def psnr_db(self) -> float:
        """Mean over frames of the RGB PSNR, the NeRV papers' measure; equal frames count as 100."""
        values = [min(value, PSNR_OF_EQUAL_DB) for value in self.psnr_per_frame_db]
        return sum(values) / len(values)

    @property
    def ms_ssim(self) -> float | None:
        """Mean over frames, or None where frames are too small or it was not asked for."""
        return sum(self._ms_ssim) / len(self._ms_ssim) if self._ms_ssim else None
