"""What a file holds beside its pictures: sound and subtitles, their times, chapters, tags.

Tracks are packets of other codecs. They are copied bit by bit and never decoded.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Self

from nvcodec.fields import blob, i32, i64, u8, u16, u32, u64, utf8

AUDIO, SUBTITLES = 1, 2
KINDS = {AUDIO: "audio", SUBTITLES: "subtitle"}

_ROUNDING_S = Fraction(1, 2_000_000)
_U32 = (1 << 32) - 1
_I32 = 1 << 31
_I64 = 1 << 63


@dataclass(frozen=True, slots=True, kw_only=True)
class TrackHeader:
    """What is known of a track without its packets."""

    kind: int = u8(1, 2, "1 audio, 2 subtitles")
    codec: str = utf8(1, 32, "FFmpeg's name of the codec, such as aac or subrip")
    time_base_num: int = u32(1, _U32, "seconds of a tick, numerator")
    time_base_den: int = u32(1, _U32, "seconds of a tick, denominator")
    disposition: int = u32(0, _U32, "FFmpeg's disposition bits, such as 1 default, 64 forced", 0)
    language: str = utf8(0, 64, "ISO 639-2 or BCP 47, empty where unknown", "")
    title: str = utf8(0, 1024, "name of the track, empty where it has none", "")
    sample_rate: int = u32(0, _U32, "samples per second; 0 for subtitles", 0)
    channels: int = u16(0, 1024, "channels; 0 for subtitles", 0)
    channel_mask: int = u64(0, (1 << 64) - 1, "FFmpeg's channel bits, 0 where unknown", 0)
    initial_padding: int = u32(0, _U32, "samples at the start that a player drops", 0)
    extradata: bytes = blob(0, 1 << 20, "what the codec needs before its first packet", b"")

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick."""
        return Fraction(self.time_base_num, self.time_base_den)


@dataclass(frozen=True, slots=True, kw_only=True)
class Packet:
    """A piece of a track, opaque but for its time."""

    time: int
    """Ticks of the track's time base at which it is presented; may be negative."""
    duration: int
    """Ticks; 0 where unknown."""
    data: bytes
    key: bool = True
    """False: it needs packets before it."""
    skip_start: int = 0
    """Samples to drop from its start."""
    skip_end: int = 0
    """Samples to drop from its end."""
    cue_id: str = ""
    """Identifier of a WebVTT cue."""
    cue_settings: str = ""
    """Settings of a WebVTT cue."""


@dataclass(frozen=True, slots=True)
class Track:
    """A sound or subtitle track."""

    header: TrackHeader
    packets: Collection[Packet]
    """In the order of the source, which is that of time."""

    @property
    def is_audio(self) -> bool:
        """Whether this is sound."""
        return self.header.kind == AUDIO

    def label(self, number: int) -> str:
        """Return how messages name the track; `number` counts from 0."""
        language = f", {self.header.language}" if self.header.language else ""
        return f"{KINDS[self.header.kind]} track {number + 1} ({self.header.codec}{language})"


_ONE, _DEGREE = 1 << 16, 1 << 30
PROGRESSIVE, TOP_FIRST, BOTTOM_FIRST = 0, 1, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Display:
    """How decoded frames are shown: the frames themselves are neither turned nor stretched."""

    sar_num: int = u32(1, _U32, "width of a pixel", 1)
    sar_den: int = u32(1, _U32, "height of a pixel", 1)
    field_order: int = u8(0, 2, "0 whole frames, 1 fields with the top first, 2 bottom first", 0)
    a: int = i32(-_I32, _I32 - 1, "matrix of ISO/IEC 14496-12, 16.16", _ONE)
    b: int = i32(-_I32, _I32 - 1, "16.16", 0)
    u: int = i32(-_I32, _I32 - 1, "2.30", 0)
    c: int = i32(-_I32, _I32 - 1, "16.16", 0)
    d: int = i32(-_I32, _I32 - 1, "16.16", _ONE)
    v: int = i32(-_I32, _I32 - 1, "2.30", 0)
    x: int = i32(-_I32, _I32 - 1, "16.16", 0)
    y: int = i32(-_I32, _I32 - 1, "16.16", 0)
    w: int = i32(-_I32, _I32 - 1, "2.30", _DEGREE)

    @property
    def aspect(self) -> Fraction:
        """Width of a pixel by its height."""
        return Fraction(self.sar_num, self.sar_den)

    @property
    def matrix(self) -> tuple[int, ...]:
        """The nine numbers in FFmpeg's order, which is that of the fields."""
        return self.a, self.b, self.u, self.c, self.d, self.v, self.x, self.y, self.w

    @property
    def turned(self) -> bool:
        """Whether a player turns or mirrors the picture."""
        return self.matrix != PLAIN.matrix

    @property
    def rotation(self) -> int:
        """Degrees counterclockwise, to the nearest, of the matrix without its mirroring."""
        return round(math.degrees(math.atan2(-self.b, self.a))) if self.turned else 0


PLAIN = Display()

CHROMATICITY_UNIT = Fraction(1, 50_000)
LUMINANCE_UNIT = Fraction(1, 10_000)
"""cd/m2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hdr:
    """Light of the display that a video was graded on (SMPTE ST 2086), and its own (CTA-861.3).

    The units are those of H.265 and of ISO/IEC 14496-12; 0 is unknown.
    """

    red_x: int = u16(0, 50_000, "primaries and white in CIE 1931 x, y; units of 0.00002", 0)
    red_y: int = u16(0, 50_000, "0.00002", 0)
    green_x: int = u16(0, 50_000, "0.00002", 0)
    green_y: int = u16(0, 50_000, "0.00002", 0)
    blue_x: int = u16(0, 50_000, "0.00002", 0)
    blue_y: int = u16(0, 50_000, "0.00002", 0)
    white_x: int = u16(0, 50_000, "0.00002", 0)
    white_y: int = u16(0, 50_000, "0.00002", 0)
    max_luminance: int = u32(0, _U32, "of the display, 0.0001 cd/m2", 0)
    min_luminance: int = u32(0, _U32, "of the display, 0.0001 cd/m2", 0)
    max_cll: int = u16(0, 65_535, "brightest pixel of the video (MaxCLL), cd/m2", 0)
    max_fall: int = u16(0, 65_535, "brightest mean of a frame (MaxFALL), cd/m2", 0)

    @property
    def primaries(self) -> tuple[int, ...]:
        """x and y of red, green, blue and white."""
        red, green = (self.red_x, self.red_y), (self.green_x, self.green_y)
        return *red, *green, self.blue_x, self.blue_y, self.white_x, self.white_y

    @property
    def has_display(self) -> bool:
        """Whether anything is known of the display."""
        return any(self.primaries) or self.max_luminance > 0

    @property
    def has_levels(self) -> bool:
        """Whether anything is known of the video's own light."""
        return self.max_cll > 0 or self.max_fall > 0


NO_HDR = Hdr()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chapter:
    """A named stretch of time."""

    time_base_num: int = u32(1, _U32, "seconds of a tick, numerator")
    time_base_den: int = u32(1, _U32, "seconds of a tick, denominator")
    start: int = i64(-_I64, _I64 - 1, "first tick")
    end: int = i64(-_I64, _I64 - 1, "tick after the last")
    title: str = utf8(0, 1024, "name, possibly empty", "")

    @property
    def time_base(self) -> Fraction:
        """Seconds of one tick."""
        return Fraction(self.time_base_num, self.time_base_den)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tag:
    """A word about the whole video."""

    key: str = utf8(1, 64, "FFmpeg's name of the tag, such as title")
    value: str = utf8(0, 4096, "text; escape it before printing")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extras:
    """Everything beside the pictures."""

    tracks: tuple[Track, ...] = ()
    chapters: tuple[Chapter, ...] = ()
    tags: tuple[Tag, ...] = ()

    def cut(self, window: Window) -> Extras:
        """Return what falls into a part of the time, which then begins at 0 or where it did."""
        tracks = (cut_track(track, window) for track in self.tracks)
        chapters = (cut_chapter(chapter, window) for chapter in self.chapters)
        return replace(
            self,
            tracks=tuple(track for track in tracks if track.packets),
            chapters=tuple(chapter for chapter in chapters if chapter is not None),
        )

    def without(self, *kinds: int) -> Extras:
        """Return the same but the tracks of some kinds."""
        return replace(self, tracks=tuple(t for t in self.tracks if t.header.kind not in kinds))


NO_EXTRAS = Extras()


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """A part of the time of a video, in seconds; None leaves an end open.

    Where `start` is given, it becomes the new time 0.
    """

    start: Fraction | None = None
    end: Fraction | None = None

    def ticks(self, time_base: Fraction) -> tuple[int | None, int | None, int]:
        """Return the first tick, the tick after the last, and what to subtract from all."""
        first = None if self.start is None else math.ceil(self.start / time_base)
        after = None if self.end is None else math.ceil(self.end / time_base)
        return first, after, 0 if self.start is None else round(self.start / time_base)


def cut_packets(header: TrackHeader, packets: Iterable[Packet], window: Window) -> Iterator[Packet]:
    """Yield the packets that begin in the window; of a subtitle, the part that is shown in it."""
    first, after, shift = window.ticks(header.time_base)
    for packet in packets:
        time, end = packet.time, packet.time + packet.duration
        if first is not None and time < first:
            if header.kind == AUDIO or end <= first:
                continue
            time = first
        if after is not None:
            if time >= after:
                continue
            if header.kind == SUBTITLES:
                end = min(end, after)
        yield replace(packet, time=time - shift, duration=max(0, end - time))


def cut_track(track: Track, window: Window) -> Track:
    """Return a track without what lies outside the window."""
    header, packets = track.header, tuple(cut_packets(track.header, track.packets, window))
    if len(packets) and next(iter(track.packets)).data != packets[0].data:
        header = replace(header, initial_padding=0)
    return Track(header, packets)


def cut_chapter(chapter: Chapter, window: Window) -> Chapter | None:
    """Return the part of a chapter that lies in the window, if any."""
    first, after, shift = window.ticks(chapter.time_base)
    start = chapter.start if first is None else max(chapter.start, first)
    end = chapter.end if after is None else min(chapter.end, after)
    if (start, end) != (chapter.start, chapter.end) and start >= end:
        return None
    return replace(chapter, start=start - shift, end=end - shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """When each frame is shown."""

    time_base: Fraction
    """Seconds of a tick."""
    pts: Sequence[int]
    """Ticks, one per frame, strictly increasing; the first may be negative."""
    duration: int
    """Ticks for which the last frame is shown."""

    @classmethod
    def constant(cls, frame_rate: Fraction, n_frames: int) -> Self:
        """Return frames at a constant rate from time 0 on."""
        return cls(time_base=1 / frame_rate, pts=range(n_frames), duration=1)

    def seconds(self, index: int) -> Fraction:
        """Return the time of a frame, or for the index after the last the end of the video."""
        if index == len(self.pts):
            return (self.pts[-1] + self.duration) * self.time_base
        return self.pts[index] * self.time_base

    def is_constant(self, frame_rate: Fraction) -> bool:
        """Tell whether `constant` gives the same times."""
        step = 1 / (frame_rate * self.time_base)
        wanted = [i * step for i in range(len(self.pts))]
        return self.duration == step and list(self.pts) == wanted

    def varies(self) -> bool:
        """Tell whether frames differ in how long they are shown."""
        return len({after - before for before, after in pairwise(self.pts)}) > 1

    def window(self, start: int, end: int) -> Window:
        """Return the time of frames start..end-1, open where no frame is left out."""
        return Window(
            start=self.seconds(start) if start > 0 else None,
            end=self.seconds(end) if end < len(self.pts) else None,
        )

    def index_at(self, time_s: Fraction) -> int | None:
        """Return the frame shown at a time; None before the first frame and after the last.

        Half a microsecond before a frame counts as its time: people and players round to that.
        """
        tick = (time_s + _ROUNDING_S) / self.time_base
        if not self.pts[0] <= tick < self.pts[-1] + self.duration:
            return None
        return bisect_right(self.pts, tick) - 1

    def cut(self, start: int, end: int) -> Timing:
        """Return the times of frames start..end-1; where frames go before, they begin at 0."""
        ticks = self.pts[start:end]
        shift = ticks[0] if start > 0 else 0
        after = self.pts[end] if end < len(self.pts) else self.pts[-1] + self.duration
        return Timing(
            time_base=self.time_base,
            pts=[tick - shift for tick in ticks],
            duration=after - ticks[-1],
        )
