"""Quality of decoded 8-bit RGB frames against their source."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_msssim import ms_ssim

MS_SSIM_MIN_SIDE = 161
"""MS-SSIM halves the frame four times under an 11-tap window; smaller sides have no value."""
PSNR_OF_EQUAL_DB = 100.0
"""What equal frames count as in a mean over frames."""


def mean_squared_error(decoded: NDArray[np.uint8], source: NDArray[np.uint8]) -> float:
    """Return the mean squared error of two arrays of one shape."""
    difference = decoded.astype(np.int32) - source
    return float(np.square(difference).mean())


def mse_to_psnr_db(mse: float) -> float:
    """Return the PSNR of 8-bit samples with this mean squared error; infinity for none."""
    return math.inf if mse == 0 else 10 * math.log10(255**2 / mse)


def psnr_db(decoded: NDArray[np.uint8], source: NDArray[np.uint8]) -> float:
    """Return the PSNR of one frame (H, W, 3); infinity for equal frames."""
    return mse_to_psnr_db(mean_squared_error(decoded, source))


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

    def add(self, decoded: NDArray[np.uint8], source: NDArray[np.uint8]) -> None:
        """Take in one frame pair (H, W, 3)."""
        self.psnr_per_frame_db.append(psnr_db(decoded, source))
        value = frame_ms_ssim(decoded, source) if self.with_ms_ssim else None
        if value is not None:
            self._ms_ssim.append(value)

    @property
    def psnr_db(self) -> float:
        """Mean over frames of the RGB PSNR, the NeRV papers' measure; equal frames count as 100."""
        values = [min(value, PSNR_OF_EQUAL_DB) for value in self.psnr_per_frame_db]
        return sum(values) / len(values)

    @property
    def ms_ssim(self) -> float | None:
        """Mean over frames, or None where frames are too small or it was not asked for."""
        return sum(self._ms_ssim) / len(self._ms_ssim) if self._ms_ssim else None
