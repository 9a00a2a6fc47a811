"""Streams of an output whose packets come from elsewhere.

PyAV makes such a stream only from the stream of an input. So the parameters of a track are written
into a Matroska header in memory (RFC 9559), which FFmpeg opens and of which the output's stream is
a copy. No packet takes part in this.
"""

from __future__ import annotations

import io
import struct
from fractions import Fraction

import av

from nvcodec.media import AUDIO, TrackHeader
from nvcodec.video.matroska import element, number, real, video_element

CODEC_IDS = {
    "aac": "A_AAC",
    "ac3": "A_AC3",
    "alac": "A_ALAC",
    "ass": "S_TEXT/ASS",
    "dts": "A_DTS",
    "dvb_subtitle": "S_DVBSUB",
    "dvd_subtitle": "S_VOBSUB",
    "eac3": "A_EAC3",
    "flac": "A_FLAC",
    "hdmv_pgs_subtitle": "S_HDMV/PGS",
    "mlp": "A_MLP",
    "mp2": "A_MPEG/L2",
    "mp3": "A_MPEG/L3",
    "opus": "A_OPUS",
    "pcm_alaw": "A_MS/ACM",
    "pcm_f32le": "A_PCM/FLOAT/IEEE",
    "pcm_f64le": "A_PCM/FLOAT/IEEE",
    "pcm_mulaw": "A_MS/ACM",
    "pcm_s16be": "A_PCM/INT/BIG",
    "pcm_s16le": "A_PCM/INT/LIT",
    "pcm_s24be": "A_PCM/INT/BIG",
    "pcm_s24le": "A_PCM/INT/LIT",
    "pcm_s32be": "A_PCM/INT/BIG",
    "pcm_s32le": "A_PCM/INT/LIT",
    "pcm_u8": "A_PCM/INT/LIT",
    "subrip": "S_TEXT/UTF8",
    "truehd": "A_TRUEHD",
    "vorbis": "A_VORBIS",
    "wavpack": "A_WAVPACK4",
    "webvtt": "D_WEBVTT/SUBTITLES",
}
"""FFmpeg's names of codecs, and Matroska's."""
CODECS = frozenset({*CODEC_IDS, "mov_text"})
"""Codecs whose tracks can be copied."""

_ORDER = "FL FR FC LFE BL BR FLC FRC BC SL SR TC TFL TFC TFR TBL TBC TBR"
CHANNELS = {name: bit for bit, name in enumerate(_ORDER.split())}
"""Bits of a channel mask, by FFmpeg's names of channels."""

_WAVE_TAGS = {"pcm_alaw": 6, "pcm_mulaw": 7}
_OPUS_PREROLL_NS = 80_000_000
_NS = 10**9
_ASS_HEADER = b"[Script Info]\n[V4+ Styles]\n[Events]\n"


def _private(header: TrackHeader) -> bytes:
    tag = _WAVE_TAGS.get(header.codec)
    if tag is None:
        return header.extradata
    rate, channels = header.sample_rate, header.channels
    return struct.pack("<HHIIHHH", tag, channels, rate, rate * channels, channels, 8, 0)


def matroska_header(header: TrackHeader) -> bytes:
    """Return a Matroska file without packets that describes one track."""
    entry = number("D7", 1) + number("73C5", 1)
    entry += number("83", 2 if header.kind == AUDIO else 17)
    entry += element("86", CODEC_IDS[header.codec].encode())
    if private := _private(header):
        entry += element("63A2", private)
    if header.kind == AUDIO:
        if header.initial_padding and header.sample_rate:
            entry += number("56AA", header.initial_padding * _NS // header.sample_rate)
        if header.codec == "opus":
            entry += number("56BB", _OPUS_PREROLL_NS)
        audio = real("B5", header.sample_rate)
        audio += number("9F", header.channels)
        if header.codec.startswith("pcm_"):
            digits = "".join(c for c in header.codec if c.isdigit())
            audio += number("6264", int(digits or 8))
        entry += element("E1", audio)
    start = element("4282", b"matroska") + number("4287", 4) + number("4285", 2)
    segment = element("1549A966", number("2AD7B1", 1_000_000))
    segment += element("1654AE6B", element("AE", entry))
    segment += element("1F43B675", number("E7", 0))
    return element("1A45DFA3", start) + element("18538067", segment)


def add_stream(container: av.container.OutputContainer, header: TrackHeader) -> av.stream.Stream:
    """Add a stream for the packets of a track.

    Raises:
        ValueError, av.FFmpegError: this kind of file cannot hold the codec, or the header of the
            track is damaged.
    """
    stream: av.stream.Stream
    if header.codec == "mov_text":
        stream = container.add_stream("mov_text")
        context = stream.codec_context
        context.subtitle_header = _ASS_HEADER
        context.time_base = Fraction(1, 1000)
        context.open()
    else:
        data = io.BytesIO(matroska_header(header))
        with av.open(data, "r", format="matroska", metadata_errors="replace") as source:
            stream = container.add_stream_from_template(source.streams[0])
    if header.extradata:
        stream.codec_context.extradata = header.extradata
    if isinstance(stream, av.AudioStream) and header.channel_mask:
        stream.codec_context.layout = layout_name(header.channel_mask)
    stream.time_base = header.time_base
    stream.disposition = av.stream.Disposition(header.disposition)
    if header.language:
        stream.metadata["language"] = header.language
    if header.title:
        stream.metadata["title"] = header.title
    return stream


def chroma_siting(stream: av.VideoStream) -> int | None:
    """Return where the chroma samples of an input lie, as in ColorTags; None where unknown.

    PyAV does not tell, but FFmpeg writes it into the header of a Matroska file.
    """
    data = io.BytesIO()
    try:
        with av.open(data, "w", format="matroska") as container:
            container.add_stream_from_template(stream, opaque=True)
            container.start_encoding()
        found = video_element(data.getvalue())
    except (av.FFmpegError, ValueError):
        return None
    across, down = (int.from_bytes(found.get(id, b""), "big") for id in ("55B7", "55B8"))
    return {(1, 2): 0, (2, 2): 1, (1, 1): 2, (2, 1): 3}.get((across, down))


def layout_name(channel_mask: int) -> str:
    """Return what FFmpeg calls the channels of a mask."""
    return av.AudioLayout(hex(channel_mask)).name
