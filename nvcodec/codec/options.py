"""What a user may ask of an encode."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from nvcodec.codec.prune import PRUNE_SCOPES
from nvcodec.codec.ptq import QUANT_AXES
from nvcodec.codec.schedule import SCHEDULES
from nvcodec.errors import UsageError
from nvcodec.models import ARCHITECTURES

PRESET_PASSES = {"fast": 30, "medium": 60, "slow": 300}
"""Passes over all frames."""
DEFAULT_BPP = 0.05
AUTO_ARCH = "auto"
OPTIMIZERS = ("muon", "soap", "adam")
CODINGS = ("rd", "ptq")
COLORS = ("auto", "rgb", "yuv")
SCENES = ("auto", "none")


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

    @property
    def given(self) -> bool:
        """Whether anything is aimed at."""
        return any(v is not None for v in (self.bpp, self.bitrate, self.size, self.psnr))

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

    arch: str = AUTO_ARCH
    target: Target = field(default_factory=Target)
    preset: str = "medium"
    seed: int = 0
    max_time_s: float | None = None
    passes: int | None = None
    batch: int | None = None
    n_params: float | None = None
    """Size of the network in parameters; None sizes it for the target."""
    coding: str = "rd"
    """"rd" trains with the rate in the loss, "ptq" rounds a float network after training."""
    loss: str = "log-mse"
    corrections: float | None = None
    """Share of the file that mends what the network draws wrong; None lets Canvas find it, and is 0
    for others."""
    group: int = 8
    """Frames of which corrections may copy blocks from one to the next: so many are drawn, at most,
    to draw any single one; 1 for frames that need no other."""
    color: str = "auto"
    """What the network draws: "rgb", or "yuv" for the source's own planes; "auto" is "rgb"."""
    scenes: str = "auto"
    """"auto" finds cuts, between which scenes have networks of their own; "none" has a single one,
    as have runs with `n_params` or "ptq"."""
    side_weight: float = 0.0
    """Weight of the heads at lower resolutions, for architectures that have them."""
    optimizer: str = "muon"
    lr: float | None = None
    beta1: float = 0.9
    beta2: float = 0.99
    """Adam's second decay; the papers' 0.999 suits runs of tens of thousands of steps."""
    lr_schedule: str = "cosine"
    warmup: float | None = None
    """Share of the run in which the learning rate climbs; None takes 30 steps, at most 10 %."""
    lr_floor: float = 0.02
    """Share of the learning rate that is left at the end."""
    lr_start: float = 0.1
    """Share of the learning rate that the warm-up begins with."""
    lr_powers: tuple[float, ...] = (1.0, 2.0)
    """Powers of the share of the way: of the climb, and of the fall of "hybrid"."""
    lr_steps: tuple[float, ...] = (0.5, 0.8)
    """Shares of the run at which "step" cuts the learning rate to a tenth."""
    analysis: str | None = None
    """Kind of the encoder network; None takes the architecture's."""
    analysis_width: int = 64
    """Channels of the encoder network."""
    analysis_blocks: int = 1
    """Blocks in each stage of the encoder network."""
    analysis_share: float = 0.1
    """Share of the run in which the encoder network makes the embeddings; then they are free."""
    weight_bits: int = 16
    embed_bits: int = 16
    quant_axis: str = "best"
    """Min-max quantisation ("ptq") along the best axis, per tensor, or along axis 0 or 1."""
    prune: float = 0.0
    """Share of the weights to remove."""
    prune_at: tuple[float, ...] = (0.2,)
    """Shares of the run at which equal parts of it are removed."""
    prune_scope: str = "global"
    eval_every: int | None = None
    """Passes between evaluations on all frames; the best network is kept. None makes none."""
    model: dict[str, Any] = field(default_factory=dict)
    """Options of the architecture's `solve`, such as strides."""

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("arch", self.arch, (AUTO_ARCH, *ARCHITECTURES)),
            ("preset", self.preset, tuple(PRESET_PASSES)),
            ("coding", self.coding, CODINGS),
            ("color", self.color, COLORS),
            ("scenes", self.scenes, SCENES),
            ("optimizer", self.optimizer, OPTIMIZERS),
            ("lr_schedule", self.lr_schedule, SCHEDULES),
            ("quant_axis", self.quant_axis, QUANT_AXES),
            ("prune_scope", self.prune_scope, PRUNE_SCOPES),
        ):
            if value not in allowed:
                raise UsageError(f"{name} is {value}, allowed are {', '.join(allowed)}")
        for name, number, low, high in (
            ("n_params", self.n_params, 1, 1e9),
            ("corrections", self.corrections, 0.0, 0.9),
            ("group", self.group, 1, 256),
            ("side_weight", self.side_weight, 0.0, 100.0),
            ("weight_bits", self.weight_bits, 1 if self.coding == "ptq" else 2, 16),
            ("embed_bits", self.embed_bits, 1 if self.coding == "ptq" else 2, 16),
            ("prune", self.prune, 0.0, 0.95),
            ("max_time_s", self.max_time_s, 1.0, 1e7),
            ("passes", self.passes, 1, 10**6),
            ("batch", self.batch, 1, 1024),
            ("lr", self.lr, 1e-7, 1.0),
            ("beta1", self.beta1, 0.0, 0.999),
            ("beta2", self.beta2, 0.5, 0.9999),
            ("warmup", self.warmup, 0.0, 0.9),
            ("lr_floor", self.lr_floor, 0.0, 1.0),
            ("lr_start", self.lr_start, 0.0, 1.0),
            *(("lr_powers", power, 0.01, 100.0) for power in self.lr_powers),
            *(("lr_steps", at, 0.0, 1.0) for at in self.lr_steps),
            ("analysis_width", self.analysis_width, 1, 1024),
            ("analysis_blocks", self.analysis_blocks, 1, 16),
            ("analysis_share", self.analysis_share, 0.0, 1.0),
            *(("prune_at", at, 0.0, 0.99) for at in self.prune_at),
            ("eval_every", self.eval_every, 1, 10**6),
            ("seed", self.seed, 0, 2**63 - 2),
        ):
            if number is not None and not low <= number <= high:
                raise UsageError(f"{name} is {number}, allowed is {low} to {high}")
        if self.corrections and (self.coding != "rd" or self.color == "yuv"):
            raise UsageError(
                f"corrections is {self.corrections}, but needs --coding rd and --color rgb"
            )
        if self.eval_every is not None and self.coding != "ptq":
            raise UsageError(
                f"eval_every is {self.eval_every}, but needs --coding ptq: with {self.coding} a "
                "better network is also a larger file until the end of the run"
            )
        if len(self.lr_powers) != 2:
            raise UsageError(f"lr_powers is {self.lr_powers}, that of the climb and of the fall")
        if not self.prune_at or list(self.prune_at) != sorted(self.prune_at):
            raise UsageError(f"prune_at is {self.prune_at}, rising shares of the run are needed")
