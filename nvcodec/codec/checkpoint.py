"""The state of an unfinished encode: one safetensors file, written atomically, never a pickle."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from nvcodec import storage
from nvcodec.codec.fit import Fit
from nvcodec.codec.fit_state import state_tensors
from nvcodec.codec.plan import Plan
from nvcodec.errors import UsageError

_KEY = "nvcodec"
_FILE = "file."
"""Names the files of finished scenes, before their number."""


def checkpoint_path(output: Path) -> Path:
    """Return where the state of an unfinished encode to `output` is kept."""
    return output.with_name(f".{output.name}.resume")


def plan_key(plan: Plan, frames_sha256: str) -> dict[str, Any]:
    """Return all that must be equal for a run to be continued; plain JSON values."""
    key: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    return key | {"frames_sha256": frames_sha256, "n_threads": torch.get_num_threads()}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where the state of a run is kept, and what stays the same while a scene is trained."""

    path: Path
    key: dict[str, Any]
    """All that must be equal for the run to be continued, and what is known of finished scenes."""
    files: tuple[bytes, ...] = ()
    """Of the scenes that are finished."""

    def save(self, fit: Fit | None) -> None:
        """Write the state of `fit`, if there is one; a crash leaves the old or the new one."""
        tensors = {
            f"{_FILE}{i}": torch.frombuffer(bytearray(data), dtype=torch.uint8)
            for i, data in enumerate(self.files)
        }
        if fit is not None:
            state = state_tensors(fit).items()
            tensors |= {k: v.detach().cpu().contiguous() for k, v in state}
        storage.write_atomic(self.path, save(tensors, metadata={_KEY: json.dumps(self.key)}))


def finished_files(tensors: dict[str, Tensor]) -> tuple[bytes, ...]:
    """Return the files of finished scenes from what `read_checkpoint` returns."""
    n_files = sum(name.startswith(_FILE) for name in tensors)
    return tuple(tensors[f"{_FILE}{i}"].numpy().tobytes() for i in range(n_files))


def holds_fit(tensors: dict[str, Tensor]) -> bool:
    """Tell whether there is the state of a scene in them that is not finished."""
    return any(not name.startswith(_FILE) for name in tensors)


def read_checkpoint(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return the key and the state of a checkpoint; raise UsageError when there is no sound one."""
    try:
        with open(path, "rb") as file:
            (n_bytes,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(n_bytes, 1 << 24)))
        key: dict[str, Any] = json.loads(header["__metadata__"][_KEY])
        return key, load_file(path)
    except FileNotFoundError as error:
        raise UsageError(f"there is nothing to resume: {path} does not exist") from error
    except (OSError, ValueError, KeyError, TypeError, struct.error, SafetensorError) as error:
        raise UsageError(f"checkpoint {path} is damaged; delete it and start again") from error


def check_key(path: Path, saved: dict[str, Any], key: dict[str, Any]) -> None:
    """Raise UsageError, naming what differs, when a checkpoint belongs to another run."""
    different = [f"{name} ({was} there, {now} here)" for name, was, now in _differences(saved, key)]
    if different:
        raise UsageError(
            f"checkpoint {path} was made with another {', '.join(different)}; "
            "repeat the options of the first run, or start again without --resume"
        )


def _differences(saved: dict[str, Any], key: dict[str, Any]) -> list[tuple[str, Any, Any]]:
    found: list[tuple[str, Any, Any]] = []
    for name, now in key.items():
        was = saved.get(name)
        if isinstance(now, dict) and isinstance(was, dict):
            found += _differences(was, now)
        elif was != now:
            found.append((name, was, now))
    return found
