"""Architectures: name -> (id in the file, class). Ids are never reused; 2 and 3 are reserved."""

from nvcodec.models.base import VideoModel
from nvcodec.models.canvas import Canvas
from nvcodec.models.hnerv import HNeRV
from nvcodec.models.nerv3d import NeRV3D

ARCHITECTURES: dict[str, tuple[int, type[VideoModel]]] = {
    "hnerv": (1, HNeRV),
    "3dnerv": (4, NeRV3D),
    "canvas": (5, Canvas),
}
