"""An .nrv file as a sequence of frames: any frame, any slice, in constant memory."""

from __future__ import annotations

import math
import operator
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nvcodec.bitstream.header import unpack_stream
from nvcodec.bitstream.salvage import Damage
from nvcodec.codec.contents import (
    empty_model,
    read_corrections,
    read_file,
    read_tensors,
    salvage,
    video_info,
)
from nvcodec.codec.corrections import Corrector
from nvcodec.codec.device import full_float32, pick_device, place, return_freed_memory
from nvcodec.codec.quantize import load_tensors
from nvcodec.codec.ycbcr import to_frames
from nvcodec.depth import peak, sample_type
from nvcodec.ending import out_of_memory
from nvcodec.errors import (
    ResourceError,
    UsageError,
)
from nvcodec.limits import DEFAULT, Limits
from nvcodec.media import Timing
from nvcodec.models.base import VideoModel
from nvcodec.models.layers import to_samples
from nvcodec.video.forms import Frame, planes_to_rgb
from nvcodec.workers import n_at_once, spread

R = TypeVar("R")
T = TypeVar("T")
DEFAULT_BATCH = 1
"""Frames drawn at once: one takes the least memory."""
_MOST_AT_ONCE = 4
"""Frames drawn at once where each core draws one of its own."""
_MOST_LOADED = 4
"""Networks in memory, so that one may go to and fro between scenes."""


def to_numpy(samples: Tensor) -> NDArray[Any]:
    """Return frames (B, 3, H, W) as an array (B, H, W, 3)."""
    frames: NDArray[Any] = samples.permute(0, 2, 3, 1).contiguous().cpu().numpy()
    return frames


class VideoFile:
    """Frames of an .nrv file: `len`, indexing, slicing and iteration give RGB (H, W, 3).

    `tensor` gives the same frames as a torch tensor, `frame_at` that of a time. Threads may share
    an object: they draw one after the other.
    """

    def __init__(
        self,
        source: str | Path | bytes,
        *,
        device: str = "auto",
        batch: int | None = DEFAULT_BATCH,
        bit_depth: int | None = 8,
        limits: Limits = DEFAULT,
        lenient: bool = False,
    ) -> None:
        """Open a path or the bytes of a file.

        A lenient one checks all segments at once and draws those that are whole: a frame of
        another one is the last whole frame before it (at the start, the first after it), so that
        times and sound stay in step. `damage` lists what is lost. Without one whole segment it
        raises BitstreamError too.

        Args:
            source: path, or the whole file.
            device: "cpu", "cuda", or "auto" for CUDA where it is there.
            batch: frames, or clips of them, drawn at once, on a CPU each by a core; None takes one
                a core, at most 4.
            bit_depth: 8 gives uint8 frames, 9 to 16 gives uint16, where white is
                2^bit_depth - 1; None takes that of the source.
            limits: on what the file may ask for.
            lenient: whether to go on where segments are damaged.

        Raises:
            NvcodecError: InputError or BitstreamError for the file, UsageError for the arguments,
                ResourceError for a device that is not there.
        """
        if batch is not None and batch < 1:
            raise UsageError(f"batch is {batch}, at least 1 is needed")
        if bit_depth is not None and not 8 <= bit_depth <= 16:
            raise UsageError(f"bit depth is {bit_depth}, allowed are 8 to 16")
        data = source if isinstance(source, bytes) else read_file(source)
        self.n_bytes = len(data)
        self.limits = limits
        self.damage: tuple[Damage, ...] = ()
        """What a lenient reader found to be lost, in the order of the frames."""
        if lenient:
            self.stream, self.damage = salvage(data, limits)
        else:
            self.stream = unpack_stream(data, limits)
        self.info = video_info(self.stream)
        self.bit_depth = self.info.bit_depth if bit_depth is None else bit_depth
        self.device = pick_device(device)
        self.batch = min(n_at_once(self.device), _MOST_AT_ONCE) if batch is None else batch
        self.network_s = 0.0
        """Seconds spent so far in the network and the conversion to samples."""
        self._loaded: OrderedDict[int, tuple[VideoModel, Corrector | None]] = OrderedDict()
        self._clips: dict[int, int] = {}
        self._last: tuple[tuple[int, int], int, Tensor | None] = (-1, 0), -1, None
        """The frame made last of a segment with motion: segment and bit depth, number, samples."""
        self._lock = threading.RLock()
        self._firsts = [segment.header.first_frame for segment in self.stream.segments]

    def __len__(self) -> int:
        return self.stream.header.n_frames

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Free the memory of networks; the file may be used again."""
        with self._lock:
            self._loaded.clear()
            self._last = (-1, 0), -1, None

    @property
    def timing(self) -> Timing:
        """When each frame is shown."""
        assert self.info.timing is not None
        return self.info.timing

    def __getitem__(self, key: int | slice | Sequence[int] | NDArray[Any]) -> NDArray[Any]:
        """Return frame `key` (H, W, 3), or the frames of a slice, list or array (T, H, W, 3).

        Others are drawn only where corrections copy blocks of them. Raises IndexError for a frame
        that is not there.
        """
        numbers = self._numbers(key)
        return next(self.frames([numbers])) if isinstance(numbers, int) else self._take(numbers)

    def tensor(self, key: int | slice | Sequence[int] | NDArray[Any]) -> Tensor:
        """Return the same frames as a tensor (3, H, W) or (T, 3, H, W), on the device that drew."""
        numbers = self._numbers(key)
        picked = [numbers] if isinstance(numbers, int) else numbers
        order = sorted(range(len(picked)), key=picked.__getitem__)
        size = (len(picked), 3, self.info.height, self.info.width)
        kind = torch.uint8 if self.bit_depth == 8 else torch.uint16
        frames = torch.empty(size, dtype=kind, device=self.device)
        places = iter(order)
        for number, indices in self._batches([picked[i] for i in order]):
            for frame in self._draw_all(number, indices, self._rgb_samples):
                frames[next(places)] = frame
        return frames[0] if isinstance(numbers, int) else frames

    def frame_at(self, time_s: float | Fraction) -> NDArray[Any]:
        """Return the frame (H, W, 3) that is shown at a time; UsageError where none is."""
        return self[self.index_at(time_s)]

    def index_at(self, time_s: float | Fraction) -> int:
        """Return the number of the frame that is shown at a time; UsageError where none is."""
        timing = self.timing
        index = timing.index_at(Fraction(time_s)) if math.isfinite(time_s) else None
        if index is None:
            start, end = (float(timing.seconds(i)) for i in (0, len(self)))
            raise UsageError(
                f"time is {float(time_s):g} s, but frames are shown from {start:.6g} s "
                f"to before {end:.6g} s"
            )
        return index

    def _numbers(self, key: int | slice | Sequence[int] | NDArray[Any]) -> int | Sequence[int]:
        if isinstance(key, slice):
            return range(*key.indices(len(self)))
        if isinstance(key, Sequence | np.ndarray):
            return [self._frame_number(index) for index in key]
        return self._frame_number(key)

    def _take(self, picked: Sequence[int]) -> NDArray[Any]:
        """Return these frames; drawn in the order of the video, so that no network loads twice."""
        size = (len(picked), self.info.height, self.info.width, 3)
        frames = np.empty(size, sample_type(self.bit_depth))
        order = sorted(range(len(picked)), key=picked.__getitem__)
        for i, frame in zip(order, self.frames([picked[i] for i in order]), strict=True):
            frames[i] = frame
        return frames

    def _frame_number(self, index: int) -> int:
        """Return an index from 0, of one that may count back from the end; raise IndexError."""
        index = operator.index(index)
        number = index + len(self) if index < 0 else index
        if not 0 <= number < len(self):
            raise IndexError(f"frame {index} is outside the video's {len(self)} frames")
        return number

    def __iter__(self) -> Iterator[NDArray[Any]]:
        return self.frames(range(len(self)))

    def frames(self, indices: Sequence[int]) -> Iterator[NDArray[Any]]:
        """Yield the frames with these indices, in this order, drawing `batch` clips at a time.

        A clip is what the network draws together: a single frame for most architectures.
        """
        for number, together in self._batches(indices):
            yield from self._draw_all(number, together, self.to_rgb)

    def drawn(self, indices: Sequence[int], bit_depth: int | None = None) -> Iterator[Frame]:
        """Yield the frames as their networks draw them, without a detour over the other form.

        That is RGB of `self.bit_depth`, as `frames` gives it, or planes of Y'CbCr (Y, Cb, Cr, or Y
        alone) of `bit_depth`; None takes that of the video.
        """
        depth = self.info.bit_depth if bit_depth is None else bit_depth

        def finish(drawn: Tensor, number: int) -> Sequence[Frame]:
            if self.draws_yuv(number):
                return to_frames(drawn.float(), self.info, depth)
            return self.to_rgb(drawn, number)

        for number, together in self._batches(indices):
            yield from self._draw_all(number, together, finish)

    def draws_yuv(self, number: int) -> bool:
        """Tell whether the network of a segment draws Y'CbCr."""
        return self.stream.segments[number].header.draws_yuv

    def to_rgb(self, drawn: Tensor, number: int) -> Sequence[NDArray[Any]]:
        """Return what the network of a segment drew (B, 3, H, W) as RGB frames (H, W, 3).

        That is values in [0, 1] or samples of `self.bit_depth`; planes become RGB as those of a
        source do.
        """
        if not self.draws_yuv(number):
            return list(to_numpy(self._samples(drawn)))
        depth = max(self.bit_depth, self.info.bit_depth)
        return [
            planes_to_rgb(planes, self.info, depth, self.bit_depth)
            for planes in to_frames(drawn.float(), self.info, depth)
        ]

    def _samples(self, drawn: Tensor) -> Tensor:
        return to_samples(drawn, self.bit_depth) if drawn.is_floating_point() else drawn

    def _rgb_samples(self, drawn: Tensor, number: int) -> Tensor:
        """Return the same as a tensor (B, 3, H, W) on the device that drew."""
        if not self.draws_yuv(number):
            return self._samples(drawn).contiguous()
        frames = torch.from_numpy(np.stack(self.to_rgb(drawn, number))).to(self.device)
        return frames.permute(0, 3, 1, 2).contiguous()

    def _batches(self, indices: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
        """Yield the number of a segment and frames of it that are drawn together."""
        pending: list[int] = []
        clips: set[int] = set()
        current = -1
        for asked in indices:
            number, index = self._place(asked)
            segment = self.stream.segments[number].header
            n = self._clip_frames(number)
            clip = (index - segment.first_frame) // n
            # Frames that are asked for again and again must not add up either.
            full = len(pending) >= self.batch * n or (
                clip not in clips and len(clips) == self.batch
            )
            if pending and (number != current or full):
                yield current, pending
                pending, clips = [], set()
            current = number
            pending.append(index)
            clips.add(clip)
        if pending:
            yield current, pending

    def _place(self, index: int) -> tuple[int, int]:
        """Return the segment of a frame and the frame itself, or the one that stands for it."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} is outside the video's {len(self)} frames")
        number = max(0, bisect_right(self._firsts, index) - 1)
        segment = self.stream.segments[number].header
        last = segment.first_frame + segment.n_frames - 1
        return number, min(max(index, segment.first_frame), last)

    def _clip_frames(self, number: int) -> int:
        if number not in self._clips:
            model = empty_model(self.stream.segments[number], self.stream.header, self.limits)
            self._clips[number] = model.clip_frames
        return self._clips[number]

    def load(self, number: int) -> VideoModel:
        """Return the network of a segment, ready to draw; those used last are kept."""
        return self._load(number)[0]

    def _load(self, number: int) -> tuple[VideoModel, Corrector | None]:
        """Return the network of a segment and its corrections."""
        with self._lock:
            if number not in self._loaded:
                while len(self._loaded) >= _MOST_LOADED:
                    self._loaded.popitem(last=False)
                self._loaded[number] = self._read(number)
            self._loaded.move_to_end(number)
            return self._loaded[number]

    def _read(self, number: int) -> tuple[VideoModel, Corrector | None]:
        segment, header = self.stream.segments[number], self.stream.header
        model, tensors = read_tensors(segment, header, self.limits)
        # Not by to_empty, for which PyTorch imports a computer algebra system: 1 s.
        room = {k: torch.empty(v.shape, dtype=v.dtype) for k, v in model.state_dict().items()}
        model.load_state_dict(room, assign=True)
        load_tensors(model, tensors)
        model = place(model, self.device).eval()
        model.settle()
        found = read_corrections(segment, header, self.limits)
        return model, None if found is None else Corrector(found, header.height, header.width)

    def correct(
        self, samples: Tensor, index: Tensor, number: int, before: Tensor | None = None
    ) -> Tensor:
        """Return samples (B, 3, H, W) of `bit_depth` with corrections of frames of a segment.

        Where blocks move, frames must follow each other; `before` is the one before the first.
        """
        corrector = self._load(number)[1]
        if corrector is None:
            return samples
        return corrector.correct(samples, index, self.bit_depth, before)

    def draw_between(self, number: int, position: float) -> NDArray[Any]:
        """Return what lies between frames of a segment (H, W, 3); `position` counts from its first.

        Corrections are interpolated linearly.
        """
        moment = torch.tensor([position], dtype=torch.float64, device=self.device)
        model, corrector = self._load(number)
        drawn = model.draw_between(moment)
        if corrector is not None:
            before, share = int(position), position % 1
            added = torch.zeros_like(drawn, dtype=torch.float32)
            for index, weight in ((before, 1 - share), (before + 1, share)):
                if weight:
                    at = torch.tensor([index], device=self.device)
                    with torch.inference_mode(), full_float32(self.device):
                        plain = model.draw_samples(at, self.bit_depth)
                    final = self.tensor(self._firsts[number] + index)
                    added += weight * (final.float() - plain.float())
            samples = self._samples(drawn)
            wanted = (samples.float() + added).round_().clamp_(0, peak(self.bit_depth))
            drawn = wanted.to(samples.dtype)
        return self.to_rgb(drawn, number)[0]

    def _draw_all(
        self, number: int, indices: list[int], finish: Callable[[Tensor, int], Iterable[T]]
    ) -> Iterator[T]:
        """Yield these frames of a segment; where memory does not suffice, in smaller batches."""
        try:
            frames = self._draw(number, indices, finish)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
        else:
            yield from frames
            return
        # Outside of the handler, whose traceback holds on to the feature maps.
        cuts = self._cuts(number, indices)
        if not cuts:
            n = self._clip_frames(number)
            raise ResourceError(
                f"memory does not suffice to draw {n} frame{'s' * (n > 1)} of "
                f"{self.info.width}x{self.info.height} at once on {self.device}"
            )
        return_freed_memory()
        self.batch = max(1, self.batch // 2)
        cut = cuts[len(cuts) // 2]
        for part in (indices[:cut], indices[cut:]):
            yield from self._draw_all(number, part, finish)

    def _cuts(self, number: int, indices: list[int]) -> list[int]:
        """Return where, among frames of a segment, one clip ends and another begins."""
        first, n = self._firsts[number], self._clip_frames(number)
        clips = [(index - first) // n for index in indices]
        return [i for i in range(1, len(clips)) if clips[i] != clips[i - 1]]

    def _draw(
        self, number: int, indices: list[int], finish: Callable[[Tensor, int], Iterable[T]]
    ) -> list[T]:
        """Draw frames of one segment; `finish` gets them (B, 3, H, W), and its number.

        On a CPU of several cores each draws clips of its own.
        """
        first = self.stream.segments[number].header.first_frame
        with self._lock:
            model, corrector = self._load(number)
            started = time.perf_counter()

            def draw(part: list[int]) -> Tensor:
                index = torch.tensor([i - first for i in part], device=self.device)
                with torch.inference_mode(), full_float32(self.device):
                    if self.draws_yuv(number):
                        return model(index)  # type: ignore[no-any-return]
                    samples = model.draw_samples(index, self.bit_depth)
                    if corrector is None:
                        return samples
                    # As corrections want it: what is done here is done on all cores.
                    return samples.contiguous(memory_format=torch.channels_last)

            def draw_and_finish(part: list[int]) -> list[T]:
                drawn = draw(part)
                with torch.inference_mode():
                    if corrector is not None:
                        index = torch.tensor([i - first for i in part])
                        drawn = corrector.correct(drawn, index, self.bit_depth)
                    return list(finish(drawn, number))

            def only_finish(part: list[int]) -> list[T]:
                with torch.inference_mode():
                    pixels = torch.stack([final[i].permute(1, 2, 0) for i in part])
                    return list(finish(pixels.permute(0, 3, 1, 2), number))

            parts = self._parts(number, indices)
            if corrector is not None and corrector.moves:
                final = self._in_turn(number, indices, corrector, draw)
                frames = self._spread(only_finish, parts)
            else:
                frames = self._spread(draw_and_finish, parts)
            found = [frame for part in frames for frame in part]
            self.network_s += time.perf_counter() - started
            return found

    def _in_turn(
        self,
        number: int,
        indices: list[int],
        corrector: Corrector,
        draw: Callable[[list[int]], Tensor],
    ) -> dict[int, Tensor]:
        """Return frames (3, H, W) of a segment, of which blocks may be those of the frame before.

        What they need is drawn as well, from the last frame on that needs none before it.
        """
        first = self.stream.segments[number].header.first_frame
        of, at, last = self._last
        if of != (number, self.bit_depth):
            at, last = -1, None
        final = {} if last is None else {at: last}
        needed: list[int] = []
        for i in sorted(set(indices) - final.keys()):
            begin = first + corrector.start_of(i - first)
            done = needed[-1] if needed else at
            needed += range(done + 1 if begin <= done < i else begin, i + 1)
        if not needed:
            return final
        parts = self._parts(number, needed)
        for part, drawn in zip(parts, self._spread(draw, parts), strict=True):
            index = torch.tensor([i - first for i in part])
            with torch.inference_mode():
                drawn = corrector.correct(drawn, index, self.bit_depth, last)
            last = drawn[-1]
            final |= {i: frame for i, frame in zip(part, drawn, strict=True) if i in indices}
            self._last = (number, self.bit_depth), part[-1], last
        return final

    def _parts(self, number: int, indices: list[int]) -> list[list[int]]:
        """Return frames of a segment in parts that are drawn apart, clip by clip on a CPU."""
        cuts = self._cuts(number, indices) if n_at_once(self.device) > 1 else []
        return [indices[i:j] for i, j in pairwise([0, *cuts, len(indices)])]

    def _spread(self, work: Callable[[list[int]], R], parts: list[list[int]]) -> Iterator[R]:
        """Yield what `work` makes of the parts, on a CPU of several cores on each of them one."""
        return spread(work, parts, min(n_at_once(self.device), len(parts)))
