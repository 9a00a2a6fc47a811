"""The results of a small bench, as its report gets them: all kinds, states and metrics."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from nvcodec.bench.results import (
    BD,
    BenchResults,
    CodecResult,
    Machine,
    Point,
    SourceInfo,
    save_results,
)
from nvcodec.video.sinks import PngEncoder

SIDES = (48, 64)
N_FRAMES = 6
BPPS = (0.02, 0.05, 0.1, 0.2)


def points(gain_db, *, factor=1.0, times=True, quality=None, **given):
    """Four points on a curve that is gain_db above that of the others."""
    found = []
    for i, bpp in enumerate(bpp * factor for bpp in BPPS):
        psnr = 26 + 2.5 * i + gain_db
        found.append(
            Point(
                q=(quality or BPPS)[i], n_bytes=round(5000 * bpp), bpp=bpp, psnr_rgb_db=psnr,
                psnr_rgb_of_mean_mse_db=psnr - 0.1, psnr_y_db=psnr + 2, psnr_yuv_db=psnr + 3,
                ms_ssim=0.9 + 0.02 * i, xpsnr_db=psnr + 1,
                psnr_rgb_per_frame_db=tuple(psnr + np.sin(t).round(2) for t in range(N_FRAMES)),
                encode_s=1.5 + i if times else None, decode_fps=250.0 if times else None,
                decode_threads=2 if times else None, **given,
            )
        )  # fmt: skip
    return tuple(found)


def with_samples(codec_points, prefix):
    return tuple(replace(p, sample=f"samples/{prefix}_{i}.png") for i, p in enumerate(codec_points))


def bench_results():
    ours = with_samples(points(0, n_params=42_000, mac_per_pixel=9_800.0), "ours")
    failed = Point(status="failed", reason="memory does not suffice", q=0.4)
    x264 = with_samples(points(1, factor=1.1, quality=(40, 36, 32, 28), from_cache=True), "x264")
    far = with_samples(points(2, factor=8, quality=(20, 16, 12, 8)), "x265")
    codecs = (
        CodecResult(
            name="nvcodec hnerv", kind="nvcodec", points=(*ours, failed),
            parameters="nvcodec encode --arch hnerv --bpp {q}",
        ),
        CodecResult(
            name="x264 medium", kind="anchor", points=x264,
            parameters="ffmpeg -c:v libx264 -preset medium -crf {q} | cat",
        ),
        CodecResult(name="x265 slow", kind="anchor", points=far, parameters="-crf {q}"),
        CodecResult(
            name="VTM", kind="imported", parameters="EncoderApp -q {q}",
            points=points(4, times=False, quality=(42, 37, 32, 27)),
        ),
        CodecResult(
            name="HiNeRV (UVG)", kind="published", parameters="Kwan et al., NeurIPS 2023",
            points=(Point(q=0.03, bpp=0.03, psnr_rgb_db=36.2),),
        ),
        CodecResult(
            name="vvenc medium", kind="external", parameters="", status="not run",
            reason="vvencapp was not found; give its path with --vvenc",
        ),
        CodecResult(
            name="svtav1 6", kind="anchor", parameters="-crf {q}", status="failed",
            reason="libsvtav1 is not in this build",
        ),
    )  # fmt: skip
    pair = {"codec": "nvcodec hnerv", "anchor": "x264 medium"}
    bd = tuple(
        BD(**pair, metric=metric, method=method, rate_percent=percent, psnr_db=-1.0, low=27.0,
           high=33.5)
        for metric in ("psnr_rgb_db", "psnr_yuv_db")
        for method, percent in (("pchip", 25.0), ("akima", 24.5))
    )  # fmt: skip
    refused = tuple(
        BD(codec="nvcodec hnerv", anchor="x265 slow", metric=metric, method=method,
           error="the curves do not overlap in quality")
        for metric in ("psnr_rgb_db", "psnr_yuv_db")
        for method in ("pchip", "akima")
    )  # fmt: skip
    return BenchResults(
        nvcodec="0.1.0", commit="0123abc", command="nvcodec bench clip.mkv -o bench",
        machine=Machine(cpu="A CPU", n_threads=2, device="cpu", versions={"torch": "2.13.0"}),
        started="2026-02-03T10:11:12+00:00",
        source=SourceInfo(
            file="clip.mkv", frames_sha256="ab" * 32, width=64, height=48, n_frames=N_FRAMES,
            frame_rate="25/1", codec="h264", n_bytes=900, bpp=0.15, lossy=True, chroma="4:2:0",
            bit_depth=8,
        ),
        codecs=codecs, bd=bd + refused,
    )  # fmt: skip


def write_bench(folder: Path, results: BenchResults) -> Path:
    """Write results.json, and every sample in a colour of its own."""
    (folder / "samples").mkdir(parents=True)
    names = [p.sample for codec in results.codecs for p in codec.points if p.sample]
    encoder = PngEncoder(SIDES[1], SIDES[0])
    for number, name in enumerate(["samples/source.png", *names]):
        frame = np.full((*SIDES, 3), (20 * number % 256, 255 - 15 * number, 128), np.uint8)
        (folder / name).write_bytes(encoder.encode(frame))
    save_results(folder, results)
    return folder
