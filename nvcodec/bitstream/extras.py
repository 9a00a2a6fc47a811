"""Chunks for what a file holds beside its pictures: trAK, chAP, taGS, tiME, diSP and hdRM.

A decoder that knows none of them still shows the video. Numbers of packets and bytes are checked
against the chunk before anything is allocated for them; the packets of a track stay where they are
until somebody asks for them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from nvcodec import fields
from nvcodec.bitstream.container import (
    CHAPTERS,
    CHUNK_OVERHEAD,
    DISPLAY,
    HDR,
    TAGS,
    TIMING,
    TRACK,
    Chunk,
    pack_chunk,
)
from nvcodec.errors import CorruptError, LimitError
from nvcodec.fields import ByteReader, i64, pack_varint, u32
from nvcodec.limits import DEFAULT, Limits
from nvcodec.media import Chapter, Display, Extras, Hdr, Packet, Tag, Timing, Track, TrackHeader

MAX_CHAPTERS = 1024
MAX_TAGS = 256
MAX_PACKET_BYTES = (1 << 24) - 1
MAX_TICKS = (1 << 53) - 1
"""Longest distance in time between two frames."""

_TIME, _DURATION, _SKIP, _CUE, _DEPENDENT = 1, 2, 4, 8, 16
_FLAGS = _TIME | _DURATION | _SKIP | _CUE | _DEPENDENT
_LEAST_BYTES = 3
"""Of a packet: flags, size, and one byte of data."""

_I64 = 1 << 63

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketTime:
    """Where a packet does not follow at once on the one before."""

    time: int = i64(-_I64, _I64 - 1, "ticks of the track at which it is presented")


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketDuration:
    """Where a packet is not as long as the one before."""

    duration: int = u32(0, (1 << 32) - 1, "ticks of the track; 0 unknown")


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketSkip:
    """Samples of a packet that a player drops."""

    skip_start: int = u32(0, (1 << 32) - 1, "samples to drop from its start")
    skip_end: int = u32(0, (1 << 32) - 1, "samples to drop from its end")


@dataclass(frozen=True, slots=True, kw_only=True)
class PacketCue:
    """What WebVTT says of a cue beside its text."""

    cue_id: str = fields.utf8(0, 1024, "identifier of a WebVTT cue")
    cue_settings: str = fields.utf8(0, 1024, "settings of a WebVTT cue")


_PARTS = ((_TIME, PacketTime), (_DURATION, PacketDuration), (_SKIP, PacketSkip), (_CUE, PacketCue))


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingHeader:
    """Start of the payload of a tiME chunk."""

    time_base_num: int = u32(1, (1 << 32) - 1, "seconds of a tick, numerator")
    time_base_den: int = u32(1, (1 << 32) - 1, "seconds of a tick, denominator")
    first: int = i64(-(1 << 62), 1 << 62, "tick at which frame 0 is shown")
    duration: int = u32(0, (1 << 32) - 1, "ticks for which the last frame is shown")


class PackedPackets(Collection[Packet]):
    """The packets of a track in a file, unpacked anew by each iteration."""

    def __init__(self, payload: bytes, offset: int, n_packets: int, data_offset: int) -> None:
        """Refer to entries and data that have been checked."""
        self._payload = payload
        self._offset, self._n_packets, self._data_offset = offset, n_packets, data_offset

    def __len__(self) -> int:
        return self._n_packets

    def __contains__(self, packet: object) -> bool:
        return any(packet == mine for mine in self)

    def __iter__(self) -> Iterator[Packet]:
        reader = ByteReader(self._payload, "a trAK chunk", self._offset)
        position = self._data_offset
        for size, values in _entries(reader, self._n_packets):
            yield Packet(data=self._payload[position : position + size], **values)
            position += size


def _entries(reader: ByteReader, n_packets: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of bytes of each packet, and all else that is known of it."""
    end = duration = 0
    for _ in range(n_packets):
        flags = reader.integer("u8")
        if flags & ~_FLAGS:
            raise CorruptError(
                f"packet flags before byte {reader.offset} of {reader.what} are {flags}, "
                f"allowed are 0 to {_FLAGS}"
            )
        values: dict[str, Any] = {"time": end, "duration": duration, "key": not flags & _DEPENDENT}
        for flag, cls in _PARTS:
            if flags & flag:
                values |= fields.values(fields.unpack(cls, reader))
        size = reader.varint(MAX_PACKET_BYTES)
        if size == 0:
            raise CorruptError(f"{reader.what} has a packet without bytes before {reader.offset}")
        duration = values["duration"]
        end = values["time"] + duration
        if not -_I64 <= end < _I64:
            raise CorruptError(f"a packet of {reader.what} ends at tick {end}, beyond 64 bits")
        yield size, values


def pack_track(track: Track) -> bytes:
    """Return the payload of a trAK chunk; raise ValueError for what it cannot hold."""
    table, data = bytearray(), bytearray()
    end = duration = n_packets = 0
    for packet in track.packets:
        if not 1 <= len(packet.data) <= MAX_PACKET_BYTES:
            raise ValueError(
                f"packet has {len(packet.data)} bytes, allowed are 1 to {MAX_PACKET_BYTES}"
            )
        flags = (
            _TIME * (packet.time != end)
            + _DURATION * (packet.duration != duration)
            + _SKIP * bool(packet.skip_start or packet.skip_end)
            + _CUE * bool(packet.cue_id or packet.cue_settings)
            + _DEPENDENT * (not packet.key)
        )
        table.append(flags)
        for flag, cls in _PARTS:
            if flags & flag:
                table += fields.pack(fields.take(cls, packet))
        table += pack_varint(len(packet.data))
        data += packet.data
        duration = packet.duration
        end = packet.time + duration
        n_packets += 1
    count = n_packets.to_bytes(4, "little")
    return fields.pack(track.header) + count + bytes(table) + bytes(data)


def unpack_track(payload: bytes, what: str, limits: Limits = DEFAULT) -> Track:
    """Read and check the payload of a trAK chunk; raise BitstreamError."""
    reader = ByteReader(payload, what)
    header = fields.unpack(TrackHeader, reader)
    n_packets = reader.integer("u32")
    if n_packets * _LEAST_BYTES > reader.n_left:
        raise CorruptError(f"{what} has {reader.n_left} bytes for {n_packets} packets")
    if n_packets > limits.max_packets:
        raise LimitError(f"{what} has {n_packets} packets, the limit is {limits.max_packets}")
    start = reader.offset
    n_bytes = sum(size for size, _ in _entries(reader, n_packets))
    if n_bytes != reader.n_left:
        raise CorruptError(f"{what} has {reader.n_left} bytes of packets, announced are {n_bytes}")
    return Track(header, PackedPackets(payload, start, n_packets, reader.offset))


def pack_extras(extras: Extras) -> list[bytes]:
    """Return the chunks of everything but the tracks."""
    chunks = []
    for type, records, limit in (
        (CHAPTERS, extras.chapters, MAX_CHAPTERS),
        (TAGS, extras.tags, MAX_TAGS),
    ):
        if len(records) > limit:
            raise ValueError(f"{len(records)} records for {type}, allowed are {limit}")
        if records:
            chunks.append(pack_chunk(type, b"".join(fields.pack(record) for record in records)))
    return chunks


def pack_tracks(tracks: Iterable[Track]) -> list[bytes]:
    """Return one chunk for each track."""
    return [pack_chunk(TRACK, pack_track(track)) for track in tracks]


def track_bytes(tracks: Iterable[Track]) -> tuple[int, int]:
    """Return how many bytes of a file hold sound, and how many hold subtitles."""
    audio = subtitles = 0
    for track in tracks:
        n_bytes = CHUNK_OVERHEAD + len(pack_track(track))
        audio += n_bytes if track.is_audio else 0
        subtitles += 0 if track.is_audio else n_bytes
    return audio, subtitles


def unpack_extras(chunks: list[Chunk], limits: Limits = DEFAULT) -> Extras:
    """Read tracks, chapters and tags from the chunks of a file; raise BitstreamError."""
    found = [chunk for chunk in chunks if chunk.type == TRACK]
    if len(found) > limits.max_tracks:
        raise LimitError(f"file has {len(found)} tracks, the limit is {limits.max_tracks}")
    tracks = [
        unpack_track(chunk.payload, f"the {TRACK} chunk at byte {chunk.offset}", limits)
        for chunk in found
    ]
    return Extras(
        tracks=tuple(tracks),
        chapters=_unpack_records(Chapter, single(chunks, CHAPTERS), MAX_CHAPTERS),
        tags=_unpack_records(Tag, single(chunks, TAGS), MAX_TAGS),
    )


def single(chunks: list[Chunk], type: str) -> Chunk | None:
    """Return the chunk of a type, of which a file has at most one; raise CorruptError."""
    found = [chunk for chunk in chunks if chunk.type == type]
    if len(found) > 1:
        raise CorruptError(f"file has {len(found)} {type} chunks, allowed is 1")
    return found[0] if found else None


def _unpack_records(cls: type[T], chunk: Chunk | None, limit: int) -> tuple[T, ...]:
    if chunk is None:
        return ()
    reader = ByteReader(chunk.payload, f"the {chunk.type} chunk")
    records: list[T] = []
    while reader.n_left:
        if len(records) == limit:
            raise CorruptError(f"{reader.what} has more than {limit} records")
        records.append(fields.unpack(cls, reader))
    return tuple(records)


def pack_timing(timing: Timing) -> bytes:
    """Return the chunk for the times of frames, runs of equal distances; raise ValueError."""
    header = TimingHeader(
        time_base_num=timing.time_base.numerator,
        time_base_den=timing.time_base.denominator,
        first=timing.pts[0],
        duration=timing.duration,
    )
    runs: list[list[int]] = []
    for before, after in zip(timing.pts, timing.pts[1:], strict=False):
        step = after - before
        if not 1 <= step <= MAX_TICKS:
            raise ValueError(f"frames are {step} ticks apart, allowed are 1 to {MAX_TICKS}")
        if runs and runs[-1][1] == step:
            runs[-1][0] += 1
        else:
            runs.append([1, step])
    coded = b"".join(pack_varint(count) + pack_varint(step) for count, step in runs)
    return pack_chunk(TIMING, fields.pack(header) + coded)


def pack_display(display: Display) -> bytes:
    """Return the chunk that says how frames are shown."""
    return pack_chunk(DISPLAY, fields.pack(display))


def unpack_display(chunk: Chunk) -> Display:
    """Read a diSP chunk; raise BitstreamError."""
    return _unpack_record(Display, chunk)


def pack_hdr(hdr: Hdr) -> bytes:
    """Return the chunk for the light of display and video."""
    return pack_chunk(HDR, fields.pack(hdr))


def unpack_hdr(chunk: Chunk) -> Hdr:
    """Read a hdRM chunk; raise BitstreamError."""
    return _unpack_record(Hdr, chunk)


def _unpack_record(cls: type[T], chunk: Chunk) -> T:
    reader = ByteReader(chunk.payload, f"the {chunk.type} chunk")
    record = fields.unpack(cls, reader)
    if reader.n_left:
        raise CorruptError(f"{reader.what} has {reader.n_left} bytes too many")
    return record


def unpack_timing(chunk: Chunk, n_frames: int) -> Timing:
    """Read a tiME chunk for a video of so many frames; raise BitstreamError."""
    reader = ByteReader(chunk.payload, f"the {TIMING} chunk")
    header = fields.unpack(TimingHeader, reader)
    pts = [header.first]
    while reader.n_left:
        count = reader.varint(n_frames)
        step = reader.varint(MAX_TICKS)
        if not (1 <= count <= n_frames - len(pts) and step):
            raise CorruptError(f"{reader.what} has a run of {count} steps of {step} ticks")
        pts.extend(range(pts[-1] + step, pts[-1] + step * count + 1, step))
    if len(pts) != n_frames:
        raise CorruptError(f"{reader.what} has times of {len(pts)} frames, needed are {n_frames}")
    if pts[-1] >= 1 << 62:
        raise CorruptError(f"{reader.what} ends at tick {pts[-1]}, beyond 62 bits")
    return Timing(
        time_base=Fraction(header.time_base_num, header.time_base_den),
        pts=pts,
        duration=header.duration,
    )
