"""YUV <-> RGB with the matrices of ITU-T H.273, in float32.

Chroma is upsampled bilinearly at its true position. The matching filters downwards are
[1 2 1]/4 along an axis where chroma lies on luma samples, a box of two where it lies between.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from nvcodec.depth import RGB, Samples, peak, sample_type
from nvcodec.errors import InputError, UsageError
from nvcodec.video.frames import IDENTITY, ColorTags

Plane = Samples
Floats = NDArray[np.float32]

_WEIGHTS = {  # matrix code: (weight of red, weight of blue) in luma
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_ON_LUMA_X = {0: True, 1: False, 2: True, 3: False}
_ON_LUMA_Y = {0: False, 1: False, 2: True, 3: True}
_CHROMAS = (400, 420, 422, 444)
_STRIP_ROWS = 64
"""What is converted at once: it stays in the cache."""


def check_tags(tags: ColorTags, chroma: int) -> None:
    """Refuse colours that cannot be converted here.

    Raises:
        InputError: the matrix or the siting is unknown.
        UsageError: the chroma format is not 400, 420, 422 or 444.
    """
    if chroma not in _CHROMAS:
        raise UsageError(f"chroma format is {chroma}; allowed are 400, 420, 422 and 444")
    if tags.siting not in _ON_LUMA_X:
        raise InputError(f"chroma siting is {tags.siting}; supported are 0 to 3")
    allowed = sorted(_WEIGHTS)
    if tags.matrix == IDENTITY and chroma not in (444, 400):
        raise InputError(f"colour matrix is 0 (RGB) with chroma {chroma}; supported is only 444")
    if tags.matrix != IDENTITY and tags.matrix not in _WEIGHTS:
        codes = ", ".join(str(code) for code in [IDENTITY, *allowed])
        raise InputError(f"colour matrix is {tags.matrix} (H.273); supported are {codes}")


def chroma_shape(height: int, width: int, chroma: int) -> tuple[int, int]:
    """Return (rows, columns) of a chroma plane; halves are rounded up, gray has (0, 0)."""
    if chroma == 400:
        return 0, 0
    rows = (height + 1) // 2 if chroma == 420 else height
    columns = (width + 1) // 2 if chroma in (420, 422) else width
    return rows, columns


def _luma_scale(full_range: bool, bit_depth: int) -> tuple[int, int]:
    """Return (code of black, codes from black to white)."""
    if full_range:
        return 0, peak(bit_depth)
    return 16 << (bit_depth - 8), 219 << (bit_depth - 8)


def _chroma_span(full_range: bool, bit_depth: int) -> int:
    """Return the number of codes between the extremes of Cb or Cr."""
    return peak(bit_depth) if full_range else 224 << (bit_depth - 8)


def code_ranges(full_range: bool, bit_depth: int) -> tuple[tuple[float, int], tuple[float, int]]:
    """Return (lowest code, codes up to the highest) of luma, then of Cb and Cr."""
    span = _chroma_span(full_range, bit_depth)
    return _luma_scale(full_range, bit_depth), ((1 << (bit_depth - 1)) - span / 2, span)


def halved_axes(chroma: int, siting: int) -> list[tuple[int, bool]]:
    """Return the axes, 1 (columns) and 0 (rows), that chroma halves; true: it lies on luma."""
    columns = [(1, _ON_LUMA_X[siting])] if chroma in (420, 422) else []
    return columns + ([(0, _ON_LUMA_Y[siting])] if chroma == 420 else [])


@cache
def _luma_table(full_range: bool, bit_depth: int, white: int) -> Floats:
    """Return 0..white plus the 0.5 of rounding, for each luma code.

    The integer part is exact: a float32 that rounded up to an integer is taken back.
    """
    black, span = _luma_scale(full_range, bit_depth)
    codes = np.arange(1 << bit_depth, dtype=np.int64)
    exact = (2 * white * (codes - black) + span) / (2 * span)
    table = exact.astype(np.float32)
    too_high = np.floor(table) > np.floor(exact)
    table[too_high] = np.nextafter(table[too_high], np.float32(-np.inf))
    return table


def _round_into(out: RGB, values: Floats, white: int) -> None:
    """Store `values` (with 0.5 already added) as 0..white; truncation is then rounding half up."""
    np.clip(values, 0, white, out=values)
    np.copyto(out, values, casting="unsafe")


def _upsample(plane: Floats, size: int, on_luma: bool, axis: int) -> Floats:
    """Double `plane` along `axis` to `size` samples, repeating the edges."""
    shape = list(plane.shape)
    shape[axis] = 2 * plane.shape[axis]
    out = np.empty(shape, np.float32)
    source, target = np.moveaxis(plane, axis, 0), np.moveaxis(out, axis, 0)
    step = source[1:] - source[:-1]
    step *= np.float32(0.5 if on_luma else 0.25)
    target[-1] = source[-1]
    np.add(source[:-1], step, out=target[1:-1:2])
    if on_luma:
        target[0::2] = source
    else:
        target[0] = source[0]
        np.subtract(source[1:], step, out=target[2::2])
    return np.moveaxis(target[:size], 0, axis)


def _upsample_to(plane: Floats, shape: tuple[int, int], chroma: int, siting: int) -> Floats:
    if chroma == 420:
        plane = _upsample(plane, shape[0], _ON_LUMA_Y[siting], 0)
    if chroma in (420, 422):
        plane = _upsample(plane, shape[1], _ON_LUMA_X[siting], 1)
    return plane


def _downsample(plane: Floats, on_luma: bool, axis: int) -> Floats:
    """Halve `plane` along `axis`, rounding the size up and repeating the edges."""
    source = np.moveaxis(plane, axis, 0)
    if len(source) % 2:
        source = np.concatenate([source, source[-1:]])
    even, odd = source[0::2], source[1::2]
    if on_luma:
        half = even * np.float32(2) + odd
        half[1:] += odd[:-1]
        half[0] += even[0]
        half *= np.float32(0.25)
    else:
        half = even + odd
        half *= np.float32(0.5)
    return np.moveaxis(half, 0, axis)


def _downsample_from(plane: Floats, chroma: int, siting: int) -> Floats:
    if chroma in (420, 422):
        plane = _downsample(plane, _ON_LUMA_X[siting], 1)
    if chroma == 420:
        plane = _downsample(plane, _ON_LUMA_Y[siting], 0)
    return plane


def yuv_to_rgb(
    y: Plane,
    u: Plane,
    v: Plane,
    tags: ColorTags,
    bit_depth: int = 8,
    chroma: int = 420,
    rgb_depth: int | None = None,
) -> RGB:
    """Convert one picture to RGB, rounding half up after clipping.

    Args:
        y: luma, (H, W), uint8 or uint16.
        u: Cb, (ceil(H/2), ceil(W/2)) for 420; ignored for 400.
        v: Cr, like `u`.
        tags: matrix (0: the planes are G, B, R), range and siting.
        bit_depth: bits per sample, 8 to 16.
        chroma: 420, 422, 444 or 400.
        rgb_depth: bits per sample of the result; None: those of the planes.

    Returns:
        (H, W, 3) contiguous, uint8, or uint16 above 8 bits.

    Raises:
        InputError: a matrix or siting without support.
    """
    check_tags(tags, chroma)
    rgb_depth = bit_depth if rgb_depth is None else rgb_depth
    white = peak(rgb_depth)
    table = _luma_table(tags.full_range, bit_depth, white)
    out: RGB = np.empty((*y.shape, 3), sample_type(rgb_depth))
    if chroma == 400:
        _round_into(out, np.repeat(table.take(y, mode="clip")[..., None], 3, axis=2), white)
        return out
    if tags.matrix == IDENTITY:
        for channel, plane in zip((1, 2, 0), (y, u, v), strict=True):
            _round_into(out[..., channel], table.take(plane, mode="clip"), white)
        return out
    luma = table.take(y, mode="clip")
    red, blue = _WEIGHTS[tags.matrix]
    green = 1 - red - blue
    scale = white / _chroma_span(tags.full_range, bit_depth)
    middle = np.float32(1 << (bit_depth - 1))
    # The matrix is applied before upsampling: both are linear, and the small planes are cheaper.
    add_blue = u.astype(np.float32)
    add_blue -= middle
    add_blue *= np.float32(2 * (1 - blue) * scale)
    add_red = v.astype(np.float32)
    add_red -= middle
    add_red *= np.float32(2 * (1 - red) * scale)
    add_green = add_blue * np.float32(-blue / green)
    add_green -= add_red * np.float32(red / green)
    for channel, part in enumerate((add_red, add_green, add_blue)):
        values = _upsample_to(part, (y.shape[0], y.shape[1]), chroma, tags.siting)
        values += luma
        _round_into(out[..., channel], values, white)
    return out


def _to_codes(values: Floats, scale: float, zero: int, bit_depth: int) -> Plane:
    values = values * np.float32(scale)
    values += np.float32(zero + 0.5)
    np.clip(values, 0, peak(bit_depth), out=values)
    codes: Plane = values.astype(sample_type(bit_depth), order="C")
    return codes


def rgb_to_yuv(
    rgb: RGB, tags: ColorTags, chroma: int = 420, bit_depth: int = 8
) -> tuple[Plane, Plane, Plane]:
    """Convert an RGB picture to planes, rounding half up.

    Args:
        rgb: (H, W, 3) of as many bits as the planes.
        tags: matrix (0: the planes are G, B, R), range and siting.
        chroma: 420, 422, 444 or 400.
        bit_depth: bits per sample, 8 to 16.

    Returns:
        y (H, W), u and v (see chroma_shape; empty for 400); uint8, or uint16 above 8 bits.

    Raises:
        InputError: a matrix or siting without support.
    """
    check_tags(tags, chroma)
    n_rows = len(rgb) if chroma == 420 and _ON_LUMA_Y[tags.siting] else _STRIP_ROWS
    strips = [
        _strip_to_yuv(rgb[first : first + n_rows], tags, chroma, bit_depth)
        for first in range(0, len(rgb), n_rows)
    ]
    y, u, v = (np.concatenate(parts) for parts in zip(*strips, strict=True))
    return y, u, v


def _strip_to_yuv(
    rgb: RGB, tags: ColorTags, chroma: int, bit_depth: int
) -> tuple[Plane, Plane, Plane]:
    black, span = _luma_scale(tags.full_range, bit_depth)
    white = peak(bit_depth)
    r, g, b = (rgb[..., channel].astype(np.float32) for channel in range(3))
    if tags.matrix == IDENTITY and chroma == 444:
        first, second, third = (_to_codes(p, span / white, black, bit_depth) for p in (g, b, r))
        return first, second, third
    red, blue = _WEIGHTS.get(tags.matrix, _WEIGHTS[1])
    luma = r * np.float32(red)
    luma += g * np.float32(1 - red - blue)
    luma += b * np.float32(blue)
    y = _to_codes(luma, span / white, black, bit_depth)
    if chroma == 400:
        nothing = np.zeros((0, 0), y.dtype)
        return y, nothing, nothing
    scale = _chroma_span(tags.full_range, bit_depth) / white
    middle = 1 << (bit_depth - 1)
    b -= luma
    r -= luma
    cb = _downsample_from(b, chroma, tags.siting)
    cr = _downsample_from(r, chroma, tags.siting)
    u = _to_codes(cb, scale / (2 * (1 - blue)), middle, bit_depth)
    v = _to_codes(cr, scale / (2 * (1 - red)), middle, bit_depth)
    return y, u, v
