"""Which pixels of a video are hidden: boxes, polygons, or a picture or video of the mask."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nvcodec.depth import Samples
from nvcodec.errors import UsageError
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.reader import open_video

Hidden = NDArray[np.bool_]
"""(N, H, W), true where a pixel is hidden."""

WHITE = 128
"""From this gray level on, of 0 to 255 at 8 bits, a pixel of a mask file hides."""
_MAX_POLYGONS = 1000
_CENTERS = ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3))
"""Quarters of the height and the width (HNeRV, inpainting)."""


def boxes(size: int, height: int, width: int) -> Hidden:
    """Return five squares of size x size pixels in one frame, (H, W).

    Their centres are at (1/2, 1/2), (1/4, 1/4), (1/4, 3/4), (3/4, 1/4) and (3/4, 3/4) of the
    frame. Raises UsageError when they do not lie inside it.
    """
    largest = min(height, width) // 2
    if not 1 <= size <= largest:
        raise UsageError(
            f"mask is boxes:{size}, allowed for {width}x{height} is boxes:1 to boxes:{largest}"
        )
    hidden = np.zeros((height, width), np.bool_)
    for down, across in _CENTERS:
        top, left = down * height // 4 - size // 2, across * width // 4 - size // 2
        hidden[top : top + size, left : left + size] = True
    return hidden


def polygons(count: int, height: int, width: int, seed: int) -> Hidden:
    """Return random polygons of 3 to 8 corners in one frame, (H, W), other ones for each seed.

    Corners lie around a centre in the frame, at 1/32 to 1/4 of its shorter side from it.
    """
    if not 1 <= count <= _MAX_POLYGONS:
        raise UsageError(
            f"mask is polygons:{count}, allowed is polygons:1 to polygons:{_MAX_POLYGONS}"
        )
    random = np.random.default_rng(seed)
    rows, columns = np.arange(height)[:, None], np.arange(width)
    hidden = np.zeros((height, width), np.bool_)
    for _ in range(count):
        n_corners = random.integers(3, 9)
        angles = np.sort(random.uniform(0, 2 * np.pi, n_corners))
        radii = random.uniform(1 / 32, 1 / 4, n_corners) * min(height, width)
        down = random.uniform(0, height) + radii * np.sin(angles)
        across = random.uniform(0, width) + radii * np.cos(angles)
        inside = np.zeros_like(hidden)
        for i in range(n_corners):
            # An edge that lies to the right of a pixel is crossed on the way out.
            (top, left), (bottom, right) = sorted(
                ((down[i - 1], across[i - 1]), (down[i], across[i]))
            )
            crossing = left + (rows - top) * (right - left) / max(bottom - top, 1e-9)
            inside ^= (top <= rows) & (rows < bottom) & (columns < crossing)
        hidden |= inside
    return hidden


def read_mask(
    mask: str | Path,
    n_frames: int,
    height: int,
    width: int,
    *,
    start: int = 0,
    count: int | None = None,
    framing: Framing = AS_IS,
    seed: int = 0,
) -> Hidden:
    """Return the hidden pixels of a video that was read from frame `start`.

    Args:
        mask: "boxes:N", "polygons:N", or a picture or video, white (128 and above) where pixels are
            hidden.
        n_frames: frames that were read; a mask of one frame serves all of them.
        height: of the video.
        width: of the video.
        start: as the video was read; a mask of several frames is cut alike.
        count: as the video was read.
        framing: as the video was read; a mask file is changed alike.
        seed: of "polygons:N".

    Raises:
        UsageError: another size or number of frames, nothing hidden, or a frame all hidden.
        InputError: the mask cannot be read.
    """
    kind, colon, number = str(mask).partition(":")
    is_kind = kind in ("boxes", "polygons")
    if colon and (is_kind or not Path(mask).exists()):
        if not is_kind or re.fullmatch(r"\d{1,9}", number) is None:
            raise UsageError(
                f"mask is {mask}, allowed is boxes:N with N pixels, polygons:N with N polygons, "
                "or a file"
            )
        if kind == "boxes":
            hidden = boxes(int(number), height, width)[None]
        else:
            hidden = polygons(int(number), height, width, seed)[None]
    else:
        n_read = None if count is None else start + framing.index(count - 1) + 1
        hidden = _read_frames(mask, height, width, n_read, framing)
    if len(hidden) > 1:
        hidden = hidden[start:]
        hidden = hidden[[i for i in range(len(hidden)) if framing.keeps(i)]]
        if len(hidden) != n_frames:
            raise UsageError(
                f"mask {mask} has {len(hidden)} frames from frame {start} on, the video has "
                f"{n_frames}; the same number is needed, or one frame for all"
            )
    if not hidden.any():
        raise UsageError(f"mask {mask} hides nothing; pixels of {WHITE} to 255 are hidden")
    for i, frame in enumerate(hidden):
        if frame.all():
            raise UsageError(f"mask {mask} hides all of frame {i}; some pixels must be known")
    return np.broadcast_to(hidden, (n_frames, height, width))


def _read_frames(
    mask: str | Path, height: int, width: int, count: int | None, framing: Framing
) -> Hidden:
    """Return what the first `count` frames of a mask file hide; UsageError for another size."""
    with open_video(mask, framing=replace(framing, every=1, kept=1)) as reader:
        size = (reader.info.width, reader.info.height)
        if size != (width, height):
            raise UsageError(
                f"mask {mask} has {size[0]}x{size[1]} pixels, the video has {width}x{height}"
            )
        white = WHITE << (reader.info.bit_depth - 8)
        return np.stack([frame.mean(axis=-1) >= white for frame in islice(reader, count)])


def fill_hidden(frames: Samples, hidden: Hidden) -> Samples:
    """Return frames (N, H, W, 3) whose hidden pixels have the mean colour of the known ones."""
    filled = frames.copy()
    for frame, hole in zip(filled, hidden, strict=True):
        frame[hole] = frame[~hole].mean(axis=0).round()
    return filled
