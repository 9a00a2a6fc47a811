"""Settings of the papers by name: fields of EncodeOptions, as their code trains (plain data).

Every recipe trains in float for 300 passes or more and rounds afterwards (min-max), as the papers
do; none fixes the size of the network. Sources: Chen et al., NeRV (NeurIPS 2021) and HNeRV (CVPR
2023), Li et al., E-NeRV (ECCV 2022), Kwan et al., HiNeRV (NeurIPS 2023), and the public code of the
five systems.
"""

from __future__ import annotations

from typing import Any

_PTQ: dict[str, Any] = {"coding": "ptq", "passes": 300, "weight_bits": 8, "lr_floor": 0.0}
_NERV: dict[str, Any] = _PTQ | {
    "loss": "fusion6",
    "optimizer": "adam",
    "lr": 5e-4,
    "beta1": 0.5,
    "beta2": 0.999,
    "batch": 1,
    "lr_schedule": "cosine",
    "warmup": 0.2,
}
_HNERV: dict[str, Any] = _PTQ | {
    "arch": "hnerv",
    "loss": "l2",
    "optimizer": "adam",
    "lr": 1e-3,
    "beta1": 0.9,
    "beta2": 0.999,
    "batch": 2,
    "lr_schedule": "cosine",
    "warmup": 0.1,
}

RECIPES: dict[str, dict[str, Any]] = {
    "nerv-paper": _NERV | {"arch": "nerv"},
    # 300 passes, then 100 of fine-tuning without the smallest 40 % of the weights.
    "nerv-paper-pruned": _NERV | {"arch": "nerv", "passes": 400, "prune": 0.4, "prune_at": (0.75,)},
    "enerv-paper": _NERV | {"arch": "enerv"},
    "hnerv-paper": _HNERV
    | {
        "analysis": "convnext",
        "analysis_share": 1.0,
        "embed_bits": 6,
        "model": {
            "embed_dim": 16,
            "reduction_percent": 120,
            "lower_width": 12,
            "k_min": 1,
            "k_max": 5,
        },
    },
    # The NeRV that HNeRV's paper compares itself with: its trainer, NeRV's input and kernels.
    "hnerv-paper-nerv": _HNERV
    | {
        "model": {
            "embed": "pe",
            "pe_base_percent": 125,
            "pe_levels": 80,
            "reduction_percent": 200,
            "lower_width": 12,
            "k_min": 3,
            "k_max": 3,
        },
    },
    # PyTorch's OneCycleLR with its defaults: 30 % of the run up from 1/25, then down to 1/250000.
    "3dnerv-paper": _HNERV
    | {
        "arch": "3dnerv",
        "loss": "fusion6",
        "lr_schedule": "onecycle",
        "warmup": 0.3,
        "lr_start": 0.04,
        "lr_floor": 4e-6,
        "analysis_share": 1.0,
        "embed_bits": 6,
        "model": {
            "clip_frames": 2,
            "embed_dim": 32,
            "reduction_percent": 120,
            "lower_width": 12,
            "k_time": 7,
            "head_kernel": 7,
        },
    },
    # 300 passes, the first 30 of warm-up, then 60 without 15 % of the weights, along one cosine in
    # place of one for each part. The last 30 passes of its code, which train with rounded weights,
    # are missing: rounding costs more here. Its MS-SSIM sees windows of 5 pixels, and not of 11.
    "hinerv-paper": _PTQ
    | {
        "arch": "hinerv",
        "passes": 360,
        "loss": "fusion10",
        "optimizer": "adam",
        "lr": 2e-3,
        "beta1": 0.9,
        "beta2": 0.999,
        "batch": 1,
        "lr_schedule": "cosine",
        "warmup": 30 / 360,
        "lr_start": 0.01,
        "lr_floor": 0.01,
        "prune": 0.15,
        "prune_at": (300 / 360,),
        "weight_bits": 6,
        "embed_bits": 6,
    },
}
