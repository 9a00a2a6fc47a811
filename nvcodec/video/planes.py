"""From decoded pictures of any supported pixel format to RGB of their depth.

Planes are numpy views of FFmpeg's buffers, and colours are converted by nvcodec.video.color:
FFmpeg's own conversion has changed its mind about matrices and ranges between versions.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import av
import numpy as np

from nvcodec.depth import RGB
from nvcodec.errors import InputError
from nvcodec.limits import DEFAULT
from nvcodec.media import NO_HDR, PLAIN, PROGRESSIVE, TOP_FIRST, Display, Hdr
from nvcodec.video.color import Plane, chroma_shape, yuv_to_rgb
from nvcodec.video.frames import ColorTags, resolve_tags
from nvcodec.video.hdr import read_hdr

_PLANAR = re.compile(r"yuv([aj]?)(420|422|444)p(\d*)(le|be|)")
_PLANAR_RGB = re.compile(r"gbr(a?)p(\d*)(le|be|)")
_PACKED_RGB = re.compile(r"([rgba0]{3,4}?)(|24|48|64)(le|be|)")
_GRAY = re.compile(r"(gray|ya)(\d*)(le|be|)")
_SEMIPLANAR = {  # name: (chroma, position of U in a pair)
    "nv12": (420, 0),
    "nv21": (420, 1),
    "nv16": (422, 0),
    "nv24": (444, 0),
    "nv42": (444, 1),
}
_SEMIPLANAR_HIGH = re.compile(r"p([024])(10|12|16)(le|be)")
_PACKED_YUV = {  # name: (order, bits)
    "yuyv422": ("yuyv", 8),
    "yvyu422": ("yvyu", 8),
    "uyvy422": ("uyvy", 8),
    "y210le": ("yuyv", 10),
    "y212le": ("yuyv", 12),
}
_WORDS_RGB = {"x2rgb10le": (10, 0, 20), "x2bgr10le": (10, 20, 0)}
"""Three samples of 10 bits in 32: the lowest bit of G, B and R."""
_CENTERED = ("mjpeg", "mjpegb")
"""Codecs whose chroma lies at the center, as JPEG says; the others are taken as left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """One decoded picture: its planes and how to read them."""

    planes: tuple[Plane, Plane, Plane]
    """Y, U, V; for RGB G, B, R; for gray three times Y."""
    chroma: int
    """As in VideoInfo."""
    bit_depth: int
    tags: ColorTags
    alpha: bool = False
    """True: the source also has an alpha plane, which is left out."""
    display: Display = PLAIN
    hdr: Hdr = NO_HDR
    pts: int | None = None
    """Time in ticks of the source; None where it gives none."""
    duration: int | None = None
    """Ticks; None or 0 where the source does not say."""

    @property
    def size(self) -> tuple[int, int]:
        """Return (width, height) in pixels."""
        height, width = self.planes[0].shape
        return width, height


def check_size(name: str, width: int, height: int) -> None:
    """Refuse sizes that no .nrv file can hold (InputError); `name` is that of the source."""
    if not (1 <= width <= DEFAULT.max_side and 1 <= height <= DEFAULT.max_side):
        raise InputError(
            f"{name} has {width} x {height} pixels; allowed are sides of 1 to {DEFAULT.max_side}"
        )
    if width * height > DEFAULT.max_pixels:
        raise InputError(
            f"{name} has {width} x {height} pixels; allowed are {DEFAULT.max_pixels} in all"
        )


def to_rgb(picture: Picture, bit_depth: int | None = None) -> RGB:
    """Convert a picture to contiguous RGB, (H, W, 3), of a depth, usually its own.

    Raises:
        InputError: a colour matrix without support.
    """
    chroma = picture.chroma or 444
    return yuv_to_rgb(*picture.planes, picture.tags, picture.bit_depth, chroma, bit_depth)


def view_plane(plane: av.video.plane.VideoPlane, columns: int, kind: str) -> Plane:
    """View the first `columns` samples of each row of a plane, whose rows may be padded.

    Args:
        plane: kept alive by the view, which writes through to it.
        columns: samples per row to keep.
        kind: numpy type of a sample: "u1", "<u2", ">u2" or "<u4".
    """
    stride = abs(plane.line_size)
    rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, stride)
    if plane.line_size < 0:
        rows = rows[::-1]
    dtype = np.dtype(kind)
    samples: Plane = rows[:, : columns * dtype.itemsize].view(dtype)
    return samples


def _kind(bits: int, endian: str) -> str:
    if bits == 8:
        return "u1"
    return ">u2" if endian == "be" else "<u2"


def _read_planar(frame: av.VideoFrame, chroma: int, bits: int, endian: str) -> Sequence[Plane]:
    _, columns = chroma_shape(frame.height, frame.width, chroma)
    widths = (frame.width, columns, columns)
    kind = _kind(bits, endian)
    return [view_plane(p, w, kind) for p, w in zip(frame.planes[:3], widths, strict=True)]


def _read_semiplanar(
    frame: av.VideoFrame, chroma: int, bits: int, endian: str, first: int
) -> Sequence[Plane]:
    _, columns = chroma_shape(frame.height, frame.width, chroma)
    kind = _kind(bits, endian)
    y = view_plane(frame.planes[0], frame.width, kind)
    pairs = view_plane(frame.planes[1], 2 * columns, kind)
    planes = [y, pairs[:, first::2], pairs[:, 1 - first :: 2]]
    return _lowered(planes, bits)


def _lowered(planes: list[Plane], bits: int) -> list[Plane]:
    """Return samples that lie in the upper bits of 16 in the lower ones."""
    if bits in (8, 16):
        return planes
    return [np.right_shift(p, 16 - bits, dtype=np.uint16) for p in planes]


def _read_packed_yuv(frame: av.VideoFrame, order: str, bits: int) -> Sequence[Plane]:
    columns = (frame.width + 1) // 2
    row = view_plane(frame.planes[0], 4 * columns, _kind(bits, "le"))
    y = row[:, order.index("y") :: 2][:, : frame.width]
    return _lowered([y, row[:, order.index("u") :: 4], row[:, order.index("v") :: 4]], bits)


def _read_words_rgb(frame: av.VideoFrame, lowest: tuple[int, ...]) -> Sequence[Plane]:
    words: Any = view_plane(frame.planes[0], frame.width, "<u4")
    return [(words >> bit & 1023).astype(np.uint16) for bit in lowest]


def _read_packed_rgb(frame: av.VideoFrame, order: str, bits: int, endian: str) -> Sequence[Plane]:
    row = view_plane(frame.planes[0], len(order) * frame.width, _kind(bits, endian))
    return [row[:, order.index(channel) :: len(order)] for channel in "gbr"]


def _plain(frame: av.VideoFrame) -> av.VideoFrame:
    """Expand palettes, single bits and RGB words below 8 bits; no matrix takes part in this."""
    if frame.format.name in ("monob", "monow"):
        return frame.reformat(format="gray")
    small = frame.format.is_rgb and max(part.bits for part in frame.format.components) <= 8
    small = small and not frame.format.is_bayer
    known = _PACKED_RGB.fullmatch(frame.format.name) or _PLANAR_RGB.fullmatch(frame.format.name)
    if frame.format.name == "pal8" or (small and not known):
        return frame.reformat(format="rgb24")
    return frame


def _read_planes(frame: av.VideoFrame) -> tuple[Sequence[Plane], int, int]:
    """Return (planes, chroma, bit depth) of a frame, or raise InputError."""
    name = frame.format.name
    if match := _PLANAR.fullmatch(name):
        chroma, bits = int(match[2]), int(match[3] or 8)
        return _read_planar(frame, chroma, bits, match[4]), chroma, bits
    if match := _PLANAR_RGB.fullmatch(name):
        bits = int(match[2] or 8)
        return _read_planar(frame, 444, bits, match[3]), 0, bits
    if match := _PACKED_RGB.fullmatch(name):
        bits = 16 if match[2] in ("48", "64") else 8
        return _read_packed_rgb(frame, match[1], bits, match[3]), 0, bits
    if match := _GRAY.fullmatch(name):
        bits = int(match[2] or 8)
        step = 2 if match[1] == "ya" else 1
        y = view_plane(frame.planes[0], step * frame.width, _kind(bits, match[3]))[:, ::step]
        return [y, y, y], 400, bits
    if name in _SEMIPLANAR:
        chroma, first = _SEMIPLANAR[name]
        return _read_semiplanar(frame, chroma, 8, "", first), chroma, 8
    if match := _SEMIPLANAR_HIGH.fullmatch(name):
        chroma, bits = {"0": 420, "2": 422, "4": 444}[match[1]], int(match[2])
        return _read_semiplanar(frame, chroma, bits, match[3], 0), chroma, bits
    if name in _PACKED_YUV:
        order, bits = _PACKED_YUV[name]
        return _read_packed_yuv(frame, order, bits), 422, bits
    if name in _WORDS_RGB:
        return _read_words_rgb(frame, _WORDS_RGB[name]), 0, 10
    raise InputError(
        f"pixel format {name} is not supported; supported are RGB, gray and YUV 4:2:0, 4:2:2 "
        f"and 4:4:4 of 8 to 16 bits"
    )


def read_display(frame: av.VideoFrame) -> Display:
    """Return what a decoded frame itself says of how it is shown."""
    order = TOP_FIRST if frame.interlaced_frame else PROGRESSIVE
    sides: Any = frame.side_data  # iterates over its values, unlike other mappings
    for side in sides:
        data = bytes(side)
        if side.type.name == "DISPLAYMATRIX" and len(data) == 36:
            a, b, u, c, d, v, x, y, w = struct.unpack("=9i", data)
            return Display(field_order=order, a=a, b=b, u=u, c=c, d=d, v=v, x=x, y=y, w=w)
    return Display(field_order=order)


def read_picture(frame: av.VideoFrame, codec: str, siting: int | None = None) -> Picture:
    """View a decoded frame as planes with resolved colour tags.

    Args:
        frame: stays alive as long as the planes are used.
        codec: FFmpeg's name; it tells the chroma siting where that is unknown.
        siting: as in ColorTags; None where unknown.

    Raises:
        InputError: a pixel format without support.
    """
    source = frame
    frame = _plain(source)
    planes, chroma, bits = _read_planes(frame)
    y, u, v = planes
    full = {1: False, 2: True}.get(int(source.color_range))
    if frame.format.name.startswith("yuvj") or source.format.name in ("monob", "monow"):
        full = True
    tags = resolve_tags(
        height=frame.height,
        chroma=chroma,
        matrix=int(source.colorspace),
        primaries=int(source.color_primaries),
        transfer=int(source.color_trc),
        full_range=full,
        siting=int(codec in _CENTERED) if siting is None else siting,
    )
    alpha = any(part.is_alpha for part in source.format.components)
    return Picture(
        planes=(y, u, v),
        chroma=chroma,
        bit_depth=bits,
        tags=tags,
        alpha=alpha,
        display=read_display(source),
        hdr=read_hdr(source),
        pts=source.pts,
        duration=source.duration,
    )
