"""Pictures of a source and what was decoded of it, side by side: PNG files or a lossless video."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import numpy as np

from nvcodec.depth import RGB, change_depth
from nvcodec.errors import UsageError
from nvcodec.video.frames import VideoInfo, resolve_tags
from nvcodec.video.sinks import WRITE_ERRORS, PngEncoder, StagedFolder, as_resource_error
from nvcodec.video.writer import VideoWriter, open_writer

_OURS = re.compile(r"\d{6,}_(\d+\.\d\d|inf)dB\.png")


class Pairs(Protocol):
    """Takes pairs of frames; a context manager that leaves all of them or nothing."""

    def write(self, original: RGB, decoded: RGB, psnr_db: float) -> None:
        """Append a pair, (H, W, 3) each, of the depth of the source."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def side_by_side(original: RGB, decoded: RGB) -> RGB:
    """Return one picture with the source on the left."""
    return np.concatenate((original, decoded), axis=1)


class PairImages:
    """One PNG file per pair, such as 000017_31.42dB.png; numbers count from 1, as FFmpeg's do."""

    def __init__(self, folder: Path, info: VideoInfo, *, overwrite: bool) -> None:
        """Create `folder`; UsageError if it has such files that must not be replaced."""
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"output {folder} is not a folder")
        self._name = str(folder)
        try:
            self._files = StagedFolder(folder, _OURS, "000001_30.00dB.png", overwrite=overwrite)
        except OSError as error:
            raise as_resource_error(self._name, error) from error
        self._depths = info.bit_depth, 8 if info.bit_depth == 8 else 16
        self._encoder = PngEncoder(2 * info.width, info.height, self._depths[1])
        self._n_pairs = 0

    def write(self, original: RGB, decoded: RGB, psnr_db: float) -> None:
        """Encode a pair into its own file."""
        self._n_pairs += 1
        pair = change_depth(side_by_side(original, decoded), *self._depths)
        data = self._encoder.encode(pair)
        try:
            self._files.write(f"{self._n_pairs:06d}_{psnr_db:.2f}dB.png", data)
        except WRITE_ERRORS as error:
            raise as_resource_error(self._name, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._files.commit()
        else:
            self._files.abort()


class PairVideo:
    """A lossless RGB video of the pairs."""

    def __init__(self, path: Path, info: VideoInfo, *, overwrite: bool) -> None:
        """Open the video; UsageError if it is no .mkv or must not be replaced."""
        if path.suffix.lower() != ".mkv":
            raise UsageError(f"video {path} of the pairs has another suffix than .mkv (lossless)")
        self._depth = info.bit_depth
        color = resolve_tags(height=info.height, chroma=0)
        wide = replace(info, width=2 * info.width, color=color, chroma=0)
        self._writer: VideoWriter = open_writer(path, wide, overwrite=overwrite)

    def write(self, original: RGB, decoded: RGB, psnr_db: float) -> None:
        """Append a pair."""
        pair = side_by_side(original, decoded)
        self._writer.write(change_depth(pair, self._depth, self._writer.bit_depth))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.__exit__(kind, error, trace)
