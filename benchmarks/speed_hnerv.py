"""Training and decoding speed of HNeRV 1.5M at 640x1280 against a plain PyTorch loop, in one run.

The plain loop is what the published trainers do: float32, NCHW, batch 2,
ConvNeXt encoder, L2, Adam.
Both take turns in processes of their own, and the best time of each counts.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import time
from collections.abc import Callable

import machine
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.codec.decoder import to_numpy
from nvcodec.codec.device import bf16_pays, pick_device, place
from nvcodec.codec.fit import Fit
from nvcodec.codec.settings import FitSettings
from nvcodec.models.base import count_params
from nvcodec.models.hnerv import HNeRV, HNeRVConfig
from nvcodec.models.layers import to_samples

HEIGHT, WIDTH, N_FRAMES = 640, 1280, 4
CONFIG = HNeRVConfig(embed_dim=16, fc_dim=68, strides=(5, 4, 4, 2, 2))
ROUNDS, REPEATS = 3, 2


class PlainBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.gamma = nn.Parameter(1e-6 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        y = self.dwconv(x).permute(0, 2, 3, 1)
        y = self.gamma * self.down(F.gelu(self.up(self.norm(y))))
        moved: Tensor = y.permute(0, 3, 1, 2)
        return x + moved


class PlainChannelNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(dim)), nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean(1, keepdim=True)
        variance = (x - mean).pow(2).mean(1, keepdim=True)
        x = (x - mean) / torch.sqrt(variance + 1e-6)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class PlainHNeRV(nn.Module):
    """The same network, written as the published code lays it out."""

    def __init__(self) -> None:
        super().__init__()
        encoder: list[nn.Module] = []
        c_in = 3
        for i, stride in enumerate(CONFIG.strides):
            c_out = CONFIG.embed_dim if i == len(CONFIG.strides) - 1 else 64
            conv = nn.Conv2d(c_in, c_out, stride, stride)
            encoder += [conv, PlainChannelNorm(c_out)] if i == 0 else [PlainChannelNorm(c_in), conv]
            encoder.append(PlainBlock(c_out))
            c_in = c_out
        self.encoder = nn.Sequential(*encoder)
        decoder: list[nn.Module] = [nn.Conv2d(CONFIG.embed_dim, CONFIG.fc_dim, 1), nn.GELU()]
        c_in = CONFIG.fc_dim
        sizes = zip(CONFIG.strides, CONFIG.kernels(), CONFIG.widths(), strict=True)
        for stride, kernel, c_out in sizes:
            conv = nn.Conv2d(c_in, c_out * stride**2, kernel, padding=kernel // 2)
            decoder += [conv, nn.PixelShuffle(stride), nn.GELU()]
            c_in = c_out
        self.decoder = nn.Sequential(*decoder, nn.Conv2d(c_in, 3, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.decoder(self.encoder(x))) * 0.5 + 0.5

    def decode(self, embedding: Tensor) -> Tensor:
        return torch.tanh(self.decoder(embedding)) * 0.5 + 0.5


def best_seconds(work: Callable[[], object]) -> float:
    work()
    best = math.inf
    for _ in range(REPEATS):
        started = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started)
    return best


def random_frames() -> Tensor:
    torch.manual_seed(0)
    return torch.randint(0, 256, (N_FRAMES, 3, HEIGHT, WIDTH), dtype=torch.uint8)


def measure_plain() -> dict[str, float]:
    plain = PlainHNeRV()
    adam = torch.optim.Adam(plain.parameters(), lr=1e-3)
    target = random_frames()[:2].float() / 255

    def step() -> None:
        adam.zero_grad()
        F.mse_loss(plain(target), target).backward()  # type: ignore[no-untyped-call]
        adam.step()

    embedding = torch.zeros(1, CONFIG.embed_dim, 2, 4)
    with torch.inference_mode():
        decode_s = best_seconds(lambda: plain.decode(embedding))
    return {"train": best_seconds(step) / 2, "decode": decode_s}


def measure_ours() -> dict[str, float]:
    device = pick_device("cpu")
    frames = random_frames()
    seconds = {}
    for name, share in (("with encoder", 1.0), ("with rate", 0.0)):
        settings = FitSettings(
            n_steps=10**6,
            target_bits=4e6,
            bf16=bf16_pays(device),
            analysis="convnext",
            analysis_share=share,
            float_share=share,
        )
        model = HNeRV(CONFIG, N_FRAMES, HEIGHT, WIDTH)
        fit = Fit(model, frames, settings, lambda tensors: 4e6)
        seconds[name] = best_seconds(fit.advance) / settings.batch
    share = FitSettings(n_steps=1, target_bits=1).analysis_share
    seconds["train"] = share * seconds["with encoder"] + (1 - share) * seconds["with rate"]
    ours = place(HNeRV(CONFIG, N_FRAMES, HEIGHT, WIDTH), device).eval()
    index = torch.tensor([0])
    with torch.inference_mode():
        seconds["decode"] = best_seconds(lambda: ours(index))
        seconds["decode and convert"] = best_seconds(lambda: to_numpy(to_samples(ours(index))))
    return seconds


def main() -> None:
    if len(sys.argv) > 1:
        work = {"plain": measure_plain, "ours": measure_ours}[sys.argv[1]]
        print(json.dumps(work()))
        return
    # Separate processes: our allocator setting must not speed up the plain loop.
    best: dict[str, dict[str, float]] = {"plain": {}, "ours": {}}
    for _ in range(ROUNDS):
        for name, figures in best.items():
            out = subprocess.run(
                [sys.executable, __file__, name], capture_output=True, text=True, check=True
            )
            for key, value in json.loads(out.stdout).items():
                figures[key] = min(value, figures.get(key, math.inf))
    per_s = {
        name: {key: round(1 / value, 3) for key, value in figures.items()}
        for name, figures in best.items()
    }
    machine.save(
        "speed_hnerv",
        {
            "n_params": count_params(HNeRV(CONFIG, 132, HEIGHT, WIDTH)),
            "frames_per_s": per_s,
            "train_speedup": round(best["plain"]["train"] / best["ours"]["train"], 2),
            "decode_speedup": round(best["plain"]["decode"] / best["ours"]["decode"], 2),
        },
    )


if __name__ == "__main__":
    main()
