"""Float parameters <-> integer tensors, and what they cost, in a form to train through.

value = symbol x step. Every row of a tensor has a learned log-step and a learned log-scale b of a
zero-mean Laplace distribution of its symbols (in steps); the estimated rate is the code length
under that distribution (NVRC, arXiv 2409.07414, section 3, with Laplace in place of Gaussian).
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from nvcodec.bitstream.tensors import QTensor, TensorSpec, dequantize, step_index, step_size
from nvcodec.models.base import VideoModel

Mode = Literal["noise", "hard"]

MIN_WEIGHTS_PER_ROW = 128
"""Rows with fewer weights do not repay their own step and scale (NVRC's rule)."""
_MIN_SCALE = 0.05
_LOG2E = 1 / math.log(2.0)


def tensor_specs(model: VideoModel) -> list[TensorSpec]:
    """Return what the file stores for this model, in coding order."""
    specs = []
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        latent = name in model.latent_names
        if latent:
            axis: int | None = 1
        elif len(shape) > 1 and parameter.numel() // shape[0] >= MIN_WEIGHTS_PER_ROW:
            axis = 0
        else:
            axis = None
        specs.append(TensorSpec(name=name, shape=shape, row_axis=axis, temporal=latent))
    return specs


def laplace_bits(symbols: Tensor, scale: Tensor) -> Tensor:
    """Return the code length in bits of each (possibly non-integer) symbol; scale broadcasts.

    -log2 of the Laplace mass on [symbol - 1/2, symbol + 1/2]. Both branches are clamped so that the
    one not selected cannot overflow into a NaN gradient.
    """
    magnitude = symbols.abs()
    inside = magnitude.clamp(max=0.5)
    outside = magnitude.clamp(min=0.5)
    centre = 1 - 0.5 * (torch.exp((inside - 0.5) / scale) + torch.exp(-(inside + 0.5) / scale))
    tail = (
        torch.log((1 - torch.exp(-1 / scale)).clamp_min(1e-9))
        - (outside - 0.5) / scale
        - math.log(2.0)
    )
    log_mass = torch.where(magnitude > 0.5, tail, torch.log(centre.clamp_min(1e-9)))
    return -log_mass * _LOG2E


class Quantizer(nn.Module):
    """Learned steps and scales for the parameters of one model.

    `levels` caps the magnitude of symbols: 2^(bits - 1) - 1 for weights and for latents.
    """

    def __init__(self, specs: list[TensorSpec], *, weight_bits: int, embed_bits: int) -> None:
        super().__init__()
        self.specs = {spec.name: spec for spec in specs}
        self.cap = {
            spec.name: (1 << ((embed_bits if spec.temporal else weight_bits) - 1)) - 1
            for spec in specs
        }
        self.log_step = nn.ParameterList(torch.zeros(spec.n_rows) for spec in specs)
        self.log_scale = nn.ParameterList(torch.zeros(spec.n_rows) for spec in specs)
        self.order = {spec.name: i for i, spec in enumerate(specs)}

    def _view(self, name: str, rows: Tensor) -> Tensor:
        spec = self.specs[name]
        shape = [1] * len(spec.shape)
        if spec.row_axis is not None:
            shape[spec.row_axis] = -1
        return rows.view(shape)

    def _rows(self, name: str, value: Tensor) -> Tensor:
        axis = self.specs[name].row_axis
        return value.reshape(1, -1) if axis is None else value.movedim(axis, 0).flatten(1)

    @torch.no_grad()
    def initialize(self, parameters: dict[str, Tensor], relative_step: float = 0.25) -> None:
        """Set each step to a share of its row's deviation, or to fill the capped levels."""
        for name, i in self.order.items():
            rows = self._rows(name, parameters[name].float())
            deviation = rows.square().mean(1).sqrt().clamp_min(1e-6)
            step = relative_step * deviation
            step = torch.maximum(step, rows.abs().amax(1) / (self.cap[name] + 0.49))
            self.log_step[i].copy_(step.log())
            if self.specs[name].temporal:
                rows = self._rows(name, torch.diff(parameters[name].float(), dim=0))
            mean = (rows / step[:, None]).abs().mean(1).nan_to_num(0.1).clamp_min(0.1)
            self.log_scale[i].copy_(mean.log())

    def forward(
        self,
        name: str,
        value: Tensor,
        mode: Mode,
        generator: torch.Generator,
        previous: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return the parameter as a decoder would see it, and its estimated bits.

        "noise" adds uniform noise of one step; "hard" rounds the symbols, and the steps to the
        eighths of an octave that the file can say, with the gradient of the identity.
        A latent may be given as the entries of some frames only; with `previous`, the entries of
        the frames before them (0 for the first), the bits are those of the difference in symbols.
        """
        i = self.order[name]
        row_steps = self.log_step[i].exp()
        if mode == "hard":
            eighths = step_size(step_index(row_steps.detach().cpu().double().numpy()))
            row_steps = row_steps + (torch.from_numpy(eighths).to(row_steps) - row_steps).detach()
        step = self._view(name, row_steps)
        symbols = (value / step).clamp(-self.cap[name] - 0.49, self.cap[name] + 0.49)
        if mode == "noise":
            noise = torch.rand(symbols.shape, generator=generator, device=symbols.device)
            symbols = symbols + noise - 0.5
        else:
            symbols = symbols + (symbols.round() - symbols).detach()
        coded = symbols
        if previous is not None:
            before = previous / step
            coded = symbols - (before + (before.round() - before).detach())
        scale = self._view(name, self.log_scale[i].exp() + _MIN_SCALE)
        return symbols * step, laplace_bits(coded, scale).sum()

    @torch.no_grad()
    def quantize(
        self, parameters: dict[str, Tensor], octaves: float = 0.0, deadzone: float = 0.0
    ) -> list[QTensor]:
        """Round parameters to integers.

        All steps are first scaled by 2^octaves. Magnitudes are rounded down unless their fraction
        exceeds 1/2 + deadzone: what costs least to draw nearer to zero goes first, as in RDOQ.
        """
        tensors = []
        for name, i in self.order.items():
            spec = self.specs[name]
            log2_step = self.log_step[i].double().cpu().numpy() * _LOG2E
            steps = step_index(np.exp2(log2_step + octaves))
            shape = [1] * len(spec.shape)
            if spec.row_axis is not None:
                shape[spec.row_axis] = -1
            exact = parameters[name].double().cpu().numpy() / step_size(steps).reshape(shape)
            magnitude = np.ceil(np.abs(exact) - 0.5 - deadzone).clip(0, self.cap[name])
            symbols = (np.sign(exact) * magnitude).astype(np.int32)
            tensors.append(QTensor(spec, symbols, steps))
        return tensors


def load_tensors(model: VideoModel, tensors: list[QTensor]) -> None:
    """Put dequantised tensors into the model, one for each of its parameters."""
    values = {q.spec.name: torch.from_numpy(dequantize(q)) for q in tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values.pop(name))
    model.eval()
