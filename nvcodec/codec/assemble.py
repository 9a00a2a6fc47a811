"""From trained networks to the bytes of a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from nvcodec import fields
from nvcodec.bitstream.container import VERSION_MINOR
from nvcodec.bitstream.header import DRAWS_YUV, Segment, Stream, StreamHeader, pack_stream
from nvcodec.bitstream.segments import pack_segment
from nvcodec.bitstream.tensors import QTensor
from nvcodec.codec.plan import Plan
from nvcodec.media import NO_EXTRAS, Extras
from nvcodec.models import ARCHITECTURES
from nvcodec.video.frames import VideoInfo


def make_file(
    plan: Plan,
    info: VideoInfo,
    tensors: list[QTensor],
    metadata: bytes,
    extras: Extras = NO_EXTRAS,
    corrections: bytes = b"",
) -> bytes:
    """Return the bytes of a whole file with one segment."""
    arch_id = ARCHITECTURES[plan.arch][0] + (plan.fit.color == "yuv") * DRAWS_YUV
    segment = pack_segment(
        arch_id,
        fields.pack(plan.config),
        tensors,
        n_frames=plan.n_frames,
        corrections=corrections,
    )
    return join_segments([segment], info, metadata, extras)


def join_segments(
    segments: Sequence[Segment], info: VideoInfo, metadata: bytes, extras: Extras
) -> bytes:
    """Return the bytes of a whole file; its segments follow one another whatever they say."""
    n_frames = 0
    placed = []
    for segment in segments:
        placed.append(replace(segment, header=replace(segment.header, first_frame=n_frames)))
        n_frames += segment.header.n_frames
    color = info.color
    header = StreamHeader(
        version_minor=VERSION_MINOR,
        width=info.width,
        height=info.height,
        n_frames=n_frames,
        rate_num=info.frame_rate.numerator,
        rate_den=info.frame_rate.denominator,
        matrix=color.matrix,
        primaries=color.primaries,
        transfer=color.transfer,
        full_range=int(color.full_range),
        siting=color.siting + 1,
        color_specified=int(color.specified),
        chroma=info.chroma,
        bit_depth=info.bit_depth,
        n_segments=len(placed),
    )
    timing = info.timing
    if timing is not None and timing.is_constant(info.frame_rate):
        timing = None
    stream = Stream(header, tuple(placed), metadata, extras, info.display, timing, info.hdr)
    return pack_stream(stream)
