"""Which weights to remove; training then goes on with the rest (zeros cost what they cost)."""

from __future__ import annotations

import torch
from torch import Tensor

PRUNE_SCOPES = ("global", "layer")


def share_removed(share: float, step: int, n_steps: int) -> float:
    """Return the share that is removed after pruning step 1..n_steps: equal parts of the rest."""
    return float(1 - (1 - share) ** (step / n_steps))


def prune_masks(weights: dict[str, Tensor], share: float, scope: str) -> dict[str, Tensor]:
    """Return 0/1 masks that remove the given share of the weights, smallest magnitudes first.

    Unstructured L1 pruning: over all tensors together (NeRV) or in each tensor.
    """
    groups = [[name] for name in weights] if scope == "layer" else [list(weights)]
    masks: dict[str, Tensor] = {}
    for names in groups:
        magnitudes = torch.cat([weights[name].abs().flatten() for name in names])
        n_removed = int(share * len(magnitudes))
        if n_removed == 0:
            continue
        threshold = magnitudes.kthvalue(n_removed).values
        for name in names:
            masks[name] = (weights[name].abs() > threshold).to(weights[name].dtype)
    return masks
