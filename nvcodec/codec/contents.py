"""What a file holds, read and checked: the video's properties, its networks, what corrects them."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from nvcodec import fields
from nvcodec.bitstream.corrections import Corrections, unpack_corrections
from nvcodec.bitstream.header import Segment, Stream, StreamHeader, unpack_stream
from nvcodec.bitstream.salvage import Damage, salvage_stream
from nvcodec.bitstream.tensors import QTensor, tensors_sha256, unpack_tensors
from nvcodec.codec.quantize import tensor_specs
from nvcodec.errors import BitstreamError, CorruptError, InputError, LimitError, UnsupportedError
from nvcodec.limits import DEFAULT, Limits
from nvcodec.media import Timing
from nvcodec.models import ARCHITECTURES
from nvcodec.models.base import VideoModel, count_params, shape_only
from nvcodec.video.color import check_tags
from nvcodec.video.frames import IDENTITY, ColorTags, VideoInfo

_SOURCE_CODEC = re.compile(r"nvcodec \S+ \S+ \S+ ([a-z0-9_-]{1,32})")
"""Metadata of our encoder: version, architecture, preset, and the source's codec."""

_MAX_SITING = 4
"""Of the header: 1 + the last chroma location that is supported."""


def read_file(path: str | Path) -> bytes:
    """Return the bytes of a file, of standard input for "-", or raise InputError."""
    try:
        if str(path) == "-":
            return sys.stdin.buffer.read()
        return Path(path).read_bytes()
    except IsADirectoryError as error:
        raise InputError(f"{path} is a directory, an .nrv file is needed") from error
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error


def color_tags(header: StreamHeader) -> ColorTags:
    """Return how samples of the video become colours."""
    return ColorTags(
        matrix=header.matrix,
        primaries=header.primaries,
        transfer=header.transfer,
        full_range=bool(header.full_range),
        siting=max(0, header.siting - 1),
        specified=bool(header.color_specified),
    )


def video_info(stream: Stream) -> VideoInfo:
    """Return what an output needs to know of the coded video."""
    header = stream.header
    rate = Fraction(header.rate_num, header.rate_den)
    return VideoInfo(
        width=header.width,
        height=header.height,
        frame_rate=rate,
        color=color_tags(header),
        bit_depth=header.bit_depth,
        chroma=header.chroma,
        codec=source_codec(stream),
        n_bytes=None,
        display=stream.display,
        hdr=stream.hdr,
        timing=stream.timing or Timing.constant(rate, header.n_frames),
    )


def source_codec(stream: Stream) -> str:
    """Return FFmpeg's name of the codec of the encoded video; empty where the file lacks it."""
    match = _SOURCE_CODEC.fullmatch(stream.metadata.decode("utf-8"))
    return match[1] if match else ""


def architecture_of(arch_id: int) -> tuple[str, type[VideoModel]]:
    """Return name and class of an architecture id; raise UnsupportedError."""
    for name, (known_id, cls) in ARCHITECTURES.items():
        if known_id == arch_id:
            return name, cls
    raise UnsupportedError(f"architecture {arch_id} is unknown to this version of nvcodec")


def empty_model(segment: Segment, header: StreamHeader, limits: Limits = DEFAULT) -> VideoModel:
    """Return the segment's model without memory for its parameters, after checking its size."""
    _, cls = architecture_of(segment.header.plain_arch_id)
    _check_color(segment, header)
    reader = fields.ByteReader(segment.config, "the model config")
    config: Any = fields.unpack(cls.Config, reader)
    if reader.n_left:
        raise CorruptError(f"the model config has {reader.n_left} bytes too many")
    try:
        model = shape_only(cls, config, segment.header.n_frames, header.height, header.width)
    except (ValueError, RuntimeError) as error:
        raise CorruptError(f"the model config is not valid: {error}") from error
    for what, value, limit in (
        ("parameters", count_params(model), limits.max_params),
        ("feature map values", model.peak_activations(), limits.max_activations),
        ("multiply-accumulates a frame", model.macs_per_frame(), limits.max_macs),
    ):
        if value > limit:
            raise LimitError(f"the model has {value} {what}, the limit of this decoder is {limit}")
    return model


def _check_color(segment: Segment, header: StreamHeader) -> None:
    """Refuse a network of Y'CbCr in a video that has none, or whose matrix is unknown."""
    if not segment.header.draws_yuv:
        return
    for name, value, wrong in (
        ("chroma", header.chroma, header.chroma == 0),
        ("matrix", header.matrix, header.matrix == IDENTITY),
        ("siting", header.siting, header.siting > _MAX_SITING),
    ):
        if wrong:
            raise CorruptError(
                f"the segment at frame {segment.header.first_frame} draws Y'CbCr, but {name} of "
                f"the video is {value}"
            )
    try:
        check_tags(color_tags(header), header.chroma)
    except InputError as error:
        raise UnsupportedError(str(error)) from error


def read_corrections(
    segment: Segment, header: StreamHeader, limits: Limits = DEFAULT
) -> Corrections | None:
    """Return what is added to the frames of a segment, if anything; raise BitstreamError."""
    if not segment.header.corrects:
        return None
    if segment.header.draws_yuv:
        raise CorruptError(
            f"the segment at frame {segment.header.first_frame} draws Y'CbCr, corrections need RGB"
        )
    return unpack_corrections(
        segment.corrections, segment.header.n_frames, header.height, header.width, limits
    )


def read_tensors(
    segment: Segment, header: StreamHeader, limits: Limits = DEFAULT
) -> tuple[VideoModel, list[QTensor]]:
    """Return the segment's empty model and its integer tensors, with their hash checked."""
    model = empty_model(segment, header, limits)
    tensors = unpack_tensors(
        tensor_specs(model), segment.payload, limits, predicts=segment.header.predicts
    )
    if tensors_sha256(tensors) != segment.header.tensors_sha256:
        raise CorruptError(
            f"tensors of the segment at frame {segment.header.first_frame} do not match their hash"
        )
    return model, tensors


def salvage(data: bytes, limits: Limits) -> tuple[Stream, tuple[Damage, ...]]:
    """Return the sound part of a damaged file, its segments checked down to their tensors."""
    stream, damage = salvage_stream(data, limits)
    whole = []
    for segment in stream.segments:
        try:
            read_tensors(segment, stream.header, limits)
            read_corrections(segment, stream.header, limits)
        except BitstreamError as error:
            first, n_frames = segment.header.first_frame, segment.header.n_frames
            damage.append(Damage(first_frame=first, n_frames=n_frames, reason=str(error)))
        else:
            whole.append(segment)
    damage.sort(key=lambda item: item.first_frame)
    if not whole:
        raise CorruptError(f"no segment of the file is whole: {damage[-1].reason}")
    return replace(stream, segments=tuple(whole)), tuple(damage)


def check_structure(data: bytes, limits: Limits = DEFAULT) -> int:
    """Check chunks, checksums, configs and tensor hashes of all segments; return their number.

    Raises BitstreamError; nothing is drawn.
    """
    stream = unpack_stream(data, limits)
    for segment in stream.segments:
        try:
            read_tensors(segment, stream.header, limits)
            read_corrections(segment, stream.header, limits)
        except MemoryError as error:
            raise BitstreamError("a segment does not fit into memory") from error
    return len(stream.segments)
