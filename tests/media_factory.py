"""Small files with sound, subtitles, chapters and tags, made with PyAV."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from conftest import moving_frames

AUDIO_RATES = {"pcm_alaw": 8000, "pcm_mulaw": 8000}
CUES = ((0, 400, "one"), (400, 400, "two"), (1000, 500, "three"))
"""Time, duration (ms) and text."""


def sine(n_samples: int, rate: int, pitch: float) -> np.ndarray:
    tone = np.sin(2 * np.pi * pitch * np.arange(n_samples) / rate)
    return (12000 * tone).astype(np.int16)[None]


def tag(stream, given) -> None:
    for key in ("language", "title"):
        if key in given:
            stream.metadata[key] = given[key]
    if "disposition" in given:
        stream.disposition = given["disposition"]


def make_movie(
    path: Path,
    *,
    n_frames: int = 12,
    size: tuple[int, int] = (32, 32),
    video: str = "libx264",
    pixel_format: str = "yuv420p",
    rate: Fraction = Fraction(10),
    times: list[int] | None = None,
    time_base: Fraction | None = None,
    audio: list[dict] = (),
    subtitles: list[dict] = (),
    chapters: list[tuple[int, int, str]] = (),
    tags: dict[str, str] | None = None,
    format: str | None = None,
    prepare=None,
    options: dict[str, str] | None = None,
    muxing: dict[str, str] | None = None,
    frames: list[np.ndarray] | None = None,
) -> Path:
    """Write a video with tracks.

    An audio track is a dict of codec, seconds, start (s), pitch, and language, title, disposition;
    a subtitle track one of codec and the same. Chapters are (start, end, title) in ms.
    """
    base = time_base or 1 / rate
    with av.open(str(path), "w", format=format, options=muxing or {}) as container:
        container.metadata.update(tags or {})
        if chapters:
            container.set_chapters(
                [
                    {"id": i, "start": start, "end": end, "time_base": Fraction(1, 1000),
                     "metadata": {"title": title}}
                    for i, (start, end, title) in enumerate(chapters, 1)
                ]
            )  # fmt: skip
        stream = container.add_stream(video, rate=rate, options=options or {})
        stream.width, stream.height = size
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = base
        if prepare is not None:
            prepare(stream)
        sounds = [(container.add_stream(a["codec"], rate=_rate(a)), a) for a in audio]
        for sound, given in sounds:
            sound.layout = given.get("layout", "mono")
            tag(sound, given)
        texts = [(container.add_mux_stream(s["codec"]), s) for s in subtitles]
        for text, given in texts:
            text.time_base = Fraction(1, 1000)
            tag(text, given)
        for sound, given in sounds:
            _write_sound(container, sound, given)
        for i, rgb in enumerate(frames or moving_frames(n_frames, *size)):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
            frame.pts = i if times is None else times[i]
            frame.time_base = base
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        for text, given in texts:
            _write_cues(container, text, given)
    return path


def _rate(given: dict) -> int:
    return AUDIO_RATES.get(given["codec"], 48000)


def _write_sound(container, stream, given) -> None:
    rate = _rate(given)
    n_samples = int(given.get("seconds", 1.2) * rate)
    first = int(given.get("start", 0) * rate)
    samples = sine(n_samples, rate, given.get("pitch", 440))
    step = 960 * rate // 48000 or 160
    resampler = av.AudioResampler(format=stream.format.name, layout="mono", rate=rate)
    for at in range(0, n_samples, step):
        piece = np.ascontiguousarray(samples[:, at : at + step])
        frame = av.AudioFrame.from_ndarray(piece, "s16", "mono")
        frame.sample_rate, frame.pts, frame.time_base = rate, first + at, Fraction(1, rate)
        for made in resampler.resample(frame):
            container.mux(stream.encode(made))
    container.mux(stream.encode(None))


def _write_cues(container, stream, given) -> None:
    for time, duration, text in given.get("cues", CUES):
        data = text.encode()
        if given["codec"] == "mov_text":
            data = len(data).to_bytes(2, "big") + data
        if given["codec"] == "ass":
            data = f"0,0,Default,,0,0,0,,{text}".encode()
        packet = av.Packet(data)
        packet.stream, packet.time_base = stream, Fraction(1, 1000)
        packet.pts = packet.dts = time
        packet.duration = duration
        packet.is_keyframe = True
        container.mux(packet)


def packets_of(path: Path, kind: str, index: int = 0) -> list[tuple[Fraction, Fraction, bytes]]:
    """Return time and duration in seconds and the bytes of all packets of a track."""
    with av.open(str(path)) as container:
        stream = [s for s in container.streams if s.type == kind][index]
        base = Fraction(stream.time_base)
        return [
            (p.pts * base, (p.duration or 0) * base, bytes(p))
            for p in container.demux(stream)
            if p.size
        ]


def frame_times(path: Path) -> list[Fraction]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.pts * Fraction(frame.time_base) for frame in container.decode(stream)]
