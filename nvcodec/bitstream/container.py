"""The outer layer of an .nrv file: a signature, then chunks with a length, a type and a CRC-32.

A chunk is a u32 payload length, four ASCII characters, the payload and a u32 CRC-32 over type and
payload, all little-endian. A type whose first letter is lower-case is ancillary: a reader that does
not know it skips it. The order is VHDR, ancillary chunks, SEGM chunks, END.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from dataclasses import dataclass

from nvcodec.errors import CorruptError, LimitError, TruncatedError, UnsupportedError
from nvcodec.limits import DEFAULT, Limits

SIGNATURE = b"\x89NRV\r\n\x1a\n"
"""As in PNG: a byte above 127, line ends and a ^Z, so that text-mode transfers show."""

VERSION_MAJOR = 1
"""Files with another major version cannot be decoded by this code."""
VERSION_MINOR = 1
"""Of the files that this code writes."""

VIDEO_HEADER = "VHDR"
SEGMENT = "SEGM"
METADATA = "meTA"
TRACK = "trAK"
CHAPTERS = "chAP"
TAGS = "taGS"
TIMING = "tiME"
DISPLAY = "diSP"
HDR = "hdRM"
END = "END "

MAX_HEADER_BYTES = 1 << 16
"""Largest payload of VHDR."""
MAX_ANCILLARY_CHUNKS = 1024
"""Most ancillary chunks of one file, so that a flood of empty ones costs no time."""

CHUNK_OVERHEAD = 12
"""Bytes of a chunk beside its payload."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """One chunk whose CRC has been verified."""

    type: str
    payload: bytes
    offset: int
    """Byte of the file at which the chunk starts."""

    @property
    def ancillary(self) -> bool:
        """Whether a reader may skip this chunk."""
        return self.type[0].islower()


def pack_chunk(type: str, payload: bytes) -> bytes:
    """Return the bytes of one chunk."""
    body = type.encode("ascii") + payload
    if len(body) != 4 + len(payload):
        raise ValueError(f"chunk type {type!r} has {len(type)} characters, needed are 4")
    return struct.pack("<I", len(payload)) + body + struct.pack("<I", zlib.crc32(body))


def read_chunks(data: bytes, limits: Limits = DEFAULT) -> list[Chunk]:
    """Return all chunks but END of a whole file; raise BitstreamError for any damage."""
    check_signature(data)
    chunks: list[Chunk] = []
    counts: Counter[str] = Counter()
    offset = len(SIGNATURE)
    while True:
        chunk = read_chunk(data, offset)
        offset += CHUNK_OVERHEAD + len(chunk.payload)
        _check_order(chunk, chunks[-1] if chunks else None)
        if chunk.type == END:
            _check_end(chunk, data, offset)
            return chunks
        check_limits(chunk, counts, limits)
        if chunk.type == VIDEO_HEADER:
            check_version(chunk)
        chunks.append(chunk)


def check_limits(chunk: Chunk, counts: Counter[str], limits: Limits) -> None:
    """Count one more chunk of a file; raise LimitError for a large one, or for too many."""
    if chunk.ancillary:
        counts["ancillary chunks"] += 1
        _check_count("ancillary chunks", counts["ancillary chunks"], MAX_ANCILLARY_CHUNKS)
        large = chunk.type in (TRACK, TIMING)
        _check_size(chunk, limits.max_track_bytes if large else limits.max_metadata_bytes)
    elif chunk.type == SEGMENT:
        counts["segments"] += 1
        _check_count("segments", counts["segments"], limits.max_segments)
    else:
        _check_size(chunk, MAX_HEADER_BYTES)


def check_signature(data: bytes) -> None:
    """Raise TruncatedError or CorruptError unless the data begins as an .nrv file does."""
    start = data[: len(SIGNATURE)]
    if start == SIGNATURE:
        return
    if SIGNATURE.startswith(start):
        raise TruncatedError(f"file ends at byte {len(data)}, inside the .nrv signature")
    if start[1:4] == SIGNATURE[1:4]:
        raise CorruptError(
            f"signature of the .nrv file is {start.hex(' ')} instead of {SIGNATURE.hex(' ')}, "
            "which happens in a transfer as text; transfer it as binary"
        )
    raise CorruptError(f"this is not an .nrv file: it starts with {start.hex(' ')}")


def read_chunk(data: bytes, offset: int) -> Chunk:
    """Return the chunk at a byte of a file, its CRC verified; raise BitstreamError."""
    n_left = len(data) - offset - CHUNK_OVERHEAD
    if n_left < 0:
        raise TruncatedError(f"file ends at byte {len(data)}, before its END chunk")
    n_bytes, type_bytes = struct.unpack_from("<I4s", data, offset)
    if n_bytes > n_left:
        raise TruncatedError(
            f"chunk at byte {offset} announces {n_bytes} bytes, but the file has only {n_left}"
        )
    body_end = offset + 8 + n_bytes
    expected = struct.unpack_from("<I", data, body_end)[0]
    actual = zlib.crc32(memoryview(data)[offset + 4 : body_end])
    if actual != expected:
        raise CorruptError(
            f"chunk at byte {offset} has CRC-32 {actual:08x}, the file says {expected:08x}"
        )
    if type_bytes != END.encode() and not (type_bytes.isalpha() and type_bytes.isascii()):
        raise CorruptError(f"chunk at byte {offset} has type {type_bytes!r}, allowed are letters")
    return Chunk(type_bytes.decode("ascii"), data[offset + 8 : body_end], offset)


_ORDER = {VIDEO_HEADER: 0, SEGMENT: 2, END: 3}


def _rank(chunk: Chunk) -> int:
    if chunk.ancillary:
        return 1
    if chunk.type not in _ORDER:
        raise UnsupportedError(
            f"chunk {chunk.type!r} at byte {chunk.offset} is unknown and critical; "
            "a newer nvcodec is needed"
        )
    return _ORDER[chunk.type]


def _check_order(chunk: Chunk, previous: Chunk | None) -> None:
    rank = _rank(chunk)
    if previous is None:
        if rank != 0:
            raise CorruptError(f"first chunk is {chunk.type!r}, needed is {VIDEO_HEADER!r}")
    elif rank == 0 or rank < _rank(previous):
        raise CorruptError(
            f"chunk {chunk.type!r} at byte {chunk.offset} follows {previous.type!r}, "
            f"the order is {VIDEO_HEADER}, ancillary, {SEGMENT}, END"
        )


def check_version(header: Chunk) -> None:
    """Raise UnsupportedError for the header of a newer format."""
    # The version comes before anything else of the header: a newer file may differ in the rest.
    if header.payload and header.payload[0] > VERSION_MAJOR:
        raise UnsupportedError(
            f"file has format version {header.payload[0]}, this nvcodec reads version "
            f"{VERSION_MAJOR}; a newer nvcodec is needed"
        )


def _check_end(chunk: Chunk, data: bytes, offset: int) -> None:
    if chunk.payload:
        raise CorruptError(f"END chunk has {len(chunk.payload)} bytes, allowed are 0")
    if offset != len(data):
        raise CorruptError(f"{len(data) - offset} bytes follow the END chunk, allowed are 0")


def _check_count(what: str, count: int, limit: int) -> None:
    if count > limit:
        raise LimitError(f"file has more than {limit} {what}, the limit of this decoder")


def _check_size(chunk: Chunk, limit: int) -> None:
    if len(chunk.payload) > limit:
        raise LimitError(
            f"chunk {chunk.type!r} at byte {chunk.offset} has {len(chunk.payload)} bytes, "
            f"allowed are {limit}"
        )
