"""Rate-distortion on the small bunny clip: python benchmarks/bunny_small.py CLIP [--bpp ...].

CLIP is Big Buck Bunny at 320x180, 132 frames (Blender Foundation, CC BY 3.0), as lossless FFV1 in
yuv420p; the MD5 of its raw planes is bc5f6fffc7ac84dd94c75707b09882cb. The same clip at 1280x720
and the 48 frames in examples/ are measured in the same way. Quality is PSNR-RGB of 8-bit frames
decoded from the file, mean over frames, with this program's BT.601 conversion on both sides.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import machine

import nvcodec


def measure(clip: str, bpp: float, arguments: argparse.Namespace) -> dict[str, Any]:
    options = nvcodec.EncodeOptions(
        arch=arguments.arch,
        target=nvcodec.Target(bpp=bpp),
        preset=arguments.preset,
        max_time_s=arguments.max_time,
        passes=arguments.passes,
        seed=arguments.seed,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "out.nrv"
        _, result = nvcodec.encode(clip, path, options, frames=arguments.frames)
        n_bytes = path.stat().st_size
    return {
        "target_bpp": bpp,
        "n_bytes": n_bytes,
        "bpp": round(result.bpp, 5),
        "psnr_rgb_db": round(result.psnr_db, 3),
        "ms_ssim": result.ms_ssim and round(result.ms_ssim, 5),
        "arch": result.arch,
        "n_params": result.n_params,
        "n_steps": result.n_steps,
        "encode_s": round(result.encode_s, 1),
        "decode_fps": round(result.decode_fps, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.05])
    parser.add_argument("--arch", default="auto")
    parser.add_argument("--preset", default="medium")
    parser.add_argument("--passes", type=int, help="over the video; the preset's where not given")
    parser.add_argument("--max-time", type=float, help="seconds for each encode")
    parser.add_argument("--frames", type=int, default=132)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="bunny_small", help="name of the result file")
    arguments = parser.parse_args()
    points = [measure(arguments.clip, bpp, arguments) for bpp in arguments.bpp]
    machine.save(arguments.name, {"clip": Path(arguments.clip).name, "points": points})


if __name__ == "__main__":
    main()
