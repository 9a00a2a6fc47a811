"""How the values of a point are named and printed, in every part of the report."""

from __future__ import annotations

METRIC_NAMES = {
    "psnr_rgb_db": "PSNR-RGB",
    "psnr_yuv_db": "PSNR-YUV",
    "psnr_y_db": "PSNR-Y",
    "ms_ssim": "MS-SSIM",
    "vmaf": "VMAF",
    "xpsnr_db": "XPSNR",
}
METRIC_UNITS = {name: "dB" if name.endswith("_db") else "" for name in METRIC_NAMES}

_DECIMALS = {"bpp": 4, "ms_ssim": 4, "vmaf": 1, "encode_s": 1}
NONE = "\u2013"
MINUS = "\u2212"


def value_text(field: str, value: float | None) -> str:
    """Return a value as the tables show it; a dash where there is none."""
    if value is None:
        return NONE
    if field.endswith("_db"):
        return f"{value:.2f}"
    if field in _DECIMALS:
        return f"{value:,.{_DECIMALS[field]}f}"
    if field.endswith("_fps"):
        return f"{value:,.0f}" if value >= 100 else f"{value:.1f}"
    if field == "q":
        return f"{value:g}"
    return f"{value:,.0f}"


def signed(value: float | None, decimals: int, unit: str = "") -> str:
    """Return a difference with its sign, such as +12.3 %; a dash where there is none."""
    if value is None:
        return NONE
    return f"{value:+,.{decimals}f}{unit}".replace("-", MINUS)
