"""Read any video as RGB frames of its own depth."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Self

from nvcodec.depth import RGB, sample_type
from nvcodec.errors import InputError, UsageError
from nvcodec.media import NO_EXTRAS, Extras, Window
from nvcodec.video.forms import Planes, has_planes, to_planes
from nvcodec.video.frames import InputFormat, VideoInfo
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.planes import Picture, check_size, to_rgb
from nvcodec.video.sources import FileSource, ImageSource, Source, is_pattern
from nvcodec.video.timing import FrameTimes
from nvcodec.video.y4m import MAGIC, Y4mSource

OWN_FORMAT = InputFormat()


class VideoReader:
    """Frames of a video in presentation order, decoded once; a context manager.

    Iterating yields contiguous arrays (H, W, 3) of `info.bit_depth`, uint8 or, above 8 bits,
    uint16. A frame that cannot be decoded, or whose size differs from the first one's, raises
    InputError.
    """

    info: VideoInfo
    """Known as soon as the reader is open."""

    def __init__(self, source: Source, start: int, count: int | None, framing: Framing) -> None:
        """Decode up to frame `start`; use open_video instead of calling this."""
        self._source = source
        self._framing = framing
        self._warnings: list[str] = []
        self._start = start
        self._cut = False
        self._times = FrameTimes(
            time_base=source.time_base, rates=[r * framing.share for r in source.rates]
        )
        self._wanted = self._decode(start, count)
        self.info = self._open(start)

    @property
    def warnings(self) -> list[str]:
        """Return sentences about what is lost or odd; more may appear while frames are read."""
        return [*self._warnings, *self._source.warnings]

    def _open(self, start: int) -> VideoInfo:
        """Skip to the first wanted picture, check it and describe the video."""
        source = self._source
        self._pictures = source.pictures()
        skipped = sum(1 for _ in islice(self._pictures, start))
        keeps = self._framing.keeps
        self._pictures = (p for i, p in enumerate(self._pictures) if keeps(i))
        first = next(self._pictures, None)
        if first is None and skipped:
            raise InputError(f"start is {start}, but the video has {skipped} frames")
        if first is None:
            raise InputError(f"{source.name} holds no frame that can be decoded")
        width, height = first.size
        check_size(source.name, width, height)
        width, height = self._framing.size(width, height)
        check_size(f"{source.name}, resized,", width, height)
        self._first = first
        if first.alpha:
            self._warnings.append("alpha dropped")
        return VideoInfo(
            width=width,
            height=height,
            frame_rate=source.rates[0] * self._framing.share,
            color=first.tags,
            bit_depth=first.bit_depth,
            chroma=first.chroma,
            codec=source.codec,
            n_bytes=source.n_bytes,
            display=first.display,
            hdr=first.hdr,
        )

    def _decode(self, start: int, count: int | None) -> Iterator[Picture]:
        self._times.add(self._first.pts, self._first.duration)
        yield self._first
        done = 1
        while count is None or done < count:
            picture = next(self._pictures, None)
            if picture is None:
                break
            self._check(picture, start + self._framing.index(done))
            self._times.add(picture.pts, picture.duration)
            yield picture
            done += 1
        self._cut = done == count
        if count is not None and done < count:
            self._warnings.append(f"{count} frames were asked for, but only {done} are there")

    def _check(self, picture: Picture, index: int) -> None:
        """Refuse a picture that differs in kind from the first."""
        if picture.size != self._first.size:
            was, now = (" x ".join(map(str, p.size)) for p in (self._first, picture))
            raise InputError(
                f"{self._source.name} changes its size from {was} to {now} at frame {index}; "
                f"all frames must have one size"
            )

    def resolve_timing(self) -> None:
        """Put the times of all frames into `info`, once these have been read."""
        if self.info.timing is not None:
            return
        timing, rate, warning = self._times.resolve(keep_start=self._start == 0)
        if warning:
            self._warnings.append(warning)
        self.info = replace(self.info, frame_rate=rate, timing=timing)

    def read_extras(
        self, *, audio: bool = True, subtitles: bool = True, tags: bool = True
    ) -> Extras:
        """Return what lies beside the frames that have been read, see `TrackReader.read`."""
        self.resolve_timing()
        timing = self.info.timing
        assert timing is not None
        start = self._times.start_s(self._start)
        length = timing.seconds(len(timing.pts)) - timing.seconds(0)
        window = Window(
            start=start if self._start > 0 else None, end=start + length if self._cut else None
        )
        with self._source.tracks() as reader:
            if reader is None:
                return NO_EXTRAS
            extras = reader.read(audio=audio, subtitles=subtitles, tags=tags, window=window)
            self._warnings += reader.warnings
        return extras

    def __iter__(self) -> Iterator[RGB]:
        depth = self.info.bit_depth
        return (self._framing.apply(to_rgb(picture, depth), depth) for picture in self._wanted)

    def with_planes(self) -> Iterator[tuple[RGB, Planes | None]]:
        """Iterate over the frames and their planes of Y'CbCr; None where the source is RGB.

        They are the source's own where `framing` keeps its pixels, else computed from the frame.
        """
        depth = self.info.bit_depth
        for picture in self._wanted:
            rgb = self._framing.apply(to_rgb(picture, depth), depth)
            yield rgb, self._planes(picture, rgb)

    def _planes(self, picture: Picture, rgb: RGB) -> Planes | None:
        if not has_planes(self.info):
            return None
        first = self._first
        alike = all(
            getattr(picture, name) == getattr(first, name)
            for name in ("chroma", "bit_depth", "tags")
        )
        if not alike or self._framing.crop or self._framing.resize:
            return to_planes(rgb, self.info)
        planes = picture.planes[:1] if picture.chroma == 400 else picture.planes
        # Copies: the views end with the picture, and their bytes may be in another order.
        return tuple(plane.astype(sample_type(picture.bit_depth)) for plane in planes)

    def pictures(self) -> Iterator[Picture]:
        """Iterate over the frames as planes, before `framing`; every frame comes once."""
        return self._wanted

    def close(self) -> None:
        """Release the source; later frames cannot be read."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _open_source(source: str | Path, form: InputFormat) -> Source:
    if form.raw:
        if not Path(source).is_file():
            raise InputError(f"{source} is not a file of raw video")
        return FileSource(Path(source), form)
    path = Path(source)
    pictures = path.is_dir() or (is_pattern(path) and not path.exists())
    if form.frame_rate is not None and not pictures:
        raise UsageError(
            f"{source} says its own frame rate; --framerate is for raw video and PNG files"
        )
    if str(source) == "-":
        return Y4mSource(sys.stdin.buffer, "standard input", None)
    if pictures:
        return ImageSource(path, form)
    if not path.exists():
        raise InputError(f"{path} does not exist")
    try:
        file = open(path, "rb")  # noqa: SIM115 (a Y4mSource keeps it)
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    try:
        if file.read(len(MAGIC)) == MAGIC:
            file.seek(0)
            return Y4mSource(file, str(path), path.stat().st_size)
    except BaseException:
        file.close()
        raise
    file.close()
    return FileSource(path, form)


def open_video(
    source: str | Path | Source,
    *,
    start: int = 0,
    count: int | None = None,
    form: InputFormat = OWN_FORMAT,
    framing: Framing = AS_IS,
) -> VideoReader:
    """Open a video and decode its first wanted frame.

    Args:
        source: a file that FFmpeg reads, a .y4m file, a folder of PNG files, a pattern such as
            "frames/%06d.png", "-" for Y4M on standard input, or pictures of any other kind.
        start: index of the first frame.
        count: number of frames; None means all that follow.
        form: what raw video and PNG files do not say of themselves.
        framing: what to make of each frame, and how many to leave out between two.

    Raises:
        UsageError: start is negative, count is not positive, `form` does not suit the source, or
            frames are smaller than the crop.
        InputError: the source is missing, is not a video, or ends before `start`.
    """
    if not 0 <= start < 2**32:
        raise UsageError(f"start is {start}; allowed are 0 to {2**32 - 1}")
    if count is not None and count < 1:
        raise UsageError(f"count is {count}; allowed are 1 and more")
    opened = _open_source(source, form) if isinstance(source, str | Path) else source
    try:
        return VideoReader(opened, start, count, framing)
    except BaseException:
        opened.close()
        raise
