"""Small videos, made with PyAV, that several test files read."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

RATE = Fraction(24000, 1001)


def moving_frames(n_frames: int = 12, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Smooth colours that drift, with a bright square that moves one pixel per frame."""
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float64)
    frames = []
    for i in range(n_frames):
        red = 128 + 100 * np.sin((columns + 2 * i) / 11)
        green = 128 + 100 * np.cos((rows + i) / 9)
        blue = 128 + 60 * np.sin((rows + columns - i) / 13)
        frame = np.stack([red, green, blue], axis=-1).round().astype(np.uint8)
        frame[i % height : i % height + 8, i % width : i % width + 8] = 240
        frames.append(frame)
    return frames


def make_video(
    path: Path,
    *,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    frames: Sequence[np.ndarray] | None = None,
    tags: tuple[int, int, int, int] = (2, 0, 2, 2),
    times: Sequence[int] | None = None,
    rate: Fraction = RATE,
    muxing: dict[str, str] | None = None,
) -> Path:
    """Encode RGB frames; `tags` are colorspace, range, primaries, transfer; `times` in frames."""
    frames = moving_frames() if frames is None else frames
    with av.open(str(path), "w", options=muxing or {}) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = pixel_format
        context = stream.codec_context
        context.time_base = 1 / rate
        context.colorspace, context.color_range = tags[:2]
        context.color_primaries, context.color_trc = tags[2:]
        for i, rgb in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format)
            frame.pts = i if times is None else times[i]
            frame.time_base = 1 / rate
            frame.colorspace, frame.color_range = tags[:2]
            frame.color_primaries, frame.color_trc = tags[2:]
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture(scope="session")
def video_factory() -> Callable[..., Path]:
    return make_video


@pytest.fixture(scope="session")
def small_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 x 48, 12 frames, H.264 4:2:0 without colour tags; its index comes first."""
    path = tmp_path_factory.mktemp("videos") / "small.mp4"
    return make_video(path, muxing={"movflags": "+faststart"})


@pytest.fixture(scope="session")
def tagged_mp4(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 x 48, 3 frames, H.264 tagged BT.709 limited."""
    path = tmp_path_factory.mktemp("videos") / "tagged.mp4"
    return make_video(path, frames=moving_frames(3), tags=(1, 1, 1, 1))


@pytest.fixture(scope="session")
def small_mkv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 x 48, 12 frames, lossless RGB."""
    path = tmp_path_factory.mktemp("videos") / "small.mkv"
    return make_video(path, codec="ffv1", pixel_format="bgr0")


def make_audio(path: Path) -> Path:
    """Write a tenth of a second of silence, without a video stream."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
