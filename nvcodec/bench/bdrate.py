"""Bjontegaard differences, by the `bjontegaard` package of FAU-LMS.

BD-rate: mean difference of log rate over the interval of quality that both curves cover
(Bjontegaard, VCEG-M33, 2001); interpolated by PCHIP, as in JVET's sheets, and by Akima splines, as
Herglotz et al. recommend ("The Bjontegaard Bible", IEEE TIP 2024).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise

from nvcodec.bench.results import BD, METRICS, CodecResult
from nvcodec.errors import ResourceError

METHODS = ("pchip", "akima")
MIN_POINTS = 4
Curve = list[tuple[float, float]]
"""(bits per pixel, quality), by rising rate."""


def check_extra() -> None:
    """Raise ResourceError where the package for BD-rate is not installed."""
    try:
        import bjontegaard  # noqa: F401
    except ImportError as error:
        raise ResourceError(
            "bench needs the packages bjontegaard and matplotlib; install them with "
            "pip install nvcodec[bench]"
        ) from error


def curve_of(codec: CodecResult, metric: str) -> Curve:
    """Return the points of a codec that have this metric, by rising rate."""
    pairs = ((point.bpp, getattr(point, metric)) for point in codec.good_points)
    return sorted((bpp, value) for bpp, value in pairs if bpp is not None and value is not None)


def flaw(name: str, curve: Curve) -> str | None:
    """Return a sentence if a curve is nothing for a BD-rate."""
    if len(curve) < MIN_POINTS:
        return f"{name} has {len(curve)} points, {MIN_POINTS} are needed"
    for (bpp, value), (next_bpp, next_value) in pairwise(curve):
        if next_bpp <= bpp or next_value <= value:
            return (
                f"quality of {name} does not rise from {bpp:.5f} bpp ({value:.4f}) "
                f"to {next_bpp:.5f} bpp ({next_value:.4f})"
            )
    return None


def bd(codec: CodecResult, anchor: CodecResult, metric: str, method: str) -> BD:
    """Return the differences of a codec against an anchor, or why there are none."""
    from bjontegaard import bd_psnr, bd_rate

    test, base = curve_of(codec, metric), curve_of(anchor, metric)
    none = BD(codec=codec.name, anchor=anchor.name, metric=metric, method=method)
    error = flaw(codec.name, test) or flaw(anchor.name, base)
    if error is not None:
        return replace(none, error=error)
    low, high = max(test[0][1], base[0][1]), min(test[-1][1], base[-1][1])
    if low >= high:
        spans = (f"{c[0][1]:.4f} to {c[-1][1]:.4f}" for c in (test, base))
        return replace(
            none, error="the curves do not overlap in quality: {} against {}".format(*spans)
        )
    rates = [[bpp for bpp, _ in curve] for curve in (base, test)]
    values = [[value for _, value in curve] for curve in (base, test)]
    curves = (rates[0], values[0], rates[1], values[1])
    given = {"method": method, "require_matching_points": False, "min_overlap": 0}
    rate = float(bd_rate(*curves, **given))
    psnr = None
    if max(rates[0][0], rates[1][0]) < min(rates[0][-1], rates[1][-1]):
        psnr = float(bd_psnr(*curves, **given))
    if not math.isfinite(rate):
        return replace(none, low=low, high=high, error="the interpolation has no finite value")
    return replace(none, rate_percent=rate, psnr_db=psnr, low=low, high=high)


def all_bd(codecs: Iterable[CodecResult]) -> tuple[BD, ...]:
    """Return the differences of every architecture of ours against all others that ran.

    Published curves take no part: they are of other frames. Metrics that one side lacks are left
    out.
    """
    codecs = [codec for codec in codecs if codec.status != "not run"]
    ours = [codec for codec in codecs if codec.kind == "nvcodec"]
    others = [codec for codec in codecs if codec.kind not in ("nvcodec", "published")]
    return tuple(
        bd(codec, anchor, metric, method)
        for codec in ours
        for anchor in others
        for metric in METRICS
        if curve_of(codec, metric) and curve_of(anchor, metric)
        for method in METHODS
    )


def mean_bd(sequences: Sequence[tuple[BD, ...]]) -> tuple[BD, ...]:
    """Return the means over sequences; a sequence without a figure leaves no mean, but a count."""
    groups: dict[tuple[str, str, str, str], list[BD]] = {}
    for sequence in sequences:
        for item in sequence:
            key = (item.codec, item.anchor, item.metric, item.method)
            groups.setdefault(key, []).append(item)
    return tuple(_mean(items, len(sequences)) for items in groups.values())


def _mean(items: list[BD], needed: int) -> BD:
    first = items[0]
    none = BD(codec=first.codec, anchor=first.anchor, metric=first.metric, method=first.method)
    rates = [item.rate_percent for item in items if item.rate_percent is not None]
    psnrs = [item.psnr_db for item in items if item.psnr_db is not None]
    if len(rates) < needed:
        return replace(none, error=f"{needed - len(rates)} of {needed} sequences have no figure")
    psnr = sum(psnrs) / needed if len(psnrs) == needed else None
    return replace(none, rate_percent=sum(rates) / needed, psnr_db=psnr)
