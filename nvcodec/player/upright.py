"""Frames as a player shows them: turned upright, and how wide and high they are then."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np

from nvcodec.depth import RGB
from nvcodec.media import PLAIN, Display
from nvcodec.video.frames import VideoInfo
from nvcodec.video.framing import resize


def _lies(display: Display) -> bool:
    """Tell whether rows are shown as columns."""
    return abs(display.b) > abs(display.a)


def upright(rgb: RGB, display: Display) -> RGB:
    """Return a frame (H, W, 3) turned by the nearest quarter, and mirrored where that is meant.

    The matrix takes a pixel from (x, y) to (a x + c y, b x + d y), with y downwards.
    """
    across, down = (display.c, display.b) if _lies(display) else (display.a, display.d)
    if _lies(display):
        rgb = rgb.transpose(1, 0, 2)
    return np.ascontiguousarray(rgb[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def upright_info(info: VideoInfo) -> VideoInfo:
    """Return the properties of frames that went through `upright`."""
    width, height, aspect = info.width, info.height, info.display.aspect
    if _lies(info.display):
        width, height, aspect = height, width, 1 / aspect
    display = replace(
        PLAIN,
        sar_num=aspect.numerator,
        sar_den=aspect.denominator,
        field_order=info.display.field_order,
    )
    return replace(info, width=width, height=height, display=display)


def shown_size(info: VideoInfo) -> tuple[int, int]:
    """Return width and height of the upright picture in square pixels; no side is shortened."""
    shown = upright_info(info)
    aspect = shown.display.aspect
    wide, high = max(aspect, Fraction(1)), max(1 / aspect, Fraction(1))
    return round(shown.width * wide), round(shown.height * high)


def thumbnail(rgb: RGB, info: VideoInfo, size: int) -> RGB:
    """Return an 8-bit frame upright, in square pixels, with sides of at most `size`."""
    width, height = shown_size(info)
    scale = min(Fraction(1), Fraction(size, max(width, height)))
    return resize(
        upright(rgb, info.display), max(1, round(width * scale)), max(1, round(height * scale))
    )
