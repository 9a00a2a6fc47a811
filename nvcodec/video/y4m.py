"""YUV4MPEG2 (.y4m), the raw format that video tools pass to each other through pipes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import IO, BinaryIO

import numpy as np

from nvcodec.errors import InputError
from nvcodec.media import BOTTOM_FIRST, PROGRESSIVE, TOP_FIRST, Display
from nvcodec.video.color import Plane, chroma_shape
from nvcodec.video.frames import DEFAULT_RATE, resolve_tags
from nvcodec.video.planes import Picture, check_size

MAGIC = b"YUV4MPEG2"
_FRAME = b"FRAME\n"
BIT_DEPTHS = (8, 9, 10, 12, 14, 16)
"""Bits per sample that are written."""
_MAX_LINE = 4096
_SITINGS = {"jpeg": 1, "mpeg2": 0, "paldv": 2, "": 1}
"""What follows "420" in the header; plain 420 means JPEG's center, 420p10 and such say nothing."""
_NAMES = {0: "mpeg2", 1: "jpeg", 2: "paldv"}
_FIELD_ORDERS = {"p": PROGRESSIVE, "t": TOP_FIRST, "b": BOTTOM_FIRST, "m": TOP_FIRST}
_CHROMA = re.compile(r"(420|422|444)(?:p(\d+))?|420(jpeg|mpeg2|paldv)|mono(\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Y4mHeader:
    """The first line of a .y4m stream."""

    width: int
    height: int
    frame_rate: Fraction
    """Frames/s."""
    chroma: int
    """420, 422, 444 or 400."""
    bit_depth: int = 8
    siting: int = 0
    full_range: bool | None = None
    """None: the stream does not say."""
    field_order: int = PROGRESSIVE
    aspect: Fraction = Fraction(1)
    """Width of a pixel by its height."""

    @property
    def shapes(self) -> list[tuple[int, int]]:
        """Return (rows, columns) of each plane."""
        luma = (self.height, self.width)
        if self.chroma == 400:
            return [luma]
        return [luma, *[chroma_shape(self.height, self.width, self.chroma)] * 2]

    @property
    def frame_bytes(self) -> int:
        """Return the bytes that each frame takes."""
        n_samples = sum(rows * columns for rows, columns in self.shapes)
        return len(_FRAME) + n_samples * (1 if self.bit_depth == 8 else 2)


def format_header(header: Y4mHeader) -> bytes:
    """Return the first line for `header`, newline included."""
    space = "mono" if header.chroma == 400 else str(header.chroma)
    if header.bit_depth > 8:
        space += f"{'' if header.chroma == 400 else 'p'}{header.bit_depth}"
    elif header.chroma == 420:
        space += _NAMES.get(header.siting, "mpeg2")
    rate = header.frame_rate
    colour_range = "FULL" if header.full_range else "LIMITED"
    line = (
        f"YUV4MPEG2 W{header.width} H{header.height} F{rate.numerator}:{rate.denominator} "
        f"I{'ptb'[header.field_order]} A{header.aspect.numerator}:{header.aspect.denominator} "
        f"C{space} XCOLORRANGE={colour_range}\n"
    )
    return line.encode()


def parse_header(line: bytes, name: str) -> Y4mHeader:
    """Read the first line, without its newline.

    Raises:
        InputError: a field is missing, out of range or without support.
    """
    words = line.decode("ascii", "replace").split(" ")
    fields = {word[0]: word[1:] for word in words[1:] if word and word[0] != "X"}
    space = fields.get("C", "420")
    match = _CHROMA.fullmatch(space)
    if match is None:
        raise InputError(f"{name} has chroma format C{space}; supported are 420, 422, 444 and mono")
    chroma = int(match[1] or (420 if match[3] else 400))
    bits = int(match[2] or match[4] or 8)
    if not 8 <= bits <= 16:
        raise InputError(f"{name} has {bits} bits per sample; supported are 8 to 16")
    try:
        width, height = int(fields["W"]), int(fields["H"])
        top, _, bottom = fields.get("F", "0:0").partition(":")
        rate = Fraction(int(top), int(bottom)) if int(top) > 0 and int(bottom) > 0 else DEFAULT_RATE
    except (KeyError, ValueError):
        raise InputError(f"{name} has a Y4M header without a valid size or rate") from None
    check_size(name, width, height)
    ranges = [word.partition("=")[2] for word in words if word.startswith("XCOLORRANGE=")]
    return Y4mHeader(
        width=width,
        height=height,
        frame_rate=rate,
        chroma=chroma,
        bit_depth=bits,
        siting=_SITINGS[match[3] or ""] if chroma == 420 and bits == 8 else 0,
        full_range=ranges[0] == "FULL" if ranges else None,
        field_order=_FIELD_ORDERS.get(fields.get("I", "p"), PROGRESSIVE),
        aspect=_aspect(fields.get("A", "1:1")),
    )


def _aspect(text: str) -> Fraction:
    """Return the aspect of a pixel; 1 where it is unknown (0:0) or makes no sense."""
    top, _, bottom = text.partition(":")
    if not (top.isdecimal() and bottom.isdecimal() and 0 < int(top) < 2**32 > int(bottom) > 0):
        return Fraction(1)
    return Fraction(int(top), int(bottom))


def write_frame(stream: IO[bytes], planes: Sequence[Plane]) -> None:
    """Append one picture; `planes` are Y, U, V or Y alone."""
    stream.write(_FRAME)
    for plane in planes:
        little = np.ascontiguousarray(plane, plane.dtype.newbyteorder("<"))
        stream.write(little.data.cast("B"))


class Y4mSource:
    """Pictures of a .y4m stream, read once from start to end."""

    codec = "rawvideo"
    time_base: Fraction | None = None

    def __init__(self, stream: BinaryIO, name: str, n_bytes: int | None) -> None:
        self.name = name
        self.n_bytes = n_bytes
        self.warnings: list[str] = []
        self._stream = stream
        line = stream.readline(_MAX_LINE)
        if not line.startswith(MAGIC) or not line.endswith(b"\n"):
            raise InputError(f"{name} does not begin with a YUV4MPEG2 header")
        self._header = parse_header(line[:-1], name)
        self.rates: Sequence[Fraction] = (self._header.frame_rate,)
        aspect = self._header.aspect
        self._display = Display(
            sar_num=aspect.numerator,
            sar_den=aspect.denominator,
            field_order=self._header.field_order,
        )

    def pictures(self) -> Iterator[Picture]:
        """Yield every whole frame; a part of a frame at the end becomes a warning."""
        header = self._header
        kind = np.dtype("u1" if header.bit_depth == 8 else "<u2")
        counts = [rows * columns for rows, columns in header.shapes]
        size = sum(counts) * kind.itemsize
        tags = resolve_tags(
            height=header.height,
            chroma=header.chroma,
            full_range=header.full_range,
            siting=header.siting,
        )
        done = 0
        while line := self._stream.readline(_MAX_LINE):
            data = self._stream.read(size) if line.endswith(b"\n") else b""
            if not line.startswith(b"FRAME"[: len(line)]):
                raise InputError(f"{self.name} is corrupt: frame {done} has no FRAME line")
            if len(data) < size:
                self.warnings.append(f"the file ends early: inside frame {done}, which is left out")
                return
            samples = np.frombuffer(data, kind)
            parts = np.split(samples, np.cumsum(counts)[:-1])
            planes = [p.reshape(shape) for p, shape in zip(parts, header.shapes, strict=True)]
            y, u, v = planes if len(planes) == 3 else planes * 3
            yield Picture(
                planes=(y, u, v),
                chroma=header.chroma,
                bit_depth=header.bit_depth,
                tags=tags,
                display=self._display,
            )
            done += 1

    def tracks(self) -> AbstractContextManager[None]:
        """Pictures come alone."""
        return nullcontext()

    def close(self) -> None:
        """Close the stream, unless it is the program's standard input."""
        if self.n_bytes is not None:
            self._stream.close()
