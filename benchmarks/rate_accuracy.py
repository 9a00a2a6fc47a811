"""How near files land to the rate that was asked for: python benchmarks/rate_accuracy.py CLIP.

Every architecture encodes the start of CLIP, made small, at five rates. A file may have at most the
target's bytes and shall have at most 2 % fewer. Before the exact fit the network is compared with
what corrections leave of them. "estimate" is what training believed the file would have at its last
step, smoothed, against what those values weigh before the exact fit; "model" is the code length of
all symbols under the distributions that training learned, against that in the file.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import machine

from nvcodec.bitstream.tensors import tensor_bits
from nvcodec.codec.device import pick_device
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.proof import prove
from nvcodec.codec.source import KEEP_ALL, Source, read_source
from nvcodec.codec.work import EncodeWork
from nvcodec.models import ARCHITECTURES
from nvcodec.video.framing import Framing


def measure(source: Source, options: EncodeOptions) -> dict[str, Any]:
    """Return one row; errors in percent."""
    began = time.process_time()
    work = EncodeWork(
        source, options, device=pick_device("cpu"), keep=KEEP_ALL,
        listener=lambda event: None, stop=lambda: False,
    )  # fmt: skip
    plan = work.plan()
    assert plan.max_bytes is not None
    fit = work.make_fit(plan)
    work.run(fit)
    assert fit.bits is not None
    estimate_bytes = (fit.bits + fit.rate.overhead_bits) / 8
    tensors = fit.quantized()
    n_bytes = len(work.file(plan, tensors))
    symbol_bits = sum(tensor_bits(q, predicts=True).symbols for q in tensors)
    assert fit.quantizer is not None
    model_bits = fit.quantizer.count_bits(fit.parameters(), fit.model.steady_names)
    network_bytes = (1 - fit.corrections) * plan.max_bytes
    data = work.finish(plan, fit)
    meter, _ = prove(
        data, work.source, device=work.device, listener=work.listener, with_ms_ssim=False
    )
    return {
        "arch": plan.arch,
        "target_bpp": options.target.bpp,
        "target_bytes": plan.max_bytes,
        "n_bytes": len(data),
        "error_percent": round(100 * (len(data) / plan.max_bytes - 1), 2),
        "before_exact_fit_percent": round(100 * (n_bytes / network_bytes - 1), 2),
        "corrections": round(fit.corrections, 2),
        "estimate_percent": round(100 * (estimate_bytes / n_bytes - 1), 2),
        "model_percent": round(100 * (model_bits / symbol_bits - 1), 2),
        "psnr_rgb_db": round(meter.psnr_db, 2),
        "n_params": plan.n_params,
        "n_steps": fit.step,
        "cpu_s": round(time.process_time() - began, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clip")
    parser.add_argument("--arch", nargs="+", choices=sorted(ARCHITECTURES), default=None)
    parser.add_argument("--bpp", type=float, nargs="+", default=[0.05, 0.1, 0.2, 0.4, 0.8])
    parser.add_argument("--frames", type=int, default=32)
    parser.add_argument("--height", type=int, default=90)
    parser.add_argument("--passes", type=int, default=60)
    arguments = parser.parse_args()
    framing = Framing(resize=arguments.height)
    source = read_source(arguments.clip, start=0, count=arguments.frames, framing=framing)
    points = []
    for arch in arguments.arch or sorted(ARCHITECTURES):
        for bpp in arguments.bpp:
            options = EncodeOptions(arch=arch, target=Target(bpp=bpp), passes=arguments.passes)
            points.append(measure(source, options))
            print(points[-1], flush=True)
    errors = [point["error_percent"] for point in points]
    machine.save(
        "rate_accuracy",
        {
            "size": [source.info.width, source.info.height],
            "frames": len(source.frames),
            "passes": arguments.passes,
            "worst_error_percent": min(errors),
            "most_above_percent": max(errors),
            "points": points,
        },
    )


if __name__ == "__main__":
    main()
