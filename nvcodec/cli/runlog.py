"""A log of encodes: one row of a .csv file or one line of a .json file for each."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

from nvcodec import storage
from nvcodec.errors import ResourceError, UsageError

SUFFIXES = (".csv", ".json")


def check_log(path: Path) -> None:
    """Raise UsageError, before any work, when no run can be appended to `path`."""
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"log {path} has suffix {path.suffix or 'none'}; allowed are .csv, .json")
    storage.check_output(path, overwrite=True)
    if path.exists() and path.stat().st_size:
        _read(path)


def append_run(path: Path, values: dict[str, Any]) -> None:
    """Append plain values; what the file holds already stays, even if the power fails.

    A .csv file gets new columns where `values` has new names. Raises ResourceError.
    """
    try:
        old = _read(path) if path.exists() and path.stat().st_size else None
        if path.suffix.lower() == ".json":
            _append(path, json.dumps(values))
            return
        row = _row(values)
        if old is None:
            storage.write_atomic(path, _csv([list(row), list(row.values())]).encode())
        elif set(row) <= set(old[0]):
            _append(path, _csv([[row.get(name, "") for name in old[0]]]).rstrip("\n"))
        else:
            names = old[0] + [name for name in row if name not in old[0]]
            added = [names, *old[1:], [row.get(name, "") for name in names]]
            storage.write_atomic(path, _csv(added).encode())
    except OSError as error:
        raise ResourceError(f"log {path} cannot be written: {error.strerror or error}") from error


def _read(path: Path) -> list[list[str]]:
    """Return the rows of a log, none for .json; raise UsageError when it is none."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix.lower() == ".json":
            if not isinstance(json.loads(text.splitlines()[0]), dict):
                raise ValueError
            return []
        rows = [row for row in csv.reader(io.StringIO(text), strict=True) if row]
        if len(set(rows[0])) < len(rows[0]):
            raise ValueError
    except (ValueError, IndexError, csv.Error) as error:
        raise UsageError(f"{path} exists and is not a log of encodes") from error
    return rows


def _append(path: Path, line: str) -> None:
    """Append a line with a single write, below a last line that may lack its end."""
    with open(path, "ab+") as file:
        torn = False
        if file.tell():
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        file.write(("\n" if torn else "").encode() + line.encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _row(values: dict[str, Any]) -> dict[str, Any]:
    """Return cells by column; what is inside a table has its name in front, with a dot."""
    row: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            row |= {f"{name}.{key}": _cell(item) for key, item in value.items()}
        else:
            row[name] = _cell(value)
    return row


def _cell(value: Any) -> Any:
    """Return a value in one cell: lists with spaces between, tables as name=value."""
    if isinstance(value, dict):
        return " ".join(f"{k}={_cell(v)}" for k, v in value.items() if v is not None)
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else value
