"""nvcodec info, verify and doctor."""

from __future__ import annotations

from typing import Any

import click

from nvcodec.cli.base import main
from nvcodec.cli.options import (
    MAX_FRAME,
    data_options,
    device_option,
    format_options,
    framing_of,
    input_format,
    json_option,
    overwrite_option,
    quiet_option,
    verbose_option,
)
from nvcodec.events import Result


@main.command()
@click.argument("file")
@json_option
@verbose_option
def info(file: str, json: bool, verbose: bool) -> None:
    """Show what an .nrv file says, and where its bytes are."""
    from nvcodec.codec.inspect import describe_file
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=False) as listen:
        listen(Result(kind="info", values=describe_file(file)))


_VERIFY = ("start", "dump", "dump_video", "overwrite", "device", "reference")


@main.command()
@click.argument("file")
@click.option("--source", help="The original video, to measure PSNR and MS-SSIM against.")
@click.option(
    "--start", type=click.IntRange(0, MAX_FRAME), default=0,
    help="Frame of the source at which the file begins.",
)  # fmt: skip
@format_options
@data_options
@click.option(
    "--dump", metavar="FOLDER", help="Write source and decoded frames side by side as PNG files."
)
@click.option(
    "--reference", is_flag=True,
    help="Draw all frames in float64 too, and compare: conformance C2.",
)  # fmt: skip
@click.option("--dump-video", metavar="FILE.mkv", help="Write them as a lossless video.")
@overwrite_option
@device_option
@json_option
@quiet_option
@verbose_option
def verify(file: str, source: str | None, json: bool, quiet: bool, **given: Any) -> None:
    """Check an .nrv file and, given the source, its quality."""
    from nvcodec.codec.inspect import verify_file
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=quiet) as listen:
        shared = {key: given[key] for key in _VERIFY}
        shared |= {"form": input_format(given), "framing": framing_of(given)}
        values = verify_file(file, source, listener=listen, **shared)
        listen(Result(kind="verify", values=values))


@main.command()
@json_option
@verbose_option
def doctor(json: bool, verbose: bool) -> None:
    """Show versions, devices and codecs of this machine."""
    from nvcodec.codec.inspect import describe_machine
    from nvcodec.console import make_listener

    with make_listener(json=json, quiet=False) as listen:
        listen(Result(kind="doctor", values=describe_machine()))
