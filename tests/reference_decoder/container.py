"""Sections 3, 4, 5 and 14: chunks, records of fields, segments, and what goes with the pictures."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from reference_decoder.errors import Corrupt, TooLarge, Unsupported, check

SIGNATURE = bytes.fromhex("89 4E 52 56 0D 0A 1A 0A")
SINGLE = ("meTA", "tiME", "diSP", "hdRM", "chAP", "taGS")
FORMATS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q", "i32": "<i", "i64": "<q"}
U32, U64 = (1 << 32) - 1, (1 << 64) - 1
I32, I64 = 1 << 31, 1 << 63

# name, type, smallest, largest; a type such as u8*5 is a list of 1 to 5
STREAM_HEADER = (
    ("version_major", "u8", 1, 1),
    ("version_minor", "u8", 0, 255),
    ("width", "u32", 1, 32768),
    ("height", "u32", 1, 32768),
    ("n_frames", "u32", 1, U32),
    ("rate_num", "u32", 1, U32),
    ("rate_den", "u32", 1, U32),
    ("matrix", "u8", 0, 255),
    ("primaries", "u8", 0, 255),
    ("transfer", "u8", 0, 255),
    ("full_range", "u8", 0, 1),
    ("siting", "u8", 0, 6),
    ("color_specified", "u8", 0, 1),
    ("chroma", "u16", 0, 444),
    ("bit_depth", "u8", 8, 16),
    ("n_segments", "u32", 1, U32),
)
SEGMENT_HEADER = (
    ("first_frame", "u32", 0, U32),
    ("n_frames", "u32", 1, U32),
    ("arch_id", "u16", 0, 65535),
    ("tensors_sha256", "u64", 0, U64),
)
TIMING_HEADER = (
    ("time_base_num", "u32", 1, U32),
    ("time_base_den", "u32", 1, U32),
    ("first", "i64", -(1 << 62), 1 << 62),
    ("duration", "u32", 0, U32),
)
DISPLAY = (
    ("sar_num", "u32", 1, U32),
    ("sar_den", "u32", 1, U32),
    ("field_order", "u8", 0, 2),
    *((name, "i32", -I32, I32 - 1) for name in "abucdvxyw"),
)
HDR = (
    *((f"{name}_{axis}", "u16", 0, 50000) for name in ("red", "green", "blue", "white")
      for axis in "xy"),
    ("max_luminance", "u32", 0, U32),
    ("min_luminance", "u32", 0, U32),
    ("max_cll", "u16", 0, 65535),
    ("max_fall", "u16", 0, 65535),
)  # fmt: skip
TRACK_HEADER = (
    ("kind", "u8", 1, 2),
    ("codec", "utf8", 1, 32),
    ("time_base_num", "u32", 1, U32),
    ("time_base_den", "u32", 1, U32),
    ("disposition", "u32", 0, U32),
    ("language", "utf8", 0, 64),
    ("title", "utf8", 0, 1024),
    ("sample_rate", "u32", 0, U32),
    ("channels", "u16", 0, 1024),
    ("channel_mask", "u64", 0, U64),
    ("initial_padding", "u32", 0, U32),
    ("extradata", "blob", 0, 1 << 20),
)
PACKET_PARTS = (
    (1, (("time", "i64", -I64, I64 - 1),)),
    (2, (("duration", "u32", 0, U32),)),
    (4, (("skip_start", "u32", 0, U32), ("skip_end", "u32", 0, U32))),
    (8, (("cue_id", "utf8", 0, 1024), ("cue_settings", "utf8", 0, 1024))),
)
CHAPTER = (
    ("time_base_num", "u32", 1, U32),
    ("time_base_den", "u32", 1, U32),
    ("start", "i64", -I64, I64 - 1),
    ("end", "i64", -I64, I64 - 1),
    ("title", "utf8", 0, 1024),
)
TAG = (("key", "utf8", 1, 64), ("value", "utf8", 0, 4096))

Record = dict[str, Any]


class Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, n_bytes: int) -> bytes:
        check(n_bytes <= self.left, "a field goes beyond the end")
        self.at += n_bytes
        return self.data[self.at - n_bytes : self.at]

    def integer(self, kind: str) -> int:
        form = FORMATS[kind]
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def varint(self, limit: int) -> int:
        value = shift = 0
        while True:
            byte = self.integer("u8")
            value |= (byte & 127) << shift
            shift += 7
            check(value <= limit, "a varint is too large")
            check(byte < 128 or limit >> shift > 0, "a varint has too many bytes")
            check(byte != 0 or shift == 7, "a varint is not in its shortest form")
            if byte < 128:
                return value

    def value(self, kind: str, lo: int, hi: int) -> Any:
        if kind in ("utf8", "blob"):
            n_bytes = self.integer("u16" if kind == "utf8" else "u32")
            check(lo <= n_bytes <= hi, "a length is out of its range")
            data = self.take(n_bytes)
            return text(data) if kind == "utf8" else data
        if "*" in kind:
            kind, most = kind.split("*")
            count = self.integer("u8")
            check(1 <= count <= int(most), "a list has too few or too many entries")
            return [self.value(kind, lo, hi) for _ in range(count)]
        value = self.integer(kind)
        check(lo <= value <= hi, "a field is out of its range")
        return value

    def record(
        self, table: Iterable[tuple[str, str, int, int]], absent: dict[str, int] | None = None
    ) -> Record:
        values = {}
        for name, kind, lo, hi in table:
            missing = self.left == 0 and name in (absent or {})
            values[name] = absent[name] if missing else self.value(kind, lo, hi)
        return values

    def end(self) -> None:
        check(self.left == 0, "bytes follow the last field")


def text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Corrupt("text is not UTF-8") from error


def whole(payload: bytes, table: Iterable[tuple[str, str, int, int]]) -> Record:
    """Read a record that fills the payload."""
    reader = Reader(payload)
    record = reader.record(table)
    reader.end()
    return record


def limit(value: int, most: int, what: str) -> None:
    if value > most:
        raise TooLarge(f"{what}: {value}, at most {most}")


@dataclass
class Chunk:
    type: str
    payload: bytes
    at: int


def read_chunks(data: bytes) -> list[Chunk]:
    """Return all chunks, END included."""
    check(data[:8] == SIGNATURE, "the signature is another one")
    at, chunks = 8, []
    while not chunks or chunks[-1].type != "END ":
        check(len(data) - at >= 12, "the file ends before END")
        n_bytes = int.from_bytes(data[at : at + 4], "little")
        check(n_bytes <= len(data) - at - 12, "a chunk is longer than the file")
        body = data[at + 4 : at + 8 + n_bytes]
        crc = int.from_bytes(data[at + 8 + n_bytes : at + 12 + n_bytes], "little")
        check(zlib.crc32(body) == crc, "a CRC is wrong")
        letters = body[:4] == b"END " or (body[:4].isalpha() and body[:4].isascii())
        check(letters, "a type is not four letters")
        chunks.append(Chunk(body[:4].decode("ascii"), body[4:], at))
        check_chunk(chunks)
        at += 12 + n_bytes
    check(not chunks[-1].payload, "END has a payload")
    check(at == len(data), "bytes follow END")
    return chunks


def rank(chunk: Chunk) -> int:
    if chunk.type[0].islower():
        return 1
    order = {"VHDR": 0, "SEGM": 2, "END ": 3}
    if chunk.type not in order:
        raise Unsupported(f"critical chunk {chunk.type}")
    return order[chunk.type]


def check_chunk(chunks: list[Chunk]) -> None:
    """Check the last of the chunks read so far."""
    chunk, before = chunks[-1], chunks[:-1]
    if chunk.type == "VHDR":
        limit(len(chunk.payload), 65536, "bytes of VHDR")
        # The version comes before anything else.
        if chunk.payload and chunk.payload[0] > 1:
            raise Unsupported(f"version {chunk.payload[0]}")
    check((rank(chunk) == 0) == (not before), "VHDR is not the first chunk, or not the only one")
    check(not before or rank(chunk) >= rank(before[-1]), "chunks are out of order")
    if rank(chunk) == 1:
        limit(sum(rank(c) == 1 for c in chunks), 1024, "ancillary chunks")
        large = chunk.type in ("trAK", "tiME")
        limit(len(chunk.payload), 1 << (30 if large else 20), f"bytes of {chunk.type}")
        check(
            chunk.type not in SINGLE or chunk.type not in [c.type for c in before],
            f"there are two {chunk.type}",
        )


def read_header(payload: bytes) -> Record:
    header = whole(payload, STREAM_HEADER)
    check(header["chroma"] in (420, 422, 444, 400, 0), "the chroma format is unknown")
    limit(header["width"] * header["height"], 1 << 28, "width x height")
    limit(header["n_frames"], 12 * 3600 * 60, "frames")
    limit(header["n_segments"], 65536, "segments")
    return header


def read_segment(payload: bytes) -> tuple[Record, bytes, bytes, bytes]:
    """Return the SegmentHeader, the config, the words and those of the corrections."""
    reader = Reader(payload)
    header = reader.record(SEGMENT_HEADER)
    config = reader.take(reader.integer("u16"))
    check(reader.left % 4 == 0, "the stream is not made of words")
    corrects = header["arch_id"] & ~1023 == 1024
    n_bytes = 4 * reader.integer("u32") if corrects else reader.left
    return header, config, reader.take(n_bytes), reader.take(reader.left)


def check_tiling(header: Record, segments: list[Record]) -> None:
    check(len(segments) == header["n_segments"], "the number of segments is another one")
    frame = 0
    for segment in segments:
        check(segment["first_frame"] == frame, "segments overlap or leave a gap")
        frame += segment["n_frames"]
    check(frame == header["n_frames"], "segments do not cover the video")


def read_times(payload: bytes, n_frames: int) -> tuple[Record, list[int]]:
    """Return the TimingHeader and the tick of every frame."""
    reader = Reader(payload)
    header = reader.record(TIMING_HEADER)
    ticks = [header["first"]]
    while reader.left:
        count, step = reader.varint(n_frames), reader.varint((1 << 53) - 1)
        check(1 <= count <= n_frames - len(ticks) and step >= 1, "a run is empty or too long")
        ticks += [ticks[-1] + step * (i + 1) for i in range(count)]
    check(len(ticks) == n_frames, "the runs do not cover all frames")
    check(ticks[-1] < 1 << 62, "a time is beyond 2^62")
    return header, ticks


def read_records(payload: bytes, table: Any, most: int) -> list[Record]:
    reader, records = Reader(payload), []
    while reader.left:
        check(len(records) < most, "there are too many records")
        records.append(reader.record(table))
    return records


def read_track(payload: bytes) -> Record:
    """Return the TrackHeader, with the packets as a list of records."""
    reader = Reader(payload)
    track = reader.record(TRACK_HEADER)
    n_packets = reader.integer("u32")
    check(n_packets * 3 <= reader.left, "there are more packets than bytes")
    limit(n_packets, 1 << 24, "packets")
    entries, end, duration = [], 0, 0
    for _ in range(n_packets):
        flags = reader.integer("u8")
        check(flags < 32, "a packet has unknown flags")
        entry = {"time": end, "duration": duration, "key": flags < 16}
        entry |= {"skip_start": 0, "skip_end": 0, "cue_id": "", "cue_settings": ""}
        for flag, table in PACKET_PARTS:
            if flags & flag:
                entry |= reader.record(table)
        size = reader.varint((1 << 24) - 1)
        check(size >= 1, "a packet has no bytes")
        duration = entry["duration"]
        end = entry["time"] + duration
        check(-I64 <= end < I64, "a packet ends beyond 64 bits")
        entries.append((size, entry))
    for size, entry in entries:
        entry["data"] = reader.take(size)
    reader.end()
    return track | {"packets": [entry for _, entry in entries]}
