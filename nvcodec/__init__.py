"""A neural video codec: `encode` a video into one .nrv file, `open` it as a sequence of frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "RECIPES",
    "EncodeOptions",
    "EncodeResult",
    "Framing",
    "NrvDataset",
    "Target",
    "VideoFile",
    "__version__",
    "encode",
    "interpolate",
    "open",
    "restore",
]

if TYPE_CHECKING:
    from nvcodec.codec.dataset import NrvDataset
    from nvcodec.codec.decoder import VideoFile
    from nvcodec.codec.decoder import VideoFile as open
    from nvcodec.codec.encoder import EncodeResult, encode
    from nvcodec.codec.interpolate import interpolate
    from nvcodec.codec.options import EncodeOptions, Target
    from nvcodec.codec.recipes import RECIPES
    from nvcodec.codec.restore import restore
    from nvcodec.video.framing import Framing

_HOMES = {
    "RECIPES": ("nvcodec.codec.recipes", "RECIPES"),
    "EncodeOptions": ("nvcodec.codec.options", "EncodeOptions"),
    "EncodeResult": ("nvcodec.codec.encoder", "EncodeResult"),
    "Framing": ("nvcodec.video.framing", "Framing"),
    "NrvDataset": ("nvcodec.codec.dataset", "NrvDataset"),
    "Target": ("nvcodec.codec.options", "Target"),
    "VideoFile": ("nvcodec.codec.decoder", "VideoFile"),
    "encode": ("nvcodec.codec.encoder", "encode"),
    "interpolate": ("nvcodec.codec.interpolate", "interpolate"),
    "open": ("nvcodec.codec.decoder", "VideoFile"),
    "restore": ("nvcodec.codec.restore", "restore"),
}


def __getattr__(name: str) -> Any:
    """Import torch only when something that needs it is used: `nvcodec --help` stays instant."""
    if name not in _HOMES:
        raise AttributeError(f"module nvcodec has no attribute {name}")
    import importlib

    module, attribute = _HOMES[name]
    return getattr(importlib.import_module(module), attribute)
