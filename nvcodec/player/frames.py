"""Frames of a file as PNG and JPEG, drawn when they are asked for; the last ones are kept."""

from __future__ import annotations

import threading
from collections import OrderedDict

import av

from nvcodec.codec.decoder import VideoFile
from nvcodec.depth import RGB
from nvcodec.player.upright import upright, upright_info
from nvcodec.video.frames import DEFAULT_RATE
from nvcodec.video.sinks import PngEncoder

CACHE_BYTES = 64 << 20


class JpegEncoder:
    """8-bit RGB pictures of one size to JPEG files, close to the best quality."""

    def __init__(self, width: int, height: int) -> None:
        codec = av.VideoCodecContext.create("mjpeg", "w")
        codec.width, codec.height = width, height
        codec.pix_fmt = "yuvj444p"
        codec.time_base = 1 / DEFAULT_RATE
        codec.thread_count = 1  # several would hold frames back
        codec.qmin = codec.qmax = 2
        self._codec = codec
        self._n_frames = 0

    def encode(self, rgb: RGB) -> bytes:
        """Return the bytes of a JPEG file, from (H, W, 3)."""
        frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(
            format="yuvj444p", dst_colorspace="ITU601", dst_color_range="JPEG"
        )
        frame.pts = self._n_frames
        self._n_frames += 1
        return b"".join(bytes(packet) for packet in self._codec.encode(frame))


class FrameStore:
    """Gives any frame as a picture file; threads may share it."""

    def __init__(self, video: VideoFile, cache_bytes: int = CACHE_BYTES) -> None:
        self.video = video
        shown = upright_info(video.info)
        self._encoders: dict[str, PngEncoder | JpegEncoder] = {
            "png": PngEncoder(shown.width, shown.height),
            "jpg": JpegEncoder(shown.width, shown.height),
        }
        self._cache_bytes = cache_bytes
        self._kept: OrderedDict[tuple[int, str], bytes] = OrderedDict()
        self._n_bytes = 0
        self._cache, self._work = threading.Lock(), threading.Lock()

    def picture(self, index: int, kind: str) -> bytes:
        """Return frame `index`, upright, as a "png" (exact) or "jpg" file."""
        key = (index, kind)
        found = self._find(key)
        if found is not None:
            return found
        with self._work:
            found = self._find(key)  # another thread may have drawn it meanwhile
            if found is None:
                frame = upright(self.video[index], self.video.info.display)
                found = self._encoders[kind].encode(frame)
                self._keep(key, found)
        return found

    def _find(self, key: tuple[int, str]) -> bytes | None:
        with self._cache:
            if key in self._kept:
                self._kept.move_to_end(key)
            return self._kept.get(key)

    def _keep(self, key: tuple[int, str], data: bytes) -> None:
        with self._cache:
            self._kept[key] = data
            self._n_bytes += len(data)
            while self._n_bytes > self._cache_bytes:
                self._n_bytes -= len(self._kept.popitem(last=False)[1])
