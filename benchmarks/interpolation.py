"""Interpolation: python benchmarks/interpolation.py CLIP [--frames N] [--bpp R].

The experiment of the HNeRV paper (Chen et al., CVPR 2023, video interpolation): every second frame
is encoded, the video is drawn at twice the rate, and the frames that were held out are compared
with the source. Two ways that need no network stand beside it: the mean of the two decoded
neighbours, and the earlier one repeated.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import machine
import numpy as np

import nvcodec
from nvcodec.codec.interpolate import frames_between
from nvcodec.codec.work import read_source
from nvcodec.metrics import QualityMeter


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--arch", default="hnerv")
    parser.add_argument("--bpp", type=float, default=0.2, help="of the frames that are encoded")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--name", default="interpolation", help="name of the result file")
    arguments = parser.parse_args()
    source = read_source(arguments.clip, start=0, count=arguments.frames)
    half = replace(
        source,
        frames=np.ascontiguousarray(source.frames[::2]),
        info=replace(source.info, frame_rate=source.info.frame_rate / 2, timing=None),
    )
    options = nvcodec.EncodeOptions(
        arch=arguments.arch,
        target=nvcodec.Target(bpp=arguments.bpp),
        preset=arguments.preset,
        passes=arguments.passes,
    )
    data, result = nvcodec.encode(half, None, options)
    with nvcodec.open(data) as video:
        n_between = len(video) - 1
        decoded = video[:]
        between = list(frames_between(video, (i + Fraction(1, 2) for i in range(n_between))))
    means = [(decoded[i].astype(np.float32) + decoded[i + 1]) / 2 for i in range(n_between)]
    ways = {
        "interpolated": between,
        "mean_of_neighbours": [mean.round().astype(np.uint8) for mean in means],
        "earlier_repeated": list(decoded[:n_between]),
    }
    held_out = {}
    for name, frames in ways.items():
        meter = QualityMeter()
        for i, frame in enumerate(frames):
            meter.add(frame, source.frames[2 * i + 1])
        held_out[name] = {"psnr_db": round(meter.psnr_db, 2), "ms_ssim": meter.ms_ssim}
    machine.save(
        arguments.name,
        {
            "clip": Path(arguments.clip).name,
            "frames": len(source.frames),
            "arch": arguments.arch,
            "preset": arguments.preset,
            "bpp": round(result.bpp, 4),
            "seen_psnr_db": round(result.psnr_db, 2),
            "held_out": held_out,
            "encode_s": round(result.encode_s, 1),
        },
    )


if __name__ == "__main__":
    main()
