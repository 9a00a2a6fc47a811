"""Clips and frames on threads of their own: to look at them, to train on them, to draw them.

Splitting a batch beats splitting every operation, as PyTorch does by itself: threads then meet
once a step instead of a thousand times, which also bears other programs on the machine. What a step
does for all clips at once are many small operations, which one thread ends sooner than two can
agree on them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from functools import cache
from threading import RLock, local
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


_counting = RLock()
"""Held where the number of threads of the whole process is changed for a while."""

_this_thread = local()


def run(work: Callable[[In], Out], part: In) -> Out:
    """Return what `work` makes of `part`, on a new thread if oneDNN is of no use on this one.

    Where memory does not suffice for a kernel, oneDNN keeps that error for the thread: it builds no
    other kernel there, however much memory there is by then.
    """
    if getattr(_this_thread, "spoilt", False):
        with _threads(1, torch.get_num_threads()) as one:
            try:
                future = one.submit(work, part)
            except RuntimeError:
                # Not even a thread could be had; the kernels that there are may do.
                return work(part)
            try:
                return future.result()
            finally:
                # An error and its future would keep each other alive, and all that the work held.
                del future
    try:
        return work(part)
    except RuntimeError as error:
        _this_thread.spoilt = "could not create a primitive" in str(error)
        raise


def _threads(n_workers: int, n_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(n_workers, initializer=_prepare, initargs=(n_threads,))


def _prepare(n_threads: int) -> None:
    torch.set_num_threads(n_threads)
    torch.set_flush_denormal(True)


@contextmanager
def operation_threads(n: int) -> Iterator[None]:
    """Let operations use n threads each; the number is one for the whole process."""
    with _counting:
        before = torch.get_num_threads()
        torch.set_num_threads(n)
        try:
            yield
        finally:
            torch.set_num_threads(before)


class Workers:
    """Threads that share the processor's cores evenly."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self.n_threads = max(1, torch.get_num_threads() // n_workers)
        self._pool = _threads(n_workers, self.n_threads)

    def map(self, work: Callable[[In], Out], parts: Sequence[In]) -> list[Out]:
        """Return what `work` makes of the parts, in their order, once all have ended."""
        with operation_threads(self.n_threads):
            futures: list[Future[Out]] = []
            try:
                futures = [self._pool.submit(run, work, part) for part in parts]
                wait(futures)
                return [future.result() for future in futures]
            finally:
                # As above.
                futures.clear()


@cache
def shared_workers(n_workers: int, process_id: int) -> Workers:
    """Return threads that all of this process share; a forked one has none of its parent's."""
    return Workers(n_workers)


def n_at_once(device: torch.device) -> int:
    """Return how many threads work on tensors of a device: one a core, one for a GPU."""
    return torch.get_num_threads() if device.type == "cpu" else 1


def spread(work: Callable[[In], Out], parts: Sequence[In], n: int) -> Iterator[Out]:
    """Yield what `work` makes of the parts, in their order, n at a time (see `n_at_once`).

    Modes such as `torch.inference_mode` are those of a thread: `work` sets them itself.
    """
    for first in range(0, len(parts), n):
        together = parts[first : first + n]
        if len(together) == 1:
            yield run(work, together[0])
        else:
            yield from shared_workers(n, os.getpid()).map(work, together)
