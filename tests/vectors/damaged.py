"""Recipes of files that every decoder must reject, one for each way to be wrong."""

from __future__ import annotations

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest.mock import patch

import numpy as np
from networks import file_of, header_of, random_network, rounded, segment_of, spots
from numpy.typing import NDArray
from valid import BASES, COMMON, HNERV, SOUND, TAGS, plain, with_chunks

from nvcodec import fields
from nvcodec.bitstream import block_motion, corrections, laplace
from nvcodec.bitstream.container import SIGNATURE, pack_chunk, read_chunks
from nvcodec.bitstream.entropy import SymbolWriter
from nvcodec.bitstream.extras import pack_track
from nvcodec.bitstream.header import (
    Segment,
    SegmentHeader,
    Stream,
    StreamHeader,
    pack_stream,
    unpack_stream,
)
from nvcodec.bitstream.tensors import QTensor, canonical, pack_tensors, tensors_sha256
from nvcodec.codec.contents import empty_model
from nvcodec.codec.quantize import tensor_specs
from nvcodec.errors import (
    BitstreamError,
    CorruptError,
    LimitError,
    TruncatedError,
    UnsupportedError,
)
from nvcodec.media import Tag
from nvcodec.models import ARCHITECTURES
from nvcodec.models.base import shape_only

U32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    what: str
    build: Callable[[], bytes]
    error: type[BitstreamError]
    message: str
    """A part of the product's sentence."""
    valid: bool = False
    """Whether the file is valid but asks for more work than the product takes on."""


def fault(
    what: str,
    build: Callable[[], bytes],
    message: str,
    error: type[BitstreamError] = CorruptError,
    *,
    valid: bool = False,
) -> Fault:
    return Fault(what=what, build=build, error=error, message=message, valid=valid)


@cache
def base() -> bytes:
    """Return the file that most faults are made of."""
    return COMMON["smallest"][1]()


def chunks_of(data: bytes) -> list[tuple[str, bytes]]:
    return [*((chunk.type, chunk.payload) for chunk in read_chunks(data)), ("END ", b"")]


def file_of_chunks(*chunks: tuple[str, bytes]) -> bytes:
    return SIGNATURE + b"".join(pack_chunk(*chunk) for chunk in chunks)


def raw(record: Any, changes: dict[str, int]) -> bytes:
    """Return the bytes of a record some of whose integers are out of their range."""
    formats = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q"}
    values = dataclasses.asdict(record) | changes
    return b"".join(
        struct.pack(formats[kind], values[name]) for name, kind, _, _ in fields.describe(record)
    )


def header(**changes: int) -> bytes:
    """Return the base with other, possibly impossible, fields of the StreamHeader."""
    (_, _), *others = chunks_of(base())
    payload = raw(unpack_stream(base()).header, changes)
    return file_of_chunks(("VHDR", payload), *others)


def segment(
    config: bytes | None = None,
    words: bytes | None = None,
    data: bytes | None = None,
    **changes: int,
) -> bytes:
    """Return a file with another config, other words or other fields of its SegmentHeader."""
    data = base() if data is None else data
    first, (_, _), end = chunks_of(data)
    (old,) = unpack_stream(data).segments
    config = old.config if config is None else config
    words = old.payload if words is None else words
    payload = raw(old.header, changes) + struct.pack("<H", len(config)) + config + words
    return file_of_chunks(first, ("SEGM", payload), end)


def spots_of_base() -> bytes:
    """Return the words of corrections that suit the base."""
    found = unpack_stream(base())
    model = empty_model(found.segments[0], found.header)
    return spots(model, side=8, step=160, blocks=(0, 3))


def corrected_beyond_the_end() -> bytes:
    """Return a file with 66 corrected blocks and a coefficient in the place of the 128th."""

    def with_another(symbols: NDArray[np.int32]) -> NDArray[np.int64]:
        planes = lay_out(symbols)
        planes[5, -1, -1] = 1
        return planes

    model = random_network("hnerv", HNERV, n_frames=6, width=27, height=19)
    lay_out = corrections._lay_out
    with patch.object(corrections, "_lay_out", with_another):
        return file_of(model, corrections=spots(model, side=8, step=160, blocks=range(66)))


def moving(words: bytes | None = None, **parts: Any) -> bytes:
    """Return a file of three frames of 12 blocks with these words of corrections, or with spots."""
    model = random_network("hnerv", HNERV, n_frames=3, width=27, height=19)
    if words is None:
        words = spots(model, **{"side": 8, "step": 160, "blocks": ()} | parts)
    return file_of(model, corrections=words)


def moved_too_far() -> bytes:
    """Return a file with a block that moves by 1024 half pixels."""
    with patch.object(block_motion, "MAX_VECTOR", 1024):
        return moving(moved={14: (3, -2), 15: (3, 1024)})


def moved_without_blocks() -> bytes:
    """Return a file whose last frame is said to have blocks that move, and has none."""
    writer = SymbolWriter()
    for value, n in ((0, 4), (160, 256), (1, 2), (0, 2), (1, 2)):
        writer.uniform(np.array([value]), n)
    for n_probabilities, n_blocks in ((22, 12), (44, 36)):
        writer.uniform(np.zeros(n_probabilities, dtype=np.int64), 256)
        writer.bits(np.zeros(n_blocks, dtype=np.bool_), 0)
    return moving(writer.finish())


def motion_cut() -> bytes:
    """Return a file whose corrections end among the vectors of blocks."""
    (segment,) = unpack_stream(moving(moved={i: (i * i % 90, -i) for i in range(12, 36)})).segments
    return moving(segment.corrections[:-20])


def corrected(given: bytes | None = None, arch_id: int = 1 + 1024) -> bytes:
    """Return the base with these words of corrections, or with sound ones."""
    words = spots_of_base() if given is None else given
    payload = unpack_stream(base()).segments[0].payload
    n_words = struct.pack("<I", len(payload) // 4)
    return segment(words=n_words + payload + words, arch_id=arch_id)


def config(arch: str, **changes: Any) -> bytes:
    """Return a file with a config that `fields.pack` or the network would refuse, without words."""
    arch_id, cls = ARCHITECTURES[arch]
    given = cls.Config(**BASES[arch])
    out = b""
    for name, kind, _, _ in fields.describe(cls.Config):
        value = changes.get(name, getattr(given, name))
        if "[" in kind:
            out += struct.pack("<B", len(value)) + bytes(value)
        else:
            out += struct.pack("<B" if kind == "u8" else "<H", value)
    return segment(out, b"", arch_id=arch_id)


def tiled(*runs: tuple[int, int]) -> bytes:
    """Return a file of 4 frames whose two segments claim these first frames and lengths."""
    model = random_network("hnerv", HNERV | {"fc_dim": 3}, n_frames=2)
    part = segment_of(model, rounded(model))
    payloads = []
    for first_frame, n_frames in runs:
        changed = dataclasses.replace(part.header, first_frame=first_frame, n_frames=n_frames)
        size = struct.pack("<H", len(part.config))
        payloads.append(("SEGM", raw(changed, {}) + size + part.config + part.payload))
    head = StreamHeader(
        width=24, height=16, n_frames=4, rate_num=25, rate_den=1, chroma=420, bit_depth=8,
        n_segments=2,
    )  # fmt: skip
    return file_of_chunks(("VHDR", fields.pack(head)), *payloads, ("END ", b""))


def stream(first: Callable[[SymbolWriter, Any], None], n_frames: int = 1) -> bytes:
    """Return a file whose first tensor, the embeddings, is written by `first`."""
    model = random_network("hnerv", HNERV | {"fc_dim": 3}, n_frames=n_frames)
    tensors = [canonical(q) for q in rounded(model)]
    whole = segment_of(model, tensors)
    writer = SymbolWriter()
    first(writer, tensors[0])
    # What follows is sound, so that nothing else can be found wrong.
    for q in tensors[1:]:
        _append(writer, q)
    head = StreamHeader(
        width=24, height=16, n_frames=n_frames, rate_num=25, rate_den=1, chroma=420, bit_depth=8,
        n_segments=1,
    )  # fmt: skip
    size = struct.pack("<H", len(whole.config))
    payload = fields.pack(whole.header) + size + whole.config + writer.finish()
    return file_of_chunks(("VHDR", fields.pack(head)), ("SEGM", payload), ("END ", b""))


def _append(writer: SymbolWriter, q: Any) -> None:
    """Code a tensor as one row with a wide table."""
    if q.spec.shape:
        writer.uniform(np.array([0]), 1 + min(2, len(q.spec.shape)))
    writer.uniform(np.array([100]), 256)
    writer.uniform(np.array([24]), 64)
    writer.laplace(q.symbols, 24)


def bad_escape(writer: SymbolWriter, q: Any) -> None:
    """Escape the largest value that has a symbol of its own."""
    writer.uniform(np.array([0]), 3)
    writer.uniform(np.array([0]), 2)
    writer.uniform(np.array([100]), 256)
    writer.uniform(np.array([20]), 64)
    largest = laplace.support(20)
    # The next value is escaped; its plain form is then exchanged.
    coded = q.symbols.ravel().copy()
    coded[0] = largest + 1
    plain_form = writer.uniform
    writer.uniform = lambda values, n: plain_form(np.full_like(values, (1 << 15) + largest), n)
    try:
        writer.laplace(coded, 20)
    finally:
        writer.uniform = plain_form


def bad_index(n: int, first: int, delta: int) -> Callable[[SymbolWriter, Any], None]:
    """Return a writer of three rows whose step (n 256) or scale (n 64) leaves its range."""

    def write(writer: SymbolWriter, q: Any) -> None:
        writer.uniform(np.array([2]), 3)
        writer.uniform(np.array([0]), 2)
        for size in (256, 64):
            writer.uniform(np.array([first if size == n else 20]), size)
            writer.uniform(np.array([16]), 64)
            writer.laplace(np.array([delta if size == n else 0, 0]), 16)
        writer.laplace(q.symbols, 20)

    return write


def too_far(writer: SymbolWriter, q: Any) -> None:
    """Code differences that add up to 32768."""
    differences = np.zeros(q.symbols.shape, np.int32)
    differences[0], differences[1] = 32767, 1
    writer.uniform(np.array([0]), 3)
    writer.uniform(np.array([1]), 2)
    writer.uniform(np.array([100]), 256)
    writer.uniform(np.array([60]), 64)
    writer.laplace(differences, 60)


def extra(type: str, payload: bytes, count: int = 1) -> bytes:
    return with_chunks(base(), *[(type, payload)] * count)


def times(runs: bytes, time_base_den: int = 25, first: int = 0) -> bytes:
    """Return a file of 4 frames with these runs in its tiME chunk."""
    head = struct.pack("<IIqI", 1, time_base_den, first, 1)
    return with_chunks(plain(), ("tiME", head + runs))


def track(entries: bytes, data: bytes = b"", n_packets: int = 1, **changes: Any) -> bytes:
    """Return a file with a track of these packet entries."""
    head = fields.pack(dataclasses.replace(SOUND.header, **changes))
    return extra("trAK", head + struct.pack("<I", n_packets) + entries + data)


def display(**changes: int) -> bytes:
    values = {"sar_num": 1, "sar_den": 1, "field_order": 0} | changes
    return struct.pack("<IIB", *values.values()) + bytes(36)


def flipped(at: int, bit: int = 0) -> bytes:
    data = bytearray(base())
    data[at] ^= 1 << bit
    return bytes(data)


def words(change: Callable[[bytes], bytes]) -> bytes:
    """Return the base with changed words and correct checksums."""
    (old,) = unpack_stream(base()).segments
    return segment(words=change(old.payload))


def long_config() -> bytes:
    """Return a segment whose config claims 65535 bytes."""
    first, (_, payload), end = chunks_of(base())
    at = struct.calcsize("<IIHQ")
    return file_of_chunks(first, ("SEGM", payload[:at] + b"\xff\xff" + payload[at + 2 :]), end)


def large(arch: str, height: int = 16384, **changes: Any) -> bytes:
    """Return a file of one frame, 16384 pixels wide, whose weights are all zero."""
    cls = ARCHITECTURES[arch][1]
    model = shape_only(cls, cls.Config(**BASES[arch] | changes), 1, height, 16384)
    tensors = [
        QTensor(spec, np.zeros(spec.shape, np.int32), np.zeros(spec.n_rows, np.uint8))
        for spec in tensor_specs(model)
    ]
    head = SegmentHeader(
        first_frame=0, n_frames=1, arch_id=ARCHITECTURES[arch][0],
        tensors_sha256=tensors_sha256(tensors),
    )  # fmt: skip
    part = Segment(head, fields.pack(model.config), pack_tensors(tensors))
    return pack_stream(Stream(header_of([part], width=16384, height=height), (part,)))


def next_word(word: bytes) -> bytes:
    return ((int.from_bytes(word, "little") + 1) % (1 << 32)).to_bytes(4, "little")


CUT, LIMIT, NEW = TruncatedError, LimitError, UnsupportedError

FAULTY: dict[str, Fault] = {
    # the container
    "empty": fault("No byte at all", lambda: b"", "inside the .nrv signature", CUT),
    "signature-cut": fault("5 bytes", lambda: base()[:5], "inside the .nrv signature", CUT),
    "signature-text": fault(
        "Line ends were converted in a transfer as text",
        lambda: base().replace(b"\r\n", b"\n"), "transfer as text",
    ),
    "signature-other": fault(
        "A PNG signature", lambda: b"\x89PNG" + base()[4:], "not an .nrv file"
    ),
    "header-cut": fault("Ends within VHDR", lambda: base()[:30], "announces", CUT),
    "segment-cut": fault("Ends within SEGM", lambda: base()[:-40], "announces", CUT),
    "end-missing": fault("Ends without END", lambda: base()[:-12], "before its END", CUT),
    "end-cut": fault("Ends within END", lambda: base()[:-1], "before its END", CUT),
    "end-payload": fault(
        "END with a payload", lambda: file_of_chunks(*chunks_of(base())[:-1], ("END ", b"x")),
        "END chunk has 1 bytes",
    ),
    "trailing-byte": fault("A byte after END", lambda: base() + b"\0", "follow the END chunk"),
    "trailing-file": fault(
        "A second file after END", lambda: base() + base(), "follow the END chunk"
    ),
    "crc-header": fault("A bit of VHDR flipped", lambda: flipped(20), "CRC-32"),
    "crc-segment": fault("A bit of SEGM flipped", lambda: flipped(-30, 7), "CRC-32"),
    "crc-end": fault("A bit of END's CRC flipped", lambda: flipped(-1), "CRC-32"),
    "crc-ancillary": fault(
        "A wrong CRC of an unknown ancillary chunk",
        lambda: extra("abCD", b"text").replace(b"text", b"next"), "CRC-32",
    ),
    "length-beyond": fault(
        "A chunk that announces 4294967295 bytes",
        lambda: base()[:8] + struct.pack("<I", U32) + base()[12:], "announces 4294967295", CUT,
    ),
    "type-digit": fault(
        "A chunk type with a digit", lambda: extra("ab1D", b""), "allowed are letters"
    ),
    "unknown-critical": fault(
        "An unknown critical chunk", lambda: extra("NEWC", b""), "unknown and critical", NEW
    ),
    "header-missing": fault(
        "SEGM comes first", lambda: file_of_chunks(*chunks_of(base())[1:]), "first chunk is"
    ),
    "header-twice": fault(
        "Two VHDR", lambda: file_of_chunks(chunks_of(base())[0], *chunks_of(base())), "follows"
    ),
    "ancillary-late": fault(
        "An ancillary chunk after SEGM",
        lambda: file_of_chunks(*chunks_of(base())[:-1], ("abCD", b""), ("END ", b"")), "follows",
    ),
    "metadata-twice": fault("Two meTA", lambda: extra("meTA", b"a", 2), "has 2 meTA chunks"),
    "times-twice": fault(
        "Two tiME", lambda: with_chunks(base(), *[("tiME", struct.pack("<IIqI", 1, 1, 0, 1))] * 2),
        "has 2 tiME chunks",
    ),
    "ancillary-flood": fault(
        "1025 empty ancillary chunks", lambda: extra("abCD", b"", 1025), "more than 1024", LIMIT
    ),
    # the stream header
    "version-2": fault("Major version 2", lambda: header(version_major=2), "version 2", NEW),
    "version-255": fault(
        "Major version 255 and nothing else in VHDR",
        lambda: file_of_chunks(("VHDR", b"\xff"), *chunks_of(base())[1:]), "version 255", NEW,
    ),
    "version-0": fault("Major version 0", lambda: header(version_major=0), "version_major is 0"),
    "header-empty": fault(
        "An empty VHDR", lambda: file_of_chunks(("VHDR", b""), *chunks_of(base())[1:]),
        "VHDR chunk ends", CUT,
    ),
    "header-short": fault(
        "VHDR without its last byte",
        lambda: file_of_chunks(("VHDR", chunks_of(base())[0][1][:-1]), *chunks_of(base())[1:]),
        "VHDR chunk ends", CUT,
    ),
    "header-long": fault(
        "VHDR with a byte too many",
        lambda: file_of_chunks(("VHDR", chunks_of(base())[0][1] + b"\0"), *chunks_of(base())[1:]),
        "too many",
    ),
    "width-0": fault("Width 0", lambda: header(width=0), "width is 0"),
    "height-32769": fault("Height 32769", lambda: header(height=32769), "height is 32769"),
    "pixels": fault(
        "Frames of 32768x32768", lambda: header(width=32768, height=32768), "width x height", LIMIT
    ),
    "frames-0": fault("No frame", lambda: header(n_frames=0), "n_frames is 0"),
    "frames-many": fault("2592001 frames", lambda: header(n_frames=2592001), "n_frames is", LIMIT),
    "frames-most": fault("4294967295 frames", lambda: header(n_frames=U32), "n_frames is", LIMIT),
    "rate-0": fault("No frames per second", lambda: header(rate_num=0), "rate_num is 0"),
    "rate-infinite": fault("A rate of 25 / 0", lambda: header(rate_den=0), "rate_den is 0"),
    "range-2": fault("full_range 2", lambda: header(full_range=2), "full_range is 2"),
    "siting-7": fault("siting 7", lambda: header(siting=7), "siting is 7"),
    "chroma-421": fault("chroma 421", lambda: header(chroma=421), "chroma is 421"),
    "depth-7": fault("bit_depth 7", lambda: header(bit_depth=7), "bit_depth is 7"),
    "segments-0": fault("n_segments 0", lambda: header(n_segments=0), "n_segments is 0"),
    "segments-many": fault(
        "n_segments 65537", lambda: header(n_segments=65537), "n_segments is", LIMIT
    ),
    # segments
    "segment-missing": fault("One SEGM of two", lambda: header(n_segments=2), "has 1 segments"),
    "segment-none": fault(
        "No SEGM", lambda: file_of_chunks(chunks_of(base())[0], ("END ", b"")), "has 0 segments"
    ),
    "segments-overlap": fault("Segments overlap", lambda: tiled((0, 2), (1, 3)), "starts at frame"),
    "segments-gap": fault("A gap between segments", lambda: tiled((0, 1), (2, 2)), "starts at"),
    "segments-order": fault("Segments out of order", lambda: tiled((2, 2), (0, 2)), "starts at"),
    "segments-short": fault("Segments end early", lambda: tiled((0, 2), (2, 1)), "end at frame 3"),
    "segments-long": fault(
        "A segment of 4294967295 frames", lambda: tiled((0, 2), (2, U32)), "end at frame"
    ),
    "segment-frames-0": fault("A segment of no frames", lambda: segment(n_frames=0), "n_frames is"),
    "arch-0": fault("Architecture 0", lambda: segment(arch_id=0), "architecture 0", NEW),
    "arch-unknown": fault("Architecture 65535", lambda: segment(arch_id=65535), "unknown", NEW),
    "arch-256": fault("Architecture 0 in Y'CbCr", lambda: segment(arch_id=256), "unknown", NEW),
    "yuv-rgb": fault(
        "Y'CbCr drawn for an RGB source",
        lambda: segment(data=header(chroma=0), arch_id=257), "but chroma of the video is 0",
    ),
    "corrections-yuv": fault(
        "Corrections of Y'CbCr", lambda: corrected(arch_id=1 + 256 + 1024), "corrections need RGB"
    ),
    "corrections-words": fault(
        "More words of tensors than there are",
        lambda: segment(words=struct.pack("<I", 10_000) + bytes(8), arch_id=1 + 1024),
        "ends at byte", TruncatedError,
    ),
    "corrections-empty": fault(
        "Corrections without words", lambda: corrected(b""), "0 words"
    ),
    "corrections-cut": fault(
        "Corrections that end too early", lambda: corrected(spots_of_base()[:-8]), "stream"
    ),
    "corrections-beyond": fault(
        "Corrections with a coefficient beyond their last block",
        corrected_beyond_the_end, "beyond their last block",
    ),
    "corrections-vector": fault(
        "Corrections that move a block by 1024 half pixels", moved_too_far,
        "by 1024 half pixels, allowed are 1023",
    ),
    "corrections-still": fault(
        "Corrections with a frame in which blocks move, but no block of it does",
        moved_without_blocks, "no block of it moves",
    ),
    "corrections-vectors-cut": fault(
        "Corrections that end among the vectors of blocks", motion_cut, "before its symbols"
    ),
    "corrections-end": fault(
        "A word after the corrections", lambda: corrected(spots_of_base() + bytes(4)), "words"
    ),
    "yuv-matrix": fault(
        "Y'CbCr with the matrix of RGB",
        lambda: segment(data=header(matrix=0), arch_id=257), "but matrix of the video is 0",
    ),
    "yuv-siting": fault(
        "Y'CbCr with a siting without a filter",
        lambda: segment(data=header(siting=5), arch_id=257), "but siting of the video is 5",
    ),
    "segment-header-cut": fault(
        "A SegmentHeader of 10 bytes",
        lambda: file_of_chunks(
            chunks_of(base())[0], ("SEGM", chunks_of(base())[1][1][:10]), ("END ", b"")
        ),
        "SEGM chunk at byte", CUT,
    ),
    "config-length": fault(
        "A config longer than its segment",
        long_config, "bytes are needed", CUT,
    ),
    # configs
    "config-empty": fault("An empty config", lambda: segment(config=b""), "config ends", CUT),
    "config-long": fault(
        "A config with a byte too many",
        lambda: segment(config=unpack_stream(base()).segments[0].config + b"\0"), "too many",
    ),
    "config-fc-dim": fault("fc_dim 2049", lambda: config("hnerv", fc_dim=2049), "fc_dim is 2049"),
    "config-stride-9": fault(
        "A stride of 9", lambda: config("hnerv", strides=(9,)), "strides is 9"
    ),
    "config-no-stride": fault(
        "No strides", lambda: config("nerv", strides=()), "strides has 0 entries"
    ),
    "config-strides": fault(
        "9 strides", lambda: config("enerv", strides=(1,) * 9), "strides has 9 entries"
    ),
    "config-activation": fault(
        "Activation 9", lambda: config("nerv", activation=9), "activation is 9"
    ),
    "config-kernel": fault("An even kernel", lambda: config("hnerv", k_min=2), "must be odd"),
    "config-reduction": fault(
        "reduction_percent 50", lambda: config("hnerv", reduction_percent=50), "50 is neither"
    ),
    "config-frequency": fault(
        "A positional encoding beyond 2^30",
        lambda: config("nerv", pe_base_percent=200, pe_levels=32), "frequency",
    ),
    "config-one-pixel": fault(
        "Instance norm of a single pixel",
        lambda: config("hnerv", strides=(1, 8, 8), norm=2), "single pixel",
    ),
    "config-blocks": fault(
        "3 numbers of blocks for 2 stages", lambda: config("nerv", blocks=(1, 1, 1)),
        "blocks has 3 entries",
    ),
    "config-clip": fault("Clips of 3 frames", lambda: config("3dnerv", clip_frames=3), "2 or 4"),
    "config-odd-embedding": fault(
        "An odd number of channels", lambda: config("3dnerv", embed_dim=3), "an even number"
    ),
    "config-canvas": fault(
        "Lists of different lengths", lambda: config("canvas", depths=(1,)), "differ in length"
    ),
    "config-canvas-kernel": fault(
        "An even depthwise kernel", lambda: config("canvas", kernel=4), "must be odd"
    ),
    "config-canvas-layers": fault(
        "Two layers without a flow", lambda: config("canvas", layers=2), "needs the motion flow"
    ),
    "config-hinerv": fault(
        "Lists of HiNeRV of different lengths", lambda: config("hinerv", depths=(1,)),
        "differ in length",
    ),
    "config-hinerv-times": fault(
        "A base grid with more times than frames", lambda: config("hinerv", base_times=2),
        "base_times is 2, allowed is 1 to the number of frames, 1",
    ),
    "config-parameters": fault(
        "A network of 3 10^10 weights",
        lambda: config("hnerv", fc_dim=2048, strides=(8, 8), k_min=11, k_max=11, lower_width=255),
        "parameters", LIMIT,
    ),
    "config-features": fault(
        "Feature maps of 2^31 values for one frame, and few weights",
        lambda: large("hnerv", strides=(8, 8, 8), lower_width=8), "feature map", LIMIT,
        valid=True,
    ),
    "config-work": fault(
        "More than 2^45 multiply-accumulates for one frame, and few weights",
        lambda: large(
            "hnerv", height=8192, strides=(8, 8, 8, 1, 1, 1, 1, 1), k_max=11, lower_width=8,
            n_blocks=8,
        ),
        "multiply-accumulates", LIMIT, valid=True,
    ),
    # words
    "words-none": fault("No words", lambda: segment(words=b""), "0 words"),
    "words-odd": fault("Words cut within one", lambda: words(lambda w: w[:-1]), "multiple of 4"),
    "words-fewer": fault("The last word is missing", lambda: words(lambda w: w[:-4]), "stream"),
    "words-half": fault("Half of the words", lambda: words(lambda w: w[: len(w) // 2]), "stream"),
    "words-more": fault("A word of 0 too many", lambda: words(lambda w: w + bytes(4)), "words"),
    "words-last": fault(
        "The last word is another one that decodes to the same",
        lambda: words(lambda w: w[:-4] + next_word(w[-4:])), "does not end",
    ),
    "words-flipped": fault(
        "A bit of the words flipped, with a correct CRC",
        lambda: words(lambda w: w[:20] + bytes([w[20] ^ 1]) + w[21:]), "",
    ),
    "words-noise": fault(
        "Words of noise", lambda: words(lambda w: np.random.default_rng(0).bytes(len(w))), ""
    ),
    "hash": fault("Another hash of the tensors", lambda: segment(tensors_sha256=1), "their hash"),
    "escape": fault(
        "An escaped value that has its own symbol", lambda: stream(bad_escape), "has its own symbol"
    ),
    "step-index": fault(
        "A step index of -1", lambda: stream(bad_index(256, 0, -1)), "step (embeddings) indices"
    ),
    "scale-index": fault(
        "A scale index of 64", lambda: stream(bad_index(64, 63, 1)), "scale (embeddings) indices"
    ),
    "differences": fault(
        "Differences that add up to 32768", lambda: stream(too_far, 2), "leave the int16 range"
    ),
    # what goes with the pictures
    "metadata-utf8": fault("meTA of other bytes", lambda: extra("meTA", b"\xff"), "not UTF-8"),
    "times-short": fault("Times of 3 frames of 4", lambda: times(b"\2\1"), "times of 3 frames"),
    "times-long": fault("Times of 5 frames of 4", lambda: times(b"\4\1"), "a run of 4"),
    "times-still": fault("A step of 0", lambda: times(b"\3\0"), "steps of 0"),
    "times-base": fault("A tick of 1/0 s", lambda: times(b"\3\1", 0), "time_base_den is 0"),
    "times-late": fault(
        "Times beyond 2^62",
        lambda: times(b"\3\1", first=(1 << 62) - 2), "beyond 62 bits",
    ),
    "varint-long": fault(
        "A varint that never ends", lambda: times(b"\x80" * 4000), "shortest form"
    ),
    "varint-form": fault("A varint of 83 00", lambda: times(b"\x83\0\1"), "shortest form"),
    "varint-large": fault(
        "A step of 2^53", lambda: times(b"\3" + b"\x80" * 7 + b"\x10"), "too large"
    ),
    "varint-cut": fault("A varint cut", lambda: times(b"\3\x80"), "tiME chunk ends", CUT),
    "display-short": fault(
        "diSP without its last byte", lambda: extra("diSP", display()[:-1]), "diSP chunk ends", CUT
    ),
    "display-long": fault(
        "diSP with a byte too many", lambda: extra("diSP", display() + b"\0"), "too many"
    ),
    "display-fields": fault(
        "field_order 3", lambda: extra("diSP", display(field_order=3)), "field_order is 3"
    ),
    "hdr-short": fault(
        "hdRM without its last byte", lambda: extra("hdRM", bytes(27)), "hdRM chunk ends", CUT
    ),
    "hdr-long": fault("hdRM with a byte too many", lambda: extra("hdRM", bytes(29)), "too many"),
    "hdr-primary": fault(
        "red_x 50001", lambda: extra("hdRM", struct.pack("<H", 50001) + bytes(26)),
        "red_x is 50001",
    ),
    "hdr-twice": fault(
        "Two hdRM chunks", lambda: with_chunks(plain(), *[("hdRM", bytes(28))] * 2),
        "2 hdRM chunks",
    ),
    "chapter-title": fault(
        "A chapter's title of other bytes",
        lambda: extra("chAP", struct.pack("<IIqqH", 1, 1, 0, 1, 1) + b"\xff"), "not UTF-8",
    ),
    "tag-key": fault(
        "A tag without a name", lambda: extra("taGS", struct.pack("<HH", 0, 0)), "key has 0 bytes"
    ),
    "tags-many": fault(
        "257 tags", lambda: extra("taGS", fields.pack(Tag(key="a", value="")) * 257),
        "more than 256",
    ),
    "tags-cut": fault(
        "A tag whose value goes beyond the chunk",
        lambda: extra("taGS", fields.pack(TAGS[0])[:-1]), "taGS chunk ends", CUT,
    ),
    "track-kind": fault(
        "A track of kind 3",
        lambda: extra("trAK", b"\3" + pack_track(SOUND)[1:]), "kind is 3",
    ),
    "track-flags": fault("Packet flags 32", lambda: track(b"\x20\1", b"ab"), "flags before"),
    "track-empty-packet": fault(
        "A packet of 0 bytes", lambda: track(b"\0\0", b"a"), "without bytes"
    ),
    "track-flood": fault(
        "4294967295 packets", lambda: track(b"\0\1", b"a", U32), "for 4294967295 packets"
    ),
    "track-short": fault(
        "Fewer bytes than the packets have", lambda: track(b"\0\3", b"ab"), "announced"
    ),
    "track-long": fault(
        "More bytes than the packets have", lambda: track(b"\0\1", b"ab"), "announced"
    ),
    "track-late": fault(
        "A packet that ends beyond 64 bits",
        lambda: track(b"\3" + struct.pack("<qI", (1 << 63) - 1, 1) + b"\1", b"a"), "beyond 64 bits",
    ),
    "tracks-many": fault(
        "65 tracks", lambda: extra("trAK", fields.pack(SOUND.header) + bytes(4), 65), "65 tracks",
        LIMIT,
    ),
}  # fmt: skip
