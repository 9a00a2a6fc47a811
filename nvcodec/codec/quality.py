"""Encode to a quality: the smallest file whose decoded frames reach a PSNR."""

from __future__ import annotations

from dataclasses import replace

from nvcodec.codec.fit import Fit
from nvcodec.codec.options import Target
from nvcodec.codec.plan import Plan
from nvcodec.codec.proof import prove
from nvcodec.codec.work import EncodeWork
from nvcodec.errors import ResourceError
from nvcodec.events import Log

_DB_PER_OCTAVE = 2.2
"""Gain of PSNR for twice the bits, measured on this codec around 0.05 bpp; only a first guess."""
_PROBE_BPP = 0.05
_PROBE_SHARE = 0.15
_MARGIN_DB = 0.15
_MAX_ATTEMPTS = 4
_CLOSE_DB = 0.5
_MAX_BPP = 4.0


def encode_to_psnr(work: EncodeWork, psnr_db: float) -> tuple[Plan, Fit, bytes]:
    """Search the rate at which the decoded file reaches psnr_db; return the smallest that does.

    A short probe guesses the rate; full runs then correct the guess by the measured error, and the
    last quantiser steps are coarsened until the file just reaches the target. Raises ResourceError
    when no attempt reaches it.
    """
    probe = work.plan(Target(bpp=_smallest_bpp(work, _PROBE_BPP)))
    short = max(100, int(_PROBE_SHARE * probe.fit.n_steps))
    probe = replace(probe, fit=replace(probe.fit, n_steps=short))
    fit = work.make_fit(probe)
    work.run(fit)
    reached_db, _ = _measure(work, probe, fit, 0.0)
    bpp = 8 * probe.expected_bytes / work.source.n_pixels
    best: tuple[Plan, Fit, bytes] | None = None
    for _ in range(_MAX_ATTEMPTS):
        bpp *= 2 ** ((psnr_db - reached_db + _MARGIN_DB) / _DB_PER_OCTAVE)
        bpp = _smallest_bpp(work, min(_MAX_BPP, bpp))
        plan = work.plan(Target(bpp=bpp))
        fit = work.make_fit(plan)
        work.run(fit)
        reached_db, data = _measure(work, plan, fit, 0.0)
        message = f"{8 * len(data) / work.source.n_pixels:.4f} bpp gives {reached_db:.2f} dB"
        work.listener(Log(level="info", message=message))
        if reached_db >= psnr_db:
            data = _coarsen(work, plan, fit, psnr_db, data)
            if best is None or len(data) < len(best[2]):
                best = (plan, fit, data)
            if reached_db <= psnr_db + _CLOSE_DB:
                return best
        elif best is not None:
            return best
    if best is not None:
        return best
    raise ResourceError(
        f"{psnr_db} dB was not reached; the last attempt gave {reached_db:.2f} dB at {bpp:.3f} "
        "bpp; ask for less, or use a slower --preset"
    )


def _smallest_bpp(work: EncodeWork, bpp: float) -> float:
    """Return bpp, raised to the smallest rate that the architecture can have."""
    network_share = 1 - (work.options.corrections or 0.0)
    return max(bpp, 1.05 * 8 * work.smallest_bytes() / network_share / work.source.n_pixels)


def _measure(work: EncodeWork, plan: Plan, fit: Fit, octaves: float) -> tuple[float, bytes]:
    """Return PSNR and bytes of the network with its steps scaled by 2^octaves.

    Where the file has corrections, their budget is scaled in place of the steps, by 2^(-8 octaves).
    """
    data = None
    if fit.corrections and plan.max_bytes is not None:
        share = (1 - fit.corrections) + fit.corrections * 2 ** (-8 * octaves)
        data = work.corrected(plan, fit, int(share * plan.max_bytes))
    if data is None:
        data = work.file(plan, fit.quantized(octaves))
    meter, _ = prove(
        data, work.source, device=work.device, listener=work.listener, with_ms_ssim=False
    )
    return meter.psnr_db, data


def _coarsen(work: EncodeWork, plan: Plan, fit: Fit, psnr_db: float, data: bytes) -> bytes:
    """Return the smallest file found that keeps psnr_db by coarser steps; `data` is the first."""
    low, high = 0.0, 0.5
    for _ in range(4):
        middle = (low + high) / 2
        reached_db, smaller = _measure(work, plan, fit, middle)
        if reached_db >= psnr_db:
            low, data = middle, min(data, smaller, key=len)
        else:
            high = middle
    return data
