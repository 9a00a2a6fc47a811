"""The bench: every codec on the same frames, point by point, kept as it goes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nvcodec import __version__
from nvcodec.bench import machine
from nvcodec.bench.anchors import ANCHORS, decode_with_av, parse_anchor
from nvcodec.bench.bdrate import all_bd, check_extra
from nvcodec.bench.cache import Entry, entry
from nvcodec.bench.codecs import Codec
from nvcodec.bench.external import (
    EXTERNALS,
    Programs,
    Template,
    find_program,
    parse_external,
    read_raw,
    template_codec,
)
from nvcodec.bench.imported import import_results
from nvcodec.bench.ours import decode_own, describe_own, own_codec
from nvcodec.bench.process import run_worker
from nvcodec.bench.published import published_results
from nvcodec.bench.quality import Frame, has_vmaf, measure, vmaf
from nvcodec.bench.results import BenchResults, CodecResult, Point, save_results
from nvcodec.bench.search import find_q
from nvcodec.bench.source import BenchSource, prepare_source, write_y4m, write_yuv
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.device import pick_device
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.ending import failure
from nvcodec.errors import Interrupted, UsageError
from nvcodec.events import Listener, Log, ignore
from nvcodec.video.sources import Source

METRICS = ("xpsnr", "vmaf")
"""Those that are measured only when asked for."""
_POINTS, _SAMPLES = "points", "samples"
"""Folders of the output."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What to compare, and how."""

    archs: tuple[str, ...] = ("hnerv",)
    """Architectures of ours; none for the others alone."""
    bpps: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2)
    """Targets of ours, and the rates that the others are to meet."""
    anchors: tuple[str, ...] = ("x265", "svtav1")
    """NAME, NAME:PRESET or NAME:PRESET:TUNE."""
    encode: EncodeOptions = field(default_factory=EncodeOptions)
    """Of ours, apart from architecture and target."""
    device: str = "auto"
    threads: int | None = None
    """Of every encoder and decoder; None takes all cores."""
    metrics: tuple[str, ...] = ()
    """Some of METRICS."""
    imports: tuple[Path, ...] = ()
    templates: tuple[Template, ...] = ()
    programs: Programs = field(default_factory=Programs)
    published: bool = False
    dataset: str = "uvg"
    """Whose published curves to show."""
    force: bool = False
    """Measure again what was measured before."""
    cache: Path | None = None
    """Folder of points; None takes one in the output folder."""

    def __post_init__(self) -> None:
        if not (self.archs or self.anchors or self.templates):
            raise UsageError("at least one architecture, anchor or external codec is needed")
        if not self.bpps:
            raise UsageError("at least one rate is needed")
        for arch in self.archs:
            replace(self.encode, arch=arch)
        for bpp in self.bpps:
            Target(bpp=bpp)
        for text in self.anchors:
            name = text.partition(":")[0]
            allowed = (*ANCHORS, *EXTERNALS)
            if name not in allowed:
                raise UsageError(f"anchor is {name}, allowed are {', '.join(allowed)}")
        for metric in self.metrics:
            if metric not in METRICS:
                raise UsageError(f"metric is {metric}, allowed are {', '.join(METRICS)}")


def bench(
    source: str | Path | Source,
    folder: str | Path,
    options: BenchOptions | None = None,
    *,
    start: int = 0,
    frames: int | None = None,
    command: str = "",
    listener: Listener = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[BenchResults, list[Path]]:
    """Measure all codecs on the same frames, and write results.json and the report.

    A codec that fails or is absent is shown as such and does not stop the others. Every point is
    kept in the folder as soon as it is measured; the same call goes on where an earlier one
    stopped.

    Args:
        source: a video file, a folder of PNG files, a pattern, or pictures of another kind.
        folder: where to write; it may hold an earlier bench.
        options: what to compare.
        start: first frame.
        frames: number of frames; None takes all.
        command: the command line, for the report.
        listener: receives `nvcodec.events`.
        stop: polled; when true, the state is kept and Interrupted raised.

    Returns:
        The results, and the files that were written.

    Raises:
        NvcodecError: the source or the options cannot be used, or Interrupted.
    """
    from nvcodec.bench.report import write_report

    check_extra()
    options = options or BenchOptions()
    if isinstance(source, str | Path) and str(source) == "-":
        raise UsageError("bench reads its source several times; standard input cannot be")
    given = Path(source) if isinstance(source, str) else source
    folder = Path(folder)
    _claim(folder)
    with tempfile.TemporaryDirectory(prefix=".work-", dir=folder) as work:
        prepared = prepare_source(
            given, Path(work), start=start, count=frames, listener=listener, stop=stop
        )
        results = _Bench(prepared, folder, Path(work), options, command, listener, stop).run()
    written = [save_results(folder, results), *write_report(folder)]
    return results, written


def _claim(folder: Path) -> None:
    """Create the output folder; raise UsageError for one that holds something else."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"output {folder} is a file; give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / _POINTS).is_dir():
        raise UsageError(f"folder {folder} is not empty and holds no bench; give another one")
    if not folder.parent.is_dir():
        raise UsageError(f"folder {folder.parent} of the output does not exist")
    for path in (folder, folder / _POINTS, folder / _SAMPLES):
        path.mkdir(exist_ok=True)


class _Bench:
    """The state of one bench."""

    def __init__(
        self,
        source: BenchSource,
        folder: Path,
        work: Path,
        options: BenchOptions,
        command: str,
        listener: Listener,
        stop: Callable[[], bool],
    ) -> None:
        self.source, self.folder, self.work, self.options = source, folder, work, options
        self.command, self.listener, self.stop = command, listener, stop
        self.device = pick_device(options.device)
        self.threads = options.threads or machine.available_cores()
        self.points = options.cache or folder / _POINTS
        self.points.mkdir(parents=True, exist_ok=True)
        self._redone: set[str] = set()
        self._n_points = self._n_done = 0
        self._ffmpeg = find_program(options.programs.ffmpeg, "ffmpeg")
        self.notes: list[str] = []
        self._vmaf = "vmaf" in options.metrics and self._find_vmaf()

    def _find_vmaf(self) -> bool:
        if self._ffmpeg is not None and has_vmaf(self._ffmpeg):
            return True
        self.notes.append(
            "VMAF was not measured: no ffmpeg with libvmaf was found; give one with --ffmpeg or "
            "NVCODEC_BENCH_FFMPEG"
        )
        self.listener(Log(level="warning", message=self.notes[-1]))
        return False

    def codecs(self) -> Iterator[Codec | CodecResult]:
        """Yield all that is to run, and what cannot."""
        options = self.options
        for arch in options.archs:
            yield own_codec(
                replace(options.encode, arch=arch, target=Target()),
                device=self.device.type,
                threads=self.threads,
            )
        for text in options.anchors:
            if text.partition(":")[0] in EXTERNALS:
                yield parse_external(text, options.programs, threads=self.threads)
            else:
                yield from parse_anchor(text, threads=self.threads)
        yield from map(template_codec, options.templates)

    def run(self) -> BenchResults:
        """Measure everything."""
        started = datetime.now(UTC).isoformat(timespec="seconds")
        described = self.source.described
        for note in described.notes:
            self.listener(Log(level="warning", message=note))
        # What the user gave is checked before hours are spent.
        codecs = list(self.codecs())
        self._n_points = sum(len(self._wanted(c)) for c in codecs if isinstance(c, Codec))
        imported = [r for path in self.options.imports for r in import_results(path, self.source)]
        results = [self.run_codec(c) if isinstance(c, Codec) else self.skip(c) for c in codecs]
        results += imported
        bd = all_bd(results)
        if self.options.published:
            results += published_results(self.options.dataset, Path(described.file).stem)
        return BenchResults(
            nvcodec=__version__,
            commit=machine.commit(),
            command=self.command,
            machine=machine.describe_machine(self.device, self.threads),
            started=started,
            source=replace(described, notes=(*described.notes, *self.notes)),
            codecs=tuple(results),
            bd=bd,
        )

    def skip(self, codec: CodecResult) -> CodecResult:
        """Say that a codec cannot run."""
        self.listener(Log(level="warning", message=f"{codec.name} is not run: {codec.reason}"))
        return codec

    def run_codec(self, codec: Codec) -> CodecResult:
        """Measure all points of a codec; what fails becomes a failed point."""
        found: dict[float, Point] = {}
        known: dict[int, float] = {}
        for wanted in self._wanted(codec):
            self._n_done += 1
            q = wanted
            try:
                if codec.scale is not None:
                    tried: list[int] = []
                    probe = self._probe(codec, tried)
                    try:
                        q = float(find_q(wanted, codec.scale, probe, known))
                    except Exception:
                        q = float(tried[-1])
                        raise
                if q not in found:
                    found[q] = self.point(codec, q)
                    self._show(codec, found[q])
            except Interrupted:
                raise
            except Exception as error:
                reason = failure(error)[1]
                found[q] = Point(status="failed", reason=reason, q=q)
                self._say(codec, q, f"failed: {reason}", level="warning")
        points = sorted(found.values(), key=lambda p: (p.status != "ok", p.bpp or 0.0))
        failed = [point for point in points if point.status != "ok"]
        return CodecResult(
            name=codec.name,
            kind=codec.kind,
            parameters=codec.parameters,
            status="failed" if len(failed) == len(points) else "ok",
            reason=failed[0].reason if failed else None,
            points=tuple(points),
        )

    def _wanted(self, codec: Codec) -> tuple[float, ...]:
        """Return the quality parameters to run, or the rates to look for."""
        return codec.fixed or self.options.bpps

    def _probe(self, codec: Codec, tried: list[int]) -> Callable[[int], float]:
        def probe(q: int) -> float:
            tried.append(q)
            bpp = self.encoded(codec, q)[0].bpp
            assert bpp is not None
            return bpp

        return probe

    def _show(self, codec: Codec, point: Point) -> None:
        kept = ", measured before" if point.from_cache else f", {point.encode_s:.1f} s"
        self._say(codec, point.q, f"{point.bpp:.4f} bpp, {point.psnr_rgb_db:.2f} dB{kept}")

    def _say(self, codec: Codec, q: float, text: str, level: str = "info") -> None:
        count = f"point {self._n_done} of {self._n_points}"
        self.listener(Log(level=level, message=f"{count}: {codec.name} {q:g}: {text}"))

    def place(self, codec: Codec, q: float) -> Entry:
        """Return where a point is kept."""
        return entry(self.points, self.source.described.frames_sha256, codec, q)

    def encoded(self, codec: Codec, q: float) -> tuple[Point, Entry]:
        """Return a point with its rate at least: from an earlier run, or by encoding."""
        place = self.place(codec, q)
        old = None if self.options.force and place.name not in self._redone else place.load()
        if old is not None and (self._whole(old) or place.stream.is_file()):
            return replace(old, from_cache=place.name not in self._redone), place
        if self.options.force:
            checkpoint_path(place.stream).unlink(missing_ok=True)
        job = {
            "task": "encode",
            "codec": codec.job,
            "source": str(self.source.path),
            "start": self.source.start,
            "count": self.source.n_frames,
            "q": q,
            "output": str(place.stream),
            **self._outside(codec),
        }
        values = self._work(job, f"{codec.name} {q:g}")
        n_bytes = place.stream.stat().st_size
        if codec.kind == "nvcodec":
            values |= describe_own(place.stream)
        point = Point(q=q, n_bytes=n_bytes, bpp=8 * n_bytes / self.source.n_pixels, **values)
        place.store(point, codec)
        self._redone.add(place.name)
        return point, place

    def point(self, codec: Codec, q: float) -> Point:
        """Return a whole point, and put its middle frame among the samples."""
        point, place = self.encoded(codec, q)
        if not self._whole(point):
            point = self.judged(codec, point, place)
            place.store(point, codec)
        if place.sample.is_file():
            name = f"{_SAMPLES}/{codec.slug}_{q:g}.png"
            shutil.copyfile(place.sample, self.folder / name)
            point = replace(point, sample=name)
        return point

    def _whole(self, point: Point) -> bool:
        """Tell whether a point has all figures that are asked for."""
        wanted = [point.psnr_rgb_db, point.decode_fps]
        wanted += [point.xpsnr_db] if "xpsnr" in self.options.metrics else []
        wanted += [point.vmaf] if self._vmaf else []
        return None not in wanted

    def judged(self, codec: Codec, point: Point, place: Entry) -> Point:
        """Return the point with speed of decoding, memory and quality."""
        title = f"{codec.name} {point.q:g}"
        raw = self.work / "decoded.yuv"
        job = {
            "task": "decode",
            "codec": codec.job,
            "stream": str(place.stream),
            "threads": self.threads,
            "count": self.source.n_frames,
            "decoded": str(raw),
            **self._outside(codec),
        }
        values = self._work(job, title)
        y4m = self.work / "decoded.y4m" if self._vmaf else None
        values |= measure(
            self.source,
            self._decoded(codec, place.stream, raw),
            xpsnr="xpsnr" in self.options.metrics,
            sample=place.sample,
            y4m=y4m,
            stop=self.stop,
        )
        if y4m is not None and self._ffmpeg is not None:
            values["vmaf"] = vmaf(self._ffmpeg, y4m, self._input("y4m"), threads=self.threads)
        return replace(point, **values)

    def _decoded(self, codec: Codec, stream: Path, raw: Path) -> Iterator[Frame]:
        """Decode once more, for the figures of quality."""
        decoder = codec.job["decoder"]
        if decoder == "nvcodec":
            return decode_own(stream, device=self.device.type, threads=self.threads)
        if decoder == "av":
            return decode_with_av(stream, self.threads)
        info = self.source.info
        return read_raw(raw, info.width, info.height, self.source.n_frames)

    def _work(self, job: dict[str, Any], title: str) -> dict[str, Any]:
        if self.stop():
            raise Interrupted(f"stopped before {title}; the same command continues")
        return run_worker(job, title=title, listener=self.listener, stop=self.stop)

    def _outside(self, codec: Codec) -> dict[str, Any]:
        """Return what programs outside must be told."""
        if codec.job["encoder"] != "command":
            return {}
        info = self.source.info
        values = {
            "width": info.width,
            "height": info.height,
            "frames": self.source.n_frames,
            "fps": round(info.frame_rate),
            "threads": self.threads,
        }
        return {"input": str(self._input(codec.job["reads"])), "values": values}

    def _input(self, form: str) -> Path:
        """Return the frames as .y4m or .yuv, written when first needed."""
        path = self.work / f"input.{form}"
        if not path.exists():
            (write_y4m if form == "y4m" else write_yuv)(self.source, path)
        return path
