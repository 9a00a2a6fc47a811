"""nvcodec encode."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nvcodec.cli.base import check_stdout, main
from nvcodec.cli.options import (
    arch_option,
    encode_options,
    json_option,
    overwrite_option,
    quiet_option,
    set_threads,
    target_options,
    training_options,
    verbose_option,
)
from nvcodec.ending import stop_requests
from nvcodec.errors import Interrupted, UsageError
from nvcodec.events import Event, Progress, Result


@main.command()
@click.argument("source", metavar="INPUT")
@click.option("-o", "--output", help="File to write, - for stdout.  [default: INPUT with .nrv]")
@arch_option
@target_options
@training_options
@click.option("--resume", is_flag=True, help="Continue an interrupted encode.")
@click.option("--no-metadata", is_flag=True, help="Do not store program version and preset.")
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

    INPUT is a video file, a folder of PNG files, a pattern such as frames/%06d.png, or - for Y4M
    on standard input. Ctrl-C saves the state; --resume continues it.
    """
    output = default_output(source) if output is None and not given["dry_run"] else output
    if output == "-":
        check_stdout(json)
    set_threads(given["threads"])
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


def resume_command(ctx: click.Context) -> str:
    """Return the command line that continues this encode."""
    root = ctx.find_root()
    name, *args = root.obj
    args = args if "--resume" in args else ["--resume", *args]
    return f"{root.info_name} {shlex.join([name, *args])}"
