"""What part of a source counts as the truth: a crop, another size, some of its frames.

The NeRV papers train and measure on such changed videos; they are no longer the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from nvcodec.depth import RGB, peak
from nvcodec.errors import UsageError
from nvcodec.limits import DEFAULT

_MAX_GAP = 2**32 - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Framing:
    """Changes to every frame, in this order; by default none."""

    crop: tuple[int, int] | None = None
    """Width and height of the centre that is kept."""
    resize: tuple[int, int] | int | None = None
    """Width and height after bicubic interpolation, or the shorter side alone."""
    crop_last: bool = False
    """Whether the crop comes after the resize."""
    every: int = 1
    """Distance in frames from the first of some that are kept to the first of the next."""
    kept: int = 1
    """Frames in a row that are kept of every `every` ones."""

    def __post_init__(self) -> None:
        for name, size in (("crop", self.crop), ("resize", self.resize)):
            sides = (size,) if isinstance(size, int) else size or ()
            if not all(1 <= side <= DEFAULT.max_side for side in sides):
                raise UsageError(
                    f"{name} is {'x'.join(map(str, sides))}, "
                    f"allowed are sides of 1 to {DEFAULT.max_side}"
                )
        if not 1 <= self.every <= _MAX_GAP:
            raise UsageError(f"every is {self.every}, allowed is 1 to {_MAX_GAP}")
        if not 1 <= self.kept <= self.every:
            raise UsageError(f"every is {self.kept}/{self.every}, allowed is 1 to all of them")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the changed frames; raise UsageError for too large a crop."""
        if self.crop_last:
            width, height = self._resized(width, height)
        if self.crop is not None:
            if self.crop[0] > width or self.crop[1] > height:
                raise UsageError(
                    f"crop is {self.crop[0]}x{self.crop[1]}, but the frames are {width}x{height}"
                )
            width, height = self.crop
        return (width, height) if self.crop_last else self._resized(width, height)

    def _resized(self, width: int, height: int) -> tuple[int, int]:
        """Return what `resize` makes of a size."""
        if isinstance(self.resize, int):
            longer = self.resize * max(width, height) // min(width, height)
            return (longer, self.resize) if width > height else (self.resize, longer)
        return self.resize or (width, height)

    def apply(self, rgb: RGB, bit_depth: int = 8) -> RGB:
        """Return the changed frame (H, W, 3), of the same depth."""
        if self.crop is not None and not self.crop_last:
            rgb = centre(rgb, *self.crop)
        if self.resize is not None:
            rgb = resize(rgb, *self._resized(rgb.shape[1], rgb.shape[0]), bit_depth)
        if self.crop is not None and self.crop_last:
            rgb = centre(rgb, *self.crop)
        return rgb

    def keeps(self, index: int) -> bool:
        """Tell whether a frame of the source stays, counted from the first one that is read."""
        return index % self.every < self.kept

    def index(self, number: int) -> int:
        """Return the index, counted likewise, of the frame that is kept as this one."""
        return number // self.kept * self.every + number % self.kept

    @property
    def share(self) -> Fraction:
        """Share of the frames that stay."""
        return Fraction(self.kept, self.every)


AS_IS = Framing()


def centre(rgb: RGB, width: int, height: int) -> RGB:
    """Return the middle of a frame, (H, W, 3)."""
    top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
    return np.ascontiguousarray(rgb[top : top + height, left : left + width])


def resize(rgb: RGB, width: int, height: int, bit_depth: int = 8) -> RGB:
    """Interpolate a frame (H, W, 3) to another size with `cubic_weights`."""
    down = cubic_weights(rgb.shape[0], height)
    across = cubic_weights(rgb.shape[1], width)
    rows = down @ rgb.reshape(len(rgb), -1).astype(np.float32)
    columns = rows.reshape(height, -1, 3).transpose(1, 0, 2).reshape(rgb.shape[1], -1)
    pixels = (across @ columns).reshape(width, height, 3).transpose(1, 0, 2)
    return np.ascontiguousarray(np.rint(pixels).clip(0, peak(bit_depth)).astype(rgb.dtype))


@lru_cache(maxsize=8)
def cubic_weights(n_in: int, n_out: int) -> NDArray[np.float32]:
    """Return the (n_out, n_in) matrix of cubic interpolation with a = -1/2 (Keys, 1981).

    To shrink, the kernel is widened to cover all samples; at the edges its weights are scaled to
    the sum of 1.
    """
    scale = n_in / n_out
    centres = (np.arange(n_out)[:, None] + 0.5) * scale - 0.5
    x = np.abs(np.arange(n_in) - centres) / max(1.0, scale)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    weights = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    weights /= weights.sum(1, keepdims=True)
    return weights.astype(np.float32)
