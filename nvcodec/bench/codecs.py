"""What a bench runs: one encoder at one setting, with its quality parameter left open."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from nvcodec.bench.results import CodecResult


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The quality parameter of an encoder: whole numbers, more of them mean fewer bits."""

    low: int
    high: int
    start: int
    """The first one to try."""
    slope: float
    """About the fall of ln(bits) from one value to the next, for the second try."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """One encoder at one setting."""

    name: str
    kind: str
    """"nvcodec", "anchor" or "external"."""
    parameters: str
    """The exact command line, with {q} for the quality parameter."""
    suffix: str
    """Of the stream's file name."""
    job: dict[str, Any]
    """Plain values from which a worker encodes and decodes; they are part of the cache's key."""
    scale: Scale | None = None
    """None: the quality parameters are given, by `fixed` or as the wanted bits per pixel."""
    fixed: tuple[float, ...] = field(default=())

    @property
    def slug(self) -> str:
        """The name as a part of file names."""
        return slug(self.name)


def slug(text: str) -> str:
    """Return text for file names: letters, digits, dots and underscores."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", text).strip("_.") or "codec"


def not_run(name: str, kind: str, reason: str) -> CodecResult:
    """Return the result of a codec that is absent; `reason` says how to supply it."""
    return CodecResult(name=name, kind=kind, parameters="", status="not run", reason=reason)
