"""How pictures are coded in each kind of output file."""

from __future__ import annotations

from dataclasses import dataclass

from nvcodec.media import PROGRESSIVE, TOP_FIRST
from nvcodec.video.frames import IDENTITY, VideoInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFormat:
    """How pictures are coded in a file."""

    muxer: str
    codec: str
    options: dict[str, str]
    chroma: int
    """As in VideoInfo."""
    title: str

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name."""
        return {0: "bgr0", 400: "gray"}.get(self.chroma, f"yuv{self.chroma}p")


def h264(info: VideoInfo, muxer: str) -> VideoFormat:
    """Return H.264; crf 12 is below what the eye can tell."""
    chroma = info.chroma or 420
    # x264 codes halved chroma only of even sides.
    if (chroma in (420, 422) and info.width % 2) or (chroma == 420 and info.height % 2):
        chroma = 444
    options = {"crf": "12", "preset": "medium"}
    if info.display.field_order != PROGRESSIVE and not field_warnings(info, muxer):
        first = "tff" if info.display.field_order == TOP_FIRST else "bff"
        options["x264-params"] = f"fake-interlaced=1:{first}=1"
    return VideoFormat(
        muxer=muxer, codec="libx264", options=options, chroma=chroma, title="H.264 crf 12"
    )


def ffv1(info: VideoInfo, muxer: str) -> VideoFormat:
    """Return FFV1, which is lossless."""
    chroma = 0 if info.color.matrix == IDENTITY else info.chroma
    # Version 3 has checksums, but cannot cut tiny pictures into its slices.
    options = {"level": "3" if min(info.width, info.height) >= 32 else "1"}
    return VideoFormat(
        muxer=muxer, codec="ffv1", options=options, chroma=chroma, title="FFV1 lossless"
    )


def vp9(info: VideoInfo, muxer: str) -> VideoFormat:
    """Return VP9; crf 12 is below what the eye can tell."""
    chroma = {0: 420, 400: 420}.get(info.chroma, info.chroma)
    options = {"crf": "12", "b:v": "0", "deadline": "good", "cpu-used": "4"}
    return VideoFormat(
        muxer=muxer, codec="libvpx-vp9", options=options, chroma=chroma, title="VP9 crf 12"
    )


MATROSKA = ("matroska", "webm")
CONTAINERS = {
    ".mp4": (h264, "mp4"),
    ".mov": (h264, "mov"),
    ".mkv": (ffv1, "matroska"),
    ".webm": (vp9, "webm"),
}
"""By suffix: how pictures are coded, and FFmpeg's name of the container."""


def field_warnings(info: VideoInfo, muxer: str) -> list[str]:
    """Return a warning where an output cannot say that frames consist of two fields."""
    if info.display.field_order == PROGRESSIVE or muxer == "matroska":
        return []
    if muxer == "webm":
        return ["webm cannot say that the video is interlaced; frames are written as progressive"]
    if info.height % 4:
        return [
            f"H.264 cannot say that a video of {info.height} rows is interlaced, only one of a "
            "multiple of 4; frames are written as progressive"
        ]
    return []
