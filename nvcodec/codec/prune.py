"""Which weights to remove; training then goes on with the rest (zeros cost what they cost)."""

from __future__ import annotations

import torch
from torch import Tensor

from nvcodec.models.base import VideoModel


def prune_masks(model: VideoModel, share: float) -> dict[str, Tensor]:
    """Return 0/1 masks that remove the given share of all weights, smallest magnitudes first.

    Global unstructured L1 pruning (NeRV); biases and latents are kept.
    """
    weights = {
        name: p.detach()
        for name, p in model.named_parameters()
        if p.ndim > 1 and name not in model.latent_names
    }
    magnitudes = torch.cat([w.abs().flatten() for w in weights.values()])
    n_removed = int(share * len(magnitudes))
    if n_removed == 0:
        return {}
    threshold = magnitudes.kthvalue(n_removed).values
    return {name: (w.abs() > threshold).to(w.dtype) for name, w in weights.items()}
