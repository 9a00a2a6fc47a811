"""Quality of decoded 8-bit frames against the source's own, over one pass through both.

The truth is the source in 4:2:0: its planes for the figures of Y, U and V, and its conversion by
nvcodec.video.color for those in RGB. What a codec decodes to the other of the two is converted the
same way.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.filter
import numpy as np
from numpy.typing import NDArray

from nvcodec.bench.source import BenchSource, Planes, y4m_header
from nvcodec.errors import Interrupted, ResourceError, VerificationError
from nvcodec.metrics import (
    PSNR_OF_EQUAL_DB,
    frame_ms_ssim,
    mean_squared_error,
    mse_to_psnr_db,
    planes_psnr_db,
    weighted,
)
from nvcodec.video.color import rgb_to_yuv, yuv_to_rgb
from nvcodec.video.frames import ColorTags
from nvcodec.video.sinks import PngEncoder, fill_frame
from nvcodec.video.y4m import format_header, write_frame

Frame = NDArray[np.uint8] | Planes
"""RGB (H, W, 3), or planes in 4:2:0."""


def to_rgb_and_planes(frame: Frame, tags: ColorTags) -> tuple[NDArray[np.uint8], Planes]:
    """Return a frame in both forms."""
    if isinstance(frame, tuple):
        return yuv_to_rgb(*frame, tags).astype(np.uint8, copy=False), frame
    y, u, v = (plane.astype(np.uint8, copy=False) for plane in rgb_to_yuv(frame, tags))
    return frame, (y, u, v)


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


class SequenceMeter:
    """Accumulates PSNR and MS-SSIM of a sequence, frame by frame."""

    def __init__(self, tags: ColorTags) -> None:
        self._tags = tags
        self._rgb_mse: list[float] = []
        self._planes_db: list[tuple[float, ...]] = []
        self._ms_ssim: list[float] = []

    def add(self, decoded: Frame, source: Planes) -> None:
        """Take in one frame pair.

        Raises:
            VerificationError: the decoded frame has another size.
        """
        found = decoded[0].shape if isinstance(decoded, tuple) else decoded.shape[:2]
        if found != source[0].shape:
            sizes = ("x".join(map(str, shape[::-1])) for shape in (found, source[0].shape))
            raise VerificationError("decoded frames are {}, those of the source {}".format(*sizes))
        rgb, planes = to_rgb_and_planes(decoded, self._tags)
        truth = yuv_to_rgb(*source, self._tags)
        self._rgb_mse.append(mean_squared_error(rgb, truth))
        self._planes_db.append(planes_psnr_db(planes, source))
        ms_ssim = frame_ms_ssim(rgb, truth)
        if ms_ssim is not None:
            self._ms_ssim.append(ms_ssim)

    @property
    def n_frames(self) -> int:
        """Frame pairs so far."""
        return len(self._rgb_mse)

    def values(self) -> dict[str, Any]:
        """Return fields of a Point."""
        per_frame = [min(PSNR_OF_EQUAL_DB, mse_to_psnr_db(mse)) for mse in self._rgb_mse]
        return {
            "psnr_rgb_db": _mean(per_frame),
            "psnr_rgb_of_mean_mse_db": min(PSNR_OF_EQUAL_DB, mse_to_psnr_db(_mean(self._rgb_mse))),
            "psnr_y_db": _mean([planes[0] for planes in self._planes_db]),
            "psnr_yuv_db": _mean([weighted(planes) for planes in self._planes_db]),
            "ms_ssim": _mean(self._ms_ssim) if self._ms_ssim else None,
            "psnr_rgb_per_frame_db": tuple(round(value, 4) for value in per_frame),
        }


class XpsnrMeter:
    """XPSNR of a sequence by FFmpeg's filter, frame by frame (Helmrich et al., 2020)."""

    def __init__(self, width: int, height: int) -> None:
        self._size = (width, height)
        graph = av.filter.Graph()
        shape = f"video_size={width}x{height}:pix_fmt=yuv420p:time_base=1/25:pixel_aspect=1/1"
        self._inputs = [graph.add("buffer", f"{shape}:frame_rate=25/1") for _ in range(2)]
        xpsnr = graph.add("xpsnr")
        self._sink = graph.add("buffersink")
        for number, buffer in enumerate(self._inputs):
            buffer.link_to(xpsnr, 0, number)
        xpsnr.link_to(self._sink)
        graph.configure()
        self._graph = graph
        self._values: list[float] = []
        self._n_frames = 0

    def add(self, decoded: Planes, source: Planes) -> None:
        """Take in one frame pair."""
        for buffer, planes in zip(self._inputs, (source, decoded), strict=True):
            frame = av.VideoFrame(*self._size, "yuv420p")
            fill_frame(frame, planes)
            frame.pts, frame.time_base = self._n_frames, Fraction(1, 25)
            buffer.push(frame)
        self._n_frames += 1
        self._pull()

    def _pull(self) -> None:
        try:
            while True:
                tags = self._sink.pull().metadata
                y, u, v = (float(tags[f"lavfi.xpsnr.xpsnr.{plane}"]) for plane in "yuv")
                self._values.append(weighted((_capped(y), _capped(u), _capped(v))))
        except (av.error.BlockingIOError, av.error.EOFError):
            return

    def value(self) -> float:
        """Return the mean over frames of (6 Y + U + V) / 8; no frame can follow."""
        for buffer in self._inputs:
            buffer.push(None)
        self._pull()
        return _mean(self._values)


def _capped(value: float) -> float:
    return min(PSNR_OF_EQUAL_DB, value)


def measure(
    source: BenchSource,
    decoded: Iterator[Frame],
    *,
    xpsnr: bool = False,
    sample: Path | None = None,
    y4m: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> dict[str, Any]:
    """Compare all frames; return fields of a Point.

    Args:
        source: the truth.
        decoded: all frames of a stream.
        xpsnr: measure XPSNR too.
        sample: where to write the middle frame as PNG.
        y4m: where to write the decoded planes, for VMAF.
        stop: polled between frames.

    Raises:
        VerificationError: the decoded frames differ in number or size.
        Interrupted: `stop` returned true.
    """
    info = source.info
    meter = SequenceMeter(source.tags)
    perceptual = XpsnrMeter(info.width, info.height) if xpsnr else None
    file = open(y4m, "wb") if y4m else None  # noqa: SIM115
    try:
        if file:
            file.write(format_header(y4m_header(source.info)))
        with source.frames() as frames:
            for frame in decoded:
                truth = next(frames, None)
                if truth is None:
                    raise VerificationError(
                        f"more frames were decoded than the {source.n_frames} of the source"
                    )
                if sample and meter.n_frames == source.n_frames // 2:
                    save_png(sample, to_rgb_and_planes(frame, source.tags)[0])
                meter.add(frame, truth)
                planes = to_rgb_and_planes(frame, source.tags)[1] if perceptual or file else truth
                if perceptual:
                    perceptual.add(planes, truth)
                if file:
                    write_frame(file, planes)
                if stop():
                    raise Interrupted("stopped while measuring; the same command continues")
    finally:
        if file:
            file.close()
    if meter.n_frames != source.n_frames:
        raise VerificationError(
            f"{meter.n_frames} frames were decoded, the source has {source.n_frames}"
        )
    return meter.values() | ({"xpsnr_db": perceptual.value()} if perceptual else {})


def save_png(path: Path, rgb: NDArray[np.uint8]) -> None:
    """Write one RGB frame (H, W, 3)."""
    path.write_bytes(PngEncoder(rgb.shape[1], rgb.shape[0]).encode(rgb))


def has_vmaf(ffmpeg: str) -> bool:
    """Tell whether an ffmpeg program has libvmaf."""
    try:
        done = subprocess.run(
            [ffmpeg, "-hide_banner", "-filters"], capture_output=True, check=False, timeout=30
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b" libvmaf " in done.stdout


def vmaf(ffmpeg: str, decoded: Path, source: Path, *, threads: int) -> float:
    """Return the mean VMAF (libvmaf's default model) of one .y4m file against another.

    Raises:
        ResourceError: the program fails.
    """
    log = decoded.with_suffix(".json")
    # The log's name stands in a filter's options, where a path would need escapes.
    command = [ffmpeg, "-v", "error", "-nostdin", "-i", decoded.name, "-i", str(source.resolve())]
    command += ["-lavfi", f"libvmaf=log_fmt=json:log_path={log.name}:n_threads={threads}"]
    done = subprocess.run(
        [*command, "-f", "null", "-"], capture_output=True, check=False, cwd=decoded.parent
    )
    try:
        if done.returncode != 0:
            text = done.stderr.decode("utf-8", "replace").strip().split("\n")[-1]
            raise ResourceError(f"VMAF by {ffmpeg} failed: {text or 'no message'}")
        return float(json.loads(log.read_text())["pooled_metrics"]["vmaf"]["mean"])
    except (OSError, ValueError, KeyError) as error:
        raise ResourceError(f"VMAF by {ffmpeg} gave no result") from error
    finally:
        log.unlink(missing_ok=True)
