"""How to train one network."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to train; part of what a checkpoint must match."""

    n_steps: int
    target_bits: float
    """Bits that the file may have, headers included."""
    corrections: float | None = 0.0
    """Share of the file that is kept for corrections; None lets the run find the best one."""
    group: int = 1
    """Frames of which corrections may copy blocks from one to the next."""
    spared: float = 0.0
    """What target_bits already leave to them."""
    batch: int = 2
    """Frames of a step; rounded to whole clips where frames are drawn in clips."""
    coding: str = "rd"
    """"rd" trains with the rate in the loss, "ptq" in float to the end."""
    loss: str = "log-mse"
    color: str = "rgb"
    """What the network draws, "rgb" or "yuv"; the loss compares it with that of the source."""
    side_weight: float = 0.0
    """Weight of the same loss of the heads at lower resolutions; 0 makes none."""
    optimizer: str = "muon"
    lr_matrix: float = 2e-2
    lr: float = 2e-2
    beta1: float = 0.9
    beta2: float = 0.99
    lr_schedule: str = "cosine"
    warmup_share: float | None = None
    """Share of the run in which the learning rate climbs; None takes 30 steps, at most 10 %."""
    lr_floor: float = 0.02
    """Share of the learning rate that is left at the end."""
    lr_start: float = 0.1
    """Share of the learning rate that the warm-up begins with."""
    lr_powers: tuple[float, ...] = (1.0, 2.0)
    """Powers of the share of the way: of the climb, and of the fall of "hybrid"."""
    lr_steps: tuple[float, ...] = (0.5, 0.8)
    """Positions at which "step" cuts the learning rate to a tenth."""
    analysis: str = "none"
    analysis_width: int = 64
    analysis_blocks: int = 1
    analysis_share: float = 0.1
    """Share of the schedule in which an encoder network makes the latents; then they are free."""
    float_share: float = 0.2
    """Share of the schedule without quantisation."""
    decide_share: float = 0.45
    """Where the share of corrections is decided."""
    frozen_share: float = 0.4
    """Share of the schedule, at its end, in which quantiser steps stand still."""
    weight_bits: int = 16
    embed_bits: int = 16
    quant_axis: str = "best"
    prune: float = 0.0
    """Share of the weights that is set to zero."""
    prune_at: tuple[float, ...] = (0.2,)
    """Positions of the schedule at which equal parts of it are removed."""
    prune_scope: str = "global"
    eval_steps: int | None = None
    """Steps between evaluations of the float network; the best one is kept. None makes none."""
    seed: int = 0
    bit_depth: int = 8
    """Of the frames; their largest sample is drawn as 1."""
    bf16: bool = False
    max_time_s: float | None = None
