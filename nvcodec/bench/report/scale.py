"""Axes of a chart: what range it shows, where its ticks are and how their numbers read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

_MARGIN = 0.05
_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_MANTISSAS = ((1.0,), (1.0, 2.0, 5.0), (1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
_PREFIXES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """A linear or logarithmic map from values onto 0..1."""

    low: float
    high: float
    log: bool
    whole: bool = False
    """Only whole numbers have a tick."""

    def __call__(self, value: float) -> float:
        """Return where a value lies between the ends of the axis."""
        low, high, at = ((math.log(x) if self.log else x) for x in (self.low, self.high, value))
        return (at - low) / (high - low)

    def ticks(self, n_ticks: int = 5) -> list[float]:
        """Return about n_ticks round values within the range."""
        found = self._log_ticks(n_ticks) if self.log else self._linear_ticks(n_ticks)
        return [value for value in found if not self.whole or value == round(value)]

    def _linear_ticks(self, n_ticks: int) -> list[float]:
        rough = (self.high - self.low) / n_ticks
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(power * s for s in _STEPS if power * s >= rough * 0.999)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(i * step, 12) for i in range(first, last + 1)]

    def _log_ticks(self, n_ticks: int) -> list[float]:
        most = 2 * n_ticks + 2
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found: list[float] = []
        for mantissas in _MANTISSAS:
            finer = [m * 10.0**p for p in powers for m in mantissas]
            finer = [value for value in finer if self.low <= value <= self.high]
            if len(found) > 1 and len(finer) > most:
                break
            found = finer
            if len(found) >= n_ticks - 1:
                break
        if len(found) < 3:
            return self._linear_ticks(n_ticks)
        return found[:: math.ceil(len(found) / most)]


def fit_scale(values: Sequence[float], *, log: bool, whole: bool = False) -> Scale:
    """Return the scale that shows all values with a margin; `log` needs positive values."""
    low, high = min(values), max(values)
    if log:
        if high < low * 1.1:
            low, high = low / 1.5, high * 1.5
        margin = (high / low) ** _MARGIN
        return Scale(low=low / margin, high=high * margin, log=True)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        width = max(abs(high) * 0.1, 1e-3)
        low, high = low - width, high + width
    margin = (high - low) * _MARGIN
    return Scale(low=low - margin, high=high + margin, log=False, whole=whole)


def tick_text(value: float) -> str:
    """Return a tick's number: 0.05, 32.5, 1,500, 20k."""
    size = abs(value)
    if size >= 10_000:
        unit, prefix = next(pair for pair in _PREFIXES if size >= pair[0])
        return f"{value / unit:g}{prefix}".replace("-", "\u2212")
    text = f"{value:,.0f}" if size >= 1000 else f"{value:.6g}"
    return text.replace("-", "\u2212")
