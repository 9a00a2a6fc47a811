"""Post-training min-max quantisation, as the NeRV family does it, in the terms of our file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from nvcodec.bitstream.tensors import N_STEPS, QTensor, TensorSpec, step_index, step_size

QUANT_AXES = ("best", "tensor", "0", "1")
_MAX_SIDE_SHARE = 0.02
"""Rows may be at most this share of the values (HNeRV's rule)."""
_INT16_MAX = 32_767


def quantize_minmax(
    specs: list[TensorSpec],
    parameters: dict[str, Tensor],
    *,
    weight_bits: int,
    embed_bits: int,
    quant_axis: str = "best",
    octaves: float = 0.0,
    deadzone: float = 0.0,
) -> list[QTensor]:
    """Round parameters to integers with steps of range / (2^bits - 1), per tensor or per row.

    The range includes 0, which stays exact: what is pruned stays pruned (NeRV's quantiser moves it
    by half a step). "best" takes rows along the axis, or the whole tensor, that gives the least
    mean error; "0" and "1" take that axis of all tensors but vectors (NeRV). Steps are rounded to
    the eighths of an octave of the file, after 2^octaves. 1 bit gives the three values -1, 0, 1
    times the step, as NeRV's 2^bits + 1 levels do.
    """
    tensors = []
    for spec in specs:
        exact = parameters[spec.name].double().cpu().numpy()
        bits = embed_bits if spec.temporal else weight_bits
        axes: list[int | None] = [None]
        if quant_axis == "best":
            axes += [
                axis
                for axis in range(min(2, exact.ndim))
                if 1 < exact.shape[axis] < _MAX_SIDE_SHARE * exact.size
            ]
        elif quant_axis != "tensor" and exact.ndim > 1:
            axes = [int(quant_axis)]
        candidates = [
            _quantize(replace(spec, row_axis=axis), exact, bits, octaves, deadzone) for axis in axes
        ]
        tensors.append(min(candidates, key=lambda pair: pair[1])[0])
    return tensors


def _quantize(
    spec: TensorSpec, exact: NDArray[np.float64], bits: int, octaves: float, deadzone: float
) -> tuple[QTensor, float]:
    """Return the quantised tensor and its mean error without the deadzone."""
    rows = exact.reshape(1, -1)
    shape = [1] * exact.ndim
    if spec.row_axis is not None:
        rows = np.moveaxis(exact, spec.row_axis, 0).reshape(exact.shape[spec.row_axis], -1)
        shape[spec.row_axis] = -1
    span = rows.max(1, initial=0.0) - rows.min(1, initial=0.0)
    wanted = span / max(2, 2**bits - 1) * 2.0**octaves
    # Not finer than the largest symbol allows, or the largest values would be cut.
    wanted = np.maximum(wanted, np.abs(rows).max(1) / _INT16_MAX)
    # An all-zero row may have any step.
    wanted = np.where(wanted > 0, wanted, 1.0)
    steps = step_index(wanted)
    # Never more levels than asked for: where the nearest eighth of an octave is finer, the next.
    finer = (step_size(steps) < wanted * (1 - 1e-9)) & (steps < N_STEPS - 1)
    steps = (steps + finer).astype(np.uint8)
    size = step_size(steps).reshape(shape)
    error = float(np.abs(np.rint(exact / size) * size - exact).mean())
    magnitude = np.ceil(np.abs(exact / size) - 0.5 - deadzone).clip(0, _INT16_MAX)
    symbols = (np.sign(exact) * magnitude).astype(np.int32)
    return QTensor(spec, symbols, steps), error
