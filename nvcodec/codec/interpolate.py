"""Frames between the coded ones: the network drawn at fractional frame indices."""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import torch

from nvcodec import storage
from nvcodec.codec.decoder import VideoFile
from nvcodec.depth import RGB
from nvcodec.errors import UsageError
from nvcodec.events import Listener, Progress, ignore
from nvcodec.limits import DEFAULT
from nvcodec.video.frames import VideoInfo
from nvcodec.video.writer import open_writer

MIN_FACTOR, MAX_FACTOR = 2, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolateResult:
    """What was written."""

    description: str
    factor: int
    frames: int
    """(coded frames - 1) x factor + 1: none is invented beyond the last."""
    width: int
    height: int
    frame_rate: float
    """Frames/s of the output: factor x that of the file."""
    end_to_end_s: float
    device: str


@torch.inference_mode()
def frames_between(video: VideoFile, positions: Iterable[Fraction | float]) -> Iterator[RGB]:
    """Yield the frames (H, W, 3) at these fractional indices, of `video.bit_depth`.

    Segments know nothing of each other: between the last frame of one and the first of the next,
    the nearer of the two is drawn. Raises UsageError for a position outside the video.
    """
    headers = [segment.header for segment in video.stream.segments]
    first_frames = [header.first_frame for header in headers]
    for position in positions:
        if not 0 <= position <= len(video) - 1:
            raise UsageError(f"position is {position}, allowed is 0 to {len(video) - 1}")
        nearest = -int((Fraction(1, 2) - Fraction(position)) // 1)  # the earlier of two as near
        number = bisect_right(first_frames, nearest) - 1
        header = headers[number]
        inside = min(max(position - header.first_frame, 0), header.n_frames - 1)
        yield video.draw_between(number, float(inside))


def interpolate(
    file: str | Path,
    output: str | Path,
    factor: int = 2,
    *,
    device: str = "auto",
    overwrite: bool = False,
    listener: Listener = ignore,
) -> InterpolateResult:
    """Write the video of an .nrv file with `factor` times the frames per second.

    Raises:
        NvcodecError: UsageError for a factor outside 2 to 64, otherwise as `VideoFile` and
            `open_writer`.
    """
    began = time.perf_counter()
    if not MIN_FACTOR <= factor <= MAX_FACTOR:
        raise UsageError(f"factor is {factor}, allowed is {MIN_FACTOR} to {MAX_FACTOR}")
    if Path(output).is_file():
        storage.check_output(Path(output), overwrite=overwrite, source=Path(file))
    with VideoFile(file, device=device) as video:
        total = (len(video) - 1) * factor + 1
        info = _quicker(video.info, factor)
        positions = (Fraction(i, factor) for i in range(total))
        with open_writer(
            output, info, overwrite=overwrite, max_bytes=DEFAULT.max_output_bytes
        ) as writer:
            video.bit_depth = writer.bit_depth
            for done, frame in enumerate(frames_between(video, positions), 1):
                writer.write(frame)
                per_s = done / (time.perf_counter() - began)
                listener(
                    Progress(
                        stage="interpolate", done=done, total=total, unit="frame",
                        per_s=per_s, eta_s=(total - done) / per_s,
                    )
                )  # fmt: skip
    return InterpolateResult(
        description=writer.description,
        factor=factor,
        frames=total,
        width=info.width,
        height=info.height,
        frame_rate=float(info.frame_rate),
        end_to_end_s=time.perf_counter() - began,
        device=str(video.device),
    )


def _quicker(info: VideoInfo, factor: int) -> VideoInfo:
    """Return what an output needs to know with factor - 1 more frames between any two."""
    rate = info.frame_rate * factor
    if info.timing is None:
        return replace(info, frame_rate=rate)
    pts = [
        before * factor + (after - before) * k
        for before, after in pairwise(info.timing.pts)
        for k in range(factor)
    ]
    pts.append(info.timing.pts[-1] * factor)
    timing = replace(info.timing, time_base=info.timing.time_base / factor, pts=pts)
    return replace(info, frame_rate=rate, timing=timing)
