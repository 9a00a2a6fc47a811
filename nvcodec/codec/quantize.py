"""Float parameters <-> integer tensors, and what they cost, in a form to train through.

value = symbol x step. Every row of a tensor has a learned log-step and the scale b of a zero-mean
Laplace distribution of its symbols (in steps), which is found anew now and then; the estimated rate
is the code length under that distribution (see rate_model.py).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from nvcodec.bitstream.prediction import N_LEVELS, NEIGHBOURS, is_picture
from nvcodec.bitstream.tensors import QTensor, TensorSpec, dequantize, step_index, step_size
from nvcodec.codec.frequency_rate import best_frequency_scales, first_means, frequency_nats
from nvcodec.codec.picture_rate import first_prediction, picture_nats
from nvcodec.codec.rate_model import MIN_SCALE, as_decoded, best_scales, code_length
from nvcodec.models.base import VideoModel

MIN_WEIGHTS_PER_ROW = 128
"""Rows with fewer weights do not repay their own step and scale (NVRC's rule)."""
_LOG2E = 1 / math.log(2.0)


def tensor_specs(model: VideoModel) -> list[TensorSpec]:
    """Return what the file stores for this model, in coding order."""
    specs = []
    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        latent = name in model.latent_names
        if latent:
            axis: int | None = 1
        elif name.startswith(model.field_names) and len(shape) == 4:
            axis = 1
        else:
            long = len(shape) > 1 and parameter.numel() // shape[0] >= MIN_WEIGHTS_PER_ROW
            axis = 0 if long or model.dct_side(name) else None
        dct_side = model.dct_side(name)
        spec = TensorSpec(name=name, shape=shape, row_axis=axis, temporal=latent, dct_side=dct_side)
        specs.append(spec)
    return specs


def is_predicted(spec: TensorSpec, picture_names: tuple[str, ...]) -> bool:
    """Say whether training takes a tensor for pictures that predict themselves."""
    return spec.name.startswith(picture_names) and is_picture(spec.shape)


class Quantizer(nn.Module):
    """Learned steps and scales for the parameters of one model, one of each for every row.

    Magnitudes of symbols are capped at 2^(bits - 1) - 1, for weights and for latents.
    """

    scales: Tensor
    frequency_scales: Tensor

    def __init__(
        self,
        specs: list[TensorSpec],
        *,
        weight_bits: int,
        embed_bits: int,
        picture_names: tuple[str, ...] = (),
    ) -> None:
        super().__init__()
        self.dct_sides = {spec.name: spec.dct_side for spec in specs if spec.dct_side}
        self.pictures = [
            spec.name
            for spec in specs
            if is_predicted(spec, picture_names) or spec.name in self.dct_sides
        ]
        self.specs = {spec.name: spec for spec in specs}
        self.cap = {
            spec.name: (1 << ((embed_bits if spec.temporal else weight_bits) - 1)) - 1
            for spec in specs
        }
        self.capped = min(weight_bits, embed_bits) < 16
        self.rows: dict[str, slice] = {}
        n_rows = 0
        for spec in specs:
            self.rows[spec.name] = slice(n_rows, n_rows + spec.n_rows)
            n_rows += spec.n_rows
        self.log_step = nn.Parameter(torch.zeros(n_rows))
        self.register_buffer("scales", torch.ones(n_rows))
        n_pictures = len(self.pictures)
        # Not matrices: the optimiser must not take them for weights of a layer.
        self.prediction = nn.Parameter(torch.zeros(n_pictures * len(NEIGHBOURS)))
        self.log_level_scale = nn.Parameter(torch.zeros(n_pictures * N_LEVELS))
        self.register_buffer("frequency_scales", torch.ones(len(self.dct_sides), N_LEVELS))
        self._index: dict[tuple[tuple[str, torch.Size], ...], tuple[Tensor, Tensor | None]] = {}

    def as_rows(self, name: str, value: Tensor) -> Tensor:
        """Return the values of a tensor as (rows, values of a row)."""
        axis = self.specs[name].row_axis
        return value.reshape(1, -1) if axis is None else value.movedim(axis, 0).flatten(1)

    def _row_index(self, values: dict[str, Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the row of every value, all tensors flattened, and its cap if there is one."""
        key = tuple((name, value.shape) for name, value in values.items())
        if key not in self._index:
            rows, caps = [], []
            for name, value in values.items():
                spec, first = self.specs[name], self.rows[name].start
                row = torch.arange(first, first + spec.n_rows).view(spec.row_shape)
                rows.append(row.expand(value.shape).reshape(-1))
                caps.append(torch.full((value.numel(),), self.cap[name] + 0.49))
            device = self.log_step.device
            cap = torch.cat(caps).to(device) if self.capped else None
            self._index[key] = (torch.cat(rows).to(device), cap)
        return self._index[key]

    @torch.no_grad()
    def initialize(
        self,
        parameters: dict[str, Tensor],
        steps: dict[str, Tensor],
        *,
        steady_names: tuple[str, ...] = (),
    ) -> None:
        """Set the step of each row, or what fills the capped levels, and what suits it.

        The code is that of the values, or of their differences along axis 0 for `steady_names`.
        """
        for name in self.specs:
            rows = self.as_rows(name, parameters[name].float())
            step = torch.maximum(steps[name], rows.abs().amax(1) / (self.cap[name] + 0.49))
            self.log_step[self.rows[name]].copy_(step.log())
        for i, name in enumerate(self.pictures):
            symbols = self._symbols(name, parameters[name], self.log_step.exp(), steady_names)
            if name in self.dct_sides:
                weights, scales = first_means(symbols, self.dct_sides[name])
            else:
                weights, scales = first_prediction(symbols)
            self.prediction.view(-1, len(NEIGHBOURS))[i].copy_(weights)
            self.log_level_scale.view(-1, N_LEVELS)[i].copy_(scales.log())
        self.find_scales(parameters, steady_names)

    @torch.no_grad()
    def find_scales(
        self,
        parameters: dict[str, Tensor],
        steady_names: tuple[str, ...],
        *,
        frozen: bool = False,
    ) -> None:
        """Set the scales of rows and of frequencies to those of the shortest code.

        A row that training turns to zeros would have to wait long for a learned scale to follow.
        """
        steps = self._steps(frozen=frozen)
        for name, spec in self.specs.items():
            symbols = self._symbols(name, parameters[name], steps, steady_names)
            if name in self.dct_sides:
                found = best_frequency_scales(symbols, self.dct_sides[name])
                self._frequency_scales(name).copy_(found)
            elif name not in self.pictures:
                row = torch.arange(spec.n_rows, device=symbols.device).view(spec.row_shape)
                found = best_scales(symbols, row.expand(symbols.shape), spec.n_rows)
                self.scales[self.rows[name]].copy_(found)

    @torch.no_grad()
    def settle(self, values: dict[str, Tensor], share: float) -> None:
        """Move values in place by a share of the way to what they are rounded to in frozen steps.

        Rounding with the gradient of the identity drives every value whose best place lies between
        two symbols to the edge between them, where it flickers. Drawn to the middle, it stays with
        the nearer one (Nagel et al. 2022, arXiv 2203.11086, section 4, dampens alike).
        """
        steps = self._file_steps()
        for name, value in values.items():
            whole = self._symbols(name, value, steps).mul_(self._along_rows(name, steps))
            value.lerp_(whole, share)

    def _symbols(
        self, name: str, value: Tensor, steps: Tensor, steady_names: tuple[str, ...] = ()
    ) -> Tensor:
        """Return a tensor's symbols as they are coded."""
        symbols = (value.float() / self._along_rows(name, steps)).round()
        symbols = symbols.clamp(-self.cap[name], self.cap[name])
        if name in steady_names:
            symbols = torch.diff(symbols, dim=0, prepend=torch.zeros_like(symbols[:1]))
        return symbols

    def as_decoded(self, values: dict[str, Tensor], *, frozen: bool = False) -> dict[str, Tensor]:
        """Return parameters as a decoder would see them, rounded with the gradient of the identity.

        `frozen` steps stand still, as the eighths of an octave that the file can say: one eighth
        more in a large row would change the whole file by several percent. Latents may be given as
        the entries of some clips only.
        """
        steps = self._steps(frozen=frozen)
        seen: dict[str, Tensor] = {}
        others = {name: value for name, value in values.items() if name not in self.pictures}
        if others:
            row, cap = self._row_index(others)
            flat = as_decoded(_flat(others), steps.index_select(0, row), cap)
            pieces = torch.split(flat, [value.numel() for value in others.values()])
            for (name, value), piece in zip(others.items(), pieces, strict=True):
                seen[name] = piece.view(value.shape)
        for name, value in values.items():
            if name not in others:
                cap = steps.new_tensor(self.cap[name] + 0.49) if self.capped else None
                seen[name] = as_decoded(value, self._along_rows(name, steps), cap)
        return {name: seen[name] for name in values}

    def bits(
        self,
        values: dict[str, Tensor],
        previous: dict[str, Tensor] | None = None,
        *,
        frozen: bool = False,
    ) -> Tensor:
        """Return the estimated bits (scalar) of what `as_decoded` gives.

        Their gradient is that of the values before they are rounded: a symbol of 0 costs the same
        wherever its value lies, so that nothing would hold it there, and values wander to the edge
        of the next symbol and back. With `previous`, the entries of the clips before (0 for the
        first), the bits are those of the difference in symbols.
        """
        pictures = {name: value for name, value in values.items() if name in self.pictures}
        others = {name: value for name, value in values.items() if name not in pictures}
        steps = self._steps(frozen=frozen)
        bits = self._row_bits(others, steps, previous) if others else steps.new_zeros(())
        for name, value in pictures.items():
            before = None if previous is None else previous.get(name)
            bits = bits + self._picture_bits(name, value, steps, before)
        return bits

    @torch.no_grad()
    def count_bits(
        self,
        parameters: dict[str, Tensor],
        steady_names: tuple[str, ...],
        *,
        frozen: bool = True,
    ) -> float:
        """Return the estimated bits of some parameters, whole as they are; see `initialize`."""
        of_all = {name: p for name, p in parameters.items() if name not in steady_names}
        steady = {name: p for name, p in parameters.items() if name in steady_names}
        before = {n: torch.cat([torch.zeros_like(p[:1]), p[:-1]]) for n, p in steady.items()}
        bits = float(self.bits(of_all, frozen=frozen))
        if steady:
            bits += float(self.bits(steady, before, frozen=frozen))
        return bits

    def _steps(self, *, frozen: bool) -> Tensor:
        return self._file_steps() if frozen else self.log_step.exp()

    def _file_steps(self) -> Tensor:
        """Return the steps as the file can say them, without a gradient."""
        steps = self.log_step.detach().exp()
        # A step that is not a number makes the loss none, which the caller looks at.
        sane = steps.nan_to_num(1.0).clamp(1e-30, 1e30)
        return torch.from_numpy(step_size(step_index(sane.cpu().double().numpy()))).to(steps)

    def _row_bits(
        self, values: dict[str, Tensor], steps: Tensor, previous: dict[str, Tensor] | None
    ) -> Tensor:
        row, cap = self._row_index(values)
        before = None
        if previous is not None:
            earlier = {n: previous.get(n, torch.zeros_like(v)) for n, v in values.items()}
            before = _flat(earlier)
        return code_length(_flat(values), steps, self.scales, row, before, cap)

    def _picture_bits(
        self, name: str, value: Tensor, steps: Tensor, before: Tensor | None
    ) -> Tensor:
        step, cap = self._along_rows(name, steps), self.cap[name] + 0.49
        exact = value / step
        if self.capped:
            exact = exact.clamp(-cap, cap)
        symbols = _rounded(exact)
        i = self.pictures.index(name)
        weights = self.prediction.view(-1, len(NEIGHBOURS))[i]
        scales = self.log_level_scale.view(-1, N_LEVELS)[i].exp() + MIN_SCALE
        if name in self.dct_sides:
            others = self._frequency_scales(name)
            nats = frequency_nats(exact, symbols, weights, scales, others, self.dct_sides[name])
        elif before is None:
            nats = picture_nats(exact, symbols, weights, scales)
        else:
            earlier = _rounded(before / step)
            nats = picture_nats(exact - earlier, symbols - earlier, weights, scales)
        return nats * _LOG2E

    def _frequency_scales(self, name: str) -> Tensor:
        return self.frequency_scales[list(self.dct_sides).index(name)]

    def _along_rows(self, name: str, of_rows: Tensor) -> Tensor:
        """Return the values of a tensor's rows, to be multiplied with it."""
        return of_rows[self.rows[name]].view(self.specs[name].row_shape)

    @torch.no_grad()
    def quantize(
        self, parameters: dict[str, Tensor], octaves: float = 0.0, deadzone: float = 0.0
    ) -> list[QTensor]:
        """Round parameters to integers.

        All steps are first scaled by 2^octaves. Magnitudes are rounded down unless their fraction
        exceeds 1/2 + deadzone: what costs least to draw nearer to zero goes first, as in RDOQ. A
        negative one rounds up what lies below the middle.
        """
        tensors = []
        for name, spec in self.specs.items():
            log2_step = self.log_step[self.rows[name]].double().cpu().numpy() * _LOG2E
            wanted = np.exp2(log2_step + octaves)
            value = parameters[name].double()
            # Steps finer than the largest symbol allows would cut the largest values; the nearest
            # eighth of an octave may be a sixteenth finer. What training has cut may stay so.
            largest = self.as_rows(name, value).abs().amax(1).cpu().numpy()
            finest = largest / self.cap[name] * 2 ** (1 / 16)
            if self.capped:
                finest = np.minimum(finest, np.exp2(log2_step + max(octaves, 0.0)))
            wanted = np.maximum(wanted, finest)
            steps = step_index(wanted)
            size = step_size(steps).reshape(spec.row_shape)
            exact = value.cpu().numpy() / size
            magnitude = np.ceil(np.abs(exact) - 0.5 - deadzone).clip(0, self.cap[name])
            symbols = (np.sign(exact) * magnitude).astype(np.int32)
            tensors.append(QTensor(spec, symbols, steps))
        return tensors


def _flat(values: dict[str, Tensor]) -> Tensor:
    return torch.cat([value.reshape(-1) for value in values.values()])


def _rounded(exact: Tensor) -> Tensor:
    """Round, with the gradient of the identity."""
    return exact + (exact.round() - exact).detach()


def load_tensors(model: VideoModel, tensors: list[QTensor]) -> None:
    """Put dequantised tensors into the model, one for each of its parameters."""
    values = {q.spec.name: torch.from_numpy(dequantize(q)) for q in tensors}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values.pop(name))
    model.eval()
