"""The pictures of the side-by-side view: the source, and one for each codec and rate."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from nvcodec.bench.report.groups import RateGroup
from nvcodec.bench.report.numbers import value_text
from nvcodec.bench.results import BenchResults
from nvcodec.errors import NvcodecError
from nvcodec.video.reader import open_video
from nvcodec.video.sinks import PngEncoder

SOURCE_SAMPLE = "samples/source.png"
MAX_WIDTH, MAX_HEIGHT = 640, 360
"""What the page shows of a picture at most, in pixels."""
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One picture."""

    codec: str
    """Index of the codec, or "source"."""
    kind: str
    """Of the codec, or "source"."""
    name: str
    rates: tuple[int, ...]
    """Numbers of the groups that show it; none for the source, which all of them show."""
    bpp: float | None
    caption: str
    url: str
    """A data URI."""


def find_samples(folder: Path, results: BenchResults, groups: list[RateGroup]) -> list[Sample]:
    """Return the source's picture, where it is there, and those of the groups' points."""
    samples = []
    source = _data_uri(folder, SOURCE_SAMPLE)
    if source is not None:
        samples.append(
            Sample(
                codec="source", kind="source", name="source", rates=(), bpp=None,
                caption="source", url=source,
            )
        )  # fmt: skip
    for index, codec in enumerate(results.codecs):
        for point in codec.good_points:
            rates = tuple(i for i, g in enumerate(groups) if g.points.get(index) is point)
            url = _data_uri(folder, point.sample) if rates else None
            if url is None:
                continue
            caption = (
                f"{codec.name}, q {point.q:g}: {value_text('bpp', point.bpp)} bpp, "
                f"{value_text('psnr_rgb_db', point.psnr_rgb_db)} dB PSNR-RGB (mean of all frames)"
            )
            samples.append(
                Sample(
                    codec=str(index), kind=codec.kind, name=codec.name, rates=rates,
                    bpp=point.bpp, caption=caption, url=url,
                )
            )  # fmt: skip
    return samples


def _data_uri(folder: Path, name: str | None) -> str | None:
    """Return a picture of the folder as a data URI; None where it is not there or not a PNG.

    Nothing outside the folder is read, whatever the name says.
    """
    if name is None:
        return None
    try:
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            return None
        data = path.read_bytes()
        if not data.startswith(_PNG_SIGNATURE):
            return None
        data = _central(path, data)
    except (OSError, ValueError, NvcodecError):
        return None
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def _central(path: Path, data: bytes) -> bytes:
    """Return the central part of a large picture, so that the page stays one that can be sent."""
    with open_video(path) as reader:
        width, height = reader.info.width, reader.info.height
        if width <= MAX_WIDTH and height <= MAX_HEIGHT:
            return data
        rgb, bit_depth = next(iter(reader)), reader.info.bit_depth
    left, top = max(0, width - MAX_WIDTH) // 2, max(0, height - MAX_HEIGHT) // 2
    part = rgb[top : top + MAX_HEIGHT, left : left + MAX_WIDTH]
    return PngEncoder(part.shape[1], part.shape[0], bit_depth).encode(part)
