"""Files of networks that nobody trained: every option of every architecture in a few kilobytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from nrv_factory import steps_of_deviations

from nvcodec import fields
from nvcodec.bitstream.block_motion import Motion
from nvcodec.bitstream.corrections import Corrections, grid_shape, pack_corrections
from nvcodec.bitstream.header import (
    CORRECTS,
    DRAWS_YUV,
    Segment,
    Stream,
    StreamHeader,
    pack_stream,
)
from nvcodec.bitstream.segments import pack_segment
from nvcodec.bitstream.tensors import (
    QTensor,
    canonical,
)
from nvcodec.codec.quantize import Quantizer, load_tensors, tensor_specs
from nvcodec.models import ARCHITECTURES
from nvcodec.models.base import VideoModel

Change = Callable[[QTensor], QTensor]

_CONTRAST = 0.15
"""Deviation of the samples that the last layer is scaled to; more would mostly be clamped."""

_GAIN = 2.0


def random_network(
    arch: str,
    config: dict[str, Any],
    *,
    n_frames: int = 3,
    width: int = 24,
    height: int = 16,
    seed: int = 0,
) -> VideoModel:
    """Return a network whose frames have contrast and differ from each other."""
    cls = ARCHITECTURES[arch][1]
    torch.manual_seed(seed)
    model = cls(cls.Config(**config), n_frames, height, width)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in model.latent_names or name.startswith(model.field_names or ("/",)):
                parameter.normal_(std=4.0 if name == "motion" else 1.0)
            elif "norm." in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)
            else:
                # PyTorch's first weights let the differences between frames fade.
                parameter.mul_(_GAIN)
        head = model.get_parameter("head.weight")
        model.eval()
        for _ in range(4):
            deviation = model(torch.arange(n_frames)).std()
            head.mul_(torch.nan_to_num(_CONTRAST / deviation, 1.0).clamp(0.1, 10.0))
    return model


def rounded(model: VideoModel, *, bits: int = 16) -> list[QTensor]:
    """Return the tensors of a network at the quantiser's first steps."""
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    quantizer = Quantizer(tensor_specs(model), weight_bits=bits, embed_bits=bits)
    shares = dict.fromkeys(model.latent_names, 0.02)
    quantizer.initialize(parameters, steps_of_deviations(quantizer, parameters, shares))
    return quantizer.quantize(parameters)


def changed(tensors: list[QTensor], changes: dict[str, Change]) -> list[QTensor]:
    """Return the tensors, some of them replaced."""
    return [changes.get(q.spec.name, lambda q: q)(q) for q in tensors]


def with_symbols(symbols: Sequence[int]) -> Change:
    """Return a change that puts these symbols at the start of a tensor."""

    def change(q: QTensor) -> QTensor:
        flat = q.symbols.ravel().copy()
        flat[: len(symbols)] = symbols
        return dataclasses.replace(q, symbols=flat.reshape(q.symbols.shape))

    return change


def with_rows(axis: int | None) -> Change:
    """Return a change that cuts a tensor into rows along another axis, all with its first step."""

    def change(q: QTensor) -> QTensor:
        spec = dataclasses.replace(q.spec, row_axis=axis)
        return QTensor(spec, q.symbols, np.repeat(q.steps[:1], spec.n_rows))

    return change


def with_steps(step: int) -> Change:
    """Return a change that gives all rows of a tensor one step index."""
    return lambda q: dataclasses.replace(q, steps=np.full_like(q.steps, step))


def smoothed(step: int, largest: int) -> Change:
    """Return a change to waves along the last two axes, which are best coded as pictures."""

    def change(q: QTensor) -> QTensor:
        *others, rows, columns = np.indices(q.symbols.shape)
        phase = sum((k + 2) * index for k, index in enumerate(others))
        # Integers alone, so that every machine makes the same file.
        waves = np.abs((step * (2 * rows + 3 * columns + phase)) % (4 * largest) - 2 * largest)
        return dataclasses.replace(q, symbols=(waves - largest).astype(np.int32))

    return change


def drifting(step: int, largest: int) -> Change:
    """Return a change to sums over time of such waves, whose differences are best as pictures."""

    def change(q: QTensor) -> QTensor:
        waves = smoothed(step, largest)(q)
        return dataclasses.replace(q, symbols=waves.symbols.cumsum(0).astype(np.int32))

    return change


def fading(largest: int) -> Change:
    """Return a change to numbers without order, the smaller the higher their frequency."""

    def change(q: QTensor) -> QTensor:
        *others, channel, rows, columns = np.indices(q.symbols.shape)
        side = q.spec.dct_side
        u, v = channel % side**2 // side, channel % side
        # Integers alone, so that every machine makes the same file.
        place = 7 * rows + 13 * columns + 31 * channel + sum(101 * index for index in others)
        mixed = (place * place * 37 + 11 * place) % 199 - 99
        size = np.abs(mixed) * (1 + (rows * columns) % 5) * largest // (495 * (1 + u + v) ** 3)
        return dataclasses.replace(q, symbols=(np.sign(mixed) * size).astype(np.int32))

    return change


def zeroed(q: QTensor) -> QTensor:
    """Return a tensor of zeros."""
    return dataclasses.replace(q, symbols=np.zeros_like(q.symbols))


def segment_of(model: VideoModel, tensors: list[QTensor], first_frame: int = 0) -> Segment:
    """Return a network as a segment."""
    arch_id = next(i for i, cls in ARCHITECTURES.values() if cls is type(model))
    load_tensors(model, [canonical(q) for q in tensors])
    config = fields.pack(model.config)
    return pack_segment(arch_id, config, tensors, first_frame=first_frame, n_frames=model.n_frames)


def spots(
    model: VideoModel,
    *,
    side: int,
    step: int,
    blocks: Sequence[int],
    moved: dict[int, tuple[int, int]] | None = None,
    seed: int = 0,
) -> bytes:
    """Return the words of corrections of some blocks, counted through all frames.

    Others, or the same ones, are moved by vectors; without any they cannot.
    """
    shape = grid_shape(model.n_frames, model.height, model.width, side)
    chosen = np.isin(np.arange(np.prod(shape)), blocks).reshape(shape)
    k, colour, u, v = np.indices((len(blocks), 3, 8, 8))
    # Integers alone, so that every machine makes the same file.
    mixed = (37 * k + 11 * colour + 5 * u + 3 * v + seed) ** 2 % 23 - 11
    symbols = mixed // (1 + colour + (u + v) ** 2)
    motion = None
    if moved is not None:
        places = np.isin(np.arange(np.prod(shape)), list(moved)).reshape(shape)
        vectors = np.array([moved[i] for i in sorted(moved)], dtype=np.int64).reshape(-1, 2)
        motion = Motion(places, vectors)
    return pack_corrections(Corrections(side, step, chosen, symbols.astype(np.int32), motion))


def header_of(segments: Sequence[Segment], *, width: int, height: int) -> StreamHeader:
    """Return a plain header for these segments."""
    return StreamHeader(
        width=width,
        height=height,
        n_frames=sum(segment.header.n_frames for segment in segments),
        rate_num=25,
        rate_den=1,
        matrix=6,
        chroma=420,
        bit_depth=8,
        n_segments=len(segments),
    )


def file_of(
    model: VideoModel,
    tensors: list[QTensor] | None = None,
    *,
    yuv: bool = False,
    corrections: bytes = b"",
    **parts: Any,
) -> bytes:
    """Return a file with one network; `parts` are those of a Stream, and fields of its header."""
    segment = segment_of(model, rounded(model) if tensors is None else tensors)
    if yuv:
        drawn = dataclasses.replace(segment.header, arch_id=segment.header.arch_id + DRAWS_YUV)
        segment = dataclasses.replace(segment, header=drawn)
        parts = {"version_minor": 1} | parts
    if corrections:
        mended = dataclasses.replace(segment.header, arch_id=segment.header.arch_id + CORRECTS)
        segment = dataclasses.replace(segment, header=mended, corrections=corrections)
        parts = {"version_minor": 1} | parts
    header = header_of([segment], width=model.width, height=model.height)
    names = {f.name for f in dataclasses.fields(StreamHeader)}
    header = dataclasses.replace(header, **{k: v for k, v in parts.items() if k in names})
    return pack_stream(
        Stream(header, (segment,), **{k: v for k, v in parts.items() if k not in names})
    )


def random_file(arch: str, config: dict[str, Any], **given: Any) -> bytes:
    """Return a file with one random network; `given` are those of `random_network`."""
    return file_of(random_network(arch, config, **given))
