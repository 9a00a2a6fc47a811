"""Looks for the quality parameter that gives a wanted rate."""

from __future__ import annotations

import math
from collections.abc import Callable

from nvcodec.bench.codecs import Scale

_CLOSE_ENOUGH = 0.02
"""Relative distance to the wanted rate at which the search ends."""


def find_q(
    wanted_bpp: float, scale: Scale, probe: Callable[[int], float], known: dict[int, float]
) -> int:
    """Return the parameter whose rate is nearest to the wanted one, by ratio.

    ln(bpp) falls about linearly with the parameter, so few encodes suffice. Where no parameter
    reaches the rate, the last one on that side is returned.

    Args:
        wanted_bpp: bits per pixel.
        scale: range of the parameter and first guesses.
        probe: encodes with a parameter and returns the bits per pixel.
        known: rates by parameter from earlier searches; new ones are added.
    """
    while True:
        below = min((q for q, bpp in known.items() if bpp < wanted_bpp), default=None)
        above = max(
            (q for q, bpp in known.items() if bpp >= wanted_bpp and (below is None or q < below)),
            default=None,
        )
        q = _next(wanted_bpp, scale, known, above, below)
        ends = [end for end in (above, below) if end is not None]
        if ends:
            best = min(ends, key=lambda end: abs(math.log(known[end] / wanted_bpp)))
            if q is None or abs(known[best] / wanted_bpp - 1) <= _CLOSE_ENOUGH:
                return best
        assert q is not None
        known[q] = probe(q)


def _next(
    wanted: float, scale: Scale, known: dict[int, float], above: int | None, below: int | None
) -> int | None:
    """Return the parameter to try next; None where nothing is left between the neighbours.

    `above` has the wanted rate or more, `below` less.
    """
    if above is None and below is None:
        return scale.start
    if above is None or below is None:
        end = below if above is None else above
        assert end is not None
        step = abs(math.log(known[end] / wanted)) / _slope(known, scale)
        if above is None:
            return None if end == scale.low else max(scale.low, end - max(1, math.ceil(step)))
        return None if end == scale.high else min(scale.high, end + max(1, math.ceil(step)))
    if below - above < 2:
        return None
    top, bottom = math.log(known[above]), math.log(known[below])
    guess = above + (top - math.log(wanted)) / (top - bottom) * (below - above)
    return min(max(round(guess), above + 1), below - 1)


def _slope(known: dict[int, float], scale: Scale) -> float:
    """Return the fall of ln(bpp) from one parameter to the next, measured where it can be."""
    first, last = min(known), max(known)
    fall = math.log(known[first] / known[last])
    return fall / (last - first) if fall > 0 else scale.slope
