"""What the pipeline says while it works; the console decides how to show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a stage stands."""

    stage: str
    done: int
    total: int
    unit: str = "step"
    per_s: float = 0.0
    """Units done per second."""
    eta_s: float | None = None
    psnr_db: float | None = None
    bpp: float | None = None
    """Projected bits per pixel of the file without its copied tracks."""
    loss: float | None = None
    """Loss of the last training step."""
    lr: float | None = None
    """Learning rate of the last training step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """One sentence for the user; level is "info" or "warning"."""

    level: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The figures at the end of a command; kind is "plan", "encode", "decode", "info"..."""

    kind: str
    values: dict[str, Any]


Event = Progress | Log | Result
Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""
