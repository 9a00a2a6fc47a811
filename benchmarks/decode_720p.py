"""Speed and peak memory of `nvcodec decode` on 720p files, as whole commands."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch

from nvcodec.bitstream.block_motion import Motion
from nvcodec.bitstream.corrections import Corrections, grid_shape, pack_corrections
from nvcodec.codec.assemble import make_file
from nvcodec.codec.choose_corrections import block_side
from nvcodec.codec.first_steps import set_first_steps
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.plan import Plan, make_plan
from nvcodec.codec.quantize import Quantizer, tensor_specs
from nvcodec.video.frames import VideoInfo, resolve_tags

N_FRAMES, HEIGHT, WIDTH = 132, 720, 1280
ARCHS = ("canvas", "hnerv")
BPP = (0.01, 0.03, 0.06)
PRESET = "fast"
CORRECTED_PER_BPP, COPIED_PER_BPP = 1.4, 4.0
"""Shares of the blocks that have coefficients and that are copied, for each bit a pixel: 8 and 24 %
in a real Canvas file of 0.06."""
GROUP = 8
MOST_MOVED = 8
"""Half pixels."""
# A process of its own counts the memory of its only child.
MEASURE = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True)
sys.stdout.buffer.write(done.stdout)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def make_random_file(path: Path, arch: str, bpp: float) -> Plan:
    """Write a file of the size that a real encode would have; decoding cost is the same."""
    info = VideoInfo(
        width=WIDTH, height=HEIGHT, frame_rate=Fraction(25), bit_depth=8, chroma=420,
        color=resolve_tags(height=HEIGHT, chroma=420), codec="none", n_bytes=None,
    )  # fmt: skip
    plan = make_plan(
        EncodeOptions(arch=arch, preset=PRESET, target=Target(bpp=bpp)),
        n_frames=N_FRAMES, height=HEIGHT, width=WIDTH,
        frame_rate=Fraction(25), overhead_bytes=140,
    )  # fmt: skip
    torch.manual_seed(0)
    model = plan.model()
    for name, parameter in model.named_parameters():
        latents = name in model.latent_names and name not in model.steady_names
        if latents or name.startswith(model.field_names or ("/",)):
            torch.nn.init.normal_(parameter)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    quantizer = Quantizer(tensor_specs(model), weight_bits=16, embed_bits=16)
    assert plan.max_bytes is not None
    alike = {name: torch.ones_like(p) for name, p in parameters.items()}
    set_first_steps(quantizer, parameters, alike, 8 * plan.max_bytes)
    words = b""
    if arch == "canvas":
        words = random_corrections(CORRECTED_PER_BPP * bpp, COPIED_PER_BPP * bpp)
    path.write_bytes(make_file(plan, info, quantizer.quantize(parameters), b"", corrections=words))
    return plan


def random_corrections(share: float, copied: float) -> bytes:
    """Return corrections with coefficients and copies of shares of all blocks."""
    rng = np.random.default_rng(0)
    side = block_side(HEIGHT, WIDTH)
    blocks = rng.random(grid_shape(N_FRAMES, HEIGHT, WIDTH, side)) < share
    spread = 1 / (1 + np.add.outer(np.arange(8), np.arange(8)))
    symbols = np.rint(rng.laplace(0, spread, (int(blocks.sum()), 3, 8, 8))).astype(np.int32)
    moved = rng.random(blocks.shape) < copied * GROUP / (GROUP - 1)
    moved[::GROUP] = False
    vectors = rng.integers(-MOST_MOVED, MOST_MOVED + 1, (int(moved.sum()), 2))
    return pack_corrections(Corrections(side, 150, blocks, symbols, Motion(moved, vectors)))


def measure(arch: str, bpp: float, folder: Path) -> dict[str, Any]:
    """Return one row: the file, its network and how `nvcodec decode` does with it."""
    coded = folder / f"{arch}-{bpp}.nrv"
    plan = make_random_file(coded, arch, bpp)
    command = [sys.executable, "-m", "nvcodec", "decode", str(coded), "--json", "--overwrite"]
    out = subprocess.run(
        [sys.executable, "-c", MEASURE, *command, "-o", str(folder / "out.y4m")],
        capture_output=True,
        text=True,
        check=True,
    )
    *lines, peak_kib = out.stdout.splitlines()
    (figures,) = (line for line in map(json.loads, lines) if line["type"] == "result")
    return {
        "arch": arch,
        "bpp": bpp,
        "n_params": plan.n_params,
        "kmac_per_pixel": round(plan.model().macs_per_frame() / (HEIGHT * WIDTH) / 1000, 2),
        "n_bytes": coded.stat().st_size,
        "decode_fps": round(figures["decode_fps"], 2),
        "end_to_end_fps": round(figures["end_to_end_fps"], 2),
        "peak_mib": round(int(peak_kib) / 1024, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", choices=ARCHS, action="append", help="Default: all of them.")
    chosen = parser.parse_args().arch or ARCHS
    with tempfile.TemporaryDirectory() as folder:
        points = [measure(arch, bpp, Path(folder)) for arch in chosen for bpp in BPP]
    machine.save(
        "decode_720p",
        {"frames": N_FRAMES, "size": [WIDTH, HEIGHT], "preset": PRESET, "points": points},
    )


if __name__ == "__main__":
    main()
