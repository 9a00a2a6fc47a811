"""The quantiser steps that training starts from: each as coarse as the pictures bear it.

Errors of all parameters should cost alike (reverse water-filling), so that a step is as one over
the root of how much pictures change with a value; the bits of the file tell how large all are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.func import functional_call

from nvcodec.codec.quantize import Quantizer
from nvcodec.models.base import VideoModel

_MOST_BITS, _STEPS_TO_SAVE = 2.5, 100
"""The bits that the first steps leave, as a multiple of the target where training has made as many
steps before: what is left of it, usually four times as long, saves the rest. Fewer save less."""
_HALVINGS = 8
_FINER, _COARSER = 5.0, 8.0
"""Octaves from a quarter of a row's deviation, in the median, within which steps are looked for."""
_COARSEST, _FINEST = 2.0, 1e-7
"""Steps: at most this multiple of the largest value of a row, and at least the other one."""
_LEAST_SLOPE = 1e-30


def squared_slopes(
    model: VideoModel,
    values: dict[str, Tensor],
    clips: Sequence[Tensor],
    generator: torch.Generator,
    mask: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return, for every value, about the sum over pixels of its squared derivatives.

    It is the mean over the frames of clips, given by the indices of each; where mask (N, 1, H, W)
    is 0, pixels do not count. For random signs u, E[(J^T u)^2] is the diagonal of J^T J (Bekas et
    al. 2007).
    """
    leaves = {name: value.detach().requires_grad_() for name, value in values.items()}
    totals = {name: torch.zeros_like(value) for name, value in values.items()}
    n_drawn = 0
    for index in clips:
        drawn = functional_call(model, leaves, (index, None))
        signs = torch.randint(2, drawn.shape, generator=generator).to(drawn) * 2 - 1
        if mask is not None:
            signs *= mask[index]
        told = torch.autograd.grad((drawn * signs).sum(), list(leaves.values()), allow_unused=True)
        for total, slope in zip(totals.values(), told, strict=True):
            if slope is not None:
                total += slope.square()
        n_drawn += len(index)
    return {name: total / n_drawn for name, total in totals.items()}


def first_bits(target_bits: float, n_steps: int) -> float:
    """Return the bits to begin with after n_steps without a rate, for a file of target_bits."""
    return target_bits * (1 + (_MOST_BITS - 1) * min(1.0, n_steps / _STEPS_TO_SAVE))


@torch.no_grad()
def set_first_steps(
    quantizer: Quantizer,
    parameters: dict[str, Tensor],
    slopes: dict[str, Tensor],
    n_bits: float,
    *,
    steady_names: tuple[str, ...] = (),
) -> None:
    """Give every row its first step, and what suits it, from `squared_slopes`.

    With them all parameters have about n_bits.
    """
    means = {name: quantizer.as_rows(name, slope).mean(1) for name, slope in slopes.items()}
    wanted = {name: mean.clamp_min(_LEAST_SLOPE).rsqrt() for name, mean in means.items()}
    rows = {name: quantizer.as_rows(name, parameters[name].float()) for name in wanted}
    largest = {name: values.abs().amax(1) for name, values in rows.items()}
    coarsest = {name: torch.where(n > 0, _COARSEST * n, 1.0) for name, n in largest.items()}
    quarters = [
        0.25 * values.square().mean(1).sqrt() / wanted[name] for name, values in rows.items()
    ]
    ratios = torch.cat(quarters)
    middle = float(ratios[ratios > 0].log2().median()) if bool((ratios > 0).any()) else 0.0
    finest, widest = middle - _FINER, middle + _COARSER
    for _ in range(_HALVINGS):
        octaves = (finest + widest) / 2
        steps = {
            name: torch.minimum(2**octaves * step, coarsest[name]).clamp_min(_FINEST)
            for name, step in wanted.items()
        }
        quantizer.initialize(parameters, steps, steady_names=steady_names)
        if quantizer.count_bits(parameters, steady_names) > n_bits:
            finest = octaves
        else:
            widest = octaves
