"""Inpainting: python benchmarks/inpainting.py CLIP [--frames N] [--bpp R] [--box N ...].

The experiment of the HNeRV paper (Chen et al., CVPR 2023, video inpainting): five boxes are hidden,
and what is drawn there is compared with the source. The paper's boxes have 50 pixels in frames of
480x960, about a tenth of the height. Beside it: the mean colour of the known pixels of each frame.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import machine

import nvcodec
from nvcodec.codec.restore import INPAINT
from nvcodec.codec.source import read_source
from nvcodec.metrics import QualityMeter
from nvcodec.video.masks import fill_hidden, read_mask


def measure(
    clip: str, box: int, options: nvcodec.EncodeOptions, count: int | None
) -> dict[str, Any]:
    source = read_source(clip, start=0, count=count)
    hidden = read_mask(f"boxes:{box}", *source.frames.shape[:3])
    flat, under = QualityMeter(with_ms_ssim=False), QualityMeter(with_ms_ssim=False)
    filled = fill_hidden(source.frames, hidden)
    for frame, truth, hole in zip(filled, source.frames, hidden, strict=True):
        flat.add(frame, truth)
        under.add(frame[hole], truth[hole])
    with tempfile.TemporaryDirectory() as folder:
        result = nvcodec.restore(
            clip, Path(folder) / "out.mkv", options, mask=f"boxes:{box}", frames=count
        )
    return {
        "box": box,
        "hidden_share": round(result.hidden_share, 4),
        "mean_colour_hidden_db": round(under.psnr_db, 2),
        "mean_colour_db": round(flat.psnr_db, 2),
        "hidden_db": result.hidden_psnr_db and round(result.hidden_psnr_db, 2),
        "psnr_db": round(result.psnr_db, 2),
        "network_psnr_db": round(result.encoded.psnr_db, 2),
        "bpp": round(result.encoded.bpp, 4),
        "fit_s": round(result.encoded.encode_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--bpp", type=float, default=INPAINT.target.bpp)
    parser.add_argument("--preset", default=INPAINT.preset)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--box", type=int, nargs="+", default=[18, 50])
    parser.add_argument("--name", default="inpainting", help="name of the result file")
    arguments = parser.parse_args()
    options = nvcodec.EncodeOptions(
        target=nvcodec.Target(bpp=arguments.bpp),
        preset=arguments.preset,
        passes=arguments.passes,
    )
    points = [measure(arguments.clip, box, options, arguments.frames) for box in arguments.box]
    machine.save(
        arguments.name,
        {
            "clip": Path(arguments.clip).name,
            "frames": arguments.frames,
            "preset": arguments.preset,
            "points": points,
        },
    )


if __name__ == "__main__":
    main()
