"""Small .nrv files of untrained networks, made in milliseconds, for what needs no training."""

import dataclasses
from fractions import Fraction
from types import MappingProxyType

import numpy as np
import torch

from nvcodec.bitstream.header import Stream, pack_stream, unpack_stream
from nvcodec.codec.assemble import make_file
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.plan import make_plan, smallest_bytes
from nvcodec.codec.quantize import Quantizer, tensor_specs
from nvcodec.models.dct import dct_weights
from nvcodec.video.frames import VideoInfo, resolve_tags

OVERHEAD_BYTES = 140


def make_nrv(n_frames=8, width=48, height=32, seed=0):
    """Return the bytes of a file whose frames all differ."""
    return make_network(n_frames, width, height, seed, "hnerv", Target(bpp=1.0))


def make_tiny(arch, n_frames=3, width=32, height=32, seed=0):
    """Return the bytes of about the smallest file of an architecture."""
    size = smallest_bytes(arch, n_frames, height, width, OVERHEAD_BYTES)
    return make_network(n_frames, width, height, seed, arch, Target(size=size))


def make_network(n_frames, width, height, seed, arch, target):
    info = VideoInfo(
        width=width, height=height, frame_rate=Fraction(24000, 1001), bit_depth=8, chroma=444,
        color=resolve_tags(height=height, chroma=444), codec="none", n_bytes=None,
    )  # fmt: skip
    plan = make_plan(
        EncodeOptions(arch=arch, target=target),
        n_frames=n_frames, height=height, width=width,
        frame_rate=info.frame_rate, overhead_bytes=OVERHEAD_BYTES,
    )  # fmt: skip
    torch.manual_seed(seed)
    model = plan.model()
    for name in model.latent_names:
        torch.nn.init.normal_(model.get_parameter(name), std=4.0)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    quantizer = Quantizer(tensor_specs(model), weight_bits=16, embed_bits=16)
    shares = dict.fromkeys(parameters, 0.02)
    quantizer.initialize(parameters, steps_of_deviations(quantizer, parameters, shares))
    return make_file(plan, info, quantizer.quantize(parameters), b"")


def steps_of_deviations(quantizer, parameters, shares=MappingProxyType({})):
    """Return steps that are shares of the deviation of each row, a quarter where none is given.

    Those of coefficients are half of the deviation of their channel's picture, with even errors.
    """
    steps = {}
    for name, value in parameters.items():
        deviation = quantizer.as_rows(name, value.detach()).square().mean(1).sqrt().clamp_min(1e-6)
        steps[name] = shares.get(name, 0.25) * deviation
        if side := quantizer.dct_sides.get(name):
            weights = dct_weights(side).to(deviation).flatten()
            of_channels = (deviation.view(-1, side * side) * weights).square().mean(1).sqrt()
            steps[name] = 0.5 * (of_channels[:, None] / weights).flatten()
    return steps


def join_nrv(*files):
    """Return one file with the segments of these, one after the other."""
    streams = [unpack_stream(data) for data in files]
    segments, first_frame = [], 0
    for stream in streams:
        (segment,) = stream.segments
        header = dataclasses.replace(segment.header, first_frame=first_frame)
        segments.append(dataclasses.replace(segment, header=header))
        first_frame += header.n_frames
    header = dataclasses.replace(streams[0].header, n_frames=first_frame, n_segments=len(segments))
    return pack_stream(Stream(header, tuple(segments)))


def flat(frame):
    """Return all samples of a frame, RGB or planes, in a row."""
    return np.concatenate([part.ravel() for part in (frame if type(frame) is tuple else (frame,))])
