"""Clips of a batch on threads of their own, to train on them and to draw them.

Splitting the batch beats splitting every operation, as PyTorch does by itself: threads then meet
once a step instead of a thousand times, which also bears other programs on the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from threading import Lock
from typing import TypeVar

import torch

In = TypeVar("In")
Out = TypeVar("Out")


_counting = Lock()
"""Held where the number of threads of the whole process is changed for a while."""


class Workers:
    """Threads that share the processor's cores evenly."""

    def __init__(self, n_workers: int) -> None:
        self.n_workers = n_workers
        self.n_threads = max(1, torch.get_num_threads() // n_workers)
        self._pool = ThreadPoolExecutor(n_workers, initializer=self._prepare)

    def _prepare(self) -> None:
        torch.set_num_threads(self.n_threads)
        torch.set_flush_denormal(True)

    def map(self, work: Callable[[In], Out], parts: Sequence[In]) -> list[Out]:
        """Return what `work` makes of the parts, in their order, once all have ended."""
        with _counting:
            before = torch.get_num_threads()
            # The number of threads of matrix products is one for the whole process.
            torch.set_num_threads(self.n_threads)
            futures: list[Future[Out]] = []
            try:
                futures = [self._pool.submit(work, part) for part in parts]
                wait(futures)
                return [future.result() for future in futures]
            finally:
                # An error and its future would keep each other alive, and all that the work held.
                futures.clear()
                torch.set_num_threads(before)


@cache
def shared_workers(n_workers: int, process_id: int) -> Workers:
    """Return threads that all of this process share; a forked one has none of its parent's."""
    return Workers(n_workers)
