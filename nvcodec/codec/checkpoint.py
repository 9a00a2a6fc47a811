"""The state of an unfinished encode: one safetensors file, written atomically, never a pickle."""

from __future__ import annotations

import json
import struct
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from nvcodec import storage
from nvcodec.codec.fit import Fit
from nvcodec.codec.plan import Plan
from nvcodec.errors import UsageError

_KEY = "nvcodec"


def checkpoint_path(output: Path) -> Path:
    """Return where the state of an unfinished encode to `output` is kept."""
    return output.with_name(f".{output.name}.resume")


def plan_key(plan: Plan, frames_sha256: str) -> dict[str, object]:
    """Return all that must be equal for a run to be continued; plain JSON values."""
    key: dict[str, object] = json.loads(json.dumps(asdict(plan)))
    return key | {"frames_sha256": frames_sha256, "n_threads": torch.get_num_threads()}


def save_checkpoint(path: Path, fit: Fit, key: dict[str, object]) -> None:
    """Write the state of `fit` so that a crash leaves the old or the new checkpoint."""
    tensors = {k: v.detach().cpu().contiguous() for k, v in fit.state_tensors().items()}
    storage.write_atomic(path, save(tensors, metadata={_KEY: json.dumps(key)}))


def load_checkpoint(path: Path, fit: Fit, key: dict[str, object]) -> None:
    """Continue `fit` from a checkpoint; raise UsageError when it belongs to another run."""
    try:
        with open(path, "rb") as file:
            (n_bytes,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(min(n_bytes, 1 << 24)))
        saved = json.loads(header["__metadata__"][_KEY])
        tensors = load_file(path, device=str(fit.device))
    except FileNotFoundError as error:
        raise UsageError(f"there is nothing to resume: {path} does not exist") from error
    except (OSError, ValueError, KeyError, TypeError, struct.error, SafetensorError) as error:
        raise UsageError(f"checkpoint {path} is damaged; delete it and start again") from error
    different = sorted(name for name in key if saved.get(name) != key[name])
    if different:
        raise UsageError(
            f"checkpoint {path} was made with another {' and another '.join(different)}; "
            "repeat the options of the first run, or start again without --resume"
        )
    # Generator states live on the CPU whatever the device.
    state = {k: v.cpu() if k.startswith("random.") else v for k, v in tensors.items()}
    fit.load_state_tensors(state)
