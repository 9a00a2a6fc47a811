"""The command line: parse, call, and turn every failure into one sentence and an exit code.

Nothing heavy is imported here, so that --help and completion are instant; the choices below are
therefore literal, and a test compares them with the tables that they repeat.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
import traceback
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nvcodec import __version__
from nvcodec.bitstream.container import VERSION_MAJOR
from nvcodec.ending import failure, handle, nobody_reads, stop_requests
from nvcodec.errors import Interrupted, UsageError
from nvcodec.events import Event, Log, Progress, Result

if TYPE_CHECKING:
    from nvcodec.codec.plan import EncodeOptions

ARCHITECTURES = ("hnerv",)
PRESETS = ("fast", "medium", "slow")
DEVICES = ("auto", "cpu", "cuda")
OPTIMIZERS = ("muon", "adam")
LOSSES = (
    "log-mse", "l2", "l1", "ssim", "fusion1", "fusion2", "fusion3", "fusion4", "fusion5",
    "fusion6", "fusion7", "fusion8", "fusion9", "fusion10", "fusion11", "fusion12",
)  # fmt: skip

_MAX_FRAME = 2**32 - 1
_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def amount(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the number that a text such as 200k or 1.5M means; k is 1000."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,18}\.?\d*|\.\d+)([kmg]?)", value.lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not an amount such as 800, 200k or 1.5M")
    return float(match[1]) * _UNITS[match[2]]


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds that a text such as 90, 90s, 10m or 1h30m means."""
    if value is None:
        return None
    number = r"(\d{1,9}(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", value.lower())
    if match is None or not any(match.groups()):
        raise click.BadParameter(f"{value!r} is not a time such as 90s, 10m or 1h30m")
    parts = (float(part or 0) for part in match.groups())
    return sum(unit * part for unit, part in zip((3600, 60, 1), parts, strict=True))


def factors(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return the factors of a text such as 5,4,2,2; their range is the architecture's business."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,3}(,\d{1,3})*", value) is None:
        raise click.BadParameter(f"{value!r} is not a list of factors such as 5,4,2,2")
    return tuple(int(part) for part in value.split(","))


class Command(click.Command):
    """A command that ends every failure with one sentence, its exit code and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            with handle(signal.default_int_handler, signal.SIGTERM):
                result = super().invoke(ctx)
                sys.stdout.flush()
                return result
        except (click.ClickException, click.exceptions.Exit):
            raise
        except (Exception, KeyboardInterrupt) as error:
            code, message = failure(error)
            if nobody_reads(error):
                # Python flushes standard output once more at exit, and would complain there.
                with suppress(OSError, ValueError), open(os.devnull, "wb") as null:
                    os.dup2(null.fileno(), sys.stdout.fileno())
            else:
                self._report(ctx, error, code, message)
            ctx.exit(code)

    def _report(self, ctx: click.Context, error: BaseException, code: int, message: str) -> None:
        from nvcodec import console

        if ctx.params.get("verbose"):
            traceback.print_exception(error)
        notes: list[str] = getattr(error, "__notes__", [])
        console.print_error(message, notes)
        if ctx.params.get("json"):
            with suppress(OSError):
                values = {"type": "error", "code": code, "message": message}
                console.print_json(values | ({"hint": notes[0]} if notes else {}))


class Program(click.Group):
    """The group of commands; keeps the arguments, for the command line that resumes."""

    command_class = Command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Remember the arguments as they were given."""
        ctx.obj = list(args)
        return super().parse_args(ctx, args)


@click.group(
    cls=Program,
    context_settings={
        "show_default": True,
        "auto_envvar_prefix": "NVCODEC",
        "help_option_names": ["-h", "--help"],
    },
)
@click.version_option(
    __version__, message=f"%(prog)s %(version)s (.nrv format {VERSION_MAJOR})", prog_name="nvcodec"
)
def main() -> None:
    """Overfit a small network to a video, and keep its weights in one .nrv file."""


_json = click.option("--json", is_flag=True, help="Print one JSON object per line on stdout.")
_verbose = click.option("-v", "--verbose", is_flag=True, help="Show where an error comes from.")
_quiet = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
_overwrite = click.option("-y", "--overwrite", is_flag=True, help="Replace an existing output.")
_device = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", help="Where to compute."
)
_start = click.option(
    "--start", type=click.IntRange(0, _MAX_FRAME), default=0, help="First frame, counted from 0."
)
_frames = click.option(
    "--frames", type=click.IntRange(1, _MAX_FRAME), help="Number of frames.  [default: all]"
)


@main.command()
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", help="File to write, - for stdout.  [default: INPUT with .nrv]")
@click.option("--arch", type=click.Choice(ARCHITECTURES), default="hnerv", help="Architecture.")
@click.option("--bpp", type=float, help="Target: bits per pixel of the file.  [default: 0.05]")
@click.option("--bitrate", callback=amount, help="Target: bits per second, such as 200k or 1.5M.")
@click.option("--size", callback=amount, help="Target: bytes of the file, such as 500k or 1M.")
@click.option("--psnr", type=float, help="Target: mean RGB PSNR in dB, in the smallest file.")
@click.option("--preset", type=click.Choice(PRESETS), default="medium", help="Time to spend.")
@click.option("--max-time", callback=seconds, help="Time limit, such as 90s, 10m or 1h30m.")
@_start
@_frames
@_device
@click.option("--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: all cores]")
@click.option("--passes", type=int, help="Passes over all frames, instead of the preset's.")
@click.option("--batch", type=int, help="Frames of a training step.  [default: 2]")
@click.option(
    "--loss", type=click.Choice(LOSSES), default="log-mse", metavar="NAME",
    help="What to minimise: log-mse, l2, l1, ssim or fusion1 to fusion12.",
)  # fmt: skip
@click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="muon", help="How to.")
@click.option("--lr", type=float, help="Learning rate.  [default: the optimizer's]")
@click.option("--beta2", type=float, default=0.99, help="Adam's; the papers use 0.999.")
@click.option("--weight-bits", type=int, default=16, help="Most bits of a weight.")
@click.option("--embed-bits", type=int, default=16, help="Most bits of an embedding value.")
@click.option("--prune", type=float, default=0.0, help="Share of the weights to remove.")
@click.option("--strides", callback=factors, help="Upsampling of the stages, such as 5,4,2,2.")
@click.option("--embed-dim", type=int, help="Channels of a frame's embedding.")
@click.option("--seed", type=int, default=0, help="Seed of everything random.")
@click.option("--resume", is_flag=True, help="Continue an interrupted encode.")
@click.option("--no-metadata", is_flag=True, help="Do not store program version and preset.")
@click.option("--dry-run", is_flag=True, help="Only print the plan and the expected time.")
@_overwrite
@_json
@_quiet
@_verbose
@click.pass_context
def encode(
    ctx: click.Context, /, source: str, output: str | None, json: bool, quiet: bool, **given: Any
) -> None:
    """Encode a video into one .nrv file.

    INPUT is a video file, a folder of PNG files, a pattern such as frames/%06d.png, or - for Y4M
    on standard input. Ctrl-C saves the state; --resume continues it.
    """
    output = default_output(source) if output is None and not given["dry_run"] else output
    if output == "-":
        check_stdout(json)
    if given["threads"]:
        import torch

        torch.set_num_threads(given["threads"])
    from nvcodec.codec import encoder
    from nvcodec.codec.checkpoint import checkpoint_path
    from nvcodec.console import make_listener

    wanted = encode_options(given)
    shared = {key: given[key] for key in ("device", "start", "frames")}
    shared["metadata"] = not given["no_metadata"]
    with make_listener(json=json, quiet=quiet) as listen, stop_requests() as stop:

        def listen_and_stop(event: Event) -> None:
            listen(event)
            if stop() and isinstance(event, Progress) and event.stage == "read":
                raise Interrupted(f"stopped while reading {source}; nothing was written")

        if given["dry_run"]:
            plan = encoder.dry_run(source, wanted, listener=listen_and_stop, **shared)
            listen(Result(kind="plan", values=plan))
            return
        path = None if output in ("-", None) else output
        try:
            data, result = encoder.encode(
                source, path, wanted, overwrite=given["overwrite"], resume=given["resume"],
                listener=listen_and_stop, stop=stop, **shared,
            )  # fmt: skip
        except Interrupted as error:
            if path is not None and checkpoint_path(Path(path)).exists():
                error.add_note(f"continue with: {resume_command(ctx)}")
            raise
        if path is None:
            sys.stdout.buffer.write(data)
        listen(Result(kind="encode", values={"file": output, **asdict(result)}))


def default_output(source: str) -> str:
    """Return INPUT with the suffix .nrv; raise UsageError where that makes no name."""
    path = Path(source)
    if source == "-" or "%" in path.name or path.name in ("", ".."):
        raise UsageError(f"input {source} gives the output no name; give one with -o")
    return str(path.with_suffix(".nrv"))


def check_stdout(json: bool) -> None:
    """Raise UsageError when standard output cannot take a file."""
    if json:
        raise UsageError("-o - and --json both need standard output; choose one")
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; redirect it, or give a file with -o")


def encode_options(given: dict[str, Any]) -> EncodeOptions:
    """Return the options of an encode from those of the command line."""
    from nvcodec.codec.plan import EncodeOptions, Target

    size = given["size"]
    target = Target(
        bpp=given["bpp"],
        bitrate=given["bitrate"],
        size=None if size is None else int(size),
        psnr=given["psnr"],
    )
    names = ["arch", "preset", "seed", "passes", "batch", "loss", "optimizer", "lr"]
    names += ["beta2", "weight_bits", "embed_bits", "prune"]
    model = {name: given[name] for name in ("strides", "embed_dim") if given[name] is not None}
    return EncodeOptions(
        target=target, max_time_s=given["max_time"], model=model, **{n: given[n] for n in names}
    )


def resume_command(ctx: click.Context) -> str:
    """Return the command line that continues this encode."""
    root = ctx.find_root()
    name, *args = root.obj
    args = args if "--resume" in args else ["--resume", *args]
    return f"{root.info_name} {shlex.join([name, *args])}"


@main.command()
@click.argument("file")
@click.option(
    "-o", "--output", required=True,
    help="A .mp4, .mkv or .y4m file, frames/%06d.png, a folder/, or - for Y4M on stdout.",
)  # fmt: skip
@_start
@_frames
@_device
@click.option("--batch", type=int, default=1, help="Frames drawn at once.")
@_overwrite
@_json
@_quiet
@_verbose
def decode(
    file: str, output: str, start: int, frames: int | None, device: str, batch: int,
    overwrite: bool, json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Decode an .nrv file, or any part of it, into a video or PNG files."""
    if output == "-":
        check_stdout(json)
    from nvcodec import storage
    from nvcodec.codec.decoder import VideoFile
    from nvcodec.console import make_listener
    from nvcodec.video.writer import open_writer

    began = time.perf_counter()
    with make_listener(json=json, quiet=quiet) as listen:
        if Path(output).is_file():
            storage.check_output(Path(output), overwrite=overwrite, source=Path(file))
        with VideoFile(file, device=device, batch=batch) as video:
            if start >= len(video):
                raise UsageError(f"start is {start}, but the file has {len(video)} frames")
            end = len(video) if frames is None else min(start + frames, len(video))
            total = end - start
            if frames is not None and total < frames:
                message = f"{frames} frames were asked for, but only {total} are there"
                listen(Log(level="warning", message=message))
            with open_writer(output, video.info, overwrite=overwrite) as writer:
                for done, frame in enumerate(video.frames(range(start, end)), 1):
                    writer.write(frame)
                    per_s = done / (time.perf_counter() - began)
                    eta_s = (total - done) / per_s
                    listen(
                        Progress(
                            stage="decode", done=done, total=total, unit="frame",
                            per_s=per_s, eta_s=eta_s,
                        )
                    )  # fmt: skip
        elapsed_s = time.perf_counter() - began
        values = {
            "file": output,
            "description": writer.description,
            "start": start,
            "frames": total,
            "width": video.info.width,
            "height": video.info.height,
            "decode_s": video.network_s,
            "decode_fps": total / max(video.network_s, 1e-9),
            "end_to_end_s": elapsed_s,
            "end_to_end_fps": total / elapsed_s,
            "device": str(video.device),
            "batch": batch,
        }
        listen(Result(kind="decode", values=values))


@main.command()
@click.argument("file")
@_json
@_verbose
def info(file: str, json: bool, verbose: bool) -> None:
    """Show what an .nrv file says, and where its bytes are."""
    from nvcodec.codec.inspect import describe_file
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=False) as listen:
        listen(Result(kind="info", values=describe_file(file)))


@main.command()
@click.argument("file")
@click.option("--source", help="The original video, to measure PSNR and MS-SSIM against.")
@click.option(
    "--start", type=click.IntRange(0, _MAX_FRAME), default=0,
    help="Frame of the source at which the file begins.",
)  # fmt: skip
@_device
@_json
@_quiet
@_verbose
def verify(
    file: str, source: str | None, start: int, device: str, json: bool, quiet: bool, verbose: bool
) -> None:
    """Check an .nrv file and, given the source, its quality."""
    from nvcodec.codec.inspect import verify_file
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=quiet) as listen:
        values = verify_file(file, source, start=start, device=device, listener=listen)
        listen(Result(kind="verify", values=values))


@main.command()
@_json
@_verbose
def doctor(json: bool, verbose: bool) -> None:
    """Show versions, devices and codecs of this machine."""
    from nvcodec.codec.inspect import describe_machine
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=False) as listen:
        listen(Result(kind="doctor", values=describe_machine()))
