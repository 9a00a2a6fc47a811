"""How a command ends: signals, and the exit code and sentence for whatever went wrong."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from nvcodec.errors import Interrupted, NvcodecError, ResourceError

_TOLD = re.compile(
    "out of memory|allocate memory|not enough memory|can't start new thread|"
    # What oneDNN says of its own buffers.
    "could not create a (memory|primitive)(?! desc)"
)


@contextmanager
def handle(handler: Callable[[int, Any], Any], *numbers: int) -> Iterator[None]:
    """Let `handler` take these signals for a while."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


class Stopped(KeyboardInterrupt):
    """Ctrl-C or SIGTERM.

    Of a type of its own: CPython ends a program as killed by SIGINT, whatever became of the
    exception, once a plain KeyboardInterrupt has passed through exec() or eval() of text, as the
    standard library's dataclasses and named tuples use them while modules are imported.
    """


def stop_now(number: int, frame: Any) -> None:
    """Raise Stopped: the handler of a signal."""
    raise Stopped


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether Ctrl-C or SIGTERM came; the second one aborts at once."""
    asked = False

    def ask(number: int, frame: Any) -> None:
        nonlocal asked
        if asked:
            raise Stopped
        asked = True
        # Not print(): the signal may have come in the middle of one.
        with suppress(OSError):
            os.write(2, b"\nnvcodec: stopping after this step; once more aborts at once\n")

    with handle(ask, signal.SIGINT, signal.SIGTERM):
        yield lambda: asked


def out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory did not suffice, on any device."""
    told = re.search(_TOLD, str(error))
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(told))


def failure(error: BaseException) -> tuple[int, str]:
    """Return the exit code and the sentence for whatever ended a command."""
    if isinstance(error, NvcodecError):
        return error.exit_code, str(error)
    if isinstance(error, KeyboardInterrupt):
        return Interrupted.exit_code, "interrupted"
    text = " ".join(str(error).split())
    if out_of_memory(error):
        return ResourceError.exit_code, (
            "memory does not suffice; take fewer frames with --frames, or a smaller --batch"
        )
    if isinstance(error, OSError):
        name = error.filename or "standard output"
        return ResourceError.exit_code, f"{name} cannot be used: {error.strerror or text}"
    return 1, f"unexpected {type(error).__name__}: {text}; -v shows where"


def nobody_reads(error: BaseException | None) -> bool:
    """Tell whether an error comes from a pipe whose reader is gone."""
    while error is not None and not isinstance(error, BrokenPipeError):
        error = error.__cause__
    return error is not None
