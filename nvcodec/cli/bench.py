"""nvcodec bench."""

from __future__ import annotations

import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvcodec.cli.base import main
from nvcodec.cli.options import (
    ARCHITECTURES,
    encode_options,
    json_option,
    quiet_option,
    training_options,
    verbose_option,
)
from nvcodec.cli.values import numbers, words
from nvcodec.ending import stop_requests
from nvcodec.errors import UsageError
from nvcodec.events import Result

if TYPE_CHECKING:
    from nvcodec.bench.run import BenchOptions

DATASETS = ("uvg", "mcl-jcv", "hevc-b")
METRICS = ("xpsnr", "vmaf")


@main.command()
@click.argument("source", metavar="[INPUT]", required=False)
@click.option("-o", "--output", help="Folder for results, report and streams.")
@click.option(
    "--compare", nargs=2, metavar="OLD NEW",
    help="Measure nothing; show what changed between the results.json of two benches.",
)  # fmt: skip
@click.option(
    "--arch", callback=words, default="hnerv", metavar="NAMES",
    help=f"Architectures, separated by commas: {', '.join(ARCHITECTURES)}.",
)  # fmt: skip
@click.option(
    "--bpp", callback=numbers, default="0.02,0.05,0.1,0.2", help="Targets in bits per pixel."
)
@click.option(
    "--anchors", callback=words, default="x265,svtav1,vtm", metavar="NAMES",
    help="x264, x265, svtav1, vp9, vtm or vvenc, each alone or as NAME:PRESET or "
    "NAME:PRESET:TUNE; x265 alone means medium and veryslow.",
)  # fmt: skip
@training_options
@click.option(
    "--metrics", callback=words, default="", metavar="NAMES",
    help="More than PSNR and MS-SSIM: xpsnr, vmaf (needs an ffmpeg with libvmaf).",
)  # fmt: skip
@click.option("--vtm", help="EncoderAppStatic of VTM, with DecoderAppStatic beside it.")
@click.option("--vtm-config", help="Its configuration file.  [default: in cfg/ above it]")
@click.option("--vvenc", help="vvencapp of VVenC.")
@click.option("--ffmpeg", help="An ffmpeg program with libvmaf.")
@click.option(
    "--external", nargs=4, multiple=True, metavar="NAME ENCODE DECODE QS",
    help="Any codec by its commands: ENCODE reads {input} (.y4m) and writes {output} at quality "
    "{q}; DECODE reads {input} and writes {output} (raw 8-bit 4:2:0), or is empty where FFmpeg "
    "decodes the stream; QS are values of {q}, separated by commas.",
)  # fmt: skip
@click.option(
    "--import", "imports", multiple=True, metavar="FILE",
    help="JSON with figures measured elsewhere on the same frames.",
)  # fmt: skip
@click.option("--published", is_flag=True, help="Show published curves, for context.")
@click.option("--dataset", type=click.Choice(DATASETS), help="Run all its sequences in --data.")
@click.option("--data", help="Folder with the raw .yuv files of the data set.")
@click.option(
    "--sequences", callback=words, default="", metavar="NAMES", help="Only these of the data set."
)
@click.option("--force", is_flag=True, help="Measure again what was measured before.")
@click.option("--cache", help="Folder of measured points.  [default: points/ in the output]")
@json_option
@quiet_option
@verbose_option
@click.pass_context
def bench(
    ctx: click.Context, /, source: str | None, output: str | None, json: bool, quiet: bool,
    compare: tuple[str, str] | None, **given: Any,
) -> None:  # fmt: skip
    """Measure nvcodec against other codecs on the same frames.

    INPUT is a video file, a folder of PNG files or a pattern such as frames/%06d.png. Every point
    is kept in the output folder: the same command continues an interrupted bench.
    """
    if compare is not None:
        if source is not None or output is not None:
            raise UsageError("--compare takes two results.json, and neither INPUT nor --output")
        show_changes(*compare, json=json)
        return
    if output is None:
        raise UsageError("give the folder of the results with --output")
    if (source is None) == (given["dataset"] is None):
        raise UsageError("give either INPUT or --dataset with --data")
    if given["dataset"] is not None and given["data"] is None:
        raise UsageError(f"--dataset {given['dataset']} needs --data, the folder of its files")
    from nvcodec.bench import bdrate, datasets
    from nvcodec.bench.run import bench as run_bench
    from nvcodec.console import make_listener
    from nvcodec.video.sources import Source

    options = bench_options(given)
    folder = Path(output)
    runs: list[tuple[str | Source, Path]]
    if source is not None:
        runs = [(source, folder)]
    else:
        data = Path(given["data"])
        found = datasets.find_sequences(given["dataset"], data, given["sequences"])
        folder.mkdir(exist_ok=True)
        runs = [(datasets.open_sequence(s, data), folder / s.name) for s in found]
    differences = []
    with make_listener(json=json, quiet=quiet) as listen, stop_requests() as stop:
        for video, place in runs:
            results, files = run_bench(
                video, place, options, start=given["start"], frames=given["frames"],
                command=command_line(ctx), listener=listen, stop=stop,
            )  # fmt: skip
            values = {"folder": str(place), "files": [str(path) for path in files]}
            listen(Result(kind="bench", values=values | results.to_dict()))
            differences.append(results.bd)
        if source is None:
            names = [place.name for _, place in runs]
            means = [asdict(bd) for bd in bdrate.mean_bd(differences)]
            listen(Result(kind="bench_mean", values={"sequences": names, "bd": means}))


def show_changes(old: str, new: str, *, json: bool) -> None:
    """Print what changed between two results.json, or the folders that hold them."""
    from nvcodec.bench.compare import compare_results
    from nvcodec.bench.results import load_results
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=False) as listen:
        found = compare_results(load_results(Path(old)), load_results(Path(new)))
        values = {"old": old, "new": new, **found.to_dict()}
        listen(Result(kind="compare", values=values))


def bench_options(given: dict[str, Any]) -> BenchOptions:
    """Return the options of a bench from those of the command line."""
    from nvcodec.bench.external import Programs, Template
    from nvcodec.bench.run import BenchOptions

    names = ("vtm", "vtm_config", "vvenc", "ffmpeg")
    templates = tuple(
        Template(name=name, encode=encode, decode=decode, qs=numbers(None, None, qs))
        for name, encode, decode, qs in given["external"]
    )
    one = given | {"arch": "hnerv", "bpp": None, "bitrate": None, "size": None, "psnr": None}
    return BenchOptions(
        archs=given["arch"],
        bpps=given["bpp"],
        anchors=given["anchors"],
        encode=encode_options(one),
        device=given["device"],
        threads=given["threads"],
        metrics=given["metrics"],
        imports=tuple(Path(path) for path in given["imports"]),
        templates=templates,
        programs=Programs(**{name: given[name] for name in names}),
        published=given["published"],
        dataset=given["dataset"] or "uvg",
        force=given["force"],
        cache=Path(given["cache"]) if given["cache"] else None,
    )


def command_line(ctx: click.Context) -> str:
    """Return the command line as it was given, with absolute paths cut to their names."""
    args: list[str] = ctx.find_root().obj
    short = [Path(arg).name if os.path.isabs(arg) and " " not in arg else arg for arg in args]
    return shlex.join(["nvcodec", *short])
