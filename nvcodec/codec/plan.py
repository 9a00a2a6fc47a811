"""From a target and a video to a network and a schedule: pure arithmetic, printed by --dry-run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nvcodec.codec.fit import FitSettings
from nvcodec.codec.losses import check_loss
from nvcodec.errors import UsageError
from nvcodec.models import ARCHITECTURES
from nvcodec.models.base import VideoModel, count_params, shape_only

PRESET_PASSES = {"fast": 30, "medium": 90, "slow": 300}
"""Passes over all frames; each preset costs about three times the one before."""
MIN_STEPS = 600
DEFAULT_BPP = 0.05
BITS_PER_PARAM = {"fast": 3.0, "medium": 2.4, "slow": 2.2}
"""Bits a parameter that size the network: a wider one gains in long runs, loses in short ones."""
RATE_AIM = 0.99
"""Share of the target that training aims at, so that the exact fit changes next to nothing."""
_MIN_BITS_PER_PARAM = 1.0
OPTIMIZERS = ("muon", "adam")


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What the file shall weigh, or how good it shall be; at most one is given."""

    bpp: float | None = None
    bitrate: float | None = None
    """Bits per second of video."""
    size: int | None = None
    """Bytes of the whole file."""
    psnr: float | None = None
    """Mean RGB PSNR in dB."""

    def __post_init__(self) -> None:
        given = {
            name: value
            for name in ("bpp", "bitrate", "size", "psnr")
            if (value := getattr(self, name)) is not None
        }
        if len(given) > 1:
            names = " and ".join(f"--{name}" for name in given)
            raise UsageError(f"{names} exclude each other; give one target")
        for name, value in given.items():
            if not (math.isfinite(value) and value > 0):
                raise UsageError(f"{name} is {value}, a number above 0 is needed")
        if self.psnr is not None and not 10 <= self.psnr <= 60:
            raise UsageError(f"psnr is {self.psnr}, allowed are 10 to 60 dB")

    def max_bytes(self, n_frames: int, height: int, width: int, rate: Fraction) -> int:
        """Return the most bytes that the file may have."""
        n_pixels = n_frames * height * width
        if self.size is not None:
            return self.size
        if self.bitrate is not None:
            return int(self.bitrate * float(n_frames / rate) / 8)
        return int((DEFAULT_BPP if self.bpp is None else self.bpp) * n_pixels / 8)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeOptions:
    """Everything a user may choose; None takes the preset's or the planner's value."""

    arch: str = "hnerv"
    target: Target = field(default_factory=Target)
    preset: str = "medium"
    seed: int = 0
    max_time_s: float | None = None
    passes: int | None = None
    batch: int | None = None
    loss: str = "log-mse"
    optimizer: str = "muon"
    lr: float | None = None
    beta2: float = 0.99
    """Adam's second decay; the papers' 0.999 suits runs of tens of thousands of steps."""
    weight_bits: int = 16
    embed_bits: int = 16
    prune: float = 0.0
    model: dict[str, Any] = field(default_factory=dict)
    """Options of the architecture's `solve`, such as strides."""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("arch", self.arch, tuple(ARCHITECTURES)),
            ("preset", self.preset, tuple(PRESET_PASSES)),
            ("optimizer", self.optimizer, OPTIMIZERS),
        ):
            if value not in allowed:
                raise UsageError(f"{name} is {value}, allowed are {', '.join(allowed)}")
        for name, number, low, high in (
            ("weight_bits", self.weight_bits, 2, 16),
            ("embed_bits", self.embed_bits, 2, 16),
            ("prune", self.prune, 0.0, 0.95),
            ("max_time_s", self.max_time_s, 1.0, 1e7),
            ("passes", self.passes, 1, 10**6),
            ("batch", self.batch, 1, 1024),
            ("lr", self.lr, 1e-7, 1.0),
            ("beta2", self.beta2, 0.5, 0.9999),
            ("seed", self.seed, 0, 2**63 - 2),
        ):
            if number is not None and not low <= number <= high:
                raise UsageError(f"{name} is {number}, allowed is {low} to {high}")


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
    max_bytes: int
    fit: FitSettings

    def model(self) -> VideoModel:
        """Build the network."""
        cls = ARCHITECTURES[self.arch][1]
        return cls(self.config, self.n_frames, self.height, self.width)


def smallest_bytes(
    arch: str, n_frames: int, height: int, width: int, overhead_bytes: int, **options: Any
) -> int:
    """Return about the fewest bytes that a file of this architecture can have."""
    cls = ARCHITECTURES[arch][1]
    config = cls.smallest(n_frames, height, width, **options)
    n_params = count_params(shape_only(cls, config, n_frames, height, width))
    return overhead_bytes + math.ceil(n_params * _MIN_BITS_PER_PARAM / 8)


def make_plan(
    options: EncodeOptions,
    *,
    n_frames: int,
    height: int,
    width: int,
    frame_rate: Fraction,
    overhead_bytes: int,
    bf16: bool = False,
) -> Plan:
    """Choose the network and schedule; raise UsageError when no network fits the target."""
    check_loss(options.loss, height, width)
    cls = ARCHITECTURES[options.arch][1]
    max_bytes = options.target.max_bytes(n_frames, height, width, frame_rate)
    least = smallest_bytes(options.arch, n_frames, height, width, overhead_bytes, **options.model)
    if max_bytes < least:
        n_pixels = n_frames * height * width
        raise UsageError(
            f"the target of {max_bytes} bytes ({8 * max_bytes / n_pixels:.4g} bpp) is too small "
            f"for {n_frames} frames of {width}x{height}; the smallest {options.arch} file has "
            f"about {least} bytes ({8 * least / n_pixels:.4g} bpp)"
        )
    target_bits = 8 * max_bytes * RATE_AIM
    coded_bits = target_bits - 8 * overhead_bytes
    bits = min(BITS_PER_PARAM[options.preset], options.weight_bits - 0.5)
    kept = 1 - options.prune
    n_params = max(coded_bits / bits / kept, 8 * (least - overhead_bytes) / _MIN_BITS_PER_PARAM)
    config = cls.solve(n_params, n_frames, height, width, **options.model)
    model = shape_only(cls, config, n_frames, height, width)
    batch = min(options.batch or 2, n_frames)
    passes = options.passes or PRESET_PASSES[options.preset]
    # One step alone would end before the rounding phase begins.
    n_steps = max(2, passes * math.ceil(n_frames / batch))
    if options.passes is None:
        n_steps = max(n_steps, MIN_STEPS)
    rates = {}
    if options.lr is not None:
        rates = {"lr": options.lr, "lr_matrix": options.lr}
    return Plan(
        arch=options.arch,
        config=config,
        n_frames=n_frames,
        height=height,
        width=width,
        n_params=count_params(model),
        macs_per_pixel=model.macs_per_frame() // (height * width),
        max_bytes=max_bytes,
        fit=FitSettings(
            n_steps=n_steps,
            target_bits=target_bits,
            batch=batch,
            loss=options.loss,
            optimizer=options.optimizer,
            beta2=options.beta2,
            weight_bits=options.weight_bits,
            embed_bits=options.embed_bits,
            prune=options.prune,
            seed=options.seed,
            bf16=bf16,
            max_time_s=options.max_time_s,
            **rates,
        ),
    )
