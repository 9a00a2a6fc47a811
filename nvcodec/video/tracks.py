"""Read what lies beside the pictures of a file: packets of sound and subtitles, chapters, tags.

Packets are taken as they are and never decoded.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import av

from nvcodec.limits import DEFAULT
from nvcodec.media import (
    AUDIO,
    SUBTITLES,
    Chapter,
    Extras,
    Packet,
    Tag,
    Track,
    TrackHeader,
    Window,
    cut_chapter,
    cut_packets,
)
from nvcodec.video.template import CHANNELS, CODECS

KEPT_TAGS = (
    "title", "artist", "album", "album_artist", "author", "composer", "genre", "date", "year",
    "comment", "description", "synopsis", "copyright", "show", "season_number", "episode_id",
    "episode_sort", "network", "performer", "director", "publisher", "keywords", "track", "disc",
)  # fmt: skip
"""Tags about the work; those about the file, its program, its time and its place are not kept."""
MAX_PACKET_BYTES = (1 << 24) - 1
MAX_EXTRADATA_BYTES = 1 << 20
_IGNORED_SIDE_DATA = ("cpb_properties", "mpegts_stream_id", "replay_gain", "quality_stats")
_KINDS = {"audio": AUDIO, "subtitle": SUBTITLES}
_ATTACHED = 0x400
_U32 = (1 << 32) - 1


class TrackReader:
    """The tracks, chapters and tags of an open container, whose pictures are read elsewhere."""

    def __init__(
        self, container: av.container.InputContainer, video: int, origin_s: Fraction = Fraction(0)
    ) -> None:
        """Look at all streams but that with the index `video`; `origin_s` becomes time 0."""
        self._container = container
        self._video = video
        self._origin_s = origin_s
        self.warnings: list[str] = []

    def read(
        self, *, audio: bool = True, subtitles: bool = True, tags: bool = True, window: Window
    ) -> Extras:
        """Return the packets that fall into the window, and what else is wanted."""
        wanted = {"audio": audio, "subtitle": subtitles}
        streams = []
        for stream in self._container.streams:
            if stream.index == self._video:
                continue
            if wanted.get(stream.type) is None:
                self._note_other(stream)
            elif wanted[stream.type]:
                streams.append(stream)
        collectors = {}
        for stream in streams:
            if (header := self._describe(stream)) is not None:
                name, shift = f"stream {stream.index}", round(self._origin_s / header.time_base)
                collectors[stream.index] = _Collector(header, name, shift, _unwrapper(stream))
        if len(collectors) > DEFAULT.max_tracks:
            self.warnings.append(f"only the first {DEFAULT.max_tracks} tracks are kept")
            collectors = dict(list(collectors.items())[: DEFAULT.max_tracks])
        self._demux(collectors)
        tracks = (collector.finish(window) for collector in collectors.values())
        for collector in collectors.values():
            self.warnings += collector.warnings
        return Extras(
            tracks=tuple(track for track in tracks if track is not None),
            chapters=tuple(self._chapters(window)) if tags else (),
            tags=tuple(self._tags()) if tags else (),
        )

    def _note_other(self, stream: av.stream.Stream) -> None:
        if stream.type == "video":
            what = "cover picture" if stream.disposition & _ATTACHED else "second video"
        elif stream.type == "attachment":
            what = f"attachment {getattr(stream, 'name', None) or ''}".rstrip()
        elif self._container.chapters() and not stream.codec_context:
            return  # MP4 keeps the titles of chapters in a stream of their own
        else:
            what = f"{stream.type} stream {stream.index}"
        self.warnings.append(f"the {what} is not kept")

    def _describe(self, stream: Any) -> TrackHeader | None:
        context = stream.codec_context
        codec = context.codec.canonical_name if context else "unknown"
        kind = _KINDS[stream.type]
        language = stream.metadata.get("language", "")
        if codec not in CODECS:
            self.warnings.append(
                f"the {stream.type} stream {stream.index} is {codec}, which cannot be copied; "
                "it is left out"
            )
            return None
        extradata = bytes(context.extradata or b"")
        base = Fraction(stream.time_base.numerator, stream.time_base.denominator)
        if len(extradata) > MAX_EXTRADATA_BYTES or max(base.numerator, base.denominator) > _U32:
            self.warnings.append(
                f"the {stream.type} stream {stream.index} is left out: it has {len(extradata)} "
                f"bytes of headers and ticks of {base} s"
            )
            return None
        title = stream.metadata.get("title") or stream.metadata.get("name") or ""
        header = TrackHeader(
            kind=kind,
            codec=codec,
            time_base_num=base.numerator,
            time_base_den=base.denominator,
            disposition=int(stream.disposition),
            language="" if language == "und" else clip(language, 64),
            title=clip(title, 1024),
            extradata=extradata,
        )
        if kind == SUBTITLES:
            return header
        return replace(
            header,
            sample_rate=context.sample_rate,
            channels=context.layout.nb_channels,
            channel_mask=_channel_mask(context.layout),
        )

    def _demux(self, collectors: dict[int, _Collector]) -> None:
        if not collectors:
            return
        streams = [s for s in self._container.streams if s.index in collectors]
        try:
            for packet in self._container.demux(streams):
                if packet.size:
                    collectors[packet.stream_index].take(packet)
        except (av.FFmpegError, ValueError, OSError):
            self.warnings.append("the end of the file is damaged: sound or subtitles end early")

    def _chapters(self, window: Window) -> Iterator[Chapter]:
        for chapter in self._container.chapters()[:1024]:
            base = chapter["time_base"] or Fraction(1, 1000)
            found = cut_chapter(
                Chapter(
                    time_base_num=base.numerator,
                    time_base_den=base.denominator,
                    start=chapter["start"],
                    end=chapter["end"],
                    title=clip(chapter["metadata"].get("title", ""), 1024),
                ),
                window,
            )
            if found is not None:
                yield found

    def _tags(self) -> Iterator[Tag]:
        for key, value in sorted(self._container.metadata.items()):
            if key.lower() in KEPT_TAGS:
                yield Tag(key=key.lower(), value=clip(value, 4096))


def clip(text: str, n_bytes: int) -> str:
    """Return the longest start of a text that has at most so many bytes of UTF-8."""
    return text.encode("utf-8", "replace")[:n_bytes].decode("utf-8", "ignore")


def _channel_mask(layout: av.AudioLayout) -> int:
    bits = [CHANNELS.get(channel.name, -1) for channel in layout.channels]
    if -1 in bits or bits != sorted(set(bits)):
        return 0
    return sum(1 << bit for bit in bits)


def _unwrapper(stream: Any) -> av.BitStreamFilterContext | None:
    """Return what takes the ADTS headers off AAC, which only streams such as MPEG-TS have."""
    context = stream.codec_context
    if context.codec.canonical_name != "aac" or context.extradata:
        return None
    return av.BitStreamFilterContext("aac_adtstoasc", stream)


class _Collector:
    """Takes the packets of one stream."""

    def __init__(
        self,
        header: TrackHeader,
        name: str,
        shift: int,
        unwrapper: av.BitStreamFilterContext | None,
    ) -> None:
        self.warnings: list[str] = []
        self._header = header
        self._shift = shift
        self._unwrapper = unwrapper
        self._name = f"{name} ({header.codec})"
        self._packets: list[Packet] = []
        self._n_bytes = 0
        self._end: int | None = None
        self._dropped = False

    def _warn(self, message: str) -> None:
        sentence = f"{self._name} {message}"
        if sentence not in self.warnings:
            self.warnings.append(sentence)

    def _drop(self, message: str) -> None:
        self._warn(f"{message}; it is left out")
        self._dropped = True
        self._packets = []

    def take(self, packet: av.Packet[Any]) -> None:
        """Append a packet without what only streams have around it, or give the track up."""
        if self._unwrapper is None:
            self._add(packet)
            return
        try:
            unwrapped = self._unwrapper.filter(packet)
        except av.FFmpegError:
            self._warn("has damaged packets, which are left out")
            return
        for inner in unwrapped:
            self._add(inner)

    def _add(self, packet: av.Packet[Any]) -> None:
        if self._dropped:
            return
        time = packet.pts if packet.pts is not None else packet.dts
        if time is None:
            if self._end is None:
                self._drop("has packets without a time")
                return
            self._warn("lacks the times of some packets; they follow each other")
            time = self._end
        duration = min(max(0, packet.duration or 0), _U32)
        self._n_bytes += packet.size
        if packet.size > MAX_PACKET_BYTES or self._n_bytes > DEFAULT.max_track_bytes // 2:
            self._drop("is too large")
            return
        if packet.is_corrupt:
            self._warn("is damaged; its packets are copied as they are")
        self._end = time + duration
        self._packets.append(
            Packet(
                time=time - self._shift,
                duration=duration,
                data=bytes(packet),
                key=packet.is_keyframe,
                **self._side_data(packet),
            )
        )

    def _side_data(self, packet: av.Packet[Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for side in packet.iter_sidedata():
            data = bytes(side)
            if side.data_type == "skip_samples" and len(data) >= 8:
                values["skip_start"], values["skip_end"] = struct.unpack_from("<II", data)
            elif side.data_type == "new_extradata" and not self._packets and self._unwrapper:
                self._header = replace(self._header, extradata=data)
            elif side.data_type == "webvtt_identifier":
                values["cue_id"] = clip(data.decode("utf-8", "replace"), 1024)
            elif side.data_type == "webvtt_settings":
                values["cue_settings"] = clip(data.decode("utf-8", "replace"), 1024)
            elif side.data_type not in _IGNORED_SIDE_DATA:
                kind = re.sub(r"\W", " ", side.data_type)
                self._warn(f"has side data ({kind}), which is not kept")
        return values

    def finish(self, window: Window) -> Track | None:
        """Return the track, or None where nothing of it can be kept."""
        if not self._packets or self._dropped:
            return None
        packets = self._packets
        if self._header.kind == SUBTITLES:
            # Writers of MP4 fill the gaps between texts with empty ones, and will do so again.
            packets = [p for p in packets if self._header.codec != "mov_text" or any(p.data[:2])]
            packets.sort(key=lambda packet: packet.time)
            if not packets:
                return None
        elif any(b.time < a.time for a, b in pairwise(packets)):
            self._warn("jumps back in time; it is copied as it is")
        first = packets[0]
        # The padding at the start belongs to the track: Matroska keeps it there.
        header = replace(self._header, initial_padding=first.skip_start)
        packets = [replace(first, skip_start=0), *packets[1:]]
        kept = tuple(cut_packets(header, packets, window))
        if not kept:
            return None
        if kept[0].data != first.data:
            header = replace(header, initial_padding=0)
        return Track(header, kept)
