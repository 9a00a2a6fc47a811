"""From the times that a source gives its frames to a `Timing`: constant where it is, exact else."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import pairwise

from nvcodec.media import Timing

_U32 = (1 << 32) - 1
_MAX_STEP = (1 << 53) - 1


@dataclass(slots=True, kw_only=True)
class FrameTimes:
    """Collects the times of frames as they are read."""

    time_base: Fraction | None
    """Seconds of a tick; None where the source knows no times."""
    rates: Sequence[Fraction]
    """Frames/s that the source claims, the likeliest first; at least one."""
    pts: list[int | None] = field(default_factory=list)
    durations: list[int] = field(default_factory=list)
    """Ticks; 0 where unknown."""

    def add(self, pts: int | None, duration: int | None) -> None:
        """Append a frame."""
        self.pts.append(pts)
        self.durations.append(duration or 0)

    def resolve(self, *, keep_start: bool) -> tuple[Timing, Fraction, str | None]:
        """Return the times of all frames, their mean rate, and a warning where times were unusable.

        Args:
            keep_start: False moves the first frame to time 0.
        """
        n_frames = len(self.pts)
        known = [pts for pts in self.pts if pts is not None]
        constant = Timing.constant(self.rates[0], n_frames)
        if self.time_base is None or not known:
            return constant, self.rates[0], None
        problem = None
        if len(known) < n_frames:
            problem = "some frames have no time"
        elif any(not 1 <= b - a <= _MAX_STEP for a, b in pairwise(known)):
            problem = "the times of the frames do not increase"
        elif abs(known[0]) >= 1 << 61 or max(self.time_base.as_integer_ratio()) > _U32:
            problem = "the times of the frames are out of range"
        if problem:
            problem += f"; a constant {float(self.rates[0]):g} frames/s is used"
            return constant, self.rates[0], problem
        start = known[0] if keep_start else 0
        for rate in self.rates:
            if self._fits(known, rate):
                return _at_rate(rate, n_frames, start * self.time_base), rate, None
        duration = self.durations[-1] or (known[-1] - known[-2] if n_frames > 1 else 0)
        timing = Timing(
            time_base=self.time_base,
            pts=[pts - known[0] + start for pts in known],
            duration=min(max(1, duration), _U32),
        )
        length = timing.seconds(n_frames) - timing.seconds(0)
        return timing, storable(n_frames / length), None

    def start_s(self, index: int) -> Fraction:
        """Return the time of the first frame added, which has this index in the source."""
        pts = self.pts[0]
        if pts is None or self.time_base is None:
            return index / self.rates[0]
        return pts * self.time_base

    def _fits(self, known: Sequence[int], rate: Fraction) -> bool:
        """Tell whether all times are those of a constant rate, rounded to the source's ticks."""
        assert self.time_base is not None
        step = 1 / (rate * self.time_base)
        top, bottom = step.numerator, step.denominator
        # Rounding moves a time by half a tick, and the first one too; whole steps need none.
        slack = 0 if bottom == 1 else min(bottom, top // 4)
        return all(abs((pts - known[0]) * bottom - i * top) <= slack for i, pts in enumerate(known))


def _at_rate(rate: Fraction, n_frames: int, start_s: Fraction) -> Timing:
    """Return frames at a constant rate from a time on, in ticks that hold both."""
    step = 1 / rate
    bottom = math.lcm(step.denominator, start_s.denominator)
    top = math.gcd(int(step * bottom), int(start_s * bottom))
    base = Fraction(top, bottom)
    if bottom > _U32:
        base = step
    first, ticks = round(start_s / base), int(step / base)
    return Timing(
        time_base=base,
        pts=range(first, first + n_frames * ticks, ticks),
        duration=ticks,
    )


def storable(rate: Fraction) -> Fraction:
    """Return a rate whose parts fit into 32 bits."""
    if max(rate.as_integer_ratio()) <= _U32:
        return rate
    if rate < 1:
        return 1 / (1 / rate).limit_denominator(1 << 16)
    return rate.limit_denominator(1 << 16)
