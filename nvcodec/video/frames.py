"""What is known of a video: its size, rate and colour (ITU-T H.273 code points)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from nvcodec.errors import UsageError
from nvcodec.media import NO_HDR, PLAIN, Display, Hdr, Timing

IDENTITY = 0
"""Matrix code of RGB (planes G, B, R)."""
BT709 = 1
UNSPECIFIED = 2
"""Matrix, primaries or transfer that the source does not say."""
BT601 = 6
PQ, HLG = 16, 18
"""Transfer codes of HDR video."""

HD_HEIGHT = 720
"""From this height on, an unspecified matrix means BT.709."""
DEFAULT_RATE = Fraction(25)
"""Frames/s where the source says none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ColorTags:
    """How samples become colours, with nothing left open (H.273 code points)."""

    matrix: int
    """1 BT.709, 5 and 6 BT.601, 9 BT.2020, 0 RGB; never 2 (unspecified)."""
    primaries: int
    """2 where the source does not say: no conversion here depends on it."""
    transfer: int
    """2 where the source does not say: no conversion here depends on it."""
    full_range: bool
    """True: black is 0 and white 255; False: 16 and 235 (at 8 bits)."""
    siting: int
    """Chroma sample location: 0 left, 1 center, 2 top left, 3 top."""
    specified: bool
    """False: the source did not say the matrix, so that outputs do not say it either."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """The properties of a source that an output may need."""

    width: int
    """Pixels, before any rotation."""
    height: int
    """Pixels, before any rotation."""
    frame_rate: Fraction
    """Frames/s, the mean where it varies; 25 where the source says none."""
    color: ColorTags
    bit_depth: int
    """Bits per sample of the source, 8 to 16."""
    chroma: int
    """420, 422, 444, 400 (gray), or 0 for RGB."""
    codec: str
    """FFmpeg's name of the source's codec, such as "h264"."""
    n_bytes: int | None
    """Size of the source file; None for standard input and folders."""
    display: Display = PLAIN
    """How a player turns and stretches the frames."""
    timing: Timing | None = None
    """When each frame is shown; None: at the frame rate from time 0 on."""
    hdr: Hdr = NO_HDR
    """Light of the display that it was graded on, and its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InputFormat:
    """What sources without a header do not say of themselves."""

    size: tuple[int, int] | None = None
    """Width and height of raw video, in pixels."""
    pixel_format: str | None = None
    """FFmpeg's name of the layout of raw video, such as yuv420p."""
    frame_rate: Fraction | None = None
    """Frames/s of raw video or of a series of pictures; None: 25."""

    def __post_init__(self) -> None:
        if (self.size is None) != (self.pixel_format is None):
            raise UsageError("raw video needs both --video-size and --pixel-format")

    @property
    def raw(self) -> bool:
        """Whether the source is raw video."""
        return self.size is not None


def default_matrix(height: int) -> int:
    """Return the matrix that players assume for untagged video of `height` pixels."""
    return BT709 if height >= HD_HEIGHT else BT601


def resolve_tags(
    *,
    height: int,
    chroma: int,
    matrix: int = UNSPECIFIED,
    primaries: int = UNSPECIFIED,
    transfer: int = UNSPECIFIED,
    full_range: bool | None = None,
    siting: int = 0,
) -> ColorTags:
    """Fill in what the source leaves open.

    Args:
        height: of the picture, in pixels.
        chroma: as in VideoInfo.
        matrix: H.273 code; 0 counts as unspecified where the chroma cannot be RGB.
        primaries: H.273 code.
        transfer: H.273 code.
        full_range: None where the source does not say. Then it is full for RGB, and for gray as in
            FFmpeg, whose conversions make such gray; else limited.
        siting: chroma sample location, 0 to 3.
    """
    rgb = chroma == 0
    specified = rgb or (matrix not in (UNSPECIFIED, 3) and (matrix != IDENTITY or chroma == 444))
    if rgb:
        matrix = IDENTITY
    elif not specified:
        matrix = default_matrix(height)
    return ColorTags(
        matrix=matrix,
        primaries=primaries,
        transfer=transfer,
        full_range=rgb or (chroma == 400 if full_range is None else full_range),
        siting=siting,
        specified=specified,
    )
