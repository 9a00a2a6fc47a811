"""Integer frequency tables of a discretised zero-mean Laplace distribution.

A row of quantised weights is described by one scale index k: 0 says that all symbols are 0 and
nothing is coded, 1..63 selects a table with b = 2^((k - 16) / 4) quantiser steps. The tables are
part of the format, so they follow from 63 integers by integer arithmetic alone: an exp() of another
C library may differ in its last bit, and one different frequency garbles the rest of a file.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

N_SCALES = 64
"""Number of scale indices, 0 included."""
PRECISION = 24
"""The frequencies of a table sum to 2^PRECISION."""
MAX_MAGNITUDE = 4095
"""Largest value with an own symbol; values beyond it are escaped in every table."""
ESCAPE_BITS = 16
"""Bits of an escaped value, which follows as a plain int16."""

# round(2^30 exp(-0.5 / b_k)) for k = 1..67
# fmt: off
_TAILS = (
    1_286_253, 3_751_106, 9_226_469, 19_666_268, 37_163_206, 63_464_312, 99_533_137, 145_315_154,
    199_759_078, 261_044_606, 326_914_198, 395_007_542, 463_130_302, 529_428_476, 592_470_630,
    651_257_337, 705_182_512, 753_969_162, 797_596_699, 836_230_973, 870_163_178, 899_760_092,
    925_425_813, 947_573_834, 966_607_779, 982_908_970, 996_829_173, 1_008_687_096, 1_018_767_490,
    1_027_321_989, 1_034_571_010, 1_040_706_261, 1_045_893_524, 1_050_275_481, 1_053_974_460,
    1_057_095_000, 1_059_726_201, 1_061_943_836, 1_063_812_229, 1_065_385_899, 1_066_710_993,
    1_067_826_536, 1_068_765_495, 1_069_555_701, 1_070_220_635, 1_070_780_095, 1_071_250_770,
    1_071_646_719, 1_071_979_784, 1_072_259_937, 1_072_495_574, 1_072_693_760, 1_072_860_442,
    1_073_000_625, 1_073_118_518, 1_073_217_664, 1_073_301_043, 1_073_371_160, 1_073_430_126,
    1_073_479_712, 1_073_521_411, 1_073_556_476, 1_073_585_964, 1_073_610_760, 1_073_631_612,
    1_073_649_146, 1_073_663_891,
)
# fmt: on
E = _TAILS[:-4]
"""E[k - 1]: the mass of both tails beyond -0.5..0.5, in units of 2^-30."""
Q = _TAILS[4:]
"""Q[k - 1] = round(2^30 exp(-0.25 / b_k)), since b doubles in four scales: for shifted means."""

_HISTOGRAM_CELLS = 1 << 22


@lru_cache(maxsize=3 * N_SCALES)
def table(k: int, shift: int = 0) -> NDArray[np.int64]:
    """Return the frequencies of -A..A and of ESC, which sum to 2^24, for a scale index 1..63.

    The mean of the distribution lies `shift` quarters of a step, 0 to 2, above 0.
    """
    if not 1 <= k < N_SCALES:
        raise ValueError(f"scale index is {k}, allowed is 1 to {N_SCALES - 1}")
    half, quarter = E[k - 1], Q[k - 1]
    ratio = (half * half) >> 30
    above = (half, quarter, 1 << 30)[shift]
    below = (half, (half * quarter) >> 30, ratio)[shift]
    upper = _tails(above, ratio)
    lower = _tails(below, ratio) if shift else upper
    # the masses between two tails, in units of 2^-24
    upper_side, lower_side = (((t[:-1] - t[1:]) >> 1) >> 6 for t in (upper, lower))
    support = int(np.flatnonzero(lower_side >= 2).max()) + 1
    escape = max(1, int(upper[support] + lower[support]) >> 7)
    sides = lower_side[:support][::-1], upper_side[:support]
    zero = (1 << PRECISION) - int(sides[0].sum()) - int(sides[1].sum()) - escape
    frequencies = np.concatenate([sides[0], [zero], sides[1], [escape]])
    frequencies.setflags(write=False)
    return frequencies


def _tails(first: int, ratio: int) -> NDArray[np.int64]:
    """Return twice the masses beyond 0.5, 1.5, 2.5, ..., in units of 2^-30."""
    tails = [first]
    for _ in range(MAX_MAGNITUDE):
        tails.append((tails[-1] * ratio) >> 30)
    return np.array(tails)


def support(k: int, shift: int = 0) -> int:
    """Return A, the largest magnitude that has an own symbol in the table of k."""
    return table(k, shift).size // 2 - 1


@lru_cache(maxsize=3 * N_SCALES)
def cost_bits(k: int, shift: int = 0) -> NDArray[np.float64]:
    """Return the ideal code length of each symbol of `table`, its escape with the value."""
    costs = PRECISION - np.log2(table(k, shift).astype(np.float64))
    costs[-1] += ESCAPE_BITS
    costs.setflags(write=False)
    return costs


@lru_cache(maxsize=3)
def _value_costs(shift: int) -> NDArray[np.float64]:
    """Return bits[MAX_MAGNITUDE + 1 + v, k] of a value v; the ends stand for all larger ones."""
    centre = MAX_MAGNITUDE + 1
    bits = np.empty((2 * centre + 1, N_SCALES))
    bits[:, 0] = np.inf
    bits[centre, 0] = 0.0
    for k in range(1, N_SCALES):
        costs, largest = cost_bits(k, shift), support(k, shift)
        bits[:, k] = costs[-1]
        bits[centre - largest : centre + largest + 1, k] = costs[:-1]
    bits.setflags(write=False)
    return bits


def scale_costs(rows: NDArray[np.integer]) -> NDArray[np.float64]:
    """Return bits[r, k], the ideal code length of each row of a 2-D array under each scale index.

    Scale index 0 costs nothing for a row of zeros and is impossible (inf) for any other row.
    """
    n_rows, n_columns = rows.shape
    result = np.zeros((n_rows, N_SCALES))
    if rows.size == 0:
        return result
    largest = min(int(np.abs(rows.astype(np.int64)).max()), MAX_MAGNITUDE + 1)
    bits = _value_costs(0)[MAX_MAGNITUDE + 1 :][: largest + 1, 1:]
    block = max(1, _HISTOGRAM_CELLS // max(largest + 1, n_columns))
    for start in range(0, n_rows, block):
        part = np.minimum(np.abs(rows[start : start + block].astype(np.int64)), largest)
        cells = part + np.arange(len(part))[:, None] * (largest + 1)
        counts = np.bincount(cells.ravel(), minlength=len(part) * (largest + 1))
        result[start : start + block, 1:] = counts.reshape(len(part), -1) @ bits
    result[rows.any(axis=1), 0] = np.inf
    return result


def level_costs(
    values: NDArray[np.integer], levels: NDArray[np.integer], n_levels: int, shift: int = 0
) -> NDArray[np.float64]:
    """Return bits[l, k], the ideal code length of the values of each level under each scale index.

    As in `scale_costs`, with the mean `shift` quarters of a step above 0.
    """
    largest = min(int(np.abs(values).max(initial=0)), MAX_MAGNITUDE + 1)
    width = 2 * largest + 1
    cells = values.clip(-largest, largest) + (largest + width * levels.astype(np.int64))
    counts = np.bincount(cells.ravel(), minlength=n_levels * width).reshape(n_levels, width)
    first = MAX_MAGNITUDE + 1 - largest
    result = np.zeros((n_levels, N_SCALES))
    result[:, 1:] = counts @ _value_costs(shift)[first : first + width, 1:]
    result[counts.sum(axis=1) > counts[:, largest], 0] = np.inf
    return result


def best_scale_index(rows: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Return the cheapest scale index of each row of a 2-D integer array."""
    indices: NDArray[np.int64] = np.argmin(scale_costs(rows), axis=1)
    return indices.astype(np.uint8)
