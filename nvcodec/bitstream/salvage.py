"""What is left of a damaged file: the segments that are whole, and a list of what is lost.

Every segment stands alone: its chunk has a checksum and says which frames it draws. Behind damage
the next sound chunk is searched for by its type, so that even a wrong length costs only its own
chunk. Without a sound VHDR chunk there is nothing to salvage.
"""

from __future__ import annotations

import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from nvcodec.bitstream.container import (
    CHUNK_OVERHEAD,
    END,
    SEGMENT,
    SIGNATURE,
    TRACK,
    VIDEO_HEADER,
    Chunk,
    check_limits,
    check_signature,
    check_version,
    read_chunk,
)
from nvcodec.bitstream.header import (
    Segment,
    Stream,
    StreamHeader,
    assemble,
    unpack_header,
    unpack_segment,
    unpack_stream,
)
from nvcodec.errors import BitstreamError, CorruptError, UnsupportedError
from nvcodec.limits import DEFAULT, Limits

_TYPES = re.compile(rb"SEGM|END |trAK|tiME|diSP|hdRM|chAP|taGS|meTA")
_SEARCH_BUDGET = 4
"""Bytes that the search may check, in lengths of the file: it stays linear for any file."""
_CANDIDATE_COST = 64
_MAX_REASONS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """A run of frames, or something beside the frames, that a file has lost."""

    first_frame: int
    n_frames: int
    """0 where no frame is lost."""
    reason: str


def salvage_stream(data: bytes, limits: Limits = DEFAULT) -> tuple[Stream, list[Damage]]:
    """Return the sound chunks of a file as a stream, whose segments may leave gaps, and the rest.

    Raises BitstreamError where the header itself is damaged, and for what no damage explains: a
    newer version, or more than the limits allow.
    """
    try:
        return unpack_stream(data, limits), []
    except BitstreamError as error:
        stream, damage = _salvage(data, limits)
        # Not all that a strict reader refuses is seen here, such as a wrong number of segments.
        return stream, damage or [Damage(first_frame=0, n_frames=0, reason=str(error))]


def _salvage(data: bytes, limits: Limits) -> tuple[Stream, list[Damage]]:
    check_signature(data)
    first = read_chunk(data, len(SIGNATURE))
    if first.type != VIDEO_HEADER:
        raise CorruptError(f"first chunk is {first.type!r}, needed is {VIDEO_HEADER!r}")
    counts: Counter[str] = Counter()
    check_limits(first, counts, limits)
    check_version(first)
    header = unpack_header(first, limits)

    segments: list[Segment] = []
    beside: list[Chunk] = []
    damage: list[Damage] = []
    reasons: list[str] = []
    next_frame = 0

    def note_gap(end: int) -> None:
        lost = end - next_frame
        if lost and not reasons:
            reasons.append("no segment of the file has these frames")
        if reasons:
            reason = "; ".join(reasons[:_MAX_REASONS])
            damage.append(Damage(first_frame=next_frame, n_frames=lost, reason=reason))
            reasons.clear()

    for chunk in _Search(data).chunks(first):
        if isinstance(chunk, str):
            reasons.append(chunk)
            continue
        check_limits(chunk, counts, limits)
        if chunk.type == VIDEO_HEADER or (chunk.ancillary and segments):
            reasons.append(f"chunk {chunk.type!r} at byte {chunk.offset} is out of its order")
        elif chunk.ancillary:
            beside.append(chunk)
        elif chunk.type == SEGMENT:
            try:
                segment = unpack_segment(chunk)
            except BitstreamError as error:
                reasons.append(str(error))
                continue
            start = segment.header.first_frame
            end = start + segment.header.n_frames
            if not next_frame <= start < end <= header.n_frames:
                reasons.append(
                    f"segment at byte {chunk.offset} has frames {start} to {end - 1}, "
                    "which are taken or not of this video"
                )
                continue
            note_gap(start)
            segments.append(segment)
            next_frame = end
        else:
            raise UnsupportedError(
                f"chunk {chunk.type!r} at byte {chunk.offset} is unknown and critical; "
                "a newer nvcodec is needed"
            )
    note_gap(header.n_frames)
    sound = _readable(header, beside, limits, damage)
    return assemble(header, tuple(segments), sound, limits), damage


class _Search:
    """Walks through the sound chunks of a file, at a cost that is linear in its length."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._budget = _SEARCH_BUDGET * len(data)

    def chunks(self, first: Chunk) -> Iterator[Chunk | str]:
        """Yield the chunks after the first one up to END, and a sentence for each damage."""
        offset = first.offset + CHUNK_OVERHEAD + len(first.payload)
        while True:
            try:
                chunk = read_chunk(self._data, offset)
            except BitstreamError as error:
                yield str(error)
                offset = self._next_chunk(offset)
                if offset == len(self._data):
                    return
                continue
            offset += CHUNK_OVERHEAD + len(chunk.payload)
            if chunk.type == END:
                if offset != len(self._data):
                    yield f"{len(self._data) - offset} bytes follow the END chunk"
                return
            yield chunk

    def _next_chunk(self, damaged: int) -> int:
        """Return where the next sound chunk after a damaged one begins, or the file's end."""
        for match in _TYPES.finditer(self._data, damaged + 5):
            offset = match.start() - 4
            (n_bytes,) = struct.unpack_from("<I", self._data, offset)
            self._budget -= _CANDIDATE_COST
            if offset + CHUNK_OVERHEAD + n_bytes <= len(self._data):
                self._budget -= n_bytes
                if self._budget < 0:
                    break
                try:
                    read_chunk(self._data, offset)
                except BitstreamError:
                    continue
                return offset
            if self._budget < 0:
                break
        return len(self._data)


def _readable(
    header: StreamHeader, chunks: list[Chunk], limits: Limits, damage: list[Damage]
) -> list[Chunk]:
    """Return the ancillary chunks that can be read, each but tracks once; note the others."""
    sound: list[Chunk] = []
    seen: set[str] = set()
    for chunk in chunks:
        reason = f"file has another {chunk.type} chunk at byte {chunk.offset}"
        if chunk.type not in seen:
            try:
                assemble(header, (), [chunk], limits)
            except BitstreamError as error:
                reason = str(error)
            else:
                sound.append(chunk)
                seen |= {chunk.type} - {TRACK}
                continue
        damage.append(Damage(first_frame=0, n_frames=0, reason=reason))
    return sound
