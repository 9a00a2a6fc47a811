"""Which frames of a file an output shows, and what it has to know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from nvcodec.codec.decoder import VideoFile
from nvcodec.errors import UsageError
from nvcodec.media import NO_EXTRAS, Extras, Timing
from nvcodec.video.frames import VideoInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Frames in the order of the output."""

    numbers: Sequence[int]
    info: VideoInfo
    """Of the file, with the times that the output has."""
    extras: Extras
    """What lies beside these frames; without tracks where they are out of order."""


def evenly_spaced(n_frames: int, count: int) -> list[int]:
    """Return the indices of `count` frames out of n_frames, from the first one on."""
    if not 1 <= count <= n_frames:
        raise UsageError(f"{count} frames were asked for, allowed are 1 to {n_frames}")
    return [i * n_frames // count for i in range(count)]


def select_part(video: VideoFile, start: int, count: int | None) -> Selection:
    """Return `count` frames from `start` on, or as many as there are; UsageError for none."""
    if start >= len(video):
        raise UsageError(f"start is {start}, but the file has {len(video)} frames")
    end = len(video) if count is None else min(start + count, len(video))
    timing = video.timing
    return Selection(
        numbers=range(start, end),
        info=replace(video.info, timing=timing.cut(start, end)),
        extras=video.stream.extras.cut(timing.window(start, end)),
    )


def select_frames(video: VideoFile, numbers: Sequence[int]) -> Selection:
    """Return these frames, which follow each other at the mean rate; UsageError for a wrong one."""
    for number in numbers:
        if not 0 <= number < len(video):
            raise UsageError(
                f"frame {number} was asked for, but the file has {len(video)} frames, "
                "counted from 0"
            )
    timing = Timing.constant(video.info.frame_rate, len(numbers))
    return Selection(
        numbers=list(numbers),
        info=replace(video.info, timing=timing),
        extras=replace(NO_EXTRAS, tags=video.stream.extras.tags),
    )


def select_time(video: VideoFile, time_s: Fraction) -> Selection:
    """Return the frame that is shown at a time; UsageError where none is."""
    return select_frames(video, [video.index_at(time_s)])
