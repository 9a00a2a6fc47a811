"""Quantised tensors and their place in the range-coder stream of a segment.

The names, shapes and order of tensors follow from the architecture and are never read from a file.
A tensor is cut into rows along one axis, which the file states; each row has a quantiser step and a
Laplace scale. Coding order of one tensor: row axis, mode, step indices, scale indices, then all
symbols of scale 1, of scale 2, ... A tensor coded as pictures (prediction.py) has six weights and
the scale indices of activity levels in place of those of rows; so has one whose differences along
time are coded as pictures.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream import frequencies, prediction
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.bitstream.laplace import N_SCALES, best_scale_index, scale_costs
from nvcodec.errors import CorruptError, LimitError
from nvcodec.limits import DEFAULT, Limits

N_STEPS = 256
"""Number of quantiser steps, an eighth of an octave apart: 2^-24 up to 2^7.875."""

# round(2^15 2^(i / 8)), so that every step is an integer of 16 bits times a power of two
_MANTISSAS = np.array([32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097])

_INT16 = (-(1 << 15), (1 << 15) - 1)
_MAX_RANK = 6
_MAX_ROW_AXES = 2
_MAX_SMOOTHED_ROWS = 1 << 14
_ROWS, _DIFFERENCES, _PICTURES, _PICTURE_DIFFERENCES, _FREQUENCIES = range(5)
_OVER_TIME = (_DIFFERENCES, _PICTURE_DIFFERENCES)
# a scale index that differs by 1 or 2 from its neighbour is typical: b = 1 for a first guess
_TYPICAL_DELTA_SCALE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """Name, shape and coding of one tensor, as an architecture declares it."""

    name: str
    shape: tuple[int, ...]
    row_axis: int | None
    """Axis 0 or 1, whose indices are the rows; None makes the whole tensor one row. A writer's
    choice, which readers take from the file."""
    temporal: bool = False
    """Whether axis 0 is time, so that differences along it may be cheaper."""
    dct_side: int = 0
    """Side n of the blocks whose DCT coefficients a tensor (..., C n^2, h, w) holds; 0: none."""

    @property
    def n_rows(self) -> int:
        """Number of rows, each with its own step and scale."""
        return 1 if self.row_axis is None else self.shape[self.row_axis]

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of one value for each row that broadcasts over the tensor."""
        return tuple(-1 if axis == self.row_axis else 1 for axis in range(len(self.shape)))

    @property
    def size(self) -> int:
        """Number of symbols."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True, eq=False)
class QTensor:
    """A quantised tensor: value = symbol x step of its row."""

    spec: TensorSpec
    symbols: NDArray[np.int32]
    """Integers of the int16 range, in the shape of the spec."""
    steps: NDArray[np.uint8]
    """Step index of each row."""


@dataclass(frozen=True, slots=True)
class TensorBits:
    """Ideal code lengths of one tensor."""

    symbols: float
    side: float
    """Row axis, mode, step indices and scale indices."""


def step_size(steps: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return the quantiser steps of step indices 0..255, exactly."""
    index = np.asarray(steps).astype(np.int64)
    # ldexp is exact; a pow() of 2 is so only in good C libraries
    mantissas = _MANTISSAS[index & 7].astype(np.float64)
    sizes: NDArray[np.float64] = np.ldexp(mantissas, (index >> 3) - 39)
    return sizes


def step_index(step: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Return the step indices nearest to positive steps, on a logarithmic scale."""
    step = np.asarray(step, dtype=np.float64)
    if not (np.isfinite(step) & (step > 0)).all():
        raise ValueError("quantiser steps are not all finite and positive")
    index = np.rint(8 * (np.log2(step) + 24))
    clipped: NDArray[np.float64] = np.clip(index, 0, N_STEPS - 1)
    return clipped.astype(np.uint8)


def dequantize(q: QTensor) -> NDArray[np.float32]:
    """Return the weights: the product is exact in float64 and rounded once, to float32."""
    steps = step_size(q.steps).reshape(q.spec.row_shape)
    return (q.symbols.astype(np.float64) * steps).astype(np.float32).reshape(q.spec.shape)


def canonical(q: QTensor) -> QTensor:
    """Return q with the meaningless steps of its all-zero rows made cheap to code.

    Such a row takes the step of the row before it; leading ones that of the first other row.
    """
    used = _to_rows(q.spec, q.symbols).any(axis=1)
    if used.all():
        return q
    if not used.any():
        return QTensor(q.spec, q.symbols, np.zeros_like(q.steps))
    last_used = np.maximum.accumulate(np.where(used, np.arange(used.size), -1))
    source = np.where(last_used < 0, np.argmax(used), last_used)
    return QTensor(q.spec, q.symbols, q.steps[source])


def tensors_sha256(tensors: Sequence[QTensor]) -> int:
    """Return the first 8 bytes, little-endian, of the SHA-256 over steps and symbols."""
    digest = hashlib.sha256()
    for q in tensors:
        digest.update(q.steps.astype(np.uint8).tobytes())
        digest.update(q.symbols.astype("<i2").tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def pack_smallest(tensors: Sequence[QTensor]) -> tuple[bytes, bool]:
    """Return the words of tensors, coded as pictures where that is smaller, and whether any is."""
    plans = [_plan(q, predicts=True) for q in tensors]
    predicts = any(plan.prediction or plan.spectrum for plan in plans)
    return _write(tensors, plans, predicts), predicts


def pack_tensors(tensors: Sequence[QTensor], *, predicts: bool = False) -> bytes:
    """Return the coded words of canonical(q) of each tensor in order; raise ValueError.

    Only where the segment `predicts` may tensors be coded as pictures.
    """
    return _write(tensors, [_plan(q, predicts) for q in tensors], predicts)


def _write(tensors: Sequence[QTensor], plans: Sequence[_Plan], predicts: bool) -> bytes:
    writer = SymbolWriter()
    for q, plan in zip(tensors, plans, strict=True):
        n_axes = min(len(q.spec.shape), _MAX_ROW_AXES)
        if n_axes:
            axis = -1 if q.spec.row_axis is None else q.spec.row_axis
            writer.uniform(np.array([axis + 1]), 1 + n_axes)
        modes = _modes(q.spec, predicts)
        if len(modes) > 1:
            writer.uniform(np.array([modes.index(plan.mode)]), len(modes))
        _write_indices(writer, plan.steps, N_STEPS)
        if plan.spectrum is not None:
            write_spectrum(writer, plan.coded.astype(np.int64), q.spec.dct_side, plan.spectrum)
            continue
        if plan.prediction is not None:
            _write_prediction(writer, plan.prediction)
            prediction.write(writer, plan.coded.astype(np.int64), plan.prediction)
            continue
        _write_indices(writer, plan.scales, N_SCALES)
        for k in range(1, N_SCALES):
            writer.laplace(plan.coded[plan.scales == k], k)
    return writer.finish()


def unpack_tensors(
    specs: Sequence[TensorSpec],
    payload: bytes,
    limits: Limits = DEFAULT,
    *,
    predicts: bool = False,
) -> list[QTensor]:
    """Decode the tensors of the given specs; raise LimitError or CorruptError."""
    n_params = 0
    for spec in specs:
        if len(spec.shape) > _MAX_RANK or min(spec.shape, default=1) < 1:
            raise CorruptError(f"tensor {spec.name} has the impossible shape {spec.shape}")
        n_params += spec.size
    if n_params > limits.max_params:
        raise LimitError(f"segment has {n_params} weights, allowed are {limits.max_params}")
    reader = SymbolReader(payload)
    tensors = [_read_tensor(reader, spec, predicts) for spec in specs]
    reader.close()
    return tensors


def tensor_bits(q: QTensor, *, predicts: bool = False) -> TensorBits:
    """Return the ideal code lengths of q within `pack_tensors`."""
    plan = _plan(q, predicts)
    return TensorBits(symbols=plan.symbol_bits, side=plan.side_bits)


@dataclass(frozen=True, slots=True)
class _Plan:
    """Everything the encoder decides about one tensor."""

    mode: int
    coded: NDArray[np.integer]
    """Symbols or their differences, as rows or as pictures."""
    scales: NDArray[np.uint8]
    steps: NDArray[np.uint8]
    symbol_bits: float
    side_bits: float
    prediction: prediction.Prediction | None = None
    spectrum: frequencies.Spectrum | None = None


def _modes(spec: TensorSpec, predicts: bool) -> list[int]:
    """Return how a tensor may be coded; one way needs no word."""
    modes = [_ROWS]
    if spec.temporal:
        modes.append(_DIFFERENCES)
    if predicts and spec.dct_side:
        modes.append(_FREQUENCIES)
    elif predicts and prediction.is_picture(spec.shape):
        modes.append(_PICTURES)
        if spec.temporal:
            modes.append(_PICTURE_DIFFERENCES)
    return modes


def _plan(q: QTensor, predicts: bool) -> _Plan:
    _check_tensor(q)
    q = canonical(q)
    symbols = q.symbols.astype(np.int64)
    modes = _modes(q.spec, predicts)
    side_bits = math.log2(1 + min(len(q.spec.shape), _MAX_ROW_AXES)) + math.log2(len(modes))
    side_bits += _index_bits(q.steps, N_STEPS)
    coded = {_ROWS: symbols, _PICTURES: symbols, _FREQUENCIES: symbols}
    if q.spec.temporal:
        differences = np.diff(symbols, axis=0, prepend=0)
        if _INT16[0] <= differences.min() and differences.max() <= _INT16[1]:
            coded |= {_DIFFERENCES: differences, _PICTURE_DIFFERENCES: differences}
    plans = [
        _PLANNERS.get(mode, _plan_rows)(q, mode, coded[mode], side_bits)
        for mode in modes
        if mode in coded
    ]
    return min(plans, key=lambda plan: plan.symbol_bits + plan.side_bits)


def _check_tensor(q: QTensor) -> None:
    spec = q.spec
    if len(spec.shape) > _MAX_RANK or min(spec.shape, default=1) < 1:
        raise ValueError(f"tensor {spec.name} has the impossible shape {spec.shape}")
    if spec.row_axis is not None and not 0 <= spec.row_axis < min(len(spec.shape), _MAX_ROW_AXES):
        raise ValueError(f"tensor {spec.name} has the impossible row axis {spec.row_axis}")
    if q.symbols.shape != spec.shape:
        raise ValueError(f"tensor {spec.name} has shape {q.symbols.shape}, needed is {spec.shape}")
    if q.steps.shape != (spec.n_rows,) or q.steps.dtype != np.uint8:
        raise ValueError(f"tensor {spec.name} needs {spec.n_rows} step indices of type uint8")
    lo, hi = int(q.symbols.min()), int(q.symbols.max())
    if lo < _INT16[0] or hi > _INT16[1]:
        raise ValueError(f"tensor {spec.name} has symbols {lo} to {hi}, allowed is int16")


def _plan_pictures(q: QTensor, mode: int, symbols: NDArray[np.int64], side_bits: float) -> _Plan:
    found = prediction.plan(symbols)
    side_bits += _prediction_bits(found)
    bits = found.symbol_bits
    return _Plan(mode, symbols, found.scales, q.steps, bits, side_bits, found)


def _plan_frequencies(q: QTensor, mode: int, symbols: NDArray[np.int64], side_bits: float) -> _Plan:
    found = frequencies.plan(symbols, q.spec.dct_side)
    side_bits += _prediction_bits(found.means) + _index_bits(found.scales, N_SCALES)
    bits = found.symbol_bits
    return _Plan(mode, symbols, found.scales, q.steps, bits, side_bits, spectrum=found)


_PLANNERS = {
    _PICTURES: _plan_pictures,
    _PICTURE_DIFFERENCES: _plan_pictures,
    _FREQUENCIES: _plan_frequencies,
}


def _plan_rows(q: QTensor, mode: int, symbols: NDArray[np.int64], side_bits: float) -> _Plan:
    rows = _to_rows(q.spec, symbols)
    costs = scale_costs(rows)
    scales = costs.argmin(axis=1).astype(np.uint8)
    if 1 < len(scales) <= _MAX_SMOOTHED_ROWS:
        smooth = _smooth_scales(costs)
        if _scale_bits(costs, smooth) < _scale_bits(costs, scales):
            scales = smooth
    symbol_bits = _symbol_bits(costs, scales)
    side_bits += _index_bits(scales, N_SCALES)
    return _Plan(mode, rows, scales, q.steps, symbol_bits, side_bits)


def _symbol_bits(costs: NDArray[np.float64], scales: NDArray[np.uint8]) -> float:
    return float(costs[np.arange(len(scales)), scales].sum())


def _scale_bits(costs: NDArray[np.float64], scales: NDArray[np.uint8]) -> float:
    return _symbol_bits(costs, scales) + _index_bits(scales, N_SCALES)


def _smooth_scales(costs: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the scale indices that minimise symbols plus deltas (Viterbi algorithm)."""
    index = np.arange(N_SCALES)
    deltas = index[None, :] - index[:, None]
    change = scale_costs(deltas.reshape(-1, 1))[:, _TYPICAL_DELTA_SCALE].reshape(deltas.shape)
    best = costs[0]
    origins = np.empty((len(costs), N_SCALES), dtype=np.uint8)
    for row in range(1, len(costs)):
        paths = best[:, None] + change
        origins[row] = paths.argmin(axis=0)
        best = paths.min(axis=0) + costs[row]
    scales = np.empty(len(costs), dtype=np.uint8)
    scales[-1] = best.argmin()
    for row in range(len(costs) - 1, 0, -1):
        scales[row - 1] = origins[row, scales[row]]
    return scales


def _to_rows(spec: TensorSpec, symbols: NDArray[np.integer]) -> NDArray[np.integer]:
    """Return the symbols as an array (rows, symbols of a row)."""
    if spec.row_axis is None:
        return symbols.reshape(1, -1)
    return np.moveaxis(symbols, spec.row_axis, 0).reshape(spec.n_rows, -1)


def _from_rows(spec: TensorSpec, rows: NDArray[np.int32]) -> NDArray[np.int32]:
    """Invert `_to_rows`."""
    if spec.row_axis is None:
        return rows.reshape(spec.shape)
    others = [n for axis, n in enumerate(spec.shape) if axis != spec.row_axis]
    moved = rows.reshape(spec.n_rows, *others)
    return np.ascontiguousarray(np.moveaxis(moved, 0, spec.row_axis))


def _deltas(indices: NDArray[np.uint8]) -> NDArray[np.int64]:
    wide = indices.astype(np.int64)
    return wide[1:] - wide[:-1]


def _index_bits(indices: NDArray[np.uint8], n: int) -> float:
    if len(indices) == 1:
        return math.log2(n)
    costs = scale_costs(_deltas(indices).reshape(1, -1))
    return math.log2(n) + math.log2(N_SCALES) + float(costs.min())


def _prediction_bits(found: prediction.Prediction) -> float:
    n_weights = len(found.weights)
    return _index_bits(found.scales, N_SCALES) + n_weights * math.log2(prediction.N_WEIGHTS)


def write_spectrum(
    writer: SymbolWriter, symbols: NDArray[np.int64], side: int, spectrum: frequencies.Spectrum
) -> None:
    """Code coefficients (..., C side^2, h, w) and what says how."""
    _write_prediction(writer, spectrum.means)
    _write_indices(writer, spectrum.scales, N_SCALES)
    frequencies.write(writer, symbols, side, spectrum)


def _write_prediction(writer: SymbolWriter, found: prediction.Prediction) -> None:
    writer.uniform(found.weights + prediction.N_WEIGHTS // 2, prediction.N_WEIGHTS)
    _write_indices(writer, found.scales, N_SCALES)


def _write_indices(writer: SymbolWriter, indices: NDArray[np.uint8], n: int) -> None:
    writer.uniform(indices[:1], n)
    if len(indices) > 1:
        deltas = _deltas(indices)
        scale = best_scale_index(deltas.reshape(1, -1))
        writer.uniform(scale, N_SCALES)
        writer.laplace(deltas, int(scale[0]))


def _read_indices(reader: SymbolReader, what: str, count: int, n: int) -> NDArray[np.uint8]:
    indices = reader.uniform(1, n).astype(np.int64)
    if count > 1:
        scale = int(reader.uniform(1, N_SCALES)[0])
        deltas = reader.laplace(count - 1, scale)
        indices = np.cumsum(np.concatenate([indices, deltas]))
        if indices.min() < 0 or indices.max() >= n:
            raise CorruptError(
                f"{what} indices are {indices.min()} to {indices.max()}, allowed is 0 to {n - 1}"
            )
    return indices.astype(np.uint8)


def _read_tensor(reader: SymbolReader, spec: TensorSpec, predicts: bool) -> QTensor:
    n_axes = min(len(spec.shape), _MAX_ROW_AXES)
    if n_axes:
        axis = int(reader.uniform(1, 1 + n_axes)[0]) - 1
        spec = replace(spec, row_axis=None if axis < 0 else axis)
    modes = _modes(spec, predicts)
    mode = modes[int(reader.uniform(1, len(modes))[0])] if len(modes) > 1 else modes[0]
    steps = _read_indices(reader, f"step ({spec.name})", spec.n_rows, N_STEPS)
    symbols = _READERS.get(mode, _read_rows)(reader, spec)
    if mode in _OVER_TIME:
        sums = np.cumsum(symbols, axis=0, dtype=np.int64)
        if sums.min() < _INT16[0] or sums.max() > _INT16[1]:
            raise CorruptError(f"tensor {spec.name} has differences that leave the int16 range")
        symbols = sums.astype(np.int32)
    return QTensor(spec, symbols, steps)


def _read_pictures(reader: SymbolReader, spec: TensorSpec) -> NDArray[np.int32]:
    return prediction.read(reader, spec.shape, *_read_prediction(reader, spec.name))


def _read_frequencies(reader: SymbolReader, spec: TensorSpec) -> NDArray[np.int32]:
    return read_spectrum(reader, spec.shape, spec.dct_side, spec.name)


def read_spectrum(
    reader: SymbolReader, shape: tuple[int, ...], side: int, name: str
) -> NDArray[np.int32]:
    """Decode what `write_spectrum` coded; raise CorruptError."""
    weights, mean_scales = _read_prediction(reader, name)
    scales = _read_indices(reader, f"scale ({name})", prediction.N_LEVELS, N_SCALES)
    return frequencies.read(reader, shape, side, weights, mean_scales, scales)


_READERS = {
    _PICTURES: _read_pictures,
    _PICTURE_DIFFERENCES: _read_pictures,
    _FREQUENCIES: _read_frequencies,
}


def _read_prediction(
    reader: SymbolReader, name: str
) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
    weights = reader.uniform(len(prediction.NEIGHBOURS), prediction.N_WEIGHTS).astype(np.int64)
    weights -= prediction.N_WEIGHTS // 2
    scales = _read_indices(reader, f"scale ({name})", prediction.N_LEVELS, N_SCALES)
    return weights, scales


def _read_rows(reader: SymbolReader, spec: TensorSpec) -> NDArray[np.int32]:
    scales = _read_indices(reader, f"scale ({spec.name})", spec.n_rows, N_SCALES)
    rows = np.zeros((spec.n_rows, spec.size // spec.n_rows), dtype=np.int32)
    for k in range(1, N_SCALES):
        selected = np.flatnonzero(scales == k)
        if selected.size:
            count = selected.size * rows.shape[1]
            rows[selected] = reader.laplace(count, k).reshape(selected.size, -1)
    return _from_rows(spec, rows)
