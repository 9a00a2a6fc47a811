"""The program: turns every failure of a command into one sentence and an exit code."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from contextlib import suppress
from typing import Any

import click

from nvcodec import __version__
from nvcodec.bitstream.container import VERSION_MAJOR
from nvcodec.ending import failure, handle, nobody_reads, stop_now
from nvcodec.errors import UsageError


class Command(click.Command):
    """A command that ends every failure with one sentence, its exit code and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        try:
            # A shell's job in the background ignores Ctrl-C, and goes on doing so.
            heeds = signal.getsignal(signal.SIGINT) is not signal.SIG_IGN
            with handle(stop_now, signal.SIGTERM, *[signal.SIGINT] * heeds):
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


def wait_patiently() -> None:
    """Let PyTorch's threads sleep while they wait for each other; before it is loaded.

    Waiting in a loop is a little faster, but ten times slower as soon as another program needs a
    core, as one will in the hours of an encode.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def check_stdout(json: bool) -> None:
    """Raise UsageError when standard output cannot take a file."""
    if json:
        raise UsageError("-o - and --json both need standard output; choose one")
    if sys.stdout.isatty():
        raise UsageError("standard output is a terminal; redirect it, or give a file with -o")
