"""A frame in its two forms, RGB and planes of Y'CbCr, and from one to the other."""

from __future__ import annotations

from nvcodec.depth import RGB
from nvcodec.video.color import Plane, rgb_to_yuv, yuv_to_rgb
from nvcodec.video.frames import IDENTITY, ColorTags, VideoInfo

Planes = tuple[Plane, ...]
"""Y, Cb and Cr of one frame, or of all, on their own grids; Y alone for gray."""
Frame = Plane | Planes
"""RGB (H, W, 3), or planes."""


def has_planes(info: VideoInfo) -> bool:
    """Tell whether a video consists of Y'CbCr, so that its planes are not those of RGB."""
    return info.chroma != 0 and info.color.matrix != IDENTITY


def same_planes(info: VideoInfo, tags: ColorTags, chroma: int) -> bool:
    """Tell whether a video's planes have this matrix, range and grid of chroma."""
    color = info.color
    if not has_planes(info) or info.chroma != chroma:
        return False
    sited = chroma not in (420, 422) or tags.siting == color.siting
    return sited and (tags.matrix, tags.full_range) == (color.matrix, color.full_range)


def to_planes(rgb: Plane, info: VideoInfo) -> Planes:
    """Convert a frame (H, W, 3) to planes as the video has them, at its own depth."""
    planes = rgb_to_yuv(rgb, info.color, info.chroma, info.bit_depth)
    return planes[:1] if info.chroma == 400 else planes


def planes_to_rgb(
    planes: Planes, info: VideoInfo, bit_depth: int, rgb_depth: int | None = None
) -> RGB:
    """Convert planes of `bit_depth` to RGB (H, W, 3), as those of a source; None: of as many."""
    y, u, v = planes * 3 if info.chroma == 400 else planes
    return yuv_to_rgb(y, u, v, info.color, bit_depth, info.chroma, rgb_depth=rgb_depth)


def both_forms(frame: Frame, info: VideoInfo) -> tuple[RGB, Planes | None]:
    """Return a frame as RGB and as planes, both of the video's depth; None where it is of RGB."""
    if isinstance(frame, tuple):
        return planes_to_rgb(frame, info, info.bit_depth), frame
    return frame, to_planes(frame, info) if has_planes(info) else None
