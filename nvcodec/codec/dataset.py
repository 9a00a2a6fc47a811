"""Frames of many .nrv files as a torch Dataset: only what a batch asks for is drawn."""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from nvcodec.codec.decoder import VideoFile
from nvcodec.codec.selection import evenly_spaced
from nvcodec.errors import UsageError


class NrvDataset(Dataset[Any]):
    """Frames of .nrv files, in the order of the files, as uint8 tensors (3, H, W).

    A batch is drawn in as few passes through the networks as its frames allow. Every worker process
    of a DataLoader opens the files for itself; with "cuda" it must be spawned, not forked.
    """

    def __init__(
        self,
        paths: Iterable[str | Path],
        frames: int | Sequence[int] | None = None,
        *,
        transform: Callable[[Tensor], Any] | None = None,
        device: str = "cpu",
        batch: int = 8,
        n_open: int = 64,
    ) -> None:
        """Open every file once to count its frames.

        Args:
            paths: the files.
            frames: of each file: so many, evenly spaced, or those listed; None takes all.
            transform: applied to every frame.
            device: where to draw.
            batch: frames drawn at once, from one file.
            n_open: networks that a process keeps in memory; the one unused for longest goes first.

        Raises:
            NvcodecError: UsageError for frames that a file does not have, InputError or
                BitstreamError for a file that cannot be read.
        """
        self.paths = [Path(path) for path in paths]
        self.transform = transform
        self.device = device
        self.batch = batch
        self.n_open = n_open
        self.picked = [_pick(path, frames) for path in self.paths]
        """Frame numbers that are used of each file."""
        self._ends = list(accumulate(map(len, self.picked)))
        self._open: OrderedDict[int, VideoFile] = OrderedDict()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def locate(self, index: int) -> tuple[int, int]:
        """Return the number of the file and the frame in it that sample `index` shows."""
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} is outside the {len(self)} samples")
        file = bisect_right(self._ends, index)
        return file, self.picked[file][index - self._ends[file]]

    def __getitem__(self, index: int) -> Any:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """Return the samples of a batch; a DataLoader calls this in place of `__getitem__`."""
        samples: list[Any] = [None] * len(indices)
        by_file: dict[int, list[tuple[int, int]]] = {}
        for place, index in enumerate(indices):
            file, frame = self.locate(index)
            by_file.setdefault(file, []).append((place, frame))
        for file, wanted in by_file.items():
            drawn = torch.from_numpy(self._video(file)[[frame for _, frame in wanted]])
            for (place, _), frame in zip(wanted, drawn.permute(0, 3, 1, 2), strict=True):
                samples[place] = frame.contiguous()
        return samples if self.transform is None else [self.transform(s) for s in samples]

    def _video(self, file: int) -> VideoFile:
        if file not in self._open:
            while len(self._open) >= self.n_open:
                self._open.popitem(last=False)
            self._open[file] = VideoFile(self.paths[file], device=self.device, batch=self.batch)
        self._open.move_to_end(file)
        return self._open[file]

    def __getstate__(self) -> dict[str, Any]:
        """Leave open files out of what a spawned worker gets."""
        return self.__dict__ | {"_open": OrderedDict()}


def _pick(path: Path, frames: int | Sequence[int] | None) -> Sequence[int]:
    """Return the frame numbers that are used of a file."""
    n_frames = len(VideoFile(path, device="cpu"))
    if frames is None:
        return range(n_frames)
    try:
        if isinstance(frames, int):
            return evenly_spaced(n_frames, frames)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    last = n_frames - 1
    for frame in frames:
        if not 0 <= frame <= last:
            raise UsageError(f"{path}: frame {frame} was asked for, allowed are 0 to {last}")
    return list(frames)
