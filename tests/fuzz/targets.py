"""What the fuzzers call: anything but a BitstreamError that comes out of here is a finding."""

from __future__ import annotations

import dataclasses
import struct
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path
from unittest.mock import patch

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from nvcodec.bitstream import entropy  # noqa: E402
from nvcodec.bitstream.block_motion import MAX_VECTOR, Motion  # noqa: E402
from nvcodec.bitstream.container import CHUNK_OVERHEAD, SIGNATURE  # noqa: E402
from nvcodec.bitstream.corrections import (  # noqa: E402
    Corrections,
    grid_shape,
    pack_corrections,
    unpack_corrections,
)
from nvcodec.bitstream.header import Segment, StreamHeader, pack_stream, unpack_stream  # noqa: E402
from nvcodec.bitstream.prediction import is_picture  # noqa: E402
from nvcodec.bitstream.salvage import salvage_stream  # noqa: E402
from nvcodec.bitstream.tensors import (  # noqa: E402
    QTensor,
    TensorSpec,
    canonical,
    pack_tensors,
    tensors_sha256,
    unpack_tensors,
)
from nvcodec.errors import BitstreamError  # noqa: E402
from nvcodec.limits import Limits  # noqa: E402

TINY = Limits(
    max_side=64, max_pixels=1 << 12, max_frames=64, max_params=1 << 15, max_activations=1 << 20,
    max_macs=1 << 26, max_segments=16, max_metadata_bytes=1 << 12, max_track_bytes=1 << 12,
    max_packets=1 << 10,
)  # fmt: skip
"""A decoder for thumbnails, so that thousands of files are drawn in a minute."""

_KINDS = (
    ((), False, 0), ((1,), False, 0), ((7,), True, 0), ((3, 4), False, 0), ((8, 8, 9), False, 2),
    ((5, 2, 3), True, 0), ((2, 5, 10), True, 0),
)  # fmt: skip
"""Shape, whether it spans time, side of its blocks of coefficients."""
SPECS = tuple(
    TensorSpec(
        name=str(i), shape=shape, row_axis=0 if shape else None, temporal=temporal, dct_side=side
    )
    for i, (shape, temporal, side) in enumerate(_KINDS)
)
"""What the low bits of a byte pick; one holds coefficients of blocks, the last may be pictures."""
PREDICTS = 1 << len(SPECS)


def container(data: bytes) -> None:
    """A file is read alike by the strict and the lenient reader, or refused by the strict one."""
    try:
        strict = unpack_stream(data, TINY)
    except BitstreamError:
        strict = None
    try:
        stream, damage = salvage_stream(data, TINY)
    except BitstreamError:
        assert strict is None, "the lenient reader refuses what the strict one reads"
        return
    assert (strict is None) == bool(damage), f"damage is {damage}"
    if strict is not None:
        assert (stream.header, stream.segments) == (strict.header, strict.segments)
        for part in ("metadata", "display", "hdr"):
            assert getattr(stream, part) == getattr(strict, part)
    end = 0
    for segment in stream.segments:
        assert end <= segment.header.first_frame
        end = segment.header.first_frame + segment.header.n_frames
    assert end <= stream.header.n_frames
    lost = sum(item.n_frames for item in damage)
    assert lost + sum(s.header.n_frames for s in stream.segments) == stream.header.n_frames
    for track in stream.extras.tracks:
        assert sum(len(packet.data) for packet in track.packets) <= len(data)


def tensors(data: bytes) -> None:
    """Words are refused, or mean tensors that can be coded again."""
    specs, predicts = picked(data)
    try:
        found = unpack_tensors(specs, data[1:], TINY, predicts=predicts)
    except BitstreamError:
        return
    payload = pack_tensors(found, predicts=predicts)
    again = unpack_tensors([q.spec for q in found], payload, TINY, predicts=predicts)
    assert tensors_sha256(again) == tensors_sha256([canonical(q) for q in found])


def picked(data: bytes) -> tuple[list[TensorSpec], bool]:
    """Return the tensors that the first byte picks, and whether they may be pictures."""
    bits = data[0] if data else 0
    return [spec for i, spec in enumerate(SPECS) if bits >> i & 1], bool(bits & PREDICTS)


def decode_tiny(data: bytes) -> None:
    """A whole file is drawn, first and last frame, or refused; then the lenient reader tries.

    As RGB of 8 bits, and in the file's own form and depth.
    """
    from nvcodec.codec.decoder import VideoFile

    for lenient in (False, True):
        try:
            video = VideoFile(data, device="cpu", limits=TINY, lenient=lenient)
            frames = video[[0, len(video) - 1]]
            header = video.stream.header
            video.bit_depth = header.bit_depth
            own = next(video.drawn([0]))
        except BitstreamError:
            continue
        for part in own if isinstance(own, tuple) else (own,):
            assert part.dtype == (np.uint8 if header.bit_depth == 8 else np.uint16)
            assert part.max() < 1 << header.bit_depth
        assert frames.shape == (2, header.height, header.width, 3)
        assert frames.dtype == np.uint8
        return


def with_checksums(data: bytes) -> bytes:
    """Return a file whose chunks have right checksums, as far as their lengths can be followed."""
    out = bytearray(SIGNATURE + data[len(SIGNATURE) :])
    offset = len(SIGNATURE)
    while offset + CHUNK_OVERHEAD <= len(out):
        (n_bytes,) = struct.unpack_from("<I", out, offset)
        end = offset + 8 + n_bytes
        if end + 4 > len(out):
            break
        struct.pack_into("<I", out, end, zlib.crc32(out[offset + 4 : end]))
        offset = end + 4
    return bytes(out)


def closed_words(specs: Sequence[TensorSpec], words: bytes, seed: int, *, predicts: bool) -> bytes:
    """Return the words that a writer makes of what a reader takes these for; raise BitstreamError.

    Readers refuse all other words, so that changed ones alone would hardly ever be accepted. Where
    the words end too early, others drawn at random follow.
    """
    n_symbols = sum(spec.size + spec.n_rows for spec in specs)
    more = np.random.default_rng(seed).bytes(8 * n_symbols + 1024)
    reader = _OpenReader((words + more)[: (len(words) + len(more)) // 4 * 4])
    with patch("nvcodec.bitstream.tensors.SymbolReader", lambda _: reader):
        unpack_tensors(specs, b"", TINY, predicts=predicts)
    return reader.words()


class _OpenReader(entropy.SymbolReader):
    """A reader that accepts any words, and gives those of a writer."""

    def close(self) -> None:
        pass

    def words(self) -> bytes:
        return self._mirror.get_compressed().astype("<u4").tobytes()


def with_closed_words(data: bytes, seed: int) -> bytes:
    """Return the input of `tensors` with the words of a writer; raise BitstreamError."""
    specs, predicts = picked(data)
    return data[:1] + closed_words(specs, data[1:], seed, predicts=predicts)


def with_new_weights(data: bytes, seed: int) -> bytes:
    """Return a file whose segments hold other weights and corrections, valid for their sizes.

    With even seeds they are what the words of the segment mean to a reader, however they were
    changed; with odd ones all of them are drawn at random, pictures as smooth as real ones.
    """
    stream = unpack_stream(data, TINY)
    segments = []
    for number, segment in enumerate(stream.segments):
        tensors, payload = _new_weights(segment, stream.header, seed + 2 * number)
        header = dataclasses.replace(segment.header, tensors_sha256=tensors_sha256(tensors))
        words = _new_corrections(segment, stream.header, seed)
        changed = dataclasses.replace(segment, header=header, payload=payload, corrections=words)
        segments.append(changed)
    return pack_stream(dataclasses.replace(stream, segments=tuple(segments)))


def _new_weights(segment: Segment, header: StreamHeader, seed: int) -> tuple[list[QTensor], bytes]:
    from nvcodec.codec.contents import empty_model
    from nvcodec.codec.quantize import tensor_specs

    specs, predicts = tensor_specs(empty_model(segment, header, TINY)), segment.header.predicts
    if seed % 2 == 0:
        payload = closed_words(specs, segment.payload, seed, predicts=predicts)
        return unpack_tensors(specs, payload, TINY, predicts=predicts), payload
    rng = np.random.default_rng(seed)
    largest, top = int(rng.choice([1, 30, 3000, 32767])), int(rng.choice([130, 200, 256]))
    drawn = []
    for spec in specs:
        symbols = rng.integers(-largest, largest + 1, spec.shape, dtype=np.int32)
        if is_picture(spec.shape):
            symbols = symbols.cumsum(-1).cumsum(-2).clip(-(1 << 15), (1 << 15) - 1).astype(np.int32)
        steps = rng.integers(max(0, top - 60), top, spec.n_rows).astype(np.uint8)
        drawn.append(canonical(QTensor(spec, symbols, steps)))
    return drawn, pack_tensors(drawn, predicts=predicts)


def _new_corrections(segment: Segment, header: StreamHeader, seed: int) -> bytes:
    if not segment.header.corrects:
        return b""
    size, rng = (segment.header.n_frames, header.height, header.width), np.random.default_rng(seed)
    if seed % 2:
        return pack_corrections(_random_corrections(size, rng))
    words = segment.corrections + rng.bytes(1 << 16)
    reader = _OpenReader(words[: len(words) // 4 * 4])
    with patch("nvcodec.bitstream.corrections.SymbolReader", lambda _: reader):
        unpack_corrections(b"", *size, TINY)
    return reader.words()


def _random_corrections(size: tuple[int, int, int], rng: np.random.Generator) -> Corrections:
    """Return few blocks with coefficients, and none, some or all that move."""
    side = 8 << int(rng.integers(4))
    coded, moved = (rng.random(grid_shape(*size, side)) < rng.choice([0, 0.2, 1]) for _ in range(2))
    coded &= coded.cumsum().reshape(coded.shape) <= 100
    moved[0] = False
    largest, farthest = int(rng.choice([1, 30, 32767])), int(rng.choice([2, 40, MAX_VECTOR]))
    symbols = rng.integers(-largest, largest + 1, (int(coded.sum()), 3, 8, 8), dtype=np.int32)
    vectors = rng.integers(-farthest, farthest + 1, (int(moved.sum()), 2))
    motion = Motion(moved, vectors) if rng.integers(4) else None
    return Corrections(side, int(rng.integers(256)), coded, symbols, motion)


def seed_files() -> list[bytes]:
    """Return small valid files: one of each architecture, of three segments, and with a track."""
    from nrv_factory import join_nrv, make_tiny

    from nvcodec.bitstream.header import add_tracks
    from nvcodec.media import Packet, Track, TrackHeader
    from nvcodec.models import ARCHITECTURES

    files = [make_tiny(arch) for arch in ARCHITECTURES]
    joined = join_nrv(*(make_tiny("hnerv", n, 16, 16, seed=n) for n in (1, 2, 3)))
    header = TrackHeader(kind=1, codec="opus", time_base_num=1, time_base_den=1000)
    packets = tuple(Packet(data=bytes([i]), time=20 * i, duration=20, key=True) for i in range(5))
    vectors = sorted(TESTS.glob("vectors/*common/*.nrv"))
    return [
        *files,
        joined,
        add_tracks(joined, [Track(header, packets)]),
        *(path.read_bytes() for path in vectors if path.stat().st_size <= 4096),
    ]


def seed_tensors() -> list[bytes]:
    """Return words of valid tensors behind the byte that picks them, of every third choice."""
    rng = np.random.default_rng(0)
    seeds = []
    for bits in range(0, 2 * PREDICTS, 3):
        specs, predicts = picked(bytes([bits]))
        made = []
        for spec in specs:
            drawn = rng.laplace(0, 4, spec.shape)
            if predicts and spec.dct_side:
                # Blocks are either busy or still, which lower frequencies say of higher ones.
                drawn *= rng.choice([0, 4], spec.shape[1:], p=[0.8, 0.2])
            elif predicts and is_picture(spec.shape):
                drawn = drawn.cumsum(-1).cumsum(-2)
            steps = rng.integers(0, 256, spec.n_rows).astype(np.uint8)
            made.append(QTensor(spec, np.rint(drawn).astype(np.int32), steps))
        seeds.append(bytes([bits]) + pack_tensors(made, predicts=predicts))
    return seeds
