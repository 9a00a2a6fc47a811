"""Elements of Matroska files (RFC 9559), for what PyAV can neither make nor set."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO

RESERVE = "-" * 400
"""Title of a video track; `extend_video` uses its room."""

_SEGMENT, _TRACKS, _ENTRY, _VIDEO, _COLOUR = "18538067", "1654AE6B", "AE", "E0", "55B0"
_NAME, _VOID = "536E", "EC"
_CLUSTER = bytes.fromhex("1F43B675")
_HEAD_BYTES = 1 << 20
_DISPLAY_ASPECT = 3


def element(id: str, data: bytes) -> bytes:
    """Return an element with its size in 8 bytes."""
    return bytes.fromhex(id) + struct.pack(">Q", 1 << 56 | len(data)) + data


def number(id: str, value: int) -> bytes:
    """Return an element that holds an unsigned integer."""
    return element(id, value.to_bytes(8, "big"))


def real(id: str, value: float) -> bytes:
    """Return an element that holds a number."""
    return element(id, struct.pack(">d", value))


def display_size(width: int, height: int, aspect: Fraction) -> bytes:
    """Return the elements in Video that give the pixels of a picture their aspect."""
    wide = width * aspect
    if wide.denominator == 1:
        return number("54B0", wide.numerator) + number("54BA", height)
    shape = wide / height
    shown = number("54B0", shape.numerator) + number("54BA", shape.denominator)
    return shown + number("54B2", _DISPLAY_ASPECT)


def _children(data: bytes, start: int, end: int) -> Iterator[tuple[str, int, int, int]]:
    """Yield id, start, start of the data and end of the elements in a part of a file."""
    at = start
    while at < end:
        n_id = 9 - data[at].bit_length()
        size_at = at + n_id
        n_size = 9 - data[size_at].bit_length()
        coded = int.from_bytes(data[size_at : size_at + n_size], "big")
        first = size_at + n_size
        last = first + (coded & ~(1 << 7 * n_size))
        yield data[at:size_at].hex().upper(), at, first, last
        at = last


def _find(data: bytes, start: int, end: int, id: str) -> tuple[int, int, int] | None:
    for found, at, first, last in _children(data, start, end):
        if found == id:
            return at, first, last
    return None


def _extended(data: bytes, start: int, end: int, extra: bytes, colour: bytes) -> bytes:
    """Return the payload of a Video element with more elements in it and in its Colour."""
    parts = []
    for id, at, first, last in _children(data, start, end):
        if id == _COLOUR:
            parts.append(element(id, data[first:last] + colour))
            colour = b""
        else:
            parts.append(data[at:last])
    if colour:
        parts.append(element(_COLOUR, colour))
    return b"".join(parts) + extra


def video_element(data: bytes) -> dict[str, bytes]:
    """Return the elements of the first Video element and of its Colour, by id, from a file's start.

    Raises:
        ValueError: there is none.
    """
    at: tuple[int, int, int] | None = (0, 0, len(data))
    for id in (_SEGMENT, _TRACKS, _ENTRY, _VIDEO):
        at = at and _find(data, at[1], at[2], id)
    if at is None:
        raise ValueError("the file has no video track")
    found = {}
    for id, _, first, last in _children(data, at[1], at[2]):
        found[id] = data[first:last]
        if id == _COLOUR:
            found |= {id: data[a:b] for id, _, a, b in _children(data, first, last)}
    return found


def extend_video(path: Path, extra: bytes, colour: bytes = b"") -> None:
    """Add elements to the description of the only video track, in the room of its title RESERVE.

    The file must have been written without CRC-32 elements. Nothing in it moves.

    Raises:
        ValueError: the file has no such track, or the room does not suffice.
    """
    with open(path, "r+b") as file:
        head = _extended_head(file.read(_HEAD_BYTES), extra, colour)
        file.seek(0)
        file.write(head)


class ExtendedPipe:
    """A pipe that FFmpeg muxes into; the head waits for the first cluster, and is extended."""

    def __init__(self, pipe: IO[bytes], extra: bytes, colour: bytes = b"") -> None:
        """Take what `extend_video` takes."""
        self._pipe = pipe
        self._extra, self._colour = extra, colour
        self._head: bytes | None = b""

    def write(self, data: bytes) -> int:
        """Append bytes of the file."""
        if self._head is None:
            return self._pipe.write(data)
        self._head += data
        if _CLUSTER in self._head:
            head, self._head = self._head, None
            self._pipe.write(_extended_head(head, self._extra, self._colour))
        return len(data)


def _extended_head(data: bytes, extra: bytes, colour: bytes) -> bytes:
    """Return the start of a file with its video track extended; its length stays."""
    # What follows the Tracks may lie beyond these bytes, but is not looked at.
    segment = _find(data, 0, len(data), _SEGMENT)
    tracks = segment and _find(data, segment[1], len(data), _TRACKS)
    if not tracks:
        raise ValueError("the file has no Tracks element near its start")
    for id, _, start, end in _children(data, tracks[1], tracks[2]):
        video = _find(data, start, end, _VIDEO)
        if id == _ENTRY and video:
            return data[:start] + _rebuilt(data, start, end, extra, colour) + data[end:]
    raise ValueError("the file has no video track")


def _rebuilt(data: bytes, start: int, end: int, extra: bytes, colour: bytes) -> bytes:
    """Return the payload of a TrackEntry of the same length, without its title."""
    parts = []
    for id, at, first, last in _children(data, start, end):
        if id == _VIDEO:
            parts.append(element(id, _extended(data, first, last, extra, colour)))
        elif id != _NAME:
            parts.append(data[at:last])
    entry = b"".join(parts)
    room = end - start - len(entry)
    if room < 9:
        raise ValueError(f"the track has {room} bytes of room, needed are 9")
    return entry + element(_VOID, bytes(room - 9))
