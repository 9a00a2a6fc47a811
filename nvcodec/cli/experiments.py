"""nvcodec inpaint, interpolate and denoise."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from nvcodec.cli.base import check_stdout, main, wait_patiently
from nvcodec.cli.encode import resume_command
from nvcodec.cli.options import (
    arch_option,
    data_options,
    device_option,
    encode_options,
    format_options,
    framing_of,
    input_format,
    json_option,
    overwrite_option,
    quiet_option,
    rate_options,
    set_threads,
    training_options,
    verbose_option,
)
from nvcodec.ending import stop_requests
from nvcodec.errors import Interrupted, UsageError
from nvcodec.events import Event, Progress, Result

OUTPUT_HELP = "A .mp4, .mkv or .y4m file, frames/%06d.png, a folder/, or - for Y4M on stdout."

output_option = click.option("-o", "--output", required=True, help=OUTPUT_HELP)
keep_option = click.option("--keep", metavar="FILE.nrv", help="Also write the network's file.")
resume_option = click.option(
    "--resume", is_flag=True, help="Continue an interrupted run with the same --keep."
)


@main.command(context_settings={"default_map": {"preset": "fast", "arch": "hnerv"}})
@click.argument("source", metavar="INPUT")
@click.option(
    "--mask", required=True, metavar="MASK",
    help="boxes:N, five squares of N pixels; polygons:N, random by --seed; or a picture or video, "
    "white where pixels hide.",
)  # fmt: skip
@output_option
@keep_option
@arch_option
@rate_options(0.4)
@training_options
@data_options
@format_options
@resume_option
@overwrite_option
@json_option
@quiet_option
@verbose_option
@click.pass_context
def inpaint(ctx: click.Context, /, **given: Any) -> None:
    """Fill the hidden pixels of a video.

    A network is fitted to the other pixels alone and draws those under the mask.
    """
    _restore(ctx, "inpaint", given)


@main.command(
    context_settings={"default_map": {"preset": "fast", "loss": "log-l1", "arch": "hnerv"}}
)
@click.argument("source", metavar="INPUT")
@output_option
@keep_option
@arch_option
@rate_options(0.8)
@training_options
@data_options
@format_options
@resume_option
@overwrite_option
@json_option
@quiet_option
@verbose_option
@click.pass_context
def denoise(ctx: click.Context, /, **given: Any) -> None:
    """Remove noise from a video.

    A network too small to hold the noise is fitted to the video and draws it again: the lower
    --bpp, the less noise and the less detail.
    """
    _restore(ctx, "denoise", given)


def _restore(ctx: click.Context, kind: str, given: dict[str, Any]) -> None:
    source, output, keep, json = (given[key] for key in ("source", "output", "keep", "json"))
    if output == "-":
        check_stdout(json)
    if given["resume"] and keep is None:
        raise UsageError("--resume needs --keep, beside which the state of the first run lies")
    set_threads(given["threads"])
    wait_patiently()
    from nvcodec.codec.checkpoint import checkpoint_path
    from nvcodec.codec.restore import restore
    from nvcodec.console import make_listener

    names = ("keep", "device", "start", "frames", "overwrite", "resume")
    with make_listener(json=json, quiet=given["quiet"]) as listen, stop_requests() as stop:

        def listen_and_stop(event: Event) -> None:
            listen(event)
            if stop() and isinstance(event, Progress) and event.stage in ("read", "write"):
                raise Interrupted(
                    f"stopped at frame {event.done} ({event.stage}); {output} was not written"
                )

        try:
            result = restore(
                source, output, encode_options(given), mask=given.get("mask"),
                form=input_format(given), framing=framing_of(given),
                listener=listen_and_stop, stop=stop, **{name: given[name] for name in names},
            )  # fmt: skip
        except Interrupted as error:
            if keep is not None and checkpoint_path(Path(keep)).exists():
                error.add_note(f"continue with: {resume_command(ctx)}")
            raise
        listen(Result(kind=kind, values={"file": output, "keep": keep, **asdict(result)}))


@main.command()
@click.argument("file")
@click.option("--factor", type=int, default=2, help="Frames for each frame of the file, 2 to 64.")
@output_option
@device_option
@overwrite_option
@json_option
@quiet_option
@verbose_option
def interpolate(
    file: str, factor: int, output: str, device: str,
    overwrite: bool, json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Decode an .nrv file with more frames per second.

    The network draws the moments between its frames; none is added after the last one.
    """
    if output == "-":
        check_stdout(json)
    from nvcodec.codec import interpolate as between
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=quiet) as listen:
        result = between.interpolate(
            file, output, factor, device=device, overwrite=overwrite, listener=listen
        )
        listen(Result(kind="interpolate", values={"file": output, **asdict(result)}))
