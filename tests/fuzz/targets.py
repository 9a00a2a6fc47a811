"""What the fuzzers call: anything but a BitstreamError that comes out of here is a finding."""

from __future__ import annotations

import dataclasses
import struct
import sys
import zlib
from pathlib import Path

import numpy as np

TESTS = Path(__file__).parents[1]
sys.path[:0] = [str(TESTS), str(TESTS.parent)]

from nvcodec.bitstream.container import CHUNK_OVERHEAD, SIGNATURE  # noqa: E402
from nvcodec.bitstream.header import pack_stream, unpack_stream  # noqa: E402
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

_SHAPES = (
    ((), False), ((1,), False), ((7,), True), ((3, 4), False), ((5, 2, 3), True), ((1, 9), True),
)  # fmt: skip
SPECS = tuple(
    TensorSpec(name=str(i), shape=shape, row_axis=0 if shape else None, temporal=temporal)
    for i, (shape, temporal) in enumerate(_SHAPES)
)


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
    picked = data[0] if data else 0
    specs = [spec for i, spec in enumerate(SPECS) if picked >> i & 1]
    try:
        found = unpack_tensors(specs, data[1:], TINY)
    except BitstreamError:
        return
    again = unpack_tensors([q.spec for q in found], pack_tensors(found), TINY)
    assert tensors_sha256(again) == tensors_sha256([canonical(q) for q in found])


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


def with_new_words(data: bytes, seed: int) -> bytes:
    """Return a file whose first segment holds other weights, valid for its configuration.

    The range coder refuses nearly all words that are not a writer's, so that changed bytes alone
    would hardly ever reach the networks.
    """
    from nvcodec.codec.decoder import empty_model
    from nvcodec.codec.quantize import tensor_specs

    stream = unpack_stream(data, TINY)
    segment = stream.segments[0]
    rng = np.random.default_rng(seed)
    largest, top = int(rng.choice([1, 30, 3000, 32767])), int(rng.choice([130, 200, 256]))
    drawn = []
    for spec in tensor_specs(empty_model(segment, stream.header, TINY)):
        symbols = rng.integers(-largest, largest + 1, spec.shape, dtype=np.int32)
        steps = rng.integers(max(0, top - 60), top, spec.n_rows).astype(np.uint8)
        drawn.append(canonical(QTensor(spec, symbols, steps)))
    header = dataclasses.replace(segment.header, tensors_sha256=tensors_sha256(drawn))
    changed = dataclasses.replace(segment, header=header, payload=pack_tensors(drawn))
    segments = (changed, *stream.segments[1:])
    return pack_stream(dataclasses.replace(stream, segments=segments))


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
    """Return words of valid tensors behind the byte that picks them."""
    rng = np.random.default_rng(0)
    seeds = []
    for picked in range(1 << len(SPECS)):
        made = []
        for i, spec in enumerate(SPECS):
            if picked >> i & 1:
                symbols = np.rint(rng.laplace(0, 4, spec.shape)).astype(np.int32)
                made.append(
                    QTensor(spec, symbols, rng.integers(0, 256, spec.n_rows).astype(np.uint8))
                )
        seeds.append(bytes([picked]) + pack_tensors(made))
    return seeds
