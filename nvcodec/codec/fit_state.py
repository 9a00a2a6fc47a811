"""All that a run depends on, as named tensors: to save it, to continue it, to return to it."""

from __future__ import annotations

import math
from dataclasses import asdict, astuple
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from nvcodec.codec.evaluate import Best
from nvcodec.codec.find_corrections import Budget
from nvcodec.codec.rate import RateController

if TYPE_CHECKING:
    from nvcodec.codec.fit import Fit


def state_tensors(fit: Fit) -> dict[str, Tensor]:
    """Return everything that the rest of the run depends on, as named tensors."""
    state = {f"model.{k}": v for k, v in fit.model.state_dict().items()}
    if fit.drawing.heads is not None:
        state |= {f"heads.{k}": v for k, v in fit.drawing.heads.state_dict().items()}
    if fit.analysis is not None:
        state |= {f"analysis.{k}": v for k, v in fit.analysis.state_dict().items()}
    if fit.quantizer is not None:
        state |= {f"quantizer.{k}": v for k, v in fit.quantizer.state_dict().items()}
    state |= {f"slope.{k}": v for k, v in fit.rate_slopes.items()}
    state |= {f"mask.{k}": v for k, v in fit.masks.items()}
    state |= {f"best.{k}": v for k, v in fit.best.tensors.items()}
    for i, optimizer in enumerate(fit.optimizers):
        for j, slots in optimizer.state_dict()["state"].items():
            state |= {f"optimizer.{i}.{j}.{key}": value for key, value in slots.items()}
    state["random.order"] = fit.generator.get_state()
    state["order"] = fit.order
    numbers = [
        fit.step,
        fit.position,
        fit.elapsed_s,
        fit.lr_factor,
        fit.n_rollbacks,
        math.nan if fit.psnr_db is None else fit.psnr_db,
        fit.latent_bits,
        fit.n_prunings,
        fit.best.psnr_db,
        *((math.nan, math.nan) if fit.budget is None else astuple(fit.budget)),
        fit.weight_bits,
    ]
    state["numbers"] = torch.tensor(numbers, dtype=torch.float64)
    state["rate"] = torch.tensor(list(asdict(fit.rate).values()), dtype=torch.float64)
    return state


def load_state_tensors(fit: Fit, state: dict[str, Tensor]) -> None:
    """Continue from `state_tensors` of a run with the same model, frames and settings."""

    def part(prefix: str) -> dict[str, Tensor]:
        n = len(prefix)
        return {k[n:]: v for k, v in state.items() if k.startswith(prefix)}

    fit.model.load_state_dict(part("model."))
    if fit.drawing.heads is not None:
        fit.drawing.heads.load_state_dict(part("heads."))
    fit.rate_slopes = {k: v.to(fit.device) for k, v in part("slope.").items()}
    fit.masks = {k: v.to(fit.device) for k, v in part("mask.").items()}
    quantizer, analysis = part("quantizer."), part("analysis.")
    fit.quantizer = fit.new_quantizer() if quantizer else None
    fit.model.train(fit.quantizer is None)
    if fit.quantizer is not None:
        fit.quantizer.load_state_dict(quantizer)
    fit.analysis = fit.new_analysis() if analysis else None
    if fit.analysis is not None:
        fit.analysis.load_state_dict(analysis)
    fit.optimizers = fit.make_optimizers()
    for i, optimizer in enumerate(fit.optimizers):
        slots: dict[int, dict[str, Tensor]] = {}
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        for key, value in part(f"optimizer.{i}.").items():
            index, name = key.split(".", 1)
            like = trained[int(index)]
            # Fused Adam walks through memory: a slot must lie there as its parameter does.
            slot = torch.empty_like(like) if value.shape == like.shape else value.clone()
            slots.setdefault(int(index), {})[name] = slot.copy_(value)
        groups = optimizer.state_dict()["param_groups"]
        optimizer.load_state_dict({"state": slots, "param_groups": groups})
    fit.generator.set_state(state["random.order"])
    fit.order = state["order"].clone()
    numbers = state["numbers"].tolist()
    fit.step, fit.n_rollbacks = int(numbers[0]), int(numbers[4])
    fit.position, fit.elapsed_s, fit.lr_factor = numbers[1:4]
    fit.psnr_db = None if math.isnan(numbers[5]) else numbers[5]
    fit.latent_bits = numbers[6]
    fit.n_prunings = int(numbers[7])
    fit.budget = None if math.isnan(numbers[9]) else Budget(*numbers[9:11])
    fit.weight_bits = numbers[11]
    fit.best = Best(numbers[8], {k: v.to(fit.device) for k, v in part("best.").items()})
    names = asdict(fit.rate)
    fit.rate = RateController(**dict(zip(names, state["rate"].tolist(), strict=True)))
