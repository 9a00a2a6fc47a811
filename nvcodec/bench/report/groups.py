"""Points of different codecs at nearly the same rate, to be seen side by side."""

from __future__ import annotations

import math
from dataclasses import dataclass

from nvcodec.bench.results import BenchResults, CodecResult, Point

_SAME_RATE = 1.25
"""Points of the leading codecs within this factor make one group."""
_NEAR = 1.5
"""How far from the group's rate another codec's point may be, as a factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RateGroup:
    """At most one point for each codec, by the codec's index."""

    bpp: float
    points: dict[int, Point]


def rate_groups(results: BenchResults) -> list[RateGroup]:
    """Return groups around the rates of nvcodec, or of the codec with most points without it."""
    measured = [codec for codec in results.codecs if codec.kind != "published"]
    leaders = [codec for codec in measured if codec.kind == "nvcodec" and _rated(codec)]
    if not leaders:
        leaders = sorted(measured, key=lambda codec: -len(_rated(codec)))[:1]
    rates = sorted(rate for codec in leaders for _, rate in _rated(codec))
    clusters: list[list[float]] = []
    for rate in rates:
        if clusters and rate <= clusters[-1][0] * _SAME_RATE:
            clusters[-1].append(rate)
        else:
            clusters.append([rate])
    return [_group(results, cluster[len(cluster) // 2]) for cluster in clusters]


def _rated(codec: CodecResult) -> list[tuple[Point, float]]:
    """Return the measured points with their rates."""
    return [(p, p.bpp) for p in codec.good_points if p.bpp is not None and p.bpp > 0]


def _group(results: BenchResults, bpp: float) -> RateGroup:
    points = {}
    for i, codec in enumerate(results.codecs):
        rated = _rated(codec)
        if codec.kind == "published" or not rated:
            continue
        point, rate = min(rated, key=lambda pair: abs(math.log(pair[1] / bpp)))
        if abs(math.log(rate / bpp)) <= math.log(_NEAR):
            points[i] = point
    return RateGroup(bpp=bpp, points=points)
