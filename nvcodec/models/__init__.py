"""Architectures: name -> (id in the file, class). Ids are never reused."""

from nvcodec.models.base import VideoModel
from nvcodec.models.canvas import Canvas
from nvcodec.models.enerv import ENeRV
from nvcodec.models.hinerv import HiNeRV
from nvcodec.models.hnerv import HNeRV
from nvcodec.models.nerv import NeRV
from nvcodec.models.nerv3d import NeRV3D

ARCHITECTURES: dict[str, tuple[int, type[VideoModel]]] = {
    "hnerv": (1, HNeRV),
    "nerv": (2, NeRV),
    "enerv": (3, ENeRV),
    "3dnerv": (4, NeRV3D),
    "canvas": (5, Canvas),
    "hinerv": (6, HiNeRV),
}
