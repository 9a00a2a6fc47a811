"""Overfit a model to frames: float, then noisy, then rounded parameters, with the rate in the loss.

loss = distortion + mu R / R_target. The three phases are shares of one schedule position in [0, 1]
that also drives the learning rate, so a stretched or shortened run is still fully annealed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from nvcodec.codec.device import place
from nvcodec.codec.losses import distortion
from nvcodec.codec.optim import make_optimizers
from nvcodec.codec.prune import prune_masks
from nvcodec.codec.quantize import Mode, Quantizer, tensor_specs
from nvcodec.codec.rate import RateController
from nvcodec.errors import ResourceError
from nvcodec.models.base import VideoModel

_WARMUP_STEPS = 30
_SNAPSHOT_STEPS = 200
_CONTROL_STEPS = 12
_OVERHEAD_STEPS = 48
_TIMING_STEPS = 5
_MAX_ROLLBACKS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class FitSettings:
    """How to train; part of what a checkpoint must match."""

    n_steps: int
    target_bits: float
    """Bits that the file may have, headers included."""
    batch: int = 2
    loss: str = "log-mse"
    optimizer: str = "muon"
    lr_matrix: float = 1e-2
    lr: float = 1e-2
    beta2: float = 0.99
    analysis_share: float = 0.1
    """Share of the schedule in which an encoder network makes the latents; then they are free."""
    float_share: float = 0.2
    """Share of the schedule without quantisation."""
    hard_share: float = 0.2
    """Share of the schedule, at its end, with real rounding."""
    weight_bits: int = 16
    embed_bits: int = 16
    prune: float = 0.0
    """Share of the weights that is set to zero after the float phase."""
    seed: int = 0
    bf16: bool = False
    max_time_s: float | None = None


class Fit:
    """One overfitting run that can be interrupted, saved and continued step by step."""

    def __init__(
        self,
        model: VideoModel,
        frames: Tensor,
        settings: FitSettings,
        measure_bits: Callable[[Quantizer, dict[str, Tensor]], float],
    ) -> None:
        """Prepare to fit `model` to frames (N, 3, H, W) uint8 on the model's device.

        measure_bits(quantizer, parameters) returns the bits of the whole file, were it made now.
        """
        self.frames = frames
        self.settings = settings
        self.device = frames.device
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.noise = torch.Generator(device=self.device).manual_seed(settings.seed + 1)
        self.model = place(model, self.device)
        self.measure_bits = measure_bits
        self.analysis = self._new_analysis()
        self.quantizer: Quantizer | None = None
        self.rate = RateController(target_bits=settings.target_bits)
        self.masks: dict[str, Tensor] = {}
        self.optimizers = self._make_optimizers()
        self.lr_factor = 1.0
        self.step = 0
        self.position = 0.0
        self.elapsed_s = self.step_s = 0.0
        self.order = torch.empty(0, dtype=torch.int64)
        self.psnr_db: float | None = None
        self.bits: float | None = None
        self.n_rollbacks = 0
        self._good: dict[str, Any] | None = None

    @property
    def done(self) -> bool:
        """Whether the schedule is at its end."""
        return self.position >= 1.0 - 1e-9

    @property
    def stage(self) -> str:
        """Name of the current phase."""
        if self.quantizer is None:
            return "fit"
        return "fit rounded" if self.mode == "hard" else "fit rate"

    @property
    def mode(self) -> Mode:
        """How parameters are quantised at this position of the schedule."""
        return "noise" if self.position < 1 - self.settings.hard_share else "hard"

    def parameters(self) -> dict[str, Tensor]:
        """Return the model's parameters by name, pruned weights set to zero."""
        named = {name: p.detach() for name, p in self.model.named_parameters()}
        return {k: p * self.masks[k] if k in self.masks else p for k, p in named.items()}

    def advance(self) -> None:
        """Make one training step, and change phase where the schedule says so."""
        started = time.perf_counter()
        if self.analysis is not None and self.position >= self.settings.analysis_share:
            self._free_latents()
        if self.quantizer is None and self.position >= self.settings.float_share:
            self._start_rate_phase()
        if self.step % _SNAPSHOT_STEPS == 0:
            self._good = {k: v.clone() for k, v in self.state_tensors().items()}
        index = self._next_batch()
        warmup = min(_WARMUP_STEPS, max(1, self.settings.n_steps // 10))
        factor = self.lr_factor * min(1.0, (self.step + 1) / warmup)
        factor *= 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * self.position))
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * factor
            optimizer.zero_grad()
        loss = self._loss(index)
        loss.backward()  # type: ignore[no-untyped-call]
        if torch.isfinite(loss):
            for optimizer in self.optimizers:
                optimizer.step()
        else:
            self._roll_back()
        self._clock(time.perf_counter() - started)

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

    def steps_left(self) -> int:
        """Return the expected number of steps until the schedule ends."""
        s = self.settings
        if s.max_time_s is None:
            return s.n_steps - self.step
        return max(0, math.ceil((s.max_time_s - self.elapsed_s) / max(self.step_s, 1e-6)))

    def _next_batch(self) -> Tensor:
        """Return the next frames, drawn without replacement; the last of a pass may be fewer."""
        if self.order.numel() == 0:
            self.order = torch.randperm(len(self.frames), generator=self.generator)
        index, self.order = self.order[: self.settings.batch], self.order[self.settings.batch :]
        return index.to(self.device)

    def _loss(self, index: Tensor) -> Tensor:
        target = self.frames[index].float().div_(255)
        bits = None
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bf16):
            if self.quantizer is None:
                latents = None
                if self.analysis is not None:
                    latents = {self.model.latent_names[0]: self.analysis(target)}
                drawn = self.model(index, latents)
            else:
                values, latents, bits = self._quantized(index)
                drawn = functional_call(self.model, values, (index, latents))
        loss, mse = distortion(self.settings.loss, drawn.float(), target)
        psnr_db = -10 * math.log10(float(mse.mean()) + 1e-10)
        mean_db = psnr_db if self.psnr_db is None else self.psnr_db
        self.psnr_db = _blend(mean_db, psnr_db, 0.02)
        if bits is not None:
            loss = loss + self.rate.pressure / self.rate.target_bits * bits
            self._control_rate(float(bits.detach()))
        return loss

    def _control_rate(self, n_bits: float) -> None:
        """Take in a step's estimated bits and adapt mu; now and then weigh the real file."""
        assert self.quantizer is not None
        self.bits = _blend(n_bits if self.bits is None else self.bits, n_bits, 0.1)
        if self.step % _CONTROL_STEPS:
            return
        if self.mode == "hard":
            # What is rounded now is what the file would hold: no estimate is needed.
            self.rate.overhead_bits = 0.0
            self.rate.update(self.measure_bits(self.quantizer, self.parameters()))
            return
        if self.step % _OVERHEAD_STEPS == 0:
            # Side information and headers, less what better tables save; the estimate swings with
            # the frames of the batch, so one comparison says little.
            beyond = self.measure_bits(self.quantizer, self.parameters()) - self.bits
            self.rate.overhead_bits = _blend(self.rate.overhead_bits, beyond, 0.3)
        self.rate.update(self.bits)

    def _quantized(self, index: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor], Tensor]:
        """Return parameters and the batch's latents as a decoder would see them, and all bits."""
        assert self.quantizer is not None
        mode = self.mode
        values: dict[str, Tensor] = {}
        latents: dict[str, Tensor] = {}
        bits = torch.zeros((), device=self.device)
        for name, parameter in self.model.named_parameters():
            if name in self.model.latent_names:
                previous = parameter[(index - 1).clamp_min(0)] * (index > 0).view(-1, 1, 1, 1)
                latents[name], cost = self.quantizer(
                    name, parameter[index], mode, self.noise, previous
                )
                # The batch stands for all frames.
                bits = bits + cost * (len(self.frames) / len(index))
            else:
                source = parameter * self.masks[name] if name in self.masks else parameter
                value, cost = self.quantizer(name, source, mode, self.noise)
                values[name] = value * self.masks[name] if name in self.masks else value
                bits = bits + cost
        return values, latents, bits

    @torch.no_grad()
    def _free_latents(self) -> None:
        """Turn what the encoder makes of every frame into parameters and drop the encoder."""
        assert self.analysis is not None
        (name,) = self.model.latent_names
        stored = self.model.get_parameter(name)
        for first in range(0, len(self.frames), 4):
            batch = self.frames[first : first + 4].float().div_(255)
            stored[first : first + 4] = self.analysis(batch)
        self.analysis = None
        self._renew_optimizers()

    @torch.no_grad()
    def _start_rate_phase(self) -> None:
        """Prune, and give every row a step and a scale."""
        if self.settings.prune > 0:
            self.masks = prune_masks(self.model, self.settings.prune)
        self.quantizer = self._new_quantizer()
        self.quantizer.initialize(self.parameters())
        self._renew_optimizers()

    def _renew_optimizers(self) -> None:
        """Make optimisers for what is trained now, keeping the state of what was trained before."""
        kept = {p: state for o in self.optimizers for p, state in o.state.items()}
        self.optimizers = self._make_optimizers()
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if p in kept:
                        optimizer.state[p] = kept[p]

    def _roll_back(self) -> None:
        """Return to the last good state with half the learning rate; give up after a few times."""
        assert self._good is not None
        self.n_rollbacks += 1
        if self.n_rollbacks > _MAX_ROLLBACKS:
            raise ResourceError(
                f"training diverged {self.n_rollbacks} times; use a lower --lr or another --seed"
            )
        step, position, elapsed_s = self.step, self.position, self.elapsed_s
        n_rollbacks, lr_factor = self.n_rollbacks, self.lr_factor
        self.load_state_tensors(self._good)
        self.step, self.position, self.elapsed_s = step, position, elapsed_s
        self.n_rollbacks, self.lr_factor = n_rollbacks, 0.5 * lr_factor
        self.psnr_db = None

    def state_tensors(self) -> dict[str, Tensor]:
        """Return everything that the rest of the run depends on, as named tensors."""
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        if self.analysis is not None:
            state |= {f"analysis.{k}": v for k, v in self.analysis.state_dict().items()}
        if self.quantizer is not None:
            state |= {f"quantizer.{k}": v for k, v in self.quantizer.state_dict().items()}
        state |= {f"mask.{k}": v for k, v in self.masks.items()}
        for i, optimizer in enumerate(self.optimizers):
            for j, slots in optimizer.state_dict()["state"].items():
                state |= {f"optimizer.{i}.{j}.{key}": value for key, value in slots.items()}
        state["random.order"] = self.generator.get_state()
        state["random.noise"] = self.noise.get_state()
        state["order"] = self.order
        numbers = [
            self.step,
            self.position,
            self.elapsed_s,
            self.lr_factor,
            self.n_rollbacks,
            self.rate.mu,
            self.rate.pressure,
            self.rate.overhead_bits,
            math.nan if self.psnr_db is None else self.psnr_db,
            math.nan if self.bits is None else self.bits,
        ]
        state["numbers"] = torch.tensor(numbers, dtype=torch.float64)
        return state

    def load_state_tensors(self, state: dict[str, Tensor]) -> None:
        """Continue from `state_tensors` of a run with the same model, frames and settings."""

        def part(prefix: str) -> dict[str, Tensor]:
            n = len(prefix)
            return {k[n:]: v for k, v in state.items() if k.startswith(prefix)}

        self.model.load_state_dict(part("model."))
        self.masks = {k: v.to(self.device) for k, v in part("mask.").items()}
        quantizer, analysis = part("quantizer."), part("analysis.")
        self.quantizer = self._new_quantizer() if quantizer else None
        if self.quantizer is not None:
            self.quantizer.load_state_dict(quantizer)
        self.analysis = self._new_analysis() if analysis else None
        if self.analysis is not None:
            self.analysis.load_state_dict(analysis)
        self.optimizers = self._make_optimizers()
        for i, optimizer in enumerate(self.optimizers):
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in part(f"optimizer.{i}.").items():
                index, name = key.split(".", 1)
                slots.setdefault(int(index), {})[name] = value.clone()
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": slots, "param_groups": groups})
        self.generator.set_state(state["random.order"])
        self.noise.set_state(state["random.noise"])
        self.order = state["order"].clone()
        numbers = state["numbers"].tolist()
        self.step, self.n_rollbacks = int(numbers[0]), int(numbers[4])
        self.position, self.elapsed_s, self.lr_factor = numbers[1:4]
        self.rate.mu, self.rate.pressure, self.rate.overhead_bits = numbers[5:8]
        self.psnr_db, self.bits = (None if math.isnan(v) else v for v in numbers[8:10])

    def _new_analysis(self) -> nn.Module | None:
        analysis = self.model.analysis()
        return None if analysis is None else place(analysis, self.device)

    def _new_quantizer(self) -> Quantizer:
        s = self.settings
        quantizer = Quantizer(
            tensor_specs(self.model), weight_bits=s.weight_bits, embed_bits=s.embed_bits
        )
        return quantizer.to(self.device)

    def _make_optimizers(self) -> list[torch.optim.Optimizer]:
        trained = nn.ModuleDict({"model": self.model})
        if self.analysis is not None:
            trained["analysis"] = self.analysis
        if self.quantizer is not None:
            trained["quantizer"] = self.quantizer
        latents = [f"model.{name}" for name in self.model.latent_names]
        s = self.settings
        optimizers = make_optimizers(
            trained, latents, kind=s.optimizer, lr_matrix=s.lr_matrix, lr=s.lr, beta2=s.beta2
        )
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["initial_lr"] = group["lr"]
        return optimizers


def _blend(mean: float, value: float, weight: float) -> float:
    return (1 - weight) * mean + weight * value
