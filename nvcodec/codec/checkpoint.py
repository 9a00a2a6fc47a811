"""The state of an unfinished encode: one safetensors file, written atomically, never a pickle."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
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


def checkpoint_path(output: Path) -> Path:
    """Return where the state of an unfinished encode to `output` is kept."""
    return output.with_name(f".{output.name}.resume")


def plan_key(plan: Plan, frames_sha256: str) -> dict[str, Any]:
    """Return all that must be equal for a run to be continued; plain JSON values."""
    key: dict[str, Any] = json.loads(json.dumps(asdict(plan)))
    return key | {"frames_sha256": frames_sha256, "n_threads": torch.get_num_threads()}


def save_checkpoint(path: Path, fit: Fit, key: dict[str, Any]) -> None:
    """Write the state of `fit` so that a crash leaves the old or the new checkpoint."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in state_tensors(fit).items()}
    storage.write_atomic(path, save(tensors, metadata={_KEY: json.dumps(key)}))


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
