"""Speed and peak memory of `nvcodec decode` on a 720p file, as whole commands."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

import machine
import torch

from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.plan import make_plan
from nvcodec.codec.quantize import Quantizer, tensor_specs
from nvcodec.codec.work import make_file
from nvcodec.video.frames import VideoInfo, resolve_tags

N_FRAMES, HEIGHT, WIDTH = 132, 720, 1280
BPP = (0.01, 0.03, 0.06)


def make_random_file(path: Path, bpp: float) -> int:
    """Write a file of the size that a real encode would have; decoding cost is the same."""
    info = VideoInfo(
        width=WIDTH, height=HEIGHT, frame_rate=Fraction(25), bit_depth=8, chroma=420,
        color=resolve_tags(height=HEIGHT, chroma=420), codec="none", n_bytes=None,
    )  # fmt: skip
    plan = make_plan(
        EncodeOptions(arch="hnerv", target=Target(bpp=bpp)),
        n_frames=N_FRAMES, height=HEIGHT, width=WIDTH,
        frame_rate=Fraction(25), overhead_bytes=140,
    )  # fmt: skip
    torch.manual_seed(0)
    model = plan.model()
    torch.nn.init.normal_(model.get_parameter("embeddings"))
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    quantizer = Quantizer(tensor_specs(model), weight_bits=16, embed_bits=16)
    quantizer.initialize(parameters)
    path.write_bytes(make_file(plan, info, quantizer.quantize(parameters, octaves=1.5), b""))
    return plan.n_params


def main() -> None:
    points = []
    with tempfile.TemporaryDirectory() as folder:
        for bpp in BPP:
            coded = Path(folder) / f"{bpp}.nrv"
            n_params = make_random_file(coded, bpp)
            command = [sys.executable, "-m", "nvcodec", "decode", str(coded), "--json", "-o"]
            out = subprocess.run(
                [*command, str(Path(folder) / f"{bpp}.y4m")],
                capture_output=True,
                text=True,
                check=True,
            )
            lines = [json.loads(line) for line in out.stdout.splitlines()]
            (figures,) = (line for line in lines if line["type"] == "result")
            peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
            points.append(
                {
                    "bpp": bpp,
                    "n_params": n_params,
                    "n_bytes": coded.stat().st_size,
                    "decode_fps": round(figures["decode_fps"], 2),
                    "end_to_end_fps": round(figures["end_to_end_fps"], 2),
                    "peak_mib_so_far": round(peak, 1),
                }
            )
    machine.save("decode_720p", {"frames": N_FRAMES, "size": [WIDTH, HEIGHT], "points": points})


if __name__ == "__main__":
    main()
