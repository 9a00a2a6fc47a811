"""How pictures are coded in each kind of output file: what was asked for, and what is usual."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import av.codec

from nvcodec.errors import UsageError
from nvcodec.media import PROGRESSIVE, TOP_FIRST
from nvcodec.video.frames import IDENTITY, VideoInfo
from nvcodec.video.hdr import encoder_words

SOURCE = "source"
"""In place of a codec: that of the video from which the file was made."""
ENCODERS = {"h264": "libx264", "hevc": "libx265", "ffv1": "ffv1", "vp9": "libvpx-vp9"}
"""Codecs that are written, by FFmpeg's names, and their encoders."""
TITLES = {"libx264": "H.264", "libx265": "H.265", "ffv1": "FFV1", "libvpx-vp9": "VP9"}
USUAL_CRF = 12.0
"""Below what the eye can tell, for the three lossy encoders."""
_MAX_CRF = {"libx264": 51, "libx265": 51, "libvpx-vp9": 63}
_X265_MIN_SIDE = 64
"""x265 4.2 writes beyond its buffers with some smaller pictures, such as 40x32 and 48x64."""
_PIXEL_FORMAT = re.compile(r"(?:yuv(420|422|444)p|(gray)|(gbrp)(?=\d))(?:(9|10|12|14|16)le)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a user asks of an output; None leaves it to the kind of file."""

    codec: str | None = None
    """FFmpeg's name of an encoder in `TITLES`, or "source"."""
    crf: float | None = None
    """Constant rate factor of the encoder; 0 is the best."""
    pixel_format: str | None = None
    """FFmpeg's name, such as yuv420p10le, or for pictures rgb24 and rgb48be."""

    def __post_init__(self) -> None:
        if self.codec not in (None, SOURCE, *TITLES):
            allowed = ", ".join((*TITLES, SOURCE))
            raise UsageError(f"codec is {self.codec}, allowed are {allowed}")
        if self.crf is not None and not (math.isfinite(self.crf) and 0 <= self.crf <= 63):
            raise UsageError(f"crf is {self.crf:g}, allowed are 0 to 51, with VP9 to 63")

    def refuse(self, what: str, *, pixel_formats: Sequence[str]) -> None:
        """Raise UsageError for whatever an output without a codec cannot do."""
        if self.codec is not None or self.crf is not None:
            name = "codec" if self.codec is not None else "crf"
            raise UsageError(f"{what} has no choice of {name}; .mp4, .mov and .mkv have")
        if self.pixel_format not in (None, *pixel_formats):
            allowed = ", ".join(pixel_formats)
            raise UsageError(
                f"pixel format of {what} is {self.pixel_format}, allowed are {allowed}"
            )


AS_USUAL = Wish()


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFormat:
    """How pictures are coded in a file."""

    muxer: str
    codec: str
    options: dict[str, str]
    chroma: int
    """As in VideoInfo."""
    bit_depth: int = 8
    crf: float | None = None
    """None: lossless, as FFV1 and, at 8 bits, x264 with a crf of 0."""

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name."""
        return pixel_format(self.chroma, self.bit_depth)

    @property
    def loss(self) -> str:
        """Return how much the output takes from the decoded frames' planes."""
        if self.crf is None:
            return "lossless"
        return "visually lossless" if self.crf <= USUAL_CRF else "lossy"

    @property
    def title(self) -> str:
        """What people call it."""
        quality = "lossless" if self.crf is None else f"crf {self.crf:g}"
        return f"{TITLES[self.codec]} {quality} {self.pixel_format}"


def pixel_format(chroma: int, bit_depth: int) -> str:
    """Return FFmpeg's name of the planes of a chroma format."""
    if (chroma, bit_depth) == (0, 8):
        return "bgr0"
    name = {0: "gbrp", 400: "gray"}.get(chroma, f"yuv{chroma}p")
    return name if bit_depth == 8 else f"{name}{bit_depth}le"


def parse_pixel_format(name: str) -> tuple[int, int] | None:
    """Return chroma and bit depth of a pixel format; None for one that is not written here."""
    if name == "bgr0":
        return 0, 8
    match = _PIXEL_FORMAT.fullmatch(name)
    if match is None:
        return None
    return int(match[1] or (400 if match[2] else 0)), int(match[4] or 8)


MATROSKA = ("matroska", "webm")
_MUXERS = {".mp4": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
CONTAINERS = frozenset(_MUXERS)
"""Suffixes of the files that FFmpeg muxes."""
_CODECS = {
    "mp4": ("libx264", "libx265"),
    "mov": ("libx264", "libx265"),
    "matroska": ("ffv1", "libx264", "libx265"),
    "webm": ("libvpx-vp9",),
}
"""By muxer: the encoders that may be used, the usual one first."""


def choose_format(info: VideoInfo, suffix: str, wish: Wish = AS_USUAL) -> VideoFormat:
    """Return how to code a video in a file with this suffix; `info.codec` is the source's.

    Raises:
        UsageError: the file, the encoder or the video's size do not allow what is wished.
    """
    muxer = _MUXERS[suffix]
    codec = _codec(info, suffix, wish.codec)
    chroma, bit_depth = _pixels(info, codec, wish)
    crf = _crf(codec, wish.crf)
    options = {} if crf is None else {"crf": f"{crf:g}"}
    if codec == "ffv1":
        # Version 3 has checksums, but cannot cut tiny pictures into its slices.
        options["level"] = "3" if min(info.width, info.height) >= 32 else "1"
    elif codec == "libvpx-vp9":
        options |= {"b:v": "0", "deadline": "good", "cpu-used": "4"}
    elif codec == "libx265":
        words = ["log-level=none", *encoder_words(info.hdr, codec)]
        options |= {"preset": "medium", "x265-params": ":".join(words)}
    else:
        words = encoder_words(info.hdr, codec)
        if info.display.field_order != PROGRESSIVE and info.height % 4 == 0:
            first = "tff" if info.display.field_order == TOP_FIRST else "bff"
            words += ["fake-interlaced=1", f"{first}=1"]
        options["preset"] = "medium"
        if words:
            options["x264-params"] = ":".join(words)
    return VideoFormat(
        muxer=muxer, codec=codec, options=options, chroma=chroma, bit_depth=bit_depth,
        crf=None if (codec, bit_depth, crf) == ("libx264", 8, 0) else crf,
    )  # fmt: skip


def _codec(info: VideoInfo, suffix: str, wished: str | None) -> str:
    allowed = _CODECS[_MUXERS[suffix]]
    if wished is None:
        return allowed[0]
    codec = wished
    if wished == SOURCE:
        if info.codec not in ENCODERS:
            known = ", ".join(ENCODERS)
            raise UsageError(
                f"the codec of the source is {info.codec or 'not known to this file'}; "
                f"-c:v source writes {known}"
            )
        codec = ENCODERS[info.codec]
    if codec not in allowed:
        raise UsageError(f"codec of a {suffix} file is {codec}, allowed are {', '.join(allowed)}")
    if codec == "libx265" and min(info.width, info.height) < _X265_MIN_SIDE:
        raise UsageError(
            f"libx265 needs sides of at least {_X265_MIN_SIDE}, the video has "
            f"{info.width}x{info.height}; take libx264 or ffv1"
        )
    return codec


def _pixels(info: VideoInfo, codec: str, wish: Wish) -> tuple[int, int]:
    """Return chroma and bit depth."""
    # These encoders code halved chroma only of even sides.
    even = codec in ("libx264", "libx265")
    known = _pixel_formats(codec)
    if wish.pixel_format is None:
        chroma = _usual_chroma(info, codec, even=even)
        depths = sorted(bits for sampling, bits in known.values() if sampling == chroma)
        enough = [bits for bits in depths if bits >= info.bit_depth]
        return chroma, enough[0] if enough else depths[-1]
    parsed = known.get(wish.pixel_format)
    if parsed is None:
        allowed = ", ".join(sorted(known))
        raise UsageError(f"pixel format of {codec} is {wish.pixel_format}, allowed are {allowed}")
    chroma, bit_depth = parsed
    if even and _is_odd(info, chroma):
        raise UsageError(
            f"{codec} writes {wish.pixel_format} only with even sides, the video has "
            f"{info.width}x{info.height}; yuv444p has no such limit"
        )
    return chroma, bit_depth


def _pixel_formats(codec: str) -> dict[str, tuple[int, int]]:
    """Return chroma and bit depth of what this build of an encoder takes, by FFmpeg's names."""
    names = (known.name for known in av.codec.Codec(codec, "w").video_formats or ())
    return {name: parsed for name in names if (parsed := parse_pixel_format(name)) is not None}


def _is_odd(info: VideoInfo, chroma: int) -> bool:
    """Tell whether a side that the chroma format halves is odd."""
    return bool((chroma in (420, 422) and info.width % 2) or (chroma == 420 and info.height % 2))


def _usual_chroma(info: VideoInfo, codec: str, *, even: bool) -> int:
    if codec == "ffv1":
        return 0 if info.color.matrix == IDENTITY else info.chroma
    chroma = info.chroma or 420
    if codec == "libvpx-vp9" and chroma == 400:
        return 420
    return 444 if even and _is_odd(info, chroma) else chroma


def _crf(codec: str, wished: float | None) -> float | None:
    """Return the constant rate factor; None where there is none."""
    if codec == "ffv1":
        if wished is not None:
            raise UsageError(f"crf is {wished:g}, but FFV1 is lossless; take libx264 or libx265")
        return None
    crf = USUAL_CRF if wished is None else wished
    if crf > _MAX_CRF[codec]:
        raise UsageError(f"crf is {crf:g}, allowed with {codec} are 0 to {_MAX_CRF[codec]}")
    if codec == "libvpx-vp9" and crf != int(crf):
        raise UsageError(f"crf is {crf:g}, allowed with {codec} are whole numbers")
    return crf


def depth_warnings(info: VideoInfo, coding: VideoFormat) -> list[str]:
    """Return a warning where an output has fewer bits than the video, unless it is wished."""
    if coding.bit_depth >= info.bit_depth:
        return []
    return [
        f"{TITLES[coding.codec]} is written with {coding.bit_depth} bits per sample; "
        f"the video has {info.bit_depth}"
    ]


def field_warnings(info: VideoInfo, coding: VideoFormat) -> list[str]:
    """Return a warning where an output cannot say that frames consist of two fields."""
    if info.display.field_order == PROGRESSIVE or coding.muxer == "matroska":
        return []
    if coding.codec != "libx264":
        name = "webm" if coding.muxer == "webm" else TITLES[coding.codec]
        return [
            f"{name} cannot say that the video is interlaced; frames are written as progressive"
        ]
    if info.height % 4:
        return [
            f"H.264 cannot say that a video of {info.height} rows is interlaced, only one of a "
            "multiple of 4; frames are written as progressive"
        ]
    return []
