"""Interpolation: python benchmarks/interpolation.py CLIP [--split 6/10] [--shuffle] [--bpp R].

The experiment of the HNeRV paper (Chen et al., CVPR 2023, video interpolation): a part of the
frames is encoded, by default every second one, the moments of the others are drawn, and what was
held out is compared with the source. `--shuffle` draws by lot which frames are held out. Two ways
that need no network stand beside it: the mean of the two decoded neighbours, each with the weight
of its nearness, and the earlier one repeated.

With HNeRV a second network is trained whose encoder stays to the end and is then fed the frames
that were held out, as HNeRV's own trainer evaluates them. That is no way to store a video: no file
holds an encoder, and what it is fed is what would have to be drawn.
"""

from __future__ import annotations

import argparse
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

import nvcodec
from nvcodec.codec.interpolate import frames_between
from nvcodec.codec.source import Keep, Source, read_source
from nvcodec.codec.work import EncodeWork
from nvcodec.depth import RGB
from nvcodec.events import ignore
from nvcodec.metrics import QualityMeter


def split(n_frames: int, kept: int, every: int, *, shuffle: bool, seed: int) -> list[int]:
    """Return the indices of the frames that are encoded, the first and the last among them.

    The first `kept` of every `every` frames; shuffled, as many drawn by lot (HNeRV, `data_split`
    and `shuffle_data`).
    """
    order = np.arange(n_frames)
    if shuffle:
        np.random.default_rng(seed).shuffle(order)
    seen = order[np.arange(n_frames) % every < kept]
    # Beyond the first and the last frame there is nothing to interpolate.
    return sorted({0, n_frames - 1, *map(int, seen)})


def quality(frames: Iterable[RGB], truth: Iterable[RGB]) -> dict[str, Any]:
    meter = QualityMeter()
    for frame, true in zip(frames, truth, strict=True):
        meter.add(frame, true)
    return {"psnr_db": round(meter.psnr_db, 2), "ms_ssim": meter.ms_ssim}


def fit_with_encoder(
    part: Source, options: nvcodec.EncodeOptions, n_params: int
) -> tuple[bytes, torch.nn.Module]:
    """Return the file of a network whose encoder is trained to the end, and that encoder."""
    # Where the rate is in the loss, embeddings are free parameters in the end. 8 bits as HNeRV's.
    options = replace(
        options, target=nvcodec.Target(), n_params=n_params,
        coding="ptq", weight_bits=8, embed_bits=8, analysis_share=1.0,
    )  # fmt: skip
    work = EncodeWork(
        part, options,
        device=torch.device("cpu"), keep=Keep(), listener=ignore, stop=lambda: False,
    )  # fmt: skip
    plan = work.plan()
    fit = work.make_fit(plan)
    while not fit.done:
        # The last step drops it.
        encoder = fit.analysis
        fit.advance()
    assert encoder is not None
    return work.finish(plan, fit), encoder


@torch.inference_mode()
def draw_what_it_sees(
    video: nvcodec.VideoFile, encoder: torch.nn.Module, frames: Iterable[RGB]
) -> Iterator[RGB]:
    """Yield what the network of the file draws from the encoder's embeddings of these frames."""
    for frame in frames:
        pixels = torch.from_numpy(frame).permute(2, 0, 1)[None] / 255
        drawn = video.load(0)(torch.zeros(1, dtype=torch.int64), {"embeddings": encoder(pixels)})
        yield video.to_rgb(drawn, 0)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--arch", default="hnerv")
    parser.add_argument("--bpp", type=float, default=0.2, help="of the frames that are encoded")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--split", default="1/2", help="frames that are encoded, of how many")
    parser.add_argument("--shuffle", action="store_true", help="hold out frames by lot")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--name", default="interpolation", help="name of the result file")
    arguments = parser.parse_args()
    source = read_source(arguments.clip, start=0, count=arguments.frames)
    n_frames = len(source.frames)
    kept, every = map(int, arguments.split.split("/"))
    seen = split(n_frames, kept, every, shuffle=arguments.shuffle, seed=arguments.seed)
    unseen = sorted(set(range(n_frames)) - set(seen))
    part = replace(
        source,
        frames=np.ascontiguousarray(source.frames[seen]),
        info=replace(
            source.info,
            frame_rate=source.info.frame_rate * Fraction(len(seen), n_frames),
            timing=None,
        ),
        planes=None,
    )
    options = nvcodec.EncodeOptions(
        arch=arguments.arch,
        target=nvcodec.Target(bpp=arguments.bpp),
        preset=arguments.preset,
        passes=arguments.passes,
        seed=arguments.seed,
    )
    data, result = nvcodec.encode(part, None, options)
    # Where each held-out frame lies among those that are encoded.
    positions = []
    for frame in unseen:
        i = bisect_right(seen, frame) - 1
        positions.append(i + Fraction(frame - seen[i], seen[i + 1] - seen[i]))
    with nvcodec.open(data) as video:
        decoded = video[:]
        between = list(frames_between(video, positions))
    means = [
        (1 - p % 1) * decoded[int(p)] + (p % 1) * decoded[int(p) + 1] for p in map(float, positions)
    ]
    ways = {
        "interpolated": between,
        "mean_of_neighbours": [mean.round().astype(np.uint8) for mean in means],
        "earlier_repeated": [decoded[int(p)] for p in positions],
    }
    truth = source.frames[unseen]
    results: dict[str, Any] = {
        "clip": Path(arguments.clip).name,
        "frames": n_frames,
        "held_out_frames": len(unseen),
        "split": arguments.split,
        "shuffle": arguments.shuffle,
        "arch": arguments.arch,
        "preset": arguments.preset,
        "bpp": round(result.bpp, 4),
        "seen_psnr_db": round(result.psnr_db, 2),
        "held_out": {name: quality(frames, truth) for name, frames in ways.items()},
        "encode_s": round(result.encode_s, 1),
    }
    if arguments.arch == "hnerv":
        data, encoder = fit_with_encoder(part, options, result.n_params)
        with nvcodec.open(data) as video:
            results["with_encoder"] = {
                "note": "an experiment: no file holds the encoder",
                "coding": "ptq",
                "bpp": round(8 * len(data) / part.n_pixels, 4),
                "seen_psnr_db": quality(video[:], part.frames)["psnr_db"],
                "held_out": {
                    "encoder_sees_held_out": quality(
                        draw_what_it_sees(video, encoder, truth), truth
                    ),
                    "interpolated": quality(frames_between(video, positions), truth),
                },
            }
    machine.save(arguments.name, results)


if __name__ == "__main__":
    main()
