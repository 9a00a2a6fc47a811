"""Choice of device and arithmetic."""

from __future__ import annotations

import ctypes
import mmap
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import TypeVar

import torch
from torch import nn

from nvcodec.errors import ResourceError, UsageError

DEVICES = ("auto", "cpu", "cuda")
_BF16_MARGIN = 1.5
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_RESERVE_BYTES = 8 << 20
_reserve: list[mmap.mmap] = []
"""Addresses for oneDNN's kernels once memory has run out; no page of them is touched before."""


def pick_device(name: str) -> torch.device:
    """Return the device for "auto", "cpu" or "cuda"; raise UsageError or ResourceError."""
    if name not in DEVICES:
        raise UsageError(f"device is {name}, allowed are {', '.join(DEVICES)}")
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("device cuda was asked for, but PyTorch finds no CUDA device here")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    _keep_freed_memory()
    return torch.device(name)


@contextmanager
def flushed_denormals() -> Iterator[None]:
    """Treat denormals as zero: those of the Laplace tails make a CPU 5 to 10 times slower."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def full_float32(device: torch.device) -> Iterator[None]:
    """Compute float32 convolutions with all their bits, as conformance C2 asks.

    PyTorch lets CUDA's drop 13 of them (TF32) unless it is told not to.
    """
    if device.type != "cuda":
        yield
        return
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        yield


def _keep_freed_memory() -> None:
    """Let malloc reuse the memory of feature maps instead of returning it to the system.

    Fresh pages cost more than the arithmetic: GELU of a 92 MB map took 31 ms with and 11 ms without
    page faults. All threads share one arena: others give memory back whatever the limits are. glibc
    only; elsewhere nothing happens.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(_M_ARENA_MAX, 1)
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    if not _reserve:
        with suppress(OSError):
            _reserve.append(mmap.mmap(-1, _RESERVE_BYTES))


def return_freed_memory() -> None:
    """Give back to the system what `_keep_freed_memory` keeps, where memory has run out.

    oneDNN takes the pages of its kernels from the system, not from malloc: what malloc has free
    below a small block still in use is of no use to it, the reserve is. glibc only.
    """
    _reserve.clear()
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


M = TypeVar("M", bound=nn.Module)


def place(module: M, device: torch.device) -> M:
    """Move a network to the device, its kernels in channels_last layout: the faster one."""
    module = module.to(device)
    for parameter in module.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last)
    return module


@cache
def bf16_pays(device: torch.device) -> bool:
    """Measure whether bfloat16 convolutions are clearly faster than float32 ones on this device.

    A flag would not do: CPUs that list AVX512-BF16 were measured at 0.6 and at 2.5 times float32.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    pairs = []
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.ones(1, 32, 96, 96, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = torch.ones(64, 32, 5, 5, dtype=dtype).contiguous(memory_format=torch.channels_last)
        pairs.append((x, w))
    best = [float("inf")] * 2
    # In turns, so that a busy moment slows both: the answer must not change from run to run.
    for _ in range(12):
        for i, (x, w) in enumerate(pairs):
            started = time.perf_counter()
            torch.nn.functional.conv2d(x, w, padding=2)
            best[i] = min(best[i], time.perf_counter() - started)
    return best[0] > _BF16_MARGIN * best[1]
