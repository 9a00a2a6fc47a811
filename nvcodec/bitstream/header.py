"""What an .nrv file says about its video: the stream header, the segments and the metadata."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from nvcodec import fields
from nvcodec.bitstream.container import (
    DISPLAY,
    END,
    HDR,
    METADATA,
    SEGMENT,
    SIGNATURE,
    TIMING,
    VERSION_MAJOR,
    VIDEO_HEADER,
    Chunk,
    pack_chunk,
    read_chunks,
)
from nvcodec.bitstream.extras import (
    pack_display,
    pack_extras,
    pack_hdr,
    pack_timing,
    pack_tracks,
    single,
    unpack_display,
    unpack_extras,
    unpack_hdr,
    unpack_timing,
)
from nvcodec.errors import CorruptError, LimitError
from nvcodec.fields import ByteReader, u8, u16, u32, u64
from nvcodec.limits import DEFAULT, Limits
from nvcodec.media import NO_EXTRAS, NO_HDR, PLAIN, Display, Extras, Hdr, Timing, Track

CHROMA_FORMATS = (420, 422, 444, 400, 0)
"""Chroma sampling of the source; 400 is grey, 0 is RGB."""

DRAWS_YUV = 256
"""Added to an architecture's id where the network draws Y'CbCr in place of RGB."""
PREDICTS = 512
"""Added to an architecture's id where tensors may be coded as pictures, see prediction.py."""
CORRECTS = 1024
"""Added to an architecture's id where corrections follow the tensors, see corrections.py."""
N_WORDS_BYTES = 4
"""What the number of words of the tensors takes where corrections follow."""

MAX_METADATA_BYTES = 4096
"""Longest metadata that a writer produces; a reader accepts `Limits.max_metadata_bytes`."""

_U32 = (1 << 32) - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamHeader:
    """Payload of the VHDR chunk."""

    version_major: int = u8(
        VERSION_MAJOR, VERSION_MAJOR, "format version; another one is not decodable", VERSION_MAJOR
    )
    version_minor: int = u8(0, 255, "compatible additions; informative", 0)
    width: int = u32(1, 32_768, "luma samples per row")
    height: int = u32(1, 32_768, "luma rows")
    n_frames: int = u32(1, _U32, "frames of the video")
    rate_num: int = u32(1, _U32, "frames per second, numerator")
    rate_den: int = u32(1, _U32, "frames per second, denominator")
    matrix: int = u8(0, 255, "H.273 MatrixCoefficients", 2)
    primaries: int = u8(0, 255, "H.273 ColourPrimaries", 2)
    transfer: int = u8(0, 255, "H.273 TransferCharacteristics", 2)
    full_range: int = u8(0, 1, "H.273 VideoFullRangeFlag", 0)
    siting: int = u8(0, 6, "chroma location: 0 unknown, else 1 + H.273 ChromaLocType", 0)
    color_specified: int = u8(0, 1, "1 when the source stated its colour, 0 when assumed", 0)
    chroma: int = u16(0, 444, "420, 422, 444, 400 (grey) or 0 (RGB)")
    bit_depth: int = u8(8, 16, "bits per sample of the source")
    n_segments: int = u32(1, _U32, "number of SEGM chunks")


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """Start of the payload of a SEGM chunk."""

    first_frame: int = u32(0, _U32, "index of the first frame of the segment")
    n_frames: int = u32(1, _U32, "frames of the segment")
    arch_id: int = u16(0, 65_535, "architecture, see the registry")
    tensors_sha256: int = u64(0, (1 << 64) - 1, "first 8 bytes of the hash of the tensors")

    @property
    def draws_yuv(self) -> bool:
        """Whether the network draws Y'CbCr."""
        return bool(self.arch_id & DRAWS_YUV)

    @property
    def predicts(self) -> bool:
        """Whether tensors may be coded as pictures."""
        return bool(self.arch_id & PREDICTS)

    @property
    def corrects(self) -> bool:
        """Whether frames are corrected after the network has drawn them."""
        # What an id beyond the registry's means is not known.
        return bool(self.arch_id & CORRECTS) and self.plain_arch_id < DRAWS_YUV

    @property
    def plain_arch_id(self) -> int:
        """The architecture's id in the registry."""
        return self.arch_id & ~(DRAWS_YUV | PREDICTS | CORRECTS)


@dataclass(frozen=True, slots=True)
class Segment:
    """A run of frames and the network that draws them; independent of all other segments."""

    header: SegmentHeader
    config: bytes
    """Integer fields of the architecture, opaque here."""
    payload: bytes
    """Range-coded words of the tensors."""
    corrections: bytes = b""
    """Range-coded words of the corrections, if the header says that there are any."""


@dataclass(frozen=True, slots=True)
class Stream:
    """A whole .nrv file."""

    header: StreamHeader
    segments: tuple[Segment, ...]
    metadata: bytes = b""
    """UTF-8 text, possibly empty; escape it before printing."""
    extras: Extras = NO_EXTRAS
    display: Display = PLAIN
    timing: Timing | None = None
    """When frames are shown; None: at the header's rate from time 0 on."""
    hdr: Hdr = NO_HDR


def pack_stream(stream: Stream) -> bytes:
    """Return the bytes of a whole file; raise ValueError for a stream that is not valid."""
    problem = _header_problem(stream.header) or _tiling_problem(stream.header, stream.segments)
    if problem:
        raise ValueError(problem)
    parts = [SIGNATURE, pack_chunk(VIDEO_HEADER, fields.pack(stream.header))]
    if stream.metadata:
        if len(stream.metadata) > MAX_METADATA_BYTES:
            raise ValueError(
                f"metadata has {len(stream.metadata)} bytes, allowed are {MAX_METADATA_BYTES}"
            )
        stream.metadata.decode("utf-8")
        parts.append(pack_chunk(METADATA, stream.metadata))
    if stream.timing is not None:
        if len(stream.timing.pts) != stream.header.n_frames:
            raise ValueError(f"{len(stream.timing.pts)} times, frames are {stream.header.n_frames}")
        parts.append(pack_timing(stream.timing))
    if stream.display != PLAIN:
        parts.append(pack_display(stream.display))
    if stream.hdr != NO_HDR:
        parts.append(pack_hdr(stream.hdr))
    parts += pack_extras(stream.extras)
    parts += pack_tracks(stream.extras.tracks)
    parts += [pack_chunk(SEGMENT, _pack_segment(segment)) for segment in stream.segments]
    parts.append(pack_chunk(END, b""))
    return b"".join(parts)


def unpack_stream(data: bytes, limits: Limits = DEFAULT) -> Stream:
    """Read and validate a whole file; raise BitstreamError for anything that is wrong."""
    chunks = read_chunks(data, limits)
    header = unpack_header(chunks[0], limits)
    segments = tuple(unpack_segment(chunk) for chunk in chunks if chunk.type == SEGMENT)
    problem = _tiling_problem(header, segments)
    if problem:
        raise CorruptError(problem)
    return assemble(header, segments, chunks, limits)


def assemble(
    header: StreamHeader, segments: tuple[Segment, ...], chunks: list[Chunk], limits: Limits
) -> Stream:
    """Return the stream with what its ancillary chunks say; raise BitstreamError."""
    timing, display, hdr = (single(chunks, type) for type in (TIMING, DISPLAY, HDR))
    return Stream(
        header,
        segments,
        _unpack_metadata(chunks),
        unpack_extras(chunks, limits),
        PLAIN if display is None else unpack_display(display),
        None if timing is None else unpack_timing(timing, header.n_frames),
        NO_HDR if hdr is None else unpack_hdr(hdr),
    )


def add_tracks(data: bytes, tracks: Sequence[Track]) -> bytes:
    """Return a file with more tracks: their chunks go before the first segment."""
    first = next(chunk.offset for chunk in read_chunks(data) if chunk.type == SEGMENT)
    return b"".join((data[:first], *pack_tracks(tracks), data[first:]))


def unpack_header(chunk: Chunk, limits: Limits) -> StreamHeader:
    """Read and check the VHDR chunk; raise CorruptError or LimitError."""
    reader = ByteReader(chunk.payload, "the VHDR chunk")
    header = fields.unpack(StreamHeader, reader)
    if reader.n_left:
        raise CorruptError(f"the VHDR chunk has {reader.n_left} bytes too many")
    problem = _header_problem(header)
    if problem:
        raise CorruptError(problem)
    for name, value, limit in (
        ("width", header.width, limits.max_side),
        ("height", header.height, limits.max_side),
        ("width x height", header.width * header.height, limits.max_pixels),
        ("n_frames", header.n_frames, limits.max_frames),
        ("n_segments", header.n_segments, limits.max_segments),
    ):
        if value > limit:
            raise LimitError(f"{name} is {value}, the limit of this decoder is {limit}")
    return header


def _header_problem(header: StreamHeader) -> str | None:
    if header.chroma not in CHROMA_FORMATS:
        allowed = ", ".join(map(str, CHROMA_FORMATS))
        return f"StreamHeader.chroma is {header.chroma}, allowed are {allowed}"
    return None


def _tiling_problem(header: StreamHeader, segments: tuple[Segment, ...]) -> str | None:
    if len(segments) != header.n_segments:
        return f"file has {len(segments)} segments, its header says {header.n_segments}"
    next_frame = 0
    for index, segment in enumerate(segments):
        if segment.header.first_frame != next_frame:
            return (
                f"segment {index} starts at frame {segment.header.first_frame}, "
                f"needed is {next_frame}"
            )
        next_frame += segment.header.n_frames
    if next_frame != header.n_frames:
        return f"segments end at frame {next_frame}, the header says {header.n_frames}"
    return None


def _pack_segment(segment: Segment) -> bytes:
    if len(segment.config) > 65_535:
        raise ValueError(f"config has {len(segment.config)} bytes, allowed are 65535")
    for name in ("payload", "corrections"):
        n_bytes = len(getattr(segment, name))
        if n_bytes % 4:
            raise ValueError(f"{name} has {n_bytes} bytes, needed is a multiple of 4")
    size = struct.pack("<H", len(segment.config))
    body = segment.config + segment.payload
    if segment.header.corrects:
        n_words = struct.pack("<I", len(segment.payload) // 4)
        body = segment.config + n_words + segment.payload + segment.corrections
    return fields.pack(segment.header) + size + body


def unpack_segment(chunk: Chunk) -> Segment:
    """Read the headers of a SEGM chunk; raise BitstreamError."""
    reader = ByteReader(chunk.payload, f"the SEGM chunk at byte {chunk.offset}")
    header = fields.unpack(SegmentHeader, reader)
    config = reader.take(reader.integer("u16"))
    if reader.n_left % 4:
        raise CorruptError(
            f"{reader.what} has {reader.n_left} bytes of words, needed is a multiple of 4"
        )
    n_bytes = 4 * reader.integer("u32") if header.corrects else reader.n_left
    payload = reader.take(n_bytes)
    return Segment(header, config, payload, reader.take(reader.n_left))


def _unpack_metadata(chunks: list[Chunk]) -> bytes:
    found = single(chunks, METADATA)
    metadata = found.payload if found else b""
    try:
        metadata.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorruptError(f"metadata is not UTF-8 at its byte {error.start}") from error
    return metadata
