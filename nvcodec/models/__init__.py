"""Architectures: id in the file -> class. Ids are never reused; 2 NeRV, 3 E-NeRV, 4 3DNeRV are reserved."""

from nvcodec.models.base import VideoModel
from nvcodec.models.hnerv import HNeRV

ARCHITECTURES: dict[str, tuple[int, type[VideoModel]]] = {"hnerv": (1, HNeRV)}
