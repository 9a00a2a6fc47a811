"""nvcodec encode."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from nvcodec import __version__, storage
from nvcodec.cli.base import check_stdout, main, wait_patiently
from nvcodec.cli.options import (
    arch_option,
    audio_option,
    data_options,
    encode_options,
    format_options,
    framing_of,
    input_format,
    json_option,
    overwrite_option,
    quiet_option,
    set_threads,
    subtitles_option,
    target_options,
    training_options,
    verbose_option,
)
from nvcodec.cli.runlog import append_run, check_log
from nvcodec.cli.settings import chosen, settle, to_toml
from nvcodec.codec.recipes import RECIPES
from nvcodec.ending import stop_requests
from nvcodec.errors import Interrupted, UsageError
from nvcodec.events import Event, Listener, Progress, Result, ignore


@main.command()
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", help="File to write, - for stdout.  [default: INPUT with .nrv]")
@click.option("--recipe", type=click.Choice(list(RECIPES)), help="Settings of a paper.")
@click.option("--config", metavar="FILE.toml", help="Read settings from a file.")
@click.option("--save-config", metavar="FILE.toml", help="Write the settings of this run.")
@arch_option
@target_options
@training_options
@data_options
@click.option("--init", metavar="FILE.nrv", help="Start from the weights of the same network.")
@click.option("--log", metavar="FILE", help="Append settings and results to a .csv or .json file.")
@click.option("--tensorboard", metavar="FOLDER", help="Write curves of the training.")
@click.option("--wandb", metavar="PROJECT", help="Send them to Weights & Biases.")
@click.option("--distributed", is_flag=True, help="Share batches among torchrun's or srun's tasks.")
@click.option("--resume", is_flag=True, help="Continue an interrupted encode.")
@format_options
@audio_option
@subtitles_option
@click.option(
    "--no-metadata", is_flag=True, help="Store no program version, preset, chapters and tags."
)
@click.option("--dry-run", is_flag=True, help="Only print the plan and the expected time.")
@overwrite_option
@json_option
@quiet_option
@verbose_option
@click.pass_context
def encode(
    ctx: click.Context, /, source: str, output: str | None, json: bool, quiet: bool, **given: Any
) -> None:
    """Encode a video into one .nrv file.

    INPUT is a video file, a folder of PNG files, a pattern such as frames/%06d.png, raw video with
    --video-size and --pixel-format, or - for Y4M on standard input. Ctrl-C saves the state;
    --resume continues it. What is given here wins over --config, and that over --recipe.
    """
    output = default_output(source) if output is None and not given["dry_run"] else output
    if output == "-":
        check_stdout(json)
    given = settle(ctx, given)
    settings = chosen(ctx, given)
    config = to_toml(settings, given["recipe"])
    check_records(given, config)
    set_threads(given["threads"])
    wait_patiently()
    from nvcodec.codec import encoder
    from nvcodec.codec.checkpoint import checkpoint_path
    from nvcodec.codec.launch import team_variables
    from nvcodec.console import finite, make_listener

    # Of several processes the first one speaks and writes.
    leads = not given["distributed"] or team_variables().get("RANK", "0") == "0"
    wanted = encode_options(given)
    shared = {key: given[key] for key in ("device", "start", "frames", "init")}
    shared |= {kind: given[kind] == "copy" for kind in ("audio", "subtitles")}
    shared["form"] = input_format(given)
    shared["framing"] = framing_of(given)
    shared["metadata"] = not given["no_metadata"]
    with (
        make_listener(json=json and leads, quiet=quiet or not leads) as listen,
        curves(given, output, settings, quiet) if leads else nullcontext(ignore) as plot,
        stop_requests() as stop,
    ):

        def listen_and_stop(event: Event) -> None:
            listen(event)
            plot(event)
            if stop() and isinstance(event, Progress) and event.stage == "read":
                raise Interrupted(f"stopped while reading {source}; nothing was written")

        if given["dry_run"]:
            plan = encoder.dry_run(source, wanted, listener=listen_and_stop, **shared)
            if given["save_config"]:
                storage.write_atomic(Path(given["save_config"]), config.encode())
            listen(Result(kind="plan", values=plan))
            return
        path = None if output in ("-", None) else output
        try:
            data, result = encoder.encode(
                source, path, wanted, overwrite=given["overwrite"], resume=given["resume"],
                distributed=given["distributed"], listener=listen_and_stop, stop=stop, **shared,
            )  # fmt: skip
        except Interrupted as error:
            if path is not None and checkpoint_path(Path(path)).exists():
                error.add_note(f"continue with: {resume_command(ctx)}")
            raise
        if not leads:
            return
        if path is None:
            sys.stdout.buffer.write(data)
        values = {"file": output, **asdict(result)}
        if given["save_config"]:
            storage.write_atomic(Path(given["save_config"]), config.encode())
        if given["log"]:
            run = {
                "finished": now(),
                "nvcodec": __version__,
                "source": source,
                "recipe": given["recipe"],
                "settings": settings,
                "result": values,
            }
            append_run(Path(given["log"]), finite(run))
        listen(Result(kind="encode", values=values))


def check_records(given: dict[str, Any], config: str) -> None:
    """Refuse, before any work, what --save-config and --log could not write."""
    if given["log"]:
        check_log(Path(given["log"]))
    if given["save_config"]:
        path = Path(given["save_config"])
        # A resumed run finds its own file.
        same = path.is_file() and path.read_bytes() == config.encode()
        storage.check_output(path, overwrite=given["overwrite"] or same)


@contextmanager
def curves(
    given: dict[str, Any], output: str | None, settings: dict[str, Any], quiet: bool
) -> Iterator[Listener]:
    """Yield the listener of --tensorboard and --wandb."""
    from nvcodec.codec.scalars import Curves, TensorBoard, WandB

    with ExitStack() as stack:
        plots: list[Curves] = []
        if given["tensorboard"] is not None:
            plots.append(stack.enter_context(closing(TensorBoard(given["tensorboard"]))))
        if given["wandb"] is not None:
            name = Path(output or "-").name
            run = WandB(given["wandb"], name, settings, quiet=quiet)
            plots.append(stack.enter_context(closing(run)))

        def plot(event: Event) -> None:
            for each in plots:
                each(event)

        yield plot


def now() -> str:
    """Return the time in UTC, such as 2026-01-31T12:00:00+00:00."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def default_output(source: str) -> str:
    """Return INPUT with the suffix .nrv; raise UsageError where that makes no name."""
    path = Path(source)
    if source == "-" or "%" in path.name or path.name in ("", ".."):
        raise UsageError(f"input {source} gives the output no name; give one with -o")
    return str(path.with_suffix(".nrv"))


def resume_command(ctx: click.Context) -> str:
    """Return the command line that continues this encode."""
    root = ctx.find_root()
    name, *args = root.obj
    args = args if "--resume" in args else ["--resume", *args]
    return f"{root.info_name} {shlex.join([name, *args])}"
