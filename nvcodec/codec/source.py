"""A video in memory, with what lies beside its frames."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nvcodec.depth import RGB, Samples
from nvcodec.errors import ResourceError
from nvcodec.events import Listener, Log, Progress, ignore
from nvcodec.media import NO_EXTRAS, NO_HDR, PLAIN, Extras
from nvcodec.video.forms import Planes
from nvcodec.video.frames import InputFormat, VideoInfo
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.reader import OWN_FORMAT, open_video


@dataclass(frozen=True, slots=True)
class Source:
    """A video in memory."""

    info: VideoInfo
    frames: Samples
    """(N, H, W, 3) RGB of `info.bit_depth`."""
    sha256: str
    extras: Extras = NO_EXTRAS
    """Tracks, chapters and tags beside the frames."""
    planes: Planes | None = None
    """The same frames as Y (N, H, W), Cb and Cr, or Y alone; None where the source is RGB."""

    def planes_of(self, index: int) -> Planes:
        """Return the planes of a frame; the source must have them."""
        assert self.planes is not None
        return tuple(plane[index] for plane in self.planes)

    def part(self, scene: range) -> Source:
        """Return some of the frames alone, without what lies beside them."""
        cut = slice(scene.start, scene.stop)
        info = replace(self.info, display=PLAIN, timing=None, hdr=NO_HDR)
        planes = None if self.planes is None else tuple(plane[cut] for plane in self.planes)
        return Source(info, self.frames[cut], self.sha256, planes=planes)

    @property
    def memory_bytes(self) -> int:
        """What the frames and their planes take in memory."""
        return self.frames.nbytes + sum(plane.nbytes for plane in self.planes or ())

    @property
    def n_pixels(self) -> int:
        """Pixels of all frames."""
        n_frames, height, width, _ = self.frames.shape
        return int(n_frames * height * width)


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What is kept beside the pictures."""

    audio: bool = True
    subtitles: bool = True
    metadata: bool = True
    """Program version, preset, name of the source's codec, chapters and tags."""


KEEP_ALL = Keep()


def read_source(
    path: str | Path,
    *,
    start: int,
    count: int | None,
    keep: Keep = KEEP_ALL,
    form: InputFormat = OWN_FORMAT,
    framing: Framing = AS_IS,
    listener: Listener = ignore,
) -> Source:
    """Read a video into memory, and what lies beside it; raise InputError or ResourceError."""
    frames: list[RGB] = []
    planes: list[Planes] = []
    digest = hashlib.sha256()
    with open_video(path, start=start, count=count, form=form, framing=framing) as reader:
        try:
            for frame, parts in reader.with_planes():
                frames.append(frame)
                digest.update(frame.tobytes())
                if parts is not None:
                    planes.append(parts)
                    for part in parts:
                        digest.update(part.tobytes())
                listener(Progress(stage="read", done=len(frames), total=count or 0, unit="frame"))
            video: Samples = np.stack(frames)
            stacked = tuple(np.stack(parts) for parts in zip(*planes, strict=True))
        except MemoryError as error:
            raise ResourceError(
                f"{path} does not fit into memory; encode a part with --start and --frames"
            ) from error
        extras = reader.read_extras(audio=keep.audio, subtitles=keep.subtitles, tags=keep.metadata)
        for warning in reader.warnings:
            listener(Log(level="warning", message=warning))
        return Source(reader.info, video, digest.hexdigest(), extras, stacked or None)
