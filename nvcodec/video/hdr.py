"""The light of a display and of a video, as side data of frames and in the words of outputs."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import av

from nvcodec.media import CHROMATICITY_UNIT, LUMINANCE_UNIT, Hdr
from nvcodec.video.matroska import element, number, real

LOST = {
    "DYNAMIC_HDR_PLUS": "HDR10+ metadata",
    "DYNAMIC_HDR_VIVID": "HDR Vivid metadata",
    "DOVI_RPU_BUFFER": "Dolby Vision metadata",
    "DOVI_METADATA": "Dolby Vision metadata",
    "AMBIENT_VIEWING_ENVIRONMENT": "ambient light",
    "ICC_PROFILE": "ICC profile",
    "STEREO3D": "3D layout",
    "SPHERICAL": "360-degree projection",
    "A53_CC": "closed captions",
}
"""What frames may carry that no .nrv file holds, by PyAV's name of the side data."""
_DISPLAY, _LEVELS = "MASTERING_DISPLAY_METADATA", "CONTENT_LIGHT_LEVEL"
_MAX_CHROMATICITY, _MAX_LUMINANCE, _MAX_LEVEL = 50_000, (1 << 32) - 1, (1 << 16) - 1


def read_hdr(frame: av.VideoFrame) -> Hdr:
    """Return what a decoded frame says of its light; values without sense count as unknown."""
    sides: Any = frame.side_data  # iterates over its values, unlike other mappings
    found = {side.type.name: bytes(side) for side in sides if side.type.name in (_DISPLAY, _LEVELS)}
    values: dict[str, int] = {}
    if len(data := found.get(_DISPLAY, b"")) == 88:
        # AVMasteringDisplayMetadata: ten fractions and two flags.
        *numbers, has_primaries, has_luminance = struct.unpack("=22i", data)
        fractions = list(zip(numbers[::2], numbers[1::2], strict=True))
        if has_primaries:
            x_y = [_units(f, CHROMATICITY_UNIT, _MAX_CHROMATICITY) for f in fractions[:8]]
            names = ("red_x", "red_y", "green_x", "green_y", "blue_x", "blue_y")
            values |= dict(zip((*names, "white_x", "white_y"), x_y, strict=True))
        if has_luminance:
            least, most = (_units(f, LUMINANCE_UNIT, _MAX_LUMINANCE) for f in fractions[8:])
            values |= {"max_luminance": most, "min_luminance": least if most else 0}
    if len(data := found.get(_LEVELS, b"")) == 8:
        levels = (level if level <= _MAX_LEVEL else 0 for level in struct.unpack("=2I", data))
        values |= dict(zip(("max_cll", "max_fall"), levels, strict=True))
    return Hdr(**values)


def _units(value: Sequence[int], unit: Fraction, most: int) -> int:
    """Return a fraction in whole units; 0 where it is out of range."""
    top, bottom = value
    if bottom <= 0 or top < 0:
        return 0
    units = round(Fraction(top, bottom) / unit)
    return units if units <= most else 0


def encoder_words(hdr: Hdr, encoder: str) -> list[str]:
    """Return the parameters with which x264 or x265 writes the light into a video."""
    display, levels = {
        "libx264": ("mastering-display", "cll"),
        "libx265": ("master-display", "max-cll"),
    }[encoder]
    words = []
    if hdr.has_display:
        x_y = hdr.primaries
        red, green, blue, white = (f"({x_y[i]},{x_y[i + 1]})" for i in range(0, 8, 2))
        light = f"({hdr.max_luminance},{hdr.min_luminance})"
        words.append(f"{display}=G{green}B{blue}R{red}WP{white}L{light}")
    if hdr.has_levels:
        words.append(f"{levels}={hdr.max_cll},{hdr.max_fall}")
    return words


def matroska_colour(hdr: Hdr) -> bytes:
    """Return the elements in Colour for the light (RFC 9559, 5.1.4.1.28.31 and following)."""
    data = b""
    if hdr.has_levels:
        data += number("55BC", hdr.max_cll) + number("55BD", hdr.max_fall)
    mastering = b""
    if any(hdr.primaries):
        for id, value in enumerate(hdr.primaries, 0x55D1):
            mastering += real(f"{id:X}", float(value * CHROMATICITY_UNIT))
    if hdr.max_luminance:
        mastering += real("55D9", float(hdr.max_luminance * LUMINANCE_UNIT))
        mastering += real("55DA", float(hdr.min_luminance * LUMINANCE_UNIT))
    return data + (element("55D0", mastering) if mastering else b"")
