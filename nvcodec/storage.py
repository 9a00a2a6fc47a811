"""Files that are either whole or absent: temporary name, fsync, rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from nvcodec.errors import ResourceError, UsageError


def part_path(path: Path) -> Path:
    """Return the hidden temporary name beside `path`; the suffix is kept for muxers."""
    return path.with_name(f".{path.stem}.part{path.suffix}")


def check_output(path: Path, *, overwrite: bool, source: Path | None = None) -> None:
    """Refuse, before any work, an output that cannot or must not be written (UsageError)."""
    if source is not None and source.exists() and path.exists() and os.path.samefile(source, path):
        raise UsageError(f"output {path} is the input itself; choose another name")
    if path.is_dir():
        raise UsageError(f"output {path} is a directory; give a file name")
    if path.exists() and not overwrite:
        raise UsageError(f"output {path} exists; use -y to overwrite it")
    folder = path.parent
    if not folder.is_dir():
        raise UsageError(f"folder {folder} of the output does not exist")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"folder {folder} of the output is not writable")


def check_space(path: Path, n_bytes: int) -> None:
    """Refuse, before any work, an output for which its disk has no room (ResourceError)."""
    free = shutil.disk_usage(path.parent).free
    if n_bytes > free:
        raise ResourceError(
            f"{path} cannot be written: no space left for its {n_bytes} bytes, {free} are free"
        )


@contextmanager
def claim(path: Path, *leftovers: Path) -> Iterator[None]:
    """Be the only process that makes `path`; raise UsageError when another one does.

    `path` is a file, or a folder that exists and whose files are made.
    The lock is the system's, so that it ends with its process however that ends: a lock file that
    is left behind by a killed one stops nobody. What else such a run left half-written, of `path`
    and of the files `leftovers`, is removed.
    """
    if os.name != "posix":
        yield
        return
    folder = path.is_dir()
    lock = path / ".lock" if folder else path.with_name(f".{path.name}.lock")
    try:
        fd = _lock(lock)
    except BlockingIOError as error:
        raise UsageError(
            f"output {path} is being made by another process; wait for it, or choose another name"
        ) from error
    except OSError as error:
        raise ResourceError(f"{path} cannot be written: {error.strerror or error}") from error
    try:
        for left in leftovers if folder else (path, *leftovers):
            part_path(left).unlink(missing_ok=True)
        yield
    finally:
        lock.unlink(missing_ok=True)
        os.close(fd)


def _lock(path: Path) -> int:
    """Return the descriptor of a file that only this process holds; raise BlockingIOError."""
    import fcntl

    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The one who held it may have removed the file since it was opened here.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(fd), os.stat(path)):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable, where the system can."""
    if os.name != "posix":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def commit(temporary: Path, path: Path) -> None:
    """Rename a finished temporary file to its name, durably."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(temporary, path)
    sync_folder(path.parent)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path; rename it to `path` on success, delete it on failure.

    Raises ResourceError when the disk is full or the folder is not writable.
    """
    temporary = part_path(path)
    try:
        yield temporary
        commit(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ResourceError(f"{path} cannot be written: {error.strerror or error}") from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to `path` so that a crash leaves the old file or the new one."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)
