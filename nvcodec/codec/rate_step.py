"""What a step of the rate phase trains through: parameters as a decoder would see them, their bits.

The bits of what all clips share are the same function in every step, so that their gradient may be
found now and then and added to that of the distortion; those of latents are found for each batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nvcodec.codec.quantize import Quantizer
from nvcodec.models.base import VideoModel


def weights_as_decoded(
    model: VideoModel, quantizer: Quantizer, masks: dict[str, Tensor], *, frozen: bool
) -> dict[str, Tensor]:
    """Return what all clips share; where masks are 0, so is it."""
    values = quantizer.as_decoded(_weights(model, masks), frozen=frozen)
    return values | {name: values[name] * mask for name, mask in masks.items()}


def latents_as_decoded(
    model: VideoModel, quantizer: Quantizer, clips: Tensor, n_clips: int, *, frozen: bool
) -> tuple[dict[str, Tensor], Tensor]:
    """Return the latents of some of n_clips clips, and the bits (scalar) of those of all.

    The bits of the batch stand for those of all clips.
    """
    entries, previous = {}, {}
    for name in model.latent_names:
        parameter = model.get_parameter(name)
        entries[name] = parameter[clips]
        if name in model.steady_names:
            after_first = (clips > 0).view(-1, *[1] * (parameter.ndim - 1))
            previous[name] = parameter[(clips - 1).clamp_min(0)] * after_first
    if not entries:
        return {}, torch.zeros((), device=clips.device)
    bits = quantizer.bits(entries, previous or None, frozen=frozen)
    return quantizer.as_decoded(entries, frozen=frozen), bits * (n_clips / len(clips))


def rate_slopes(
    model: VideoModel,
    quantizer: Quantizer,
    masks: dict[str, Tensor],
    per_bit: float,
    *,
    frozen: bool,
) -> tuple[dict[str, Tensor], float]:
    """Return the gradient of per_bit times the bits of what all clips share, and these bits.

    Names are those of parameters behind "model." and "quantizer.".
    """
    bits = quantizer.bits(_weights(model, masks), frozen=frozen)
    rated = _rated(model, quantizer)
    slopes = torch.autograd.grad(per_bit * bits, list(rated.values()), allow_unused=True)
    pairs = zip(rated, slopes, strict=True)
    return {name: slope for name, slope in pairs if slope is not None}, float(bits.detach())


def add_slopes(model: VideoModel, quantizer: Quantizer, slopes: dict[str, Tensor]) -> None:
    """Add `rate_slopes` to the gradients of the parameters."""
    rated = _rated(model, quantizer)
    for name, slope in slopes.items():
        p = rated[name]
        # Not in place, as gradients of two tensors may be one, and laid out as the parameter is:
        # fused optimisers walk through memory.
        total = torch.empty_like(p)
        p.grad = total.copy_(slope) if p.grad is None else torch.add(p.grad, slope, out=total)


def _weights(model: VideoModel, masks: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: p * masks[name] if name in masks else p
        for name, p in model.named_parameters()
        if name not in model.latent_names
    }


def _rated(model: VideoModel, quantizer: Quantizer) -> dict[str, Tensor]:
    """Return what the bits of all that clips share depend on."""
    shared: dict[str, Tensor] = {
        f"model.{name}": p for name, p in model.named_parameters() if name not in model.latent_names
    }
    return shared | dict(quantizer.named_parameters(prefix="quantizer"))
