"""What a network draws as Y'CbCr: three channels of full size, brought to the source's planes.

The channels are those of RGB with another meaning: from 0 to 1 the first goes from black to white,
the others through all of Cb and Cr, whose middle is 1/2 (H.273). No network knows what it draws.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvcodec.video.color import code_ranges, halved_axes
from nvcodec.video.forms import Planes
from nvcodec.video.frames import VideoInfo


def to_codes(drawn: Tensor, info: VideoInfo, bit_depth: int) -> list[Tensor]:
    """Return what is drawn as codes that are not yet rounded: Y, and unless gray Cb and Cr.

    Chroma is filtered down to the video's grid as `nvcodec.video.color` does.

    Shapes: drawn (B, 3, H, W) -> (B, 1, H, W), (B, 1, h, w), (B, 1, h, w).
    """
    (black, span), (low, chroma_span) = code_ranges(info.color.full_range, bit_depth)
    codes = [drawn[:, :1].contiguous() * span + black]
    if info.chroma != 400:
        for channel in (drawn[:, 1:2], drawn[:, 2:]):
            codes.append(to_grid(channel.contiguous(), info) * chroma_span + low)
    return codes


def to_grid(channel: Tensor, info: VideoInfo) -> Tensor:
    """Filter (B, 1, H, W) down to the grid of the video's chroma."""
    for axis, on_luma in halved_axes(info.chroma, info.color.siting):
        channel = _halve(channel, 2 + axis, on_luma=on_luma)
    return channel


def _halve(x: Tensor, axis: int, *, on_luma: bool) -> Tensor:
    """Halve an axis, rounding its size up and repeating the edges."""
    if x.shape[axis] % 2:
        x = torch.cat([x, x.narrow(axis, x.shape[axis] - 1, 1)], axis)
    n = x.shape[axis] // 2
    pairs = x.reshape(*x.shape[:axis], n, 2, *x.shape[axis + 1 :])
    even, odd = pairs.unbind(axis + 1)
    if not on_luma:
        return (even + odd) * 0.5
    before = torch.cat([even.narrow(axis, 0, 1), odd.narrow(axis, 0, n - 1)], axis)
    return (even * 2 + odd + before) * 0.25


def to_frames(drawn: Tensor, info: VideoInfo, bit_depth: int) -> list[Planes]:
    """Return the planes of each frame of (B, 3, H, W), rounded to the nearest, ties to even.

    Not-a-number counts as 0, what is outside of [0, 1] as the nearer end.
    """
    # Through int32: conversions of floats to uint16 are missing on some devices.
    kind = torch.uint8 if bit_depth == 8 else torch.uint16
    planes = [
        codes.round().clamp(0, (1 << bit_depth) - 1).int().to(kind)[:, 0].cpu().numpy()
        for codes in to_codes(drawn.nan_to_num(0.0).clamp(0, 1), info, bit_depth)
    ]
    return list(zip(*planes, strict=True))
