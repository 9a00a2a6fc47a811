"""Architectures: name -> (id in the file, class). Ids are never reused; 2 to 4 are reserved."""

from nvcodec.models.base import VideoModel
from nvcodec.models.canvas import Canvas
from nvcodec.models.hnerv import HNeRV

ARCHITECTURES: dict[str, tuple[int, type[VideoModel]]] = {
    "hnerv": (1, HNeRV),
    "canvas": (5, Canvas),
}
