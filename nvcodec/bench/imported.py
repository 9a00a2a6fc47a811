"""Figures that were measured elsewhere on exactly the same frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nvcodec.bench.results import CodecResult, Point
from nvcodec.bench.source import BenchSource
from nvcodec.errors import InputError
from nvcodec.metrics import weighted


def import_results(path: Path, source: BenchSource) -> list[CodecResult]:
    """Return the codecs of a JSON file, marked as imported.

    The file is an object with `width`, `height`, `n_frames`, `raw_yuv420p_md5` (of the planes of
    all frames, Y, U, V in turn), optionally `metric` (a sentence on how quality was measured), and
    `points`: objects with `codec`, `preset`, `q`, `settings`, `n_bytes` and any of `version`,
    `psnr_y`, `psnr_u`, `psnr_v`, `psnr_rgb` and `ms_ssim`, all means over frames. The last two
    count only where `rgb_conversion` is "nvcodec": chroma that is repeated, as libswscale does, in
    place of interpolated moves PSNR-RGB by 0.6 dB.

    Raises:
        InputError: the file cannot be used, or is of other frames.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        _check_frames(path, values, source)
        groups: dict[str, list[dict[str, Any]]] = {}
        for point in values["points"]:
            name = f"{point['codec']} {point.get('preset', '')}".strip()
            groups.setdefault(name, []).append(point)
        about = f"imported from {path.name}"
        about += f"; {values['metric']}" if values.get("metric") else ""
        with_rgb = values.get("rgb_conversion") == "nvcodec"
        about += "" if with_rgb else "; figures in RGB left out, since converted by other means"
        return [_codec(name, points, source, about, with_rgb) for name, points in groups.items()]
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except KeyError as error:
        raise InputError(f"{path} cannot be imported: {error.args[0]} is missing") from error
    except (ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path} cannot be imported: {error}") from error


def _check_frames(path: Path, values: dict[str, Any], source: BenchSource) -> None:
    """Refuse figures of frames that are not the source's."""
    info = source.info
    found = (values["width"], values["height"], values["n_frames"])
    needed = (info.width, info.height, source.n_frames)
    if found != needed:
        sizes = (f"{n} frames of {width}x{height}" for width, height, n in (found, needed))
        raise InputError(f"{path} is about {{}}, the source has {{}}".format(*sizes))
    if values["raw_yuv420p_md5"] != source.planes_md5:
        raise InputError(
            f"{path} is about other frames: the MD5 of its raw 4:2:0 planes is "
            f"{values['raw_yuv420p_md5']}, that of the source's {source.planes_md5}"
        )


def _codec(
    name: str, points: list[dict[str, Any]], source: BenchSource, about: str, with_rgb: bool
) -> CodecResult:
    settings = _with_q(points)
    version = points[0].get("version")
    return CodecResult(
        name=f"{name} (imported)",
        kind="imported",
        parameters="; ".join(filter(None, (settings, version, about))),
        points=tuple(
            sorted(
                (_point(p, source, with_rgb) for p in points), key=lambda point: point.bpp or 0.0
            )
        ),
    )


def _with_q(points: list[dict[str, Any]]) -> str:
    """Return the settings with {q} in place of the quality parameter, where it ends them."""
    first = points[0]
    settings = str(first.get("settings", ""))
    q = f"{first['q']}"
    for flag in ("-q ", "-crf ", "--qp ", "--crf "):
        settings = settings.replace(f"{flag}{q} ", f"{flag}{{q}} ")
        if settings.endswith(f"{flag}{q}"):
            settings = settings.removesuffix(q) + "{q}"
    return settings


def _point(point: dict[str, Any], source: BenchSource, with_rgb: bool) -> Point:
    n_bytes = int(point["n_bytes"])
    y, u, v = (point.get(f"psnr_{plane}") for plane in "yuv")
    return Point(
        q=float(point["q"]),
        n_bytes=n_bytes,
        bpp=8 * n_bytes / source.n_pixels,
        psnr_rgb_db=point.get("psnr_rgb") if with_rgb else None,
        psnr_y_db=y,
        psnr_yuv_db=None if y is None or u is None or v is None else weighted((y, u, v)),
        ms_ssim=point.get("ms_ssim") if with_rgb else None,
    )
