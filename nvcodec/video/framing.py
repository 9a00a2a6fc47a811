"""What part of a source counts as the truth: a crop, another size, every n-th frame.

The NeRV papers train and measure on such changed videos; they are no longer the source.
"""

from __future__ import annotations

from dataclasses import dataclass
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
    resize: tuple[int, int] | None = None
    """Width and height after bicubic interpolation."""
    every: int = 1
    """Distance in frames from one that is kept to the next."""

    def __post_init__(self) -> None:
        for name, size in (("crop", self.crop), ("resize", self.resize)):
            if size is not None and not all(1 <= side <= DEFAULT.max_side for side in size):
                raise UsageError(
                    f"{name} is {size[0]}x{size[1]}, allowed are sides of 1 to {DEFAULT.max_side}"
                )
        if not 1 <= self.every <= _MAX_GAP:
            raise UsageError(f"every is {self.every}, allowed is 1 to {_MAX_GAP}")

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of the changed frames; raise UsageError for too large a crop."""
        if self.crop is not None and (self.crop[0] > width or self.crop[1] > height):
            raise UsageError(
                f"crop is {self.crop[0]}x{self.crop[1]}, but the frames are {width}x{height}"
            )
        return self.resize or self.crop or (width, height)

    def apply(self, rgb: RGB, bit_depth: int = 8) -> RGB:
        """Return the changed frame (H, W, 3), of the same depth."""
        if self.crop is not None:
            width, height = self.crop
            top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
            rgb = np.ascontiguousarray(rgb[top : top + height, left : left + width])
        if self.resize is not None:
            rgb = resize(rgb, *self.resize, bit_depth)
        return rgb


AS_IS = Framing()


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
