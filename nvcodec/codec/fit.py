"""Overfit a model to frames: float, then rounded parameters, at last in steps that stand still.

loss = distortion + mu R / R_target. The three phases are shares of one schedule position in [0, 1]
that also drives the learning rate, so a stretched or shortened run is still fully annealed. With
coding "ptq" all of the run is float, and rounding comes after it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from nvcodec.bitstream.tensors import QTensor
from nvcodec.codec.batch import BatchLoss
from nvcodec.codec.choose_corrections import block_side
from nvcodec.codec.device import place
from nvcodec.codec.drawing import Drawing
from nvcodec.codec.evaluate import Best, mean_psnr_db
from nvcodec.codec.find_corrections import Budget, find_budget
from nvcodec.codec.find_motion import VideoMotion
from nvcodec.codec.first_steps import first_bits, set_first_steps, squared_slopes
from nvcodec.codec.fit_state import load_state_tensors, state_tensors
from nvcodec.codec.losses import Mended
from nvcodec.codec.optim import is_weight, make_optimizers
from nvcodec.codec.plane_loss import PlaneLoss
from nvcodec.codec.prune import prune_masks, share_removed
from nvcodec.codec.ptq import quantize_minmax
from nvcodec.codec.quantize import Quantizer, load_tensors, tensor_specs
from nvcodec.codec.rate import RateController
from nvcodec.codec.rate_step import (
    add_slopes,
    latents_as_decoded,
    rate_slopes,
    weights_as_decoded,
)
from nvcodec.codec.schedule import beta1_at, lr_share
from nvcodec.codec.settings import FitSettings
from nvcodec.codec.team import ALONE, Team
from nvcodec.errors import ResourceError
from nvcodec.models.base import VideoModel
from nvcodec.workers import operation_threads

_WARMUP_STEPS = 30
_SNAPSHOT_STEPS = 200
_RATE_STEPS = 4
"""Steps for which the gradient of the weights' bits is kept: it changes slowly, and takes long."""
_CONTROL_STEPS = 12
_OVERHEAD_STEPS = 48
_TIMING_STEPS = 5
_MAX_ROLLBACKS = 5
_LARGE_MATRIX = 1 << 19
"""Values from which on an optimiser's products are faster on several threads."""
_FIRST_PULL, _LAST_PULL = 1e-4, 3e-3
"""Shares of the way to their symbols by which values move in a step of the last phase."""
_N_LOOKED_AT = 8
"""Clips that tell how exactly every parameter must be kept."""


class Fit:
    """One overfitting run that can be interrupted, saved and continued step by step."""

    def __init__(
        self,
        model: VideoModel,
        frames: Tensor,
        settings: FitSettings,
        measure_bits: Callable[[list[QTensor]], float],
        mask: Tensor | None = None,
        planes: PlaneLoss | None = None,
        team: Team = ALONE,
    ) -> None:
        """Prepare to fit `model` to frames (N, 3, H, W) of integers on the model's device.

        measure_bits(tensors) returns the bits of the whole file with them. Where mask (N, 1, H, W)
        is 0, pixels do not count. With planes the network draws those. A team trains one network:
        equal arguments in all processes.
        """
        self.frames = frames
        self.n_clips = math.ceil(len(frames) / model.clip_frames)
        self.settings = settings
        self.device = frames.device
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.model = place(model, self.device)
        self.measure_bits = measure_bits
        self.drawing = Drawing(self.model, self._new_side_heads())
        self.mask, self.planes = mask, planes
        self.team = team
        self.batch_loss = BatchLoss(self.drawing, frames, mask, settings, planes, team)
        self.model.train()
        self.analysis = self.new_analysis()
        self.quantizer: Quantizer | None = None
        self.n_prunings = 0
        self.rate = RateController(target_bits=settings.target_bits)
        self.motion = VideoMotion(frames, block_side(*frames.shape[2:]), settings.group)
        self.budget: Budget | None = None
        """What is left to corrections; None before it is decided."""
        self.masks: dict[str, Tensor] = {}
        self.best = Best()
        self.optimizers = self.make_optimizers()
        self.has_large_matrices = any(
            is_weight(name, p, self._fields) and p.numel() >= _LARGE_MATRIX
            for name, p in self.model.named_parameters()
        )
        self.lr_factor = 1.0
        self.step = 0
        self.position = 0.0
        self.elapsed_s = self.step_s = 0.0
        self.order = torch.empty(0, dtype=torch.int64)
        self.psnr_db: float | None = None
        self.loss: float | None = None
        self.lr: float | None = None
        self.bits: float | None = None
        self.weight_bits = self.latent_bits = 0.0
        self.rate_slopes: dict[str, Tensor] = {}
        """What `rate_step.rate_slopes` found last."""
        self.n_rollbacks = 0
        self._good: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end."""
        return self.position >= 1.0 - 1e-9

    @property
    def corrections(self) -> float:
        """Share of the file that is left to corrections."""
        return 0.0 if self.budget is None else self.budget.share

    @property
    def stage(self) -> str:
        """Name of the current phase."""
        if self.quantizer is None:
            return "fit"
        return "fit last" if self.frozen else "fit rate"

    @property
    def frozen(self) -> bool:
        """Whether quantiser steps stand still at this position of the schedule."""
        return self.position >= 1 - self.settings.frozen_share

    def parameters(self) -> dict[str, Tensor]:
        """Return the model's parameters by name, pruned weights set to zero."""
        named = {name: p.detach() for name, p in self.model.named_parameters()}
        return {k: p * self.masks[k] if k in self.masks else p for k, p in named.items()}

    def advance(self) -> None:
        """Make one training step, and change phase where the schedule says so."""
        started = time.perf_counter()
        self._change_phase()
        state = None
        if self._good is None or self.step % _SNAPSHOT_STEPS == 0:
            state = {k: v.clone() for k, v in state_tensors(self).items()}
        clips = self._next_batch()
        factor, beta1 = self.lr_factor * self._lr_share(), self._beta1()
        self.lr = factor * self.settings.lr
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
                if "betas" in group:
                    group["betas"] = (beta1, group["betas"][1])
            optimizer.zero_grad()
        with self._one_thread():
            self.loss = self._backward(clips)
        finite = math.isfinite(self.loss)
        if finite:
            # Only now is it known that the parameters were sound.
            self._good = state or self._good
        if finite and self._gradients_are_finite():
            with nullcontext() if self.has_large_matrices else self._one_thread():
                for optimizer in self.optimizers:
                    optimizer.step()
                self._settle()
        else:
            self._roll_back()
        self._clock(time.perf_counter() - started)
        if self.done and self.analysis is not None:
            self._free_latents()

    def _settle(self) -> None:
        """In the last phase, keep values from flickering between two symbols, ever more firmly."""
        if self.quantizer is None or not self.frozen:
            return
        passed = 1 - (1 - self.position) / self.settings.frozen_share
        share = _FIRST_PULL * (_LAST_PULL / _FIRST_PULL) ** passed
        self.quantizer.settle(dict(self.model.named_parameters()), share)

    def _one_thread(self) -> AbstractContextManager[None]:
        """Return a context in which operations use one thread, where clips have their own."""
        return operation_threads(1) if self.batch_loss.splits else nullcontext()

    @property
    def evaluates(self) -> bool:
        """Whether `evaluate` is due after this step."""
        n_steps = self.settings.eval_steps
        return n_steps is not None and (self.done or self.step % n_steps == 0)

    @torch.no_grad()
    def evaluate(self) -> float:
        """Return the PSNR of all frames and keep the network where it is the best so far.

        At the end of the run the best network becomes the model.
        """
        started = time.perf_counter()
        network = deepcopy(self.model)
        for name, value in self.parameters().items():
            network.get_parameter(name).copy_(value)
        if self.analysis is not None:
            self._fill_latents(network, self.analysis)
        state = {name: value.clone() for name, value in network.state_dict().items()}
        network.freeze()
        depth = self.settings.bit_depth
        psnr_db = mean_psnr_db(network, self.frames, self.mask, self.planes, depth)
        if psnr_db > self.best.psnr_db:
            self.best = Best(psnr_db, state)
        elif self.done and self.best.tensors:
            self.model.load_state_dict(self.best.tensors)
        self.elapsed_s += time.perf_counter() - started
        return psnr_db

    @property
    def _fields(self) -> tuple[str, ...]:
        """Names of what is no weight of a layer."""
        return (*self.model.latent_names, *self.model.field_names)

    def _gradients_are_finite(self) -> bool:
        gradients = [p.grad for p in self._trained() if p.grad is not None]
        return bool(torch.isfinite(nn.utils.get_total_norm(gradients)))

    def _trained(self) -> list[Tensor]:
        groups = (group for optimizer in self.optimizers for group in optimizer.param_groups)
        return [p for group in groups for p in group["params"]]

    def check_finite(self) -> None:
        """Raise ResourceError when a number that would be written is not finite."""
        trained = self.parameters()
        if self.quantizer is not None:
            trained |= dict(self.quantizer.named_parameters())
        for name, value in trained.items():
            if not torch.isfinite(value).all():
                raise ResourceError(
                    f"training ended with a {name} that is not finite; "
                    "use a lower --lr or another --seed"
                )

    def _change_phase(self) -> None:
        s = self.settings
        starts_rate = s.coding == "rd" and self.quantizer is None and self.position >= s.float_share
        # Only parameters have steps, so that the rate phase needs free latents.
        if self.analysis is not None and (starts_rate or self.position >= s.analysis_share):
            self._free_latents()
        while (
            s.prune > 0
            and self.n_prunings < len(s.prune_at)
            and self.position >= s.prune_at[self.n_prunings]
        ):
            self._prune()
        if starts_rate:
            self._start_rate_phase()
        if s.corrections != 0 and self.budget is None and self.position >= s.decide_share:
            self._decide_corrections()

    def _decide_corrections(self) -> None:
        """Keep as much of the file for corrections as they save more than the network would."""
        network = self.network(self.quantized())
        depth = self.settings.bit_depth
        all_bits = self.rate.target_bits / (1 - self.settings.spared)
        found = find_budget(
            lambda index: network.draw_samples(index, depth),
            self.frames,
            self.mask,
            depth,
            self.motion,
            all_bits,
            self.rate.mu,
            self.settings.corrections,
        )
        agreed = torch.tensor([found.share, found.limit], device=self.device)
        self.budget = Budget(*self.team.mean([agreed])[0].tolist())
        self.rate.target_bits = (1 - self.budget.share) * all_bits

    def _lr_share(self) -> float:
        s = self.settings
        if s.warmup_share is not None:
            return lr_share(s, self.position, warmup=s.warmup_share)
        warmup = min(_WARMUP_STEPS, max(1, s.n_steps // 10))
        return lr_share(s, self.position, warmup=0.0) * min(1.0, (self.step + 1) / warmup)

    def _beta1(self) -> float:
        s = self.settings
        return beta1_at(s, self.position, warmup=s.warmup_share or 0.0)

    def quantized(self, octaves: float = 0.0, deadzone: float = 0.0) -> list[QTensor]:
        """Return the network as integers: as trained, or by min-max with coding "ptq".

        All steps are first scaled by 2^octaves; for deadzone see `Quantizer.quantize`.
        """
        if self.quantizer is not None:
            return self.quantizer.quantize(self.parameters(), octaves, deadzone)
        s = self.settings
        self.model.freeze()
        return quantize_minmax(
            tensor_specs(self.model),
            self.parameters(),
            weight_bits=s.weight_bits,
            embed_bits=s.embed_bits,
            quant_axis=s.quant_axis,
            octaves=octaves,
            deadzone=deadzone,
        )

    def network(self, tensors: list[QTensor]) -> VideoModel:
        """Return a network of these tensors, ready to draw."""
        network = deepcopy(self.model)
        load_tensors(network, tensors)
        network.settle()
        return network

    def _clock(self, step_s: float) -> None:
        """Advance the schedule by one step, or by what the time limit asks for."""
        self.step += 1
        self.elapsed_s += step_s
        self.step_s = _blend(self.step_s or step_s, step_s, 0.1)
        s = self.settings
        if s.max_time_s is None:
            self.position = self.step / s.n_steps
        elif self.step >= _TIMING_STEPS:
            left_s = s.max_time_s - self.elapsed_s
            n_left = max(1.0, left_s / self.step_s)
            self.position = min(1.0, self.position + (1 - self.position) / n_left)

    def limit_time(self, seconds: float) -> None:
        """Let the schedule end this long after the first step."""
        self.settings = replace(self.settings, max_time_s=seconds)

    def steps_left(self) -> int:
        """Return the expected number of steps until the schedule ends."""
        s = self.settings
        if s.max_time_s is None:
            return s.n_steps - self.step
        return max(0, math.ceil((s.max_time_s - self.elapsed_s) / max(self.step_s, 1e-6)))

    def _next_batch(self) -> Tensor:
        """Return the next clips, drawn without replacement; the last of a pass may be fewer."""
        if self.order.numel() == 0:
            self.order = torch.randperm(self.n_clips, generator=self.generator)
        n = max(1, self.settings.batch // self.model.clip_frames)
        clips, self.order = self.order[:n], self.order[n:]
        return clips.to(self.device)

    def _backward(self, clips: Tensor) -> float:
        """Find the gradients of the batch's loss and return the loss."""
        latents = latent_loss = None
        # Not in bfloat16: predicted symbols and activities need more than its 8 bits.
        if self.quantizer is not None:
            per_bit = self.rate.pressure / self.rate.target_bits
            self._find_rate_slopes(per_bit)
            values = weights_as_decoded(self.model, self.quantizer, self.masks, frozen=self.frozen)
            latents, latent_bits = latents_as_decoded(
                self.model, self.quantizer, clips, self.n_clips, frozen=self.frozen
            )
            latent_loss = per_bit * latent_bits if latents else None
        else:
            named = dict(self.model.named_parameters())
            values = {k: p * self.masks[k] if k in self.masks else p for k, p in named.items()}
        values = {f"model.{name}": value for name, value in values.items()}
        if self.drawing.heads is not None:
            values |= {f"heads.{name}": p for name, p in self.drawing.heads.named_parameters()}
        self.batch_loss.mended = self._mended()
        loss, mse = self.batch_loss.backward(
            clips, values, latents or None, self.analysis, latent_loss
        )
        if self.quantizer is not None:
            loss += per_bit * self.weight_bits
            add_slopes(self.model, self.quantizer, self.rate_slopes)
        loss, mse = self.team.average(self._trained(), loss, mse)
        psnr_db = -10 * math.log10(float(mse.mean()) + 1e-10)
        mean_db = psnr_db if self.psnr_db is None else self.psnr_db
        self.psnr_db = _blend(mean_db, psnr_db, 0.02)
        if self.quantizer is not None and math.isfinite(loss):
            self._control_rate()
        return loss

    def _mended(self) -> Mended | None:
        """Return which errors are left to corrections from here on."""
        if self.budget is None or self.psnr_db is None or not math.isfinite(self.budget.limit):
            return None
        limit = self.budget.limit * 10 ** (-0.1 * self.psnr_db)
        return Mended(limit, self.motion.side)

    def _control_rate(self) -> None:
        """Take in the estimated bits and adapt mu; now and then weigh the real file."""
        assert self.quantizer is not None
        adapts = self.step % _CONTROL_STEPS == 0
        if adapts:
            self.quantizer.find_scales(
                self.parameters(), self.model.steady_names, frozen=self.frozen
            )
            self._count_latents()
        self.bits = self.weight_bits + self.latent_bits
        if not adapts:
            return
        if self.frozen:
            # What is rounded now is what the file would hold.
            self.rate.overhead_bits = self.measure_bits(self.quantized()) - self.bits
        elif self.step % _OVERHEAD_STEPS == 0:
            # Side information and headers, less what better tables save.
            beyond = self.measure_bits(self.quantized()) - self.bits
            self.rate.overhead_bits = _blend(self.rate.overhead_bits, beyond, 0.3)
        self.rate.update(self.bits)

    def _count_latents(self) -> None:
        """Estimate the bits of the latents of all clips; a step sees those of a few."""
        assert self.quantizer is not None
        parameters, steady = self.parameters(), self.model.steady_names
        latents = {name: parameters[name] for name in self.model.latent_names}
        self.latent_bits = self.quantizer.count_bits(latents, steady, frozen=self.frozen)

    def _find_rate_slopes(self, per_bit: float) -> None:
        """Find the gradient of the bits of all that clips share, unless it is known well enough."""
        assert self.quantizer is not None
        fits_phase = ("quantizer.log_step" in self.rate_slopes) != self.frozen
        if self.step % _RATE_STEPS == 0 or not self.rate_slopes or not fits_phase:
            self.rate_slopes, self.weight_bits = rate_slopes(
                self.model, self.quantizer, self.masks, per_bit, frozen=self.frozen
            )

    @torch.no_grad()
    def _free_latents(self) -> None:
        """Turn what the encoder makes of every clip into parameters and drop the encoder."""
        assert self.analysis is not None
        self._fill_latents(self.model, self.analysis)
        self.analysis = None
        self._renew_optimizers()

    def _fill_latents(self, model: VideoModel, analysis: nn.Module) -> None:
        (name,) = model.latent_names
        stored = model.get_parameter(name)
        for first in range(0, self.n_clips, 4):
            clips = torch.arange(first, min(first + 4, self.n_clips), device=self.device)
            stored[clips] = self.batch_loss.analyse(analysis, clips)

    @torch.no_grad()
    def _start_rate_phase(self) -> None:
        """Give every row a step and a scale."""
        self.model.freeze()
        self.quantizer = self.new_quantizer()
        self.rate_slopes = {}
        parameters = self.parameters()
        generator = torch.Generator().manual_seed(self.settings.seed + 2)
        clips = torch.randperm(self.n_clips, generator=generator)[:_N_LOOKED_AT].to(self.device)
        with (
            torch.enable_grad(),
            torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16),
        ):
            looked_at = [self.batch_loss.known_frames_of(clip) for clip in clips[:, None]]
            slopes = squared_slopes(self.model, parameters, looked_at, generator, self.mask)
        means = self.team.mean(list(slopes.values()))
        set_first_steps(
            self.quantizer,
            parameters,
            dict(zip(slopes, means, strict=True)),
            first_bits(self.rate.target_bits, self.step),
            steady_names=self.model.steady_names,
        )
        self._count_latents()
        self._renew_optimizers()

    @torch.no_grad()
    def _prune(self) -> None:
        """Remove the next part of the weights."""
        s = self.settings
        self.n_prunings += 1
        share = share_removed(s.prune, self.n_prunings, len(s.prune_at))
        parameters = self.parameters()
        weights = {k: p for k, p in parameters.items() if is_weight(k, p, self._fields)}
        self.masks = prune_masks(weights, share, s.prune_scope)
        # What was better before has weights that must go.
        self.best = Best()

    def _renew_optimizers(self) -> None:
        """Make optimisers for what is trained now, keeping the state of what was trained before."""
        kept = {p: state for o in self.optimizers for p, state in o.state.items()}
        self.optimizers = self.make_optimizers()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p in kept:
                        optimizer.state[p] = kept[p]

    def _roll_back(self) -> None:
        """Return to the last good state with half the learning rate; give up after a few times."""
        if self._good is None:
            raise ResourceError(
                "training diverged at its first step; use a lower --lr or another --seed"
            )
        step, position, elapsed_s = self.step, self.position, self.elapsed_s
        n_rollbacks, lr_factor, best = self.n_rollbacks + 1, self.lr_factor, self.best
        load_state_tensors(self, self._good)
        self.best = best
        self.step, self.position, self.elapsed_s = step, position, elapsed_s
        self.n_rollbacks, self.lr_factor = n_rollbacks, 0.5 * lr_factor
        self.psnr_db = None
        if n_rollbacks > _MAX_ROLLBACKS:
            # Who continues from here has as many tries again.
            self.n_rollbacks = 0
            raise ResourceError(
                f"training diverged {n_rollbacks} times; use a lower --lr or another --seed"
            )

    def new_analysis(self) -> nn.Module | None:
        """Return an encoder network that makes the latents, where the settings ask for one."""
        s = self.settings
        analysis = self.model.analysis(
            s.analysis, width=s.analysis_width, n_blocks=s.analysis_blocks
        )
        return None if analysis is None else place(analysis, self.device)

    def _new_side_heads(self) -> nn.ModuleList | None:
        heads = self.model.side_heads() if self.settings.side_weight > 0 else None
        return None if heads is None else place(heads, self.device)

    def new_quantizer(self) -> Quantizer:
        """Return steps and scales for the model's parameters."""
        s = self.settings
        quantizer = Quantizer(
            tensor_specs(self.model),
            weight_bits=s.weight_bits,
            embed_bits=s.embed_bits,
            picture_names=self.model.picture_names,
        )
        return quantizer.to(self.device)

    def make_optimizers(self) -> list[torch.optim.Optimizer]:
        """Return optimisers for all that is trained now."""
        trained = nn.ModuleDict({"model": self.model})
        if self.drawing.heads is not None:
            trained["heads"] = self.drawing.heads
        if self.analysis is not None:
            trained["analysis"] = self.analysis
        if self.quantizer is not None:
            trained["quantizer"] = self.quantizer
        excluded = tuple(f"model.{name}" for name in self._fields)
        s = self.settings
        optimizers = make_optimizers(
            trained,
            excluded,
            kind=s.optimizer,
            lr_matrix=s.lr_matrix,
            lr=s.lr,
            betas=(s.beta1, s.beta2),
        )
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        return optimizers


def _blend(mean: float, value: float, weight: float) -> float:
    return (1 - weight) * mean + weight * value
