"""The papers' bunny tables: python benchmarks/seeds_bunny.py CLIP [--params N ...] [--passes N].

CLIP is Big Buck Bunny at 1280x720, 132 frames (Blender Foundation, CC BY 3.0). Its centre of
1280x640 counts as the truth. HNeRV, E-NeRV and NeRV train on it with the recipes of their papers
and are rounded afterwards; "float" is the PSNR before, "file" that of frames decoded from the real
file, both on 8-bit RGB, mean over frames. With a GPU that is the setting of the HNeRV paper (Chen
et al., CVPR 2023): all frames, 300 passes, four sizes. Without one the frames are area-scaled to
320x160, and there are fewer of them, fewer passes and one size.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

import nvcodec
from nvcodec.codec.source import Source, read_source

CROP = (1280, 640)
RECIPES = ("hnerv-paper", "enerv-paper", "nerv-paper", "hnerv-paper-nerv")
GPU = {"scale": 1, "frames": 132, "passes": 300, "params": [0.35e6, 0.75e6, 1.5e6, 3e6]}
CPU = {"scale": 4, "frames": 32, "passes": 60, "params": [0.1e6]}
# HNeRV paper, table of the bunny video: PSNR of the unquantised network. Its NeRV is the one that
# its own trainer makes.
PUBLISHED_DB = {
    "hnerv-paper": {0.35e6: 30.15, 0.75e6: 32.81, 1.5e6: 35.57, 3e6: 37.43},
    "enerv-paper": {0.35e6: 27.84, 0.75e6: 30.95, 1.5e6: 32.09, 3e6: 36.72},
    "hnerv-paper-nerv": {0.35e6: 26.99, 0.75e6: 28.46, 1.5e6: 30.87, 3e6: 33.21},
}


def read(clip: str, n_frames: int, scale: int) -> Source:
    """Return the centre of the frames, averaged over squares of `scale` pixels."""
    width, height = CROP
    source = read_source(clip, start=0, count=n_frames, framing=nvcodec.Framing(crop=CROP))
    if scale == 1:
        return source
    size = (height // scale, width // scale)
    squares = source.frames.reshape(n_frames, size[0], scale, size[1], scale, 3)
    frames = squares.mean((2, 4)).round().astype(np.uint8)
    info = replace(source.info, height=size[0], width=size[1])
    return replace(source, frames=frames, info=info)


def measure(source: Source, recipe: str, n_params: float, passes: int, seed: int) -> dict[str, Any]:
    changes = {"passes": passes, "n_params": n_params, "seed": seed}
    options = nvcodec.EncodeOptions(**nvcodec.RECIPES[recipe] | changes)
    _, result = nvcodec.encode(source, None, options)
    assert result.float_psnr_db is not None
    return {
        "recipe": recipe,
        "max_params": int(n_params),
        "n_params": result.n_params,
        "float_psnr_db": round(result.float_psnr_db, 2),
        "file_psnr_db": round(result.psnr_db, 2),
        "file_ms_ssim": result.ms_ssim and round(result.ms_ssim, 4),
        "n_bytes": result.n_bytes,
        "bpp": round(result.bpp, 4),
        "n_steps": result.n_steps,
        "encode_s": round(result.encode_s, 1),
        "decode_fps": round(result.decode_fps, 1),
    }


def main() -> None:
    default = GPU if torch.cuda.is_available() else CPU
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--scale", type=int, default=default["scale"])
    parser.add_argument("--frames", type=int, default=default["frames"])
    parser.add_argument("--passes", type=int, default=default["passes"])
    parser.add_argument("--params", type=float, nargs="+", default=default["params"])
    parser.add_argument("--recipes", nargs="+", default=RECIPES, choices=sorted(nvcodec.RECIPES))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="seeds_bunny", help="name of the result file")
    arguments = parser.parse_args()
    source = read(arguments.clip, arguments.frames, arguments.scale)
    paper_setting = (arguments.scale, arguments.frames, arguments.passes) == (1, 132, 300)
    points = []
    for n_params in arguments.params:
        for recipe in arguments.recipes:
            point = measure(source, recipe, n_params, arguments.passes, arguments.seed)
            if paper_setting:
                point["published_db"] = PUBLISHED_DB.get(recipe, {}).get(n_params)
            points.append(point)
            print(point, flush=True)
    height, width = source.frames.shape[1:3]
    machine.save(
        arguments.name,
        {
            "clip": Path(arguments.clip).name,
            "size": f"{width}x{height}",
            "frames": len(source.frames),
            "passes": arguments.passes,
            "points": points,
        },
    )


if __name__ == "__main__":
    main()
