"""Rate and quality that others published, for context only: other frames, other rules.

These curves never enter a BD-rate. They were measured at 1920x1080 or a crop of it; PSNR is RGB,
the mean over frames.
"""

from __future__ import annotations

from nvcodec.bench.results import CodecResult, Point

_NERV = (
    "Chen et al., NeurIPS 2021, psnr_bpp_results.csv of the authors' repository: {}; "
    "bits by formula (parameters x bits), not of a file"
)
_HNERV = (
    "Chen et al., CVPR 2023, {} of the authors' repository: one model for each video; "
    "bits estimated, not of a file"
)
_HINERV = (
    "Kwan et al., NeurIPS 2023, results spreadsheet of the authors' repository: "
    "mean of the seven UVG videos, one model for each, 6-bit weights, real bitstreams"
)

Curve = tuple[tuple[float, float, float | None], ...]
"""Bits per pixel, PSNR in dB, MS-SSIM."""

_MEANS: dict[str, dict[str, tuple[str, Curve]]] = {
    "uvg": {
        "NeRV (UVG)": (
            _NERV.format("one model for the seven UVG videos"),
            (
                (0.01347, 31.28, 0.9035),
                (0.02099, 32.53, 0.9224),
                (0.03245, 33.69, 0.9357),
                (0.04754, 34.71, 0.9464),
                (0.06673, 35.57, 0.9565),
                (0.07585, 35.84, 0.9562),
                (0.1273, 36.59, 0.9622),
                (0.1461, 36.87, 0.9638),
                (0.2497, 37.86, 0.9692),
            ),
        ),
        "HNeRV (UVG)": (
            _HNERV.format("uvg_results.csv")
            + "; the third point is not the mean of their figures per video",
            ((0.0139, 32.77, 0.9166), (0.0339, 34.39, 0.9409), (0.0498, 35.49, 0.9539)),
        ),
        "HiNeRV (UVG)": (
            _HINERV,
            (
                (0.0150, 34.80, None),
                (0.0299, 36.24, None),
                (0.0583, 37.51, None),
                (0.1159, 38.72, None),
                (0.2271, 39.81, None),
            ),
        ),
    },
    "mcl-jcv": {
        "NeRV (MCL-JCV)": (
            _NERV.format("MCL-JCV"),
            (
                (0.01361, 29.43, 0.8835),
                (0.01546, 29.67, 0.8880),
                (0.02099, 31.00, 0.9093),
                (0.02385, 31.25, 0.9132),
                (0.04781, 33.37, 0.9431),
                (0.05433, 33.61, 0.9455),
                (0.06677, 34.28, 0.9528),
                (0.0759, 34.56, 0.9553),
            ),
        ),
    },
}
_HNERV_PER_VIDEO: dict[str, Curve] = {
    "Beauty": ((0.0121, 33.68, 0.8952), (0.0297, 34.12, 0.9025), (0.0575, 34.33, 0.9067)),
    "Bosphorus": ((0.0121, 34.42, 0.9437), (0.0297, 36.60, 0.9650), (0.0575, 38.28, 0.9766)),
    "HoneyBee": ((0.0121, 39.03, 0.9839), (0.0297, 39.49, 0.9851), (0.0575, 39.56, 0.9852)),
    "Jockey": ((0.0121, 32.29, 0.8915), (0.0297, 34.96, 0.9322), (0.0575, 36.86, 0.9596)),
    "ReadySteadyGo": ((0.0121, 26.13, 0.8661), (0.0297, 29.12, 0.9223), (0.0575, 31.45, 0.9516)),
    "ShakeNDry": ((0.0243, 34.64, 0.9457), (0.0593, 35.21, 0.9542), (0.1151, 36.67, 0.9702)),
    "YachtRide": ((0.0121, 29.18, 0.8898), (0.0297, 31.25, 0.9248), (0.0575, 33.05, 0.9479)),
}


def published_results(dataset: str = "uvg", sequence: str | None = None) -> list[CodecResult]:
    """Return the published curves of a data set, and of one of its sequences where there are any.

    The bits per pixel stand in for the quality parameter.
    """
    curves = dict(_MEANS.get(dataset, {}))
    if sequence in _HNERV_PER_VIDEO:
        about = _HNERV.format("uvg_per_vid_results.csv")
        curves[f"HNeRV ({sequence})"] = (about, _HNERV_PER_VIDEO[sequence])
    return [
        CodecResult(
            name=name,
            kind="published",
            parameters=about,
            points=tuple(
                Point(q=bpp, bpp=bpp, psnr_rgb_db=psnr, ms_ssim=ms_ssim)
                for bpp, psnr, ms_ssim in curve
            ),
        )
        for name, (about, curve) in curves.items()
    ]
