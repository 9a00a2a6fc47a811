"""Which architecture `--arch auto` means for a video and a target, and whether `--color` suits."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

from nvcodec.codec.losses import check_loss
from nvcodec.codec.options import AUTO_ARCH, EncodeOptions
from nvcodec.codec.plan import smallest_bytes
from nvcodec.errors import UsageError
from nvcodec.video.color import chroma_shape
from nvcodec.video.forms import has_planes
from nvcodec.video.frames import VideoInfo

_PREFERRED = "canvas"
_SMALLEST = "hnerv"
"""Its smallest network is the smallest of all."""


def choose_arch(
    options: EncodeOptions,
    *,
    n_frames: int,
    height: int,
    width: int,
    frame_rate: Fraction,
    overhead_bytes: int,
) -> EncodeOptions:
    """Return the options with a real architecture in place of "auto".

    Canvas is the better one at every rate and size that was measured (benchmarks/NOTES.md), but its
    pictures need some space: below that, and where an encoder network is asked for, HNeRV is taken.
    """
    if options.arch != AUTO_ARCH:
        return options
    if options.analysis not in (None, "none"):
        return replace(options, arch=_SMALLEST)
    if options.target.psnr is None and not (options.n_params and not options.target.given):
        max_bytes = options.target.max_bytes(n_frames, height, width, frame_rate)
        needed = smallest_bytes(_PREFERRED, n_frames, height, width, overhead_bytes)
        if max_bytes < needed:
            return replace(options, arch=_SMALLEST)
    return replace(options, arch=_PREFERRED)


def check_color(options: EncodeOptions, info: VideoInfo) -> None:
    """Raise UsageError where a network cannot draw what is asked for of this video.

    "auto" is RGB: Y'CbCr gains in Y and 6:1:1, and loses in RGB (benchmarks/NOTES.md, Colour).
    """
    if options.color != "yuv":
        return
    if not has_planes(info):
        raise UsageError("color is yuv, but the source is RGB and has no planes of Y'CbCr; use rgb")
    if info.chroma != 400:
        shape = chroma_shape(info.height, info.width, info.chroma)
        check_loss(options.loss, *shape, what="chroma planes")
