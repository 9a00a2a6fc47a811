"""From a target and a video to a network and a schedule: pure arithmetic, printed by --dry-run."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import torch

from nvcodec.codec.losses import check_loss
from nvcodec.codec.options import PRESET_PASSES, EncodeOptions
from nvcodec.codec.settings import FitSettings
from nvcodec.errors import UsageError
from nvcodec.models import ARCHITECTURES
from nvcodec.models.base import VideoModel, count_params, shape_only, weigh_params

MIN_STEPS = 600
BITS_PER_PARAM = {"fast": 3.0, "medium": 2.4, "slow": 2.2}
"""Bits a parameter that size the network: a wider one gains in long runs, loses in short ones."""
MATRIX_LR = {"muon": 2e-2, "soap": 4e-2, "adam": 2e-2}
"""Learning rate of dense matrices, by what trains them (figures in benchmarks/NOTES.md)."""
RATE_AIM = 0.998
"""Share of the target that training aims at, so that the exact fit changes next to nothing."""
_MIN_BITS_PER_PARAM = 1.0
_LEAST_CORRECTED, _MOST_CORRECTED_BPP = 5000, 1.0
"""Bytes of the smallest file, and bits a pixel of the largest one, that may have corrections unless
asked for: beyond, errors are those of rounding to samples."""
_SPARED_BPP, _MOST_SPARED = 0.05, 0.25
"""Where a run finds the share of corrections, networks above this rate are sized for a smaller
file, by at most this share: with many bits a smaller one and more corrections are better."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One segment's network and schedule."""

    arch: str
    config: Any
    n_frames: int
    height: int
    width: int
    n_params: int
    macs_per_pixel: int
    max_bytes: int | None
    """Most bytes of the file; None leaves the size to the network."""
    expected_bytes: int
    fit: FitSettings

    def model(self) -> VideoModel:
        """Build the network."""
        cls = ARCHITECTURES[self.arch][1]
        return cls(self.config, self.n_frames, self.height, self.width)

    def encoder_params(self) -> int:
        """Return the parameters of the encoder network, none of which the file holds."""
        fit = self.fit
        with torch.device("meta"):
            encoder = self.model().analysis(
                fit.analysis, width=fit.analysis_width, n_blocks=fit.analysis_blocks
            )
        return 0 if encoder is None else sum(p.numel() for p in encoder.parameters())


def smallest_bytes(
    arch: str, n_frames: int, height: int, width: int, overhead_bytes: int, **options: Any
) -> int:
    """Return about the fewest bytes that a file of this architecture can have."""
    cls = ARCHITECTURES[arch][1]
    config = cls.smallest(n_frames, height, width, **options)
    n_params = weigh_params(shape_only(cls, config, n_frames, height, width))
    return overhead_bytes + math.ceil(n_params * _MIN_BITS_PER_PARAM / 8)


def make_plan(
    options: EncodeOptions,
    *,
    n_frames: int,
    height: int,
    width: int,
    frame_rate: Fraction,
    overhead_bytes: int,
    bit_depth: int = 8,
    bf16: bool = False,
    n_processes: int = 1,
) -> Plan:
    """Choose the network and schedule; raise UsageError when no network fits the target."""
    check_loss(options.loss, height, width)
    cls = ARCHITECTURES[options.arch][1]
    least = smallest_bytes(options.arch, n_frames, height, width, overhead_bytes, **options.model)
    bits = _bits_per_param(options)
    # Whether a network of this size can be is then a matter of its parameters, not of bytes.
    by_params = options.n_params is not None and not options.target.given
    if options.n_params is not None and by_params:
        max_bytes = overhead_bytes + int(options.n_params * bits / 8)
    else:
        max_bytes = options.target.max_bytes(n_frames, height, width, frame_rate)
    if not by_params and max_bytes < least:
        n_pixels = n_frames * height * width
        raise UsageError(
            f"the target of {max_bytes} bytes ({8 * max_bytes / n_pixels:.4g} bpp) is too small "
            f"for {n_frames} frames of {width}x{height}; the smallest {options.arch} file has "
            f"about {least} bytes ({8 * least / n_pixels:.4g} bpp)"
        )
    bpp = 8 * max_bytes / (n_frames * height * width)
    corrections = _corrections_share(options, max_bytes, least, bpp)
    spared = corrections
    if spared is None:
        octaves = math.log2(bpp / _SPARED_BPP)
        spared = _MOST_SPARED * min(1.0, max(0.0, octaves))
    target_bits = 8 * (1 - spared) * max_bytes * RATE_AIM
    least_params = 8 * (least - overhead_bytes) / _MIN_BITS_PER_PARAM
    n_params = options.n_params or max((target_bits - 8 * overhead_bytes) / bits, least_params)
    config = cls.solve(n_params, n_frames, height, width, **options.model)
    model = shape_only(cls, config, n_frames, height, width)
    free = options.coding == "ptq" and by_params
    n_clips = math.ceil(n_frames / model.clip_frames)
    batch = options.batch or max(2, n_processes * model.clip_frames)
    batch_clips = max(1, min(batch // model.clip_frames, n_clips))
    passes = options.passes or PRESET_PASSES[options.preset]
    # One step alone would end before the rounding phase begins.
    pass_steps = math.ceil(n_clips / batch_clips)
    n_steps = max(2, passes * pass_steps)
    if options.passes is None:
        n_steps = max(n_steps, MIN_STEPS)
    fit = FitSettings(
        n_steps=n_steps,
        target_bits=target_bits,
        corrections=corrections,
        group=options.group,
        spared=spared,
        batch=batch_clips * model.clip_frames,
        coding=options.coding,
        loss=options.loss,
        color="yuv" if options.color == "yuv" else "rgb",
        side_weight=_check_side_weight(options, model),
        optimizer=options.optimizer,
        lr_matrix=MATRIX_LR[options.optimizer],
        beta1=options.beta1,
        beta2=options.beta2,
        lr_schedule=options.lr_schedule,
        warmup_share=options.warmup,
        lr_floor=options.lr_floor,
        lr_start=options.lr_start,
        lr_powers=options.lr_powers,
        lr_steps=options.lr_steps,
        analysis=_pick_analysis(options, model),
        analysis_width=options.analysis_width,
        analysis_blocks=options.analysis_blocks,
        analysis_share=options.analysis_share,
        weight_bits=options.weight_bits,
        embed_bits=options.embed_bits,
        quant_axis=options.quant_axis,
        prune=options.prune,
        prune_at=options.prune_at,
        prune_scope=options.prune_scope,
        eval_steps=None if options.eval_every is None else options.eval_every * pass_steps,
        seed=options.seed,
        bit_depth=bit_depth,
        bf16=bf16,
        max_time_s=options.max_time_s,
    )
    if options.lr is not None:
        fit = replace(fit, lr=options.lr, lr_matrix=options.lr)
    return Plan(
        arch=options.arch,
        config=config,
        n_frames=n_frames,
        height=height,
        width=width,
        n_params=count_params(model),
        macs_per_pixel=model.macs_per_frame() // (height * width),
        max_bytes=None if free else max_bytes,
        expected_bytes=max_bytes,
        fit=fit,
    )


def may_correct(options: EncodeOptions) -> bool:
    """Tell whether a file may have corrections that nobody asked for."""
    if options.arch != "canvas" or options.coding != "rd" or options.color == "yuv":
        return False
    # They lower squared errors; another loss asks for something else, not to be moved by noise say.
    if options.loss not in ("log-mse", "l2"):
        return False
    return options.corrections is None and (options.target.given or options.n_params is None)


def _corrections_share(
    options: EncodeOptions, max_bytes: int, least: int, bpp: float
) -> float | None:
    """Return the share of a file of max_bytes, of which the smallest network takes `least`.

    None leaves it to the run.
    """
    share = options.corrections
    if share is None:
        suits = max_bytes >= _LEAST_CORRECTED and bpp <= _MOST_CORRECTED_BPP
        return None if suits and may_correct(options) else 0.0
    if share and (1 - share) * max_bytes < least:
        raise UsageError(
            f"corrections is {share}, which leaves {int((1 - share) * max_bytes)} bytes to the "
            f"network; the smallest {options.arch} file has about {least}"
        )
    return share


def _bits_per_param(options: EncodeOptions) -> float:
    """Return the bits of the file for each parameter that size the network."""
    if options.coding == "ptq":
        # Min-max quantised weights keep about 94 % of their bits after entropy coding, and which
        # of them are zero costs the entropy of that.
        kept = 1 - options.prune
        mask = -sum(p * math.log2(p) for p in (kept, options.prune) if 0 < p < 1)
        return kept * 0.94 * options.weight_bits + mask
    density = ARCHITECTURES[options.arch][1].density
    bits = min(density * BITS_PER_PARAM[options.preset], options.weight_bits - 0.5)
    return bits * (1 - options.prune)


def _pick_analysis(options: EncodeOptions, model: VideoModel) -> str:
    kind = model.analyses[0] if options.analysis is None else options.analysis
    if kind not in model.analyses:
        raise UsageError(
            f"analysis is {kind}, allowed with this {options.arch} are {', '.join(model.analyses)}"
        )
    return kind


def _check_side_weight(options: EncodeOptions, model: VideoModel) -> float:
    if options.side_weight > 0 and model.side_heads() is None:
        raise UsageError(f"{options.arch} has no heads at lower resolutions for --side-weight")
    return options.side_weight
