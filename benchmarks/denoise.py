"""Denoising: python benchmarks/denoise.py CLIP [--frames N] [--bpp R] [--loss NAME ...].

The experiment of the NeRV paper (Chen et al., NeurIPS 2021, section 4.4): noise is put onto a clean
video, a network is fitted to the noisy one, and what it draws is compared with the clean one, next
to a median filter of 3x3 pixels. A share of the pixels becomes white, black, either of them (salt
and pepper), or of a random colour; the paper does not say the shares, and 0.5 % gives its mean PSNR
of the noisy videos (28.7 dB). Gaussian noise of sigma 10 is added here: no pixel is spared.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import machine
import numpy as np
from numpy.typing import NDArray

import nvcodec
from nvcodec.codec.restore import DENOISE
from nvcodec.codec.source import Source, read_source
from nvcodec.metrics import QualityMeter

Frames = NDArray[np.uint8]
KINDS = ("white", "black", "salt and pepper", "random", "gaussian")
SIGMA = 10.0


def add_noise(frames: Frames, kind: str, share: float, seed: int) -> Frames:
    """Return noisy frames (N, H, W, 3)."""
    generator = np.random.default_rng(seed)
    if kind == "gaussian":
        values = frames + generator.normal(0.0, SIGMA, frames.shape)
        return values.clip(0, 255).round().astype(np.uint8)
    noisy = frames.copy()
    hit = generator.random(frames.shape[:3]) < share
    n = int(hit.sum())
    if kind == "random":
        noisy[hit] = generator.integers(0, 256, (n, 3))
    elif kind == "salt and pepper":
        noisy[hit] = generator.integers(0, 2, (n, 1)) * 255
    else:
        noisy[hit] = {"white": 255, "black": 0}[kind]
    return noisy


def median_filter(frames: Frames) -> Frames:
    """Return the median of 3x3 pixels, channel by channel; edges are repeated."""
    height, width = frames.shape[1:3]
    filtered = np.empty_like(frames)
    for out, frame in zip(filtered, frames, strict=True):
        padded = np.pad(frame, ((1, 1), (1, 1), (0, 0)), mode="edge")
        around = [padded[y : y + height, x : x + width] for y in range(3) for x in range(3)]
        out[:] = np.median(np.stack(around), axis=0)
    return filtered


def psnr(frames: Frames, clean: Frames) -> float:
    meter = QualityMeter(with_ms_ssim=False)
    for pair in zip(frames, clean, strict=True):
        meter.add(*pair)
    return round(meter.psnr_db, 2)


def measure(
    clean: Source, kind: str, options: nvcodec.EncodeOptions, share: float
) -> dict[str, Any]:
    noisy = add_noise(clean.frames, kind, share, seed=1)
    figures: dict[str, Any] = {
        "noise": kind,
        "noisy_db": psnr(noisy, clean.frames),
        "median_db": psnr(median_filter(noisy), clean.frames),
    }
    data, result = nvcodec.encode(replace(clean, frames=noisy), None, options)
    figures["nvcodec_db"] = psnr(nvcodec.open(data)[:], clean.frames)
    figures["nvcodec_to_noisy_db"] = round(result.psnr_db, 2)
    figures["bpp"] = round(result.bpp, 4)
    figures["fit_s"] = round(result.encode_s, 1)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--share", type=float, default=0.005)
    parser.add_argument("--bpp", type=float, default=DENOISE.target.bpp)
    parser.add_argument("--preset", default=DENOISE.preset)
    parser.add_argument("--passes", type=int)
    parser.add_argument("--loss", nargs="+", default=[DENOISE.loss])
    parser.add_argument("--noise", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--name", default="denoise", help="name of the result file")
    arguments = parser.parse_args()
    clean = read_source(arguments.clip, start=0, count=arguments.frames)
    points = []
    for loss in arguments.loss:
        options = replace(
            DENOISE,
            target=nvcodec.Target(bpp=arguments.bpp),
            preset=arguments.preset,
            passes=arguments.passes,
            loss=loss,
        )
        for kind in arguments.noise:
            points.append({"loss": loss} | measure(clean, kind, options, arguments.share))
            print(points[-1], flush=True)
    machine.save(
        arguments.name,
        {
            "clip": Path(arguments.clip).name,
            "frames": len(clean.frames),
            "share": arguments.share,
            "sigma": SIGMA,
            "preset": arguments.preset,
            "points": points,
            "mean_db": mean(points),
        },
    )


def mean(points: list[dict[str, Any]]) -> dict[str, float]:
    """Return the means over the paper's four kinds of noise with the first loss."""
    rows = [p for p in points if p["noise"] != "gaussian" and p["loss"] == points[0]["loss"]]
    names = ("noisy_db", "median_db", "nvcodec_db")
    return {n: round(sum(p[n] for p in rows) / len(rows), 2) for n in names} if rows else {}


if __name__ == "__main__":
    main()
