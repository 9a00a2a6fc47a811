"""Canvas at full size: python benchmarks/bunny_720p.py CLIP FOLDER [--max-time 600].

CLIP is Big Buck Bunny at 1280x720, 132 frames (Blender Foundation, CC BY 3.0). It is H.264 of 0.069
bpp itself, so that only rates below 0.06 bpp mean anything. FOLDER gets the whole bench of `nvcodec
bench`, with x265 at presets medium and veryslow on the same frames; BD-rates are of PSNR-RGB. Then
one encode is made for the quality of HNeRV with 1.5 M parameters after 300 passes, 35.57 dB before
it is rounded (Chen et al., CVPR 2023), at the rate that the curve above needs for it. All that is
measured is kept in FOLDER, so that the same command goes on where it was interrupted.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import machine

import nvcodec
from nvcodec.bench.results import CodecResult
from nvcodec.bench.run import BenchOptions, bench
from nvcodec.codec.options import EncodeOptions, Target

ANCHORS = ("x265:medium", "x265:veryslow")
HNERV_DB, HNERV_BYTES = 35.57, 1_480_000


def rate_at(points: list[dict[str, Any]], psnr_db: float) -> float | None:
    """Return the bpp at which the curve, a line over the logarithm of bpp, has this quality."""
    for low, high in pairwise(points):
        if low["psnr_rgb_db"] <= psnr_db <= high["psnr_rgb_db"]:
            share = (psnr_db - low["psnr_rgb_db"]) / (high["psnr_rgb_db"] - low["psnr_rgb_db"])
            logs = [math.log(point["bpp"]) for point in (low, high)]
            return math.exp(logs[0] + share * (logs[1] - logs[0]))
    return None


def rows(codec: CodecResult) -> list[dict[str, Any]]:
    names = ("bpp", "n_bytes", "psnr_rgb_db", "psnr_yuv_db", "ms_ssim", "encode_s", "decode_fps")
    return [{name: getattr(point, name) for name in names} for point in codec.good_points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.01, 0.02, 0.035, 0.06])
    parser.add_argument("--max-time", type=float, help="seconds for each encode")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--frames", type=int, default=132)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--name", default="bunny_720p", help="name of the result file")
    given = parser.parse_args()
    encode = EncodeOptions(
        arch="canvas", preset=given.preset, max_time_s=given.max_time, passes=given.passes
    )
    options = BenchOptions(
        archs=("canvas",), bpps=tuple(given.bpp), anchors=ANCHORS, encode=encode,
        device=given.device, threads=given.threads,
    )  # fmt: skip
    results, _ = bench(given.clip, given.folder, options, frames=given.frames, listener=print)
    curves = {codec.name: rows(codec) for codec in results.codecs}
    own = next(rows(codec) for codec in results.codecs if codec.kind == "nvcodec")
    rate = rate_at(own, HNERV_DB)
    as_hnerv = None
    if rate is not None:
        began = time.perf_counter()
        data, result = nvcodec.encode(
            given.clip, None, replace(encode, target=Target(bpp=rate)),
            device=given.device, frames=given.frames,
        )  # fmt: skip
        as_hnerv = {
            "hnerv_db": HNERV_DB,
            "hnerv_bytes": HNERV_BYTES,
            "psnr_rgb_db": round(result.psnr_db, 3),
            "n_bytes": len(data),
            "encode_s": round(time.perf_counter() - began, 1),
        }
    machine.save(
        given.name,
        {
            "clip": Path(given.clip).name,
            "curves": curves,
            "bd_rate_percent": {
                f"{bd.codec} against {bd.anchor}": bd.rate_percent
                for bd in results.bd
                if bd.metric == "psnr_rgb_db" and bd.method == "pchip" and "canvas" in bd.codec
            },
            "quality_of_hnerv": as_hnerv,
        },
    )


if __name__ == "__main__":
    main()
