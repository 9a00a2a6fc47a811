"""Quality of decoded frames against their source, at its depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from pytorch_msssim import ms_ssim

from nvcodec.depth import Samples, peak

MS_SSIM_MIN_SIDE = 161
"""MS-SSIM halves the frame four times under an 11-tap window; smaller sides have no value."""
PSNR_OF_EQUAL_DB = 100.0
"""What equal frames count as in a mean over frames."""
PLANE_WEIGHTS = (6, 1, 1)
"""Of Y, U and V in figures of YUV."""


def mean_squared_error(decoded: Samples, source: Samples) -> float:
    """Return the mean squared error of two arrays of one shape and depth."""
    difference = decoded.astype(np.int32) - source
    # Squares of 8 bits fit into 32 bits, those of 16 do not.
    wide = np.int32 if source.dtype == np.uint8 else np.int64
    return float(np.square(difference, dtype=wide).mean())


def mse_to_psnr_db(mse: float, bit_depth: int = 8) -> float:
    """Return the PSNR of samples with this mean squared error; infinity for none."""
    return math.inf if mse == 0 else 10 * math.log10(peak(bit_depth) ** 2 / mse)


def psnr_db(decoded: Samples, source: Samples, bit_depth: int = 8) -> float:
    """Return the PSNR of one frame (H, W, 3); infinity for equal frames."""
    return mse_to_psnr_db(mean_squared_error(decoded, source), bit_depth)


def weighted(values: Sequence[float]) -> float:
    """Return the mean of figures of Y, U and V in proportions 6:1:1, or that of Y alone."""
    weights = PLANE_WEIGHTS[: len(values)]
    return sum(w * x for w, x in zip(weights, values, strict=True)) / sum(weights)


def planes_psnr_db(
    decoded: Sequence[Samples], source: Sequence[Samples], bit_depth: int = 8
) -> tuple[float, ...]:
    """Return the PSNR of each plane of one frame; equal planes count as 100."""
    return tuple(
        min(PSNR_OF_EQUAL_DB, mse_to_psnr_db(mean_squared_error(a, b), bit_depth))
        for a, b in zip(decoded, source, strict=True)
    )


def frame_ms_ssim(decoded: Samples, source: Samples, bit_depth: int = 8) -> float | None:
    """Return the MS-SSIM of one RGB frame (H, W, 3); None where a side is under 161 pixels."""
    if min(source.shape[:2]) < MS_SSIM_MIN_SIDE:
        return None
    pair = [torch.from_numpy(x.copy()).permute(2, 0, 1)[None].float() for x in (decoded, source)]
    return float(ms_ssim(*pair, data_range=float(peak(bit_depth))))


class QualityMeter:
    """Accumulates the quality of a sequence, frame by frame."""

    def __init__(self, bit_depth: int = 8, *, with_ms_ssim: bool = True) -> None:
        self.bit_depth = bit_depth
        self.with_ms_ssim = with_ms_ssim
        self.psnr_per_frame_db: list[float] = []
        self._ms_ssim: list[float] = []
        self._planes_db: list[tuple[float, ...]] = []

    def add(self, decoded: Samples, source: Samples) -> None:
        """Take in one frame pair (H, W, 3) of `bit_depth`."""
        self.psnr_per_frame_db.append(psnr_db(decoded, source, self.bit_depth))
        value = frame_ms_ssim(decoded, source, self.bit_depth) if self.with_ms_ssim else None
        if value is not None:
            self._ms_ssim.append(value)

    def add_planes(
        self, decoded: Sequence[Samples], source: Sequence[Samples], bit_depth: int
    ) -> None:
        """Take in the planes of one frame pair: Y, and unless gray Cb and Cr."""
        self._planes_db.append(planes_psnr_db(decoded, source, bit_depth))

    def join(self, other: QualityMeter) -> None:
        """Take in what another meter has, of the frames after these."""
        self.psnr_per_frame_db += other.psnr_per_frame_db
        self._ms_ssim += other._ms_ssim
        self._planes_db += other._planes_db

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
