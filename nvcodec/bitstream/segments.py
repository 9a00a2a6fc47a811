"""Segments from the tensors of their network."""

from __future__ import annotations

from collections.abc import Sequence

from nvcodec.bitstream.header import CORRECTS, PREDICTS, Segment, SegmentHeader
from nvcodec.bitstream.tensors import QTensor, canonical, pack_smallest, tensors_sha256


def pack_segment(
    arch_id: int,
    config: bytes,
    tensors: Sequence[QTensor],
    *,
    first_frame: int = 0,
    n_frames: int,
    corrections: bytes = b"",
) -> Segment:
    """Return a segment; its tensors are coded as pictures where that is smaller.

    arch_id is that of the registry, with DRAWS_YUV where the network draws Y'CbCr. corrections are
    their words, if there are any.
    """
    tensors = [canonical(q) for q in tensors]
    payload, predicts = pack_smallest(tensors)
    header = SegmentHeader(
        first_frame=first_frame,
        n_frames=n_frames,
        arch_id=arch_id + predicts * PREDICTS + bool(corrections) * CORRECTS,
        tensors_sha256=tensors_sha256(tensors),
    )
    return Segment(header, config, payload, corrections)
