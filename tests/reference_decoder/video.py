"""A whole file: sections 5, 8 and 10."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np

from reference_decoder.coder import RangeDecoder, Tensor, read_tensor, step_size
from reference_decoder.container import (
    CHAPTER,
    DISPLAY,
    HDR,
    TAG,
    Chunk,
    Reader,
    Record,
    check_tiling,
    limit,
    read_chunks,
    read_header,
    read_records,
    read_segment,
    read_times,
    read_track,
    text,
    whole,
)
from reference_decoder.corrections import Corrections
from reference_decoder.errors import Unsupported, check
from reference_decoder.networks import ARCHITECTURES, Network
from reference_decoder.planes import check_planes, planes

YUV, PREDICTS, CORRECTS = 256, 512, 1024
"""In an architecture's id."""


@dataclass
class Segment:
    header: Record
    config: Record
    network: Network
    tensors: dict[str, Tensor]
    sha256: str
    corrections: Corrections | None = None
    weights: dict[str, np.ndarray] = field(default_factory=dict)
    """The 32-bit values of section 8, held in 64 bits."""


@dataclass
class Video:
    chunks: list[Chunk]
    header: Record
    segments: list[Segment]
    metadata: str = ""
    times: tuple[Record, list[int]] | None = None
    display: Record | None = None
    hdr: Record | None = None
    chapters: list[Record] = field(default_factory=list)
    tags: list[Record] = field(default_factory=list)
    tracks: list[Record] = field(default_factory=list)
    made: dict[int, tuple[int, np.ndarray]] = field(default_factory=dict)
    """By number of bits the last frame and its samples, which the next one may show."""

    def segment(self, index: int) -> Segment:
        """Return the segment of frame `index`."""
        return [s for s in self.segments if s.header["first_frame"] <= index][-1]

    def values(self, index: int) -> np.ndarray:
        """Return frame `index` before it is rounded: (3, height, width) of 64-bit floats."""
        segment = self.segment(index)
        t = index - segment.header["first_frame"]
        with np.errstate(over="ignore", invalid="ignore"):
            return segment.network.draw(segment.weights, t)

    def codes(self, index: int, bits: int = 8) -> np.ndarray:
        """Return the samples of frame `index`, of 8 to 16 bits, before they are rounded.

        RGB is (height, width, 3); the planes of Y'CbCr follow each other in one dimension.
        """
        y = self.values(index)
        y = np.where(np.isnan(y), 0, np.clip(y, 0, 1))
        if self.segment(index).header["arch_id"] & YUV:
            return np.concatenate([plane.ravel() for plane in planes(y, self.header, bits)])
        return (2**bits - 1) * y.transpose(1, 2, 0)

    def mended(self, index: int, bits: int = 8) -> np.ndarray:
        """Return the same with corrections, before they are rounded a second time."""
        segment, codes = self.segment(index), np.rint(self.codes(index, bits))
        corrections = segment.corrections
        if corrections is None:
            return codes
        t = index - segment.header["first_frame"]
        before = self.before(index, bits) if corrections.vectors[t] else None
        added = (2**bits - 1) * corrections.of_frame(t)
        return corrections.shown(t, codes, before) + added

    def before(self, index: int, bits: int) -> np.ndarray:
        """Return frame `index` - 1, from the last one on that needs none before it."""
        segment = self.segment(index)
        start = index - 1
        while segment.corrections.vectors[start - segment.header["first_frame"]]:
            if self.made.get(bits, (-1,))[0] == start:
                break
            start -= 1
        return [self.frame(i, bits) for i in range(start, index)][-1]

    def frame(self, index: int, bits: int = 8) -> np.ndarray:
        """Return the samples of frame `index`, in the shape of `codes`."""
        if self.made.get(bits, (-1,))[0] != index:
            segment, mended = self.segment(index), self.mended(index, bits)
            if segment.corrections is None:
                samples = np.rint(mended).clip(0, 2**bits - 1)
            else:
                t = index - segment.header["first_frame"]
                samples = segment.corrections.finish(t, mended, 2**bits - 1)
            kind = np.uint8 if bits == 8 else np.uint16
            self.made[bits] = index, samples.astype(kind)
        return self.made[bits][1]

    def frames(self) -> np.ndarray:
        """Return all frames, which draw the same."""
        return np.stack([self.frame(i) for i in range(self.header["n_frames"])])


def decode(data: bytes) -> Video:
    """Read a whole file up to its weights; raise Invalid."""
    chunks = read_chunks(data)
    header = read_header(chunks[0].payload)
    parts = [read_segment(chunk.payload) for chunk in chunks if chunk.type == "SEGM"]
    check_tiling(header, [part[0] for part in parts])
    video = Video(chunks, header, [])
    for chunk in chunks:
        if chunk.type == "meTA":
            video.metadata = text(chunk.payload)
        elif chunk.type == "tiME":
            video.times = read_times(chunk.payload, header["n_frames"])
        elif chunk.type == "diSP":
            video.display = whole(chunk.payload, DISPLAY)
        elif chunk.type == "hdRM":
            video.hdr = whole(chunk.payload, HDR)
        elif chunk.type == "chAP":
            video.chapters = read_records(chunk.payload, CHAPTER, 1024)
        elif chunk.type == "taGS":
            video.tags = read_records(chunk.payload, TAG, 256)
        elif chunk.type == "trAK":
            limit(len(video.tracks) + 1, 64, "tracks")
            video.tracks.append(read_track(chunk.payload))
    video.segments = [read_network(header, *part) for part in parts]
    return video


def read_network(
    header: Record, segment: Record, config: bytes, words: bytes, corrections: bytes
) -> Segment:
    arch_id = segment["arch_id"]
    plain_id = arch_id & ~(YUV | PREDICTS | CORRECTS)
    if plain_id not in ARCHITECTURES:
        raise Unsupported(f"architecture {arch_id}")
    if arch_id & YUV:
        check_planes(header)
        check(not arch_id & CORRECTS, "Y'CbCr is corrected")
    architecture = ARCHITECTURES[plain_id]
    reader = Reader(config)
    values = reader.record(architecture.fields, architecture.absent)
    reader.end()
    network = architecture(values, segment["n_frames"], header["height"], header["width"])
    n_weights = sum(math.prod(shape) for _, shape, _ in network.shapes)
    limit(n_weights, 1 << 28, "coded integers")
    decoder = RangeDecoder(words)
    predicts = bool(arch_id & PREDICTS)
    tensors = {
        name: read_tensor(decoder, shape, temporal, predicts, network.sides.get(name, 0))
        for name, shape, temporal in network.shapes
    }
    check(decoder.finished(), "the stream does not end as it must")
    digest = hashlib.sha256()
    for tensor in tensors.values():
        digest.update(bytes(tensor.steps))
        digest.update(np.array(tensor.symbols, dtype="<i2").tobytes())
    expected = int.from_bytes(digest.digest()[:8], "little")
    check(segment["tensors_sha256"] == expected, "the tensors do not match their hash")
    read = Segment(segment, values, network, tensors, digest.hexdigest())
    if arch_id & CORRECTS:
        size = segment["n_frames"], header["height"], header["width"]
        read.corrections = Corrections(corrections, *size)
    for name, shape, _ in network.shapes:
        read.weights[name] = dequantize(tensors[name], shape)
    return read


def dequantize(tensor: Tensor, shape: tuple[int, ...]) -> np.ndarray:
    steps = np.array([step_size(s) for s in tensor.steps])
    if tensor.row_axis is not None:
        steps = steps.reshape([-1 if a == tensor.row_axis else 1 for a in range(len(shape))])
    exact = np.array(tensor.symbols, dtype=np.float64).reshape(shape) * steps
    return exact.astype(np.float32).astype(np.float64)
