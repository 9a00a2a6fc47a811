"""What every architecture offers; the codec knows networks only through this class.

Invariant: a model is rebuilt from an integer-only Config, the frame count and the frame size alone;
its parameters, in the order of `named_parameters`, are what the file carries.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor, nn


class VideoModel(nn.Module):
    """A network that draws frame `index` of one segment.

    Shapes: index (B,) int64 in [0, n_frames) -> (B, 3, height, width), nominally in [0, 1].
    """

    Config: ClassVar[Any]
    """The frozen, integer-only dataclass that goes into the file."""
    latent_names: ClassVar[tuple[str, ...]] = ()
    """Parameters of shape (n_frames, channels, h, w) that hold one entry per frame."""

    def __init__(self, config: Any, n_frames: int, height: int, width: int) -> None:
        super().__init__()
        self.config = config
        self.n_frames = n_frames
        self.height = height
        self.width = width

    def forward(self, index: Tensor, latents: dict[str, Tensor] | None = None) -> Tensor:
        """Draw the frames with these indices.

        latents (B, channels, h, w) by name stand in for the stored entries of `latent_names`.
        """
        raise NotImplementedError

    def analysis(self) -> nn.Module | None:
        """Return a new encoder network, frames (B, 3, H, W) -> latents, used only to fit."""
        return None

    def macs_per_frame(self) -> int:
        """Return the multiply-accumulates that one frame costs."""
        raise NotImplementedError

    def peak_activations(self) -> int:
        """Return the values of the largest feature map of one frame."""
        raise NotImplementedError

    @classmethod
    def smallest(cls, n_frames: int, height: int, width: int, **options: Any) -> Any:
        """Return the Config with the fewest parameters that these options allow."""
        raise NotImplementedError

    @classmethod
    def solve(cls, n_params: float, n_frames: int, height: int, width: int, **options: Any) -> Any:
        """Return the Config whose total parameter count comes closest to n_params from below.

        Raises UsageError when an option is unknown or the smallest model is larger than n_params.
        """
        raise NotImplementedError


def count_params(model: VideoModel) -> int:
    """Return the number of values the file carries for this model, latents included."""
    return sum(p.numel() for p in model.parameters())


def shape_only(
    cls: type[VideoModel], config: Any, n_frames: int, height: int, width: int
) -> VideoModel:
    """Build a model without memory for its parameters: counts hostile configurations safely."""
    with torch.device("meta"):
        return cls(config, n_frames, height, width)
