import dataclasses
import struct
import time
import zlib
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec import fields
from nvcodec.bitstream.container import SIGNATURE, pack_chunk, read_chunks
from nvcodec.bitstream.header import (
    Segment,
    SegmentHeader,
    Stream,
    StreamHeader,
    add_tracks,
    pack_stream,
    unpack_stream,
)
from nvcodec.errors import (
    BitstreamError,
    CorruptError,
    LimitError,
    TruncatedError,
    UnsupportedError,
)
from nvcodec.limits import Limits
from nvcodec.media import Packet, Timing, Track, TrackHeader

HEADER = StreamHeader(
    width=64, height=48, n_frames=5, rate_num=25, rate_den=1, chroma=420, bit_depth=8, n_segments=2
)
SEGMENTS = (
    Segment(SegmentHeader(first_frame=0, n_frames=3, arch_id=1, tensors_sha256=7), b"ab", b"wxyz"),
    Segment(
        SegmentHeader(first_frame=3, n_frames=2, arch_id=2, tensors_sha256=2**64 - 1), b"", b""
    ),
)
STREAM = Stream(HEADER, SEGMENTS, "caf\u00e9".encode())
FILE = pack_stream(STREAM)


def file_of(*chunks):
    return SIGNATURE + b"".join(pack_chunk(type, payload) for type, payload in chunks)


def parts(data=FILE):
    chunks = [(chunk.type, chunk.payload) for chunk in read_chunks(data)]
    return [*chunks, ("END ", b"")]


def header_file(**changes):
    """Return a file whose header holds values that pack_stream would refuse."""
    payload = b"".join(
        struct.pack(
            {"u8": "<B", "u16": "<H", "u32": "<I"}[kind], changes.get(name, getattr(HEADER, name))
        )
        for name, kind, _, _ in fields.describe(StreamHeader)
    )
    return file_of(("VHDR", payload), *parts()[1:])


def segments_file(*ranges):
    """Return a file of 5 frames and the given (first_frame, n_frames)."""
    payloads = [struct.pack("<IIHQH", first, count, 1, 0, 0) for first, count in ranges]
    header = fields.pack(dataclasses.replace(HEADER, n_segments=max(1, len(ranges))))
    return file_of(("VHDR", header), *(("SEGM", payload) for payload in payloads), ("END ", b""))


def test_round_trip():
    assert unpack_stream(FILE) == STREAM
    without_metadata = dataclasses.replace(STREAM, metadata=b"")
    data = pack_stream(without_metadata)
    assert b"meTA" not in data
    assert unpack_stream(data) == without_metadata


def test_largest_numbers_round_trip():
    largest = 2**32 - 1
    header = dataclasses.replace(HEADER, rate_num=largest, rate_den=largest)
    base = Fraction(1, largest)
    timing = Timing(time_base=base, pts=[0, 1, 2, 3, 4], duration=largest)
    stream = unpack_stream(pack_stream(dataclasses.replace(STREAM, header=header, timing=timing)))
    assert stream.header == header
    assert (stream.timing.time_base, stream.timing.duration) == (base, largest)


def test_tracks_go_before_the_first_segment():
    header = TrackHeader(kind=1, codec="opus", time_base_num=1, time_base_den=1000)
    tracks = [Track(header, (Packet(time=0, duration=20, data=bytes([i])),)) for i in range(2)]
    data = add_tracks(FILE, tracks)
    types = [chunk.type for chunk in read_chunks(data)]
    assert types == ["VHDR", "meTA", "trAK", "trAK", "SEGM", "SEGM"]
    stream = unpack_stream(data)
    assert [next(iter(track.packets)).data for track in stream.extras.tracks] == [b"\0", b"\1"]
    assert stream.segments == SEGMENTS


def test_known_bytes():
    assert zlib.crc32(b"123456789") == 0xCBF43926
    assert pack_chunk("END ", b"").hex(" ") == "00 00 00 00 45 4e 44 20 10 7d f1 58"
    assert FILE[:16] == b"\x89NRV\r\n\x1a\n" + struct.pack("<I", 35) + b"VHDR"


@settings(deadline=None)
@given(
    width=st.integers(1, 16_384),
    height=st.integers(1, 16_384),
    lengths=st.lists(st.integers(1, 1000), min_size=1, max_size=8),
    chroma=st.sampled_from([420, 422, 444, 400, 0]),
    config=st.binary(max_size=300),
    words=st.integers(0, 50),
    metadata=st.text(max_size=200),
)
def test_round_trip_of_any_stream(width, height, lengths, chroma, config, words, metadata):
    firsts = [sum(lengths[:i]) for i in range(len(lengths))]
    segments = tuple(
        Segment(
            SegmentHeader(first_frame=first, n_frames=count, arch_id=1, tensors_sha256=first),
            config,
            bytes(4 * words),
        )
        for first, count in zip(firsts, lengths, strict=True)
    )
    header = dataclasses.replace(
        HEADER,
        width=width,
        height=height,
        chroma=chroma,
        n_frames=sum(lengths),
        n_segments=len(lengths),
    )
    stream = Stream(header, segments, metadata.encode())
    assert unpack_stream(pack_stream(stream)) == stream


# --- damage


def test_truncation_at_every_byte():
    for n_bytes in range(len(FILE)):
        with pytest.raises(TruncatedError):
            unpack_stream(FILE[:n_bytes])


def test_flip_of_every_bit():
    for position in range(8 * len(FILE)):
        damaged = bytearray(FILE)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            unpack_stream(bytes(damaged))


@pytest.mark.parametrize("junk", [b"\0", b"\n", FILE, SIGNATURE, pack_chunk("END ", b"")])
def test_bytes_after_the_end(junk):
    with pytest.raises(CorruptError, match="follow the END chunk"):
        unpack_stream(FILE + junk)


@pytest.mark.parametrize("data", [b"\0\0\0 ftypisom", b"\x89PNG\r\n\x1a\n", b"GIF89a", b" " + FILE])
def test_other_file(data):
    with pytest.raises(CorruptError, match=r"not an \.nrv file"):
        unpack_stream(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data.replace(b"\r\n", b"\n"),
        lambda data: data.replace(b"\n", b"\r\n"),
        lambda data: bytes(byte & 0x7F for byte in data),
        lambda data: data.replace(b"\r", b"\n"),
    ],
)
def test_text_mode_transfer(damage):
    with pytest.raises(CorruptError, match="transfer it as binary"):
        unpack_stream(damage(FILE))


@pytest.mark.parametrize("start", [b"", FILE[: len(SIGNATURE)], FILE[: -len(FILE) // 2]])
def test_16_mib_of_noise(start):
    noise = np.random.default_rng(1).bytes(16 << 20)
    began = time.perf_counter()
    with pytest.raises(BitstreamError):
        unpack_stream(start + noise)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize("type", ["juNK", "SEGM"])
def test_16_mib_of_tiny_chunks(type):
    flood = pack_chunk(type, b"") * (1 << 20)
    began = time.perf_counter()
    with pytest.raises(LimitError, match="file has more than"):
        unpack_stream(file_of(parts()[0]) + flood)
    assert time.perf_counter() - began < 1


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_hostile_bytes_with_valid_crc(payload):
    for type in ("VHDR", "SEGM", "meTA", "END "):
        chunks = [(t, payload if t == type else p) for t, p in parts()]
        try:
            stream = unpack_stream(file_of(*chunks))
        except BitstreamError:
            continue
        assert sum(segment.header.n_frames for segment in stream.segments) == stream.header.n_frames


def test_length_of_4_gib():
    data = FILE[:8] + b"\xff\xff\xff\xff" + FILE[12:]
    with pytest.raises(TruncatedError, match="announces 4294967295 bytes"):
        unpack_stream(data)


# --- chunks


def test_unknown_ancillary_chunk_is_skipped():
    header, *rest = parts()
    assert unpack_stream(file_of(header, ("juNK", b"x" * 100), *rest)) == STREAM


def test_unknown_critical_chunk():
    header, *rest = parts()
    with pytest.raises(UnsupportedError, match=r"'AUDI'.*newer nvcodec"):
        unpack_stream(file_of(header, ("AUDI", b""), *rest))


def test_damaged_unknown_ancillary_chunk_is_not_skipped():
    header, *rest = parts()
    data = file_of(header, ("juNK", b"xyz"), *rest).replace(b"xyz", b"xYz")
    with pytest.raises(CorruptError, match="CRC-32"):
        unpack_stream(data)


@pytest.mark.parametrize("type", [b"AB\0D", b"AB D", b"\xc4\xd6\xdc\xdf", b"12AB"])
def test_type_that_is_not_ascii_letters(type):
    body = type + b""
    chunk = struct.pack("<I", 0) + body + struct.pack("<I", zlib.crc32(body))
    with pytest.raises(CorruptError, match="type"):
        unpack_stream(file_of(parts()[0]) + chunk + pack_chunk("END ", b""))


def test_chunks_out_of_order():
    header, metadata, first, second, end = parts()
    for chunks in (
        [metadata, header, first, second, end],
        [first, header, metadata, second, end],
        [header, first, metadata, second, end],
        [header, header, metadata, first, second, end],
        [header, metadata, first, header, second, end],
        [end],
        [metadata, end],
    ):
        with pytest.raises(CorruptError, match="chunk"):
            unpack_stream(file_of(*chunks))


def test_duplicate_metadata():
    header, metadata, *rest = parts()
    with pytest.raises(CorruptError, match="2 meTA chunks"):
        unpack_stream(file_of(header, metadata, metadata, *rest))


def test_missing_end():
    with pytest.raises(TruncatedError, match="before its END chunk"):
        unpack_stream(file_of(*parts()[:-1]))


def test_end_with_payload():
    with pytest.raises(CorruptError, match="END chunk has 1 bytes"):
        unpack_stream(file_of(*parts()[:-1], ("END ", b"x")))


def test_metadata_that_is_not_utf8():
    header, _, *rest = parts()
    with pytest.raises(CorruptError, match="not UTF-8"):
        unpack_stream(file_of(header, ("meTA", b"ok\xff"), *rest))


def test_huge_ancillary_chunk():
    header, _, *rest = parts()
    for type in ("meTA", "juNK"):
        data = file_of(header, (type, bytes((1 << 20) + 1)), *rest)
        with pytest.raises(LimitError, match="1048577 bytes"):
            unpack_stream(data)


def test_chunk_type_of_wrong_length():
    with pytest.raises(ValueError, match="needed are 4"):
        pack_chunk("ABC", b"")


# --- versions


def test_newer_major_version_is_named_before_anything_else():
    with pytest.raises(UnsupportedError, match="version 2") as info:
        unpack_stream(header_file(version_major=2, width=0, bit_depth=99))
    assert info.value.exit_code == 5
    strange = file_of(("VHDR", b"\x02"), ("SEGM", b""), ("NEWC", b""), ("END ", b""))
    with pytest.raises(UnsupportedError, match="version 2"):
        unpack_stream(strange)


def test_older_major_version():
    with pytest.raises(CorruptError, match="version_major is 0"):
        unpack_stream(header_file(version_major=0))


def test_newer_minor_version_is_read():
    assert unpack_stream(header_file(version_minor=9)).header.version_minor == 9


# --- header values


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"width": 0}, CorruptError),
        ({"width": 32_769}, CorruptError),
        ({"height": 2**32 - 1}, CorruptError),
        ({"width": 32_768, "height": 8193}, LimitError),
        ({"n_frames": 0}, CorruptError),
        ({"n_frames": 2_592_001}, LimitError),
        ({"n_segments": 65_537}, LimitError),
        ({"n_segments": 0}, CorruptError),
        ({"rate_num": 0}, CorruptError),
        ({"rate_den": 0}, CorruptError),
        ({"full_range": 2}, CorruptError),
        ({"siting": 7}, CorruptError),
        ({"chroma": 421}, CorruptError),
        ({"chroma": 1}, CorruptError),
        ({"bit_depth": 7}, CorruptError),
        ({"bit_depth": 17}, CorruptError),
    ],
)
def test_header_value_out_of_range(changes, error):
    with pytest.raises(error, match=r"allowed|limit"):
        unpack_stream(header_file(**changes))


def test_largest_allowed_frame():
    assert unpack_stream(header_file(width=32_768, height=8192)).header.height == 8192


def test_stricter_limits():
    for limits in (
        Limits(max_side=63),
        Limits(max_pixels=64 * 48 - 1),
        Limits(max_frames=4),
        Limits(max_segments=1),
        Limits(max_metadata_bytes=4),
    ):
        with pytest.raises(LimitError):
            unpack_stream(FILE, limits)
    exact = Limits(
        max_side=64, max_pixels=64 * 48, max_frames=5, max_segments=2, max_metadata_bytes=5
    )
    assert unpack_stream(FILE, exact) == STREAM


@pytest.mark.parametrize("change", [b"", b"\0" * 200])
def test_header_of_wrong_size(change):
    payload = (parts()[0][1] + change) if change else parts()[0][1][:-1]
    with pytest.raises(BitstreamError, match="VHDR"):
        unpack_stream(file_of(("VHDR", payload), *parts()[1:]))


def test_huge_header_chunk():
    with pytest.raises(LimitError, match="'VHDR'"):
        unpack_stream(file_of(("VHDR", bytes(65_537)), *parts()[1:]))


# --- segments


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 4)],
        [(0, 6)],
        [(0, 2), (3, 2)],
        [(0, 3), (2, 3)],
        [(3, 2), (0, 3)],
        [(0, 3), (0, 3), (3, 2)],
        [(0, 2**32 - 1), (2**32 - 1, 6)],
        [(1, 5)],
        [],
    ],
    ids=["short", "long", "gap", "overlap", "order", "duplicate", "overflow", "late", "none"],
)
def test_segments_that_do_not_tile_the_video(ranges):
    with pytest.raises(CorruptError, match=r"frame|segments"):
        unpack_stream(segments_file(*ranges))


def test_segment_without_frames():
    with pytest.raises(CorruptError, match="n_frames is 0"):
        unpack_stream(segments_file((0, 5), (5, 0)))


def test_wrong_number_of_segments():
    with pytest.raises(CorruptError, match="2 segments, its header says 3"):
        unpack_stream(header_file(n_segments=3))


def test_config_longer_than_the_segment():
    payload = struct.pack("<IIHQH", 0, 5, 1, 0, 500) + bytes(8)
    header = fields.pack(dataclasses.replace(HEADER, n_segments=1))
    with pytest.raises(TruncatedError, match="500 bytes are needed"):
        unpack_stream(file_of(("VHDR", header), ("SEGM", payload), ("END ", b"")))


@pytest.mark.parametrize("n_bytes", [1, 2, 3, 5])
def test_words_cut_in_pieces(n_bytes):
    payload = struct.pack("<IIHQH", 0, 5, 1, 0, 0) + bytes(n_bytes)
    header = fields.pack(dataclasses.replace(HEADER, n_segments=1))
    with pytest.raises(CorruptError, match="multiple of 4"):
        unpack_stream(file_of(("VHDR", header), ("SEGM", payload), ("END ", b"")))


@pytest.mark.parametrize(
    "stream",
    [
        Stream(HEADER, SEGMENTS[:1]),
        Stream(HEADER, SEGMENTS[::-1]),
        Stream(dataclasses.replace(HEADER, chroma=421), SEGMENTS),
        Stream(dataclasses.replace(HEADER, bit_depth=7), SEGMENTS),
        Stream(HEADER, SEGMENTS, bytes(4097)),
        Stream(HEADER, SEGMENTS, b"\xff"),
        Stream(HEADER, (dataclasses.replace(SEGMENTS[0], payload=b"abc"), SEGMENTS[1])),
        Stream(HEADER, (dataclasses.replace(SEGMENTS[0], config=bytes(65_536)), SEGMENTS[1])),
    ],
)
def test_writer_refuses_what_the_reader_would(stream):
    with pytest.raises(ValueError, match=r"allowed|needed|segment|utf-8"):
        pack_stream(stream)
