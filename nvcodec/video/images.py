"""Pictures in files of their own: a series of PNG or NumPy files, or a single one."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from nvcodec import storage
from nvcodec.depth import RGB
from nvcodec.media import Extras
from nvcodec.video.coding import AS_USUAL, VideoFormat, Wish
from nvcodec.video.frames import VideoInfo
from nvcodec.video.sinks import PngEncoder, StagedFolder, pictures_only
from nvcodec.video.sources import COUNTER, is_pattern, numbered, silence

SUFFIXES = (".png", ".npy")
_DEPTHS = {"rgb24": 8, "rgb48be": 16, "rgb48le": 16}
"""Bits per sample, by FFmpeg's name of the pixel format; files have a byte order of their own."""


class NpyEncoder:
    """RGB pictures to NumPy files."""

    def encode(self, rgb: RGB) -> bytes:
        """Return the bytes of a .npy file with the array (H, W, 3)."""
        data = io.BytesIO()
        np.lib.format.write_array(data, np.ascontiguousarray(rgb), version=(1, 0))
        return data.getvalue()


class ImageSink:
    """RGB pictures, one in each file; a name without a counter takes a single one."""

    coding: VideoFormat | None = None
    plane_depth: int | None = None

    def __init__(
        self,
        path: Path,
        info: VideoInfo,
        extras: Extras,
        wish: Wish = AS_USUAL,
        *,
        overwrite: bool,
    ) -> None:
        """Create the folder; UsageError if it has files that match and must not be replaced."""
        silence()
        png = path.suffix.lower() == ".png"
        kind = "PNG" if png else "NumPy"
        wish.refuse(f"{kind} files", pixel_formats=list(_DEPTHS))
        usual = 8 if info.bit_depth == 8 else 16
        self.bit_depth = _DEPTHS.get(wish.pixel_format or "", usual)
        self.name = str(path)
        self.frame_bytes = info.width * info.height * 3 * (1 if self.bit_depth == 8 else 2)
        single = not is_pattern(path)
        self.description = f"{self.bit_depth}-bit RGB {kind} {'file' if single else 'files'}"
        self.warnings = pictures_only(kind, info, extras)
        self._encoder = PngEncoder(info.width, info.height, self.bit_depth) if png else NpyEncoder()
        self._target = _OneFile(path) if single else _Series(path, overwrite=overwrite)

    def write(self, rgb: RGB) -> None:
        """Encode a frame into its own file."""
        self._target.add(self._encoder.encode(rgb))

    def commit(self) -> None:
        """Replace the old files by the new ones."""
        self._target.commit()

    def abort(self) -> None:
        """Remove what was written, and the folder if it is new."""
        self._target.abort()


class _Series:
    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self._pattern = path.name
        self._files = StagedFolder(path.parent, numbered(path.name), path.name, overwrite=overwrite)
        self._n_files = 0
        self.commit, self.abort = self._files.commit, self._files.abort

    def add(self, data: bytes) -> None:
        """Write the next file; names count from 1, as FFmpeg's do."""
        self._n_files += 1
        name = COUNTER.sub(lambda match: match[0] % self._n_files, self._pattern, count=1)
        self._files.write(name, data)


class _OneFile:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._data = b""

    def add(self, data: bytes) -> None:
        self._data = data

    def commit(self) -> None:
        storage.write_atomic(self._path, self._data)

    def abort(self) -> None:
        self._data = b""
