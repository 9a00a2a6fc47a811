"""How far what is drawn as Y'CbCr is from the source's own planes, 6:1:1.

Weights are those of the figure that codecs are judged by, (6 PSNR-Y + PSNR-U + PSNR-V) / 8: with a
loss that is the logarithm of an error their mean is exact (NVRC, arXiv 2409.07414, takes the same).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.codec.losses import distortion
from nvcodec.codec.ycbcr import to_codes, to_grid
from nvcodec.metrics import PLANE_WEIGHTS
from nvcodec.video.color import code_ranges
from nvcodec.video.forms import Planes
from nvcodec.video.frames import VideoInfo


class PlaneLoss:
    """The planes of all frames, on the device that fits."""

    def __init__(self, planes: Planes, info: VideoInfo, device: torch.device) -> None:
        """Take Y (N, H, W), and unless gray Cb and Cr on their grid, at the video's depth."""
        self.info = info
        # Indexing of uint16 is missing on some devices.
        kind: Any = np.uint8 if info.bit_depth == 8 else np.int32
        self._planes = [torch.from_numpy(p.astype(kind)).to(device) for p in planes]
        self._peak = float((1 << info.bit_depth) - 1)

    def _targets(self, index: Tensor) -> list[Tensor]:
        return [plane[index][:, None].float() for plane in self._planes]

    def distortion(
        self, name: str, drawn: Tensor, index: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Return loss and MSEs (B,) as `losses.distortion`, weighted over the planes.

        Errors are shares of the largest code. A chroma sample counts where the mask (B, 1, H, W) is
        1 in all that it covers.
        """
        weights = PLANE_WEIGHTS[: len(self._planes)]
        masks: Sequence[Tensor | None] = (mask, None, None)
        if mask is not None and len(self._planes) > 1:
            known = (to_grid(mask, self.info) == 1).float()
            masks = (mask, known, known)
        loss, mse = drawn.new_zeros(()), drawn.new_zeros(len(drawn))
        codes = to_codes(drawn, self.info, self.info.bit_depth)
        for weight, code, target, known_here in zip(
            weights, codes, self._targets(index), masks, strict=False
        ):
            found = distortion(name, code / self._peak, target / self._peak, known_here)
            loss = loss + weight / sum(weights) * found[0]
            mse = mse + weight / sum(weights) * found[1]
        return loss, mse

    def pictures(self, index: Tensor) -> Tensor:
        """Return the frames as the network should draw them, (B, 3, H, W), chroma interpolated."""
        luma, chroma = code_ranges(self.info.color.full_range, self.info.bit_depth)
        y, *others = self._targets(index)
        channels = [(y - luma[0]) / luma[1]]
        for codes in others:
            values = (codes - chroma[0]) / chroma[1]
            channels.append(F.interpolate(values, y.shape[-2:], mode="bilinear"))
        if not others:
            channels += [torch.full_like(y, 0.5)] * 2
        return torch.cat(channels, 1)
