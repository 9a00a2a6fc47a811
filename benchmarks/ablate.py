"""What a change of the encoder is worth: python benchmarks/ablate.py CLIP --change no-flow.

Encodes two small clips with the default and with a named change, at several rates and seeds, and
prints BD-rate and the mean difference in dB at equal rate with its spread over the seeds. Both get
the same CPU time: the change has as many passes as fit into the time of the default's, by a few
measured steps of each. CLIP is any video, such as that of bunny_small.py; the second clip is made
here: two textures that pass each other under noise that no codec should spend bits on.
"""

from __future__ import annotations

import argparse
import hashlib
import statistics
import time
from dataclasses import replace
from typing import Any

import machine
import numpy as np
import torch
from bjontegaard import bd_psnr, bd_rate
from numpy.typing import NDArray

import nvcodec
from nvcodec.codec.options import PRESET_PASSES, EncodeOptions, Target
from nvcodec.codec.source import KEEP_ALL, Source, read_source
from nvcodec.codec.work import EncodeWork

CHANGES: dict[str, dict[str, Any]] = {
    "none": {},
    "no-flow": {"model": {"motion": "affine"}},
    "no-motion": {"model": {"motion": "none"}},
    "no-detail": {"model": {"detail_channels": 0}},
    "no-dct": {"model": {"dct_shift": 0}},
    "kernel-5": {"model": {"kernel": 5}},
    "soap": {"optimizer": "soap"},
    "adam": {"optimizer": "adam"},
    "l2": {"loss": "l2"},
    "batch-1": {"batch": 1},
    "batch-4": {"batch": 4},
    "hnerv": {"arch": "hnerv"},
}
"""Options of an encode that differ from the default; "none" must give no difference."""
_TIMED_STEPS = 12
_BD = {"method": "pchip", "require_matching_points": False, "min_overlap": 0}
_HEIGHT, _WIDTH, _N_FRAMES = 108, 192, 48


def synthetic(like: Source) -> Source:
    """Return a clip of two textures that pass each other, under noise."""
    rng = np.random.default_rng(0)

    def texture(height: int, width: int) -> NDArray[np.float64]:
        rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
        spectrum = np.fft.rfft2(rng.standard_normal((height, width, 3)), axes=(0, 1))
        spectrum /= (np.hypot(rows, columns) + 0.02)[..., None]
        picture = np.fft.irfft2(spectrum, (height, width), axes=(0, 1))
        return np.asarray(128 + 45 * picture / picture.std())

    back, front = texture(140, 260), texture(60, 300)
    frames = np.empty((_N_FRAMES, _HEIGHT, _WIDTH, 3), np.uint8)
    for t in range(_N_FRAMES):
        frame = back[t // 3 : t // 3 + _HEIGHT, t : t + _WIDTH].copy()
        frame[40:90, 30 + 2 * t : 80 + 2 * t] = front[:50, 3 * t : 3 * t + 50][:, : _WIDTH - 30]
        frames[t] = np.clip(np.rint(frame + rng.normal(0, 2, frame.shape)), 0, 255)
    info = replace(like.info, width=_WIDTH, height=_HEIGHT)
    sha256 = hashlib.sha256(frames.tobytes()).hexdigest()
    return replace(like, frames=frames, planes=None, info=info, sha256=sha256)


def cpu_s_per_step(source: Source, options: EncodeOptions) -> float:
    """Return the CPU time of a step of the rounded phase, without the first steps."""
    work = EncodeWork(
        source, options, device=torch.device("cpu"), keep=KEEP_ALL,
        listener=lambda event: None, stop=lambda: False,
    )  # fmt: skip
    plan = work.plan()
    fit = work.make_fit(replace(plan, fit=replace(plan.fit, float_share=0.0)), prepare=False)
    for i in range(3 + _TIMED_STEPS):
        if i == 3:
            began = time.process_time()
        fit.advance()
    return (time.process_time() - began) / _TIMED_STEPS


def curve(source: Source, options: EncodeOptions, rates: list[float]) -> list[dict[str, Any]]:
    """Return the points of one seed."""
    points = []
    for bpp in rates:
        began = time.process_time()
        _, result = nvcodec.encode(source, None, replace(options, target=Target(bpp=bpp)))
        points.append(
            {
                "bpp": round(result.bpp, 5),
                "psnr_rgb_db": round(result.psnr_db, 3),
                "n_params": result.n_params,
                "n_steps": result.n_steps,
                "cpu_s": round(time.process_time() - began, 1),
            }
        )
        print(options.seed, points[-1], flush=True)
    return points


def difference(test: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, float | None]:
    """Return BD-rate in percent and BD-PSNR in dB; with fewer than 4 rates the mean of dB alone."""
    values = [[[p[k] for p in points] for k in ("bpp", "psnr_rgb_db")] for points in (base, test)]
    if len(test) < 4:
        lifts = [t["psnr_rgb_db"] - b["psnr_rgb_db"] for t, b in zip(test, base, strict=True)]
        return {"bd_rate_percent": None, "db": round(statistics.mean(lifts), 3)}
    return {
        "bd_rate_percent": round(float(bd_rate(*values[0], *values[1], **_BD)), 2),
        "db": round(float(bd_psnr(*values[0], *values[1], **_BD)), 3),
    }


def spread(values: list[float | None]) -> dict[str, float] | None:
    known = [v for v in values if v is not None]
    if not known:
        return None
    deviation = statistics.stdev(known) if len(known) > 1 else 0.0
    return {"mean": round(statistics.mean(known), 3), "deviation": round(deviation, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--change", choices=sorted(CHANGES), required=True)
    parser.add_argument("--clips", nargs="+", choices=("given", "synthetic"))
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.05, 0.08, 0.12, 0.2])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--passes", type=int)
    parser.add_argument("--frames", type=int, default=132)
    arguments = parser.parse_args()
    given = read_source(arguments.clip, start=0, count=arguments.frames)
    sources = {"given": given, "synthetic": synthetic(given)}
    passes = arguments.passes or PRESET_PASSES[arguments.preset]
    default = EncodeOptions(arch="canvas", preset=arguments.preset, passes=passes)
    changed = replace(default, **CHANGES[arguments.change])
    results = {}
    for name in arguments.clips or sources:
        middle = Target(bpp=arguments.bpp[len(arguments.bpp) // 2])
        costs = [
            cpu_s_per_step(sources[name], replace(options, target=middle))
            for options in (default, changed)
        ]
        share = costs[0] / costs[1] * (changed.batch or 2) / 2
        fair = replace(changed, passes=max(1, round(passes * share)))
        rows = []
        for seed in arguments.seeds:
            base = curve(sources[name], replace(default, seed=seed), arguments.bpp)
            test = curve(sources[name], replace(fair, seed=seed), arguments.bpp)
            rows.append({"seed": seed, "default": base, "changed": test} | difference(test, base))
        results[name] = {
            "cpu_ms_per_step": [round(1000 * cost, 1) for cost in costs],
            "passes": [passes, fair.passes],
            "bd_rate_percent": spread([row["bd_rate_percent"] for row in rows]),
            "db": spread([row["db"] for row in rows]),
            "seeds": rows,
        }
    machine.save(f"ablate_{arguments.change}", {"change": CHANGES[arguments.change]} | results)


if __name__ == "__main__":
    main()
