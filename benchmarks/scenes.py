"""What a network for each scene gains: python benchmarks/scenes.py bunny_320x180.mkv.

"two": frames 0 to 32 of CLIP upside down, then 99 to 131. "four": 0 to 11 upside down, 60 to 75,
100 to 111 mirrored in exchanged colours, 30 to 53 as a negative. Each with --scenes none and auto.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np

import nvcodec
from nvcodec.codec.source import Source, read_source
from nvcodec.depth import Samples

RUNS = (("two", 0.08, 24, 24), ("four", 0.1, 24, 40))
"""Name, bpp, passes with one network and with several."""


def cut_together(name: str, frames: Samples) -> Samples:
    """Return the frames of a clip (N, H, W, 3) that cuts."""
    if name == "two":
        parts = [frames[:33, ::-1], frames[99:132]]
    else:
        mirrored = frames[100:112, :, ::-1, ::-1]
        parts = [frames[:12, ::-1], frames[60:76], mirrored, 255 - frames[30:54]]
    return np.ascontiguousarray(np.concatenate(parts))


def measure(source: Source, bpp: float, passes: int, scenes: str) -> dict[str, Any]:
    options = nvcodec.EncodeOptions(
        arch="canvas",
        target=nvcodec.Target(bpp=bpp),
        preset="fast",
        passes=passes,
        scenes=scenes,
    )
    _, result = nvcodec.encode(source, None, options)
    return {
        "target_bpp": bpp,
        "passes": passes,
        "scenes": result.scenes,
        "bpp": round(result.bpp, 5),
        "psnr_rgb_db": round(result.psnr_db, 3),
        "ms_ssim": result.ms_ssim and round(result.ms_ssim, 5),
        "n_params": result.n_params,
        "n_steps": result.n_steps,
        "encode_s": round(result.encode_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    clip = parser.parse_args().clip
    whole = read_source(clip, start=0, count=132)
    points: dict[str, Any] = {}
    for name, bpp, passes, more_passes in RUNS:
        frames = cut_together(name, whole.frames)
        source = Source(replace(whole.info, timing=None), frames, name)
        points[name] = [
            measure(source, bpp, passes, "none"),
            measure(source, bpp, passes, "auto"),
            *([measure(source, bpp, more_passes, "auto")] if more_passes > passes else []),
        ]
    machine.save("scenes", {"clip": Path(clip).name, "points": points})


if __name__ == "__main__":
    main()
