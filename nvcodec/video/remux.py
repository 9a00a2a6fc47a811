"""Write the packets of tracks into an output beside its pictures."""

from __future__ import annotations

import io
import itertools
import re
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import av
from av.packet import PacketSideData, packet_sidedata_type_from_literal

from nvcodec.errors import InputError
from nvcodec.media import Extras, Packet, Track
from nvcodec.video.template import add_stream

MUX_ERRORS = (av.FFmpegError, ValueError, OverflowError)


class TrackMuxer:
    """Interleaves tracks with the pictures of a container."""

    def __init__(
        self,
        container: av.container.OutputContainer,
        tracks: Sequence[Track],
        *,
        name: str,
        format: str,
    ) -> None:
        """Add a stream for each track that the container can hold; the others become warnings."""
        self.warnings: list[str] = []
        self._container = container
        self._name = name
        self._sinks: list[_TrackSink] = []
        for number, track in enumerate(tracks):
            if _fits(track, format):
                if format in ("mp4", "mov") and not _is_iso_639_2(track.header.language):
                    self.warnings.append(
                        f"{track.label(number)} loses its language, which {format} files cannot say"
                    )
                self._sinks.append(_TrackSink(track, number, add_stream(container, track.header)))
            else:
                self.warnings.append(
                    f"{track.label(number)} is left out: {format} files cannot hold it"
                )

    def advance(self, time: Fraction | None) -> None:
        """Write all packets before a time in seconds, or with None all that are left."""
        for sink in self._sinks:
            for packet in sink.until(time):
                self._container.mux(packet)

    @contextmanager
    def blamed(self) -> Iterator[None]:
        """Name the tracks where the muxer finds data invalid: those of our encoders never are.

        The muxer holds packets back to sort them, so that the one at fault is not known.
        """
        try:
            yield
        except (av.error.InvalidDataError, av.error.ArgumentError) as error:
            if not self._sinks:
                raise
            names = " or ".join(sink.name for sink in self._sinks)
            raise InputError(
                f"{names} is damaged and cannot be written to {self._name}; "
                "leave it out with --audio none or --subtitles none"
            ) from error


class _TrackSink:
    """The packets of one track, on their way to its stream."""

    def __init__(self, track: Track, number: int, stream: av.stream.Stream) -> None:
        self.track = track
        self.name = track.label(number)
        self._stream = stream
        self._left = iter(track.packets)
        self._next = next(self._left, None)

    def until(self, time: Fraction | None) -> Iterator[av.Packet[Any]]:
        """Yield packets for the container that begin before `time`."""
        while self._next is not None:
            if time is not None and self._next.time * self.track.header.time_base >= time:
                return
            yield make_packet(self._next, self.track, self._stream)
            self._next = next(self._left, None)


def make_packet(packet: Packet, track: Track, stream: av.stream.Stream) -> av.Packet[Any]:
    """Return a packet for an output stream."""
    made: av.Packet[Any] = av.Packet(packet.data)
    made.stream = stream
    made.time_base = track.header.time_base
    made.pts = made.dts = packet.time
    made.duration = packet.duration
    made.is_keyframe = packet.key
    if packet.skip_start or packet.skip_end:
        _attach(made, "skip_samples", struct.pack("<IIxx", packet.skip_start, packet.skip_end))
    if packet.cue_id:
        _attach(made, "webvtt_identifier", packet.cue_id.encode())
    if packet.cue_settings:
        _attach(made, "webvtt_settings", packet.cue_settings.encode())
    return made


def _attach(packet: av.Packet[Any], kind: Any, data: bytes) -> None:
    make: Any = PacketSideData  # its constructor is not in the type stubs
    side = make(packet_sidedata_type_from_literal(kind), len(data))
    side.update(data)
    packet.set_sidedata(side)


def _is_iso_639_2(language: str) -> bool:
    """Tell whether a language is unknown or three letters, as ISO/IEC 14496-12 stores it."""
    return not language or re.fullmatch("[a-z]{3}", language) is not None


def _fits(track: Track, format: str) -> bool:
    """Try the header and the first packet of a track alone in a container of the same kind."""
    try:
        with av.open(io.BytesIO(), "w", format=format) as trial:
            stream = add_stream(trial, track.header)
            for packet in itertools.islice(track.packets, 1):
                trial.mux(make_packet(packet, track, stream))
    except MUX_ERRORS:
        return False
    return True


def write_words(container: av.container.OutputContainer, extras: Extras) -> None:
    """Give a container its tags and chapters, before its first packet."""
    container.metadata.update({tag.key: tag.value for tag in extras.tags})
    if extras.chapters:
        container.set_chapters(
            [
                {
                    "id": number,
                    "start": chapter.start,
                    "end": chapter.end,
                    "time_base": chapter.time_base,
                    "metadata": {"title": chapter.title} if chapter.title else {},
                }
                for number, chapter in enumerate(extras.chapters, 1)
            ]
        )
