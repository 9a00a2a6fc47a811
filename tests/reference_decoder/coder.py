"""Sections 6 and 7: the range decoder, its tables, and tensors of integers."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

from reference_decoder.errors import Corrupt, check

MASK = (1 << 64) - 1
MANTISSAS = (32768, 35734, 38968, 42495, 46341, 50535, 55109, 60097)


class RangeDecoder:
    def __init__(self, data: bytes) -> None:
        check(len(data) % 4 == 0, "the stream is not made of words")
        self.words = [int.from_bytes(data[i : i + 4], "little") for i in range(0, len(data), 4)]
        self.n_read = 0
        self.n_symbols = 0
        self.point = self.next_word() << 32 | self.next_word()
        self.lower = 0
        self.range = MASK

    def next_word(self) -> int:
        self.n_read += 1
        # Section 7.2: many more words were read than there are.
        check(self.n_read <= len(self.words) + 4, "the stream ends before its symbols")
        return self.words[self.n_read - 1] if self.n_read <= len(self.words) else 0

    def symbol(self, left: list[int]) -> int:
        """Read one symbol; `left` holds the sums of the frequencies before each, and all."""
        self.n_symbols += 1
        scale = self.range >> 24
        quantile = ((self.point - self.lower) & MASK) // scale
        check(quantile < 1 << 24, "the stream leaves the coder's range")
        index = bisect_right(left, quantile) - 1
        self.lower = (self.lower + scale * left[index]) & MASK
        self.range = scale * (left[index + 1] - left[index])
        if self.range < 1 << 32:
            self.lower = self.lower << 32 & MASK
            self.range <<= 32
            self.point = (self.point << 32 | self.next_word()) & MASK
        return index

    def finished(self) -> bool:
        if self.n_symbols == 0:
            return not self.words
        last = (self.lower + (1 << 32) - 1 & MASK) >> 32
        beyond = (self.lower + self.range & MASK) >> 32
        return self.words[self.n_read - 2 :] == ([last, 0] if beyond == last else [last])

    def uniform(self, n: int) -> int:
        return self.symbol(uniform_left(n))

    def laplace(self, count: int, k: int, f: int = 0) -> list[int]:
        if k == 0:
            return [0] * count
        left = laplace_left(k, f)
        largest = (len(left) - 2) // 2
        values = [self.symbol(left) - largest for _ in range(count)]
        return [self.escaped(largest) if value > largest else value for value in values]

    def escaped(self, largest: int) -> int:
        value = self.uniform(65536) - 32768
        check(abs(value) > largest, "a value with a symbol of its own is escaped")
        return value


@lru_cache
def uniform_left(n: int) -> list[int]:
    return [(i << 24) // n for i in range(n + 1)]


@lru_cache
def laplace_left(k: int, f: int) -> list[int]:
    left = [0]
    for frequency in laplace_table(k, f):
        left.append(left[-1] + frequency)
    return left


def laplace_table(k: int, f: int = 0) -> list[int]:
    e, q = (round(2**30 * math.exp(-part / 2 ** ((k - 16) / 4))) for part in (0.5, 0.25))
    ratio = e * e >> 30
    above, below = (e, q, 2**30)[f], (e, e * q >> 30, ratio)[f]
    upper, lower = [], []
    for n in range(1, 4096):
        new_above, new_below = above * ratio >> 30, below * ratio >> 30
        upper.append((above - new_above >> 1) >> 6)
        lower.append((below - new_below >> 1) >> 6)
        above, below = new_above, new_below
        if lower[-1] >= 2:
            support, beyond = n, above + below >> 7
    upper, lower = upper[:support], lower[:support]
    escape = max(1, beyond)
    return [*reversed(lower), 2**24 - sum(lower) - sum(upper) - escape, *upper, escape]


def indices(decoder: RangeDecoder, count: int, n: int) -> list[int]:
    values = [decoder.uniform(n)]
    if count > 1:
        for delta in decoder.laplace(count - 1, decoder.uniform(64)):
            values.append(values[-1] + delta)
    check(min(values) >= 0 and max(values) < n, "an index is out of its range")
    return values


@dataclass
class Tensor:
    row_axis: int | None
    mode: int
    steps: list[int]
    scales: list[int]
    symbols: list[int]
    """In C order."""


def read_tensor(
    decoder: RangeDecoder,
    shape: tuple[int, ...],
    temporal: bool,
    predicts: bool = False,
    side: int = 0,
) -> Tensor:
    size = math.prod(shape)
    axis = decoder.uniform(1 + min(len(shape), 2)) if shape else 0
    n_rows = shape[axis - 1] if axis else 1
    inner = math.prod(shape[axis:]) if axis else size
    pictures = predicts and len(shape) > 2 and min(shape[-2:]) >= 4
    pictures = pictures and math.prod(shape[-2:]) >= 50 and not side
    modes = [0, *[1] * temporal, *[2] * pictures, *[3] * (temporal and pictures)]
    if predicts and side:
        modes.append(4)
    mode = modes[decoder.uniform(len(modes))] if len(modes) > 1 else 0
    steps = indices(decoder, n_rows, 256)
    if mode in (2, 3):
        weights = [decoder.uniform(256) - 128 for _ in range(6)]
        scales = indices(decoder, 15, 64)
        symbols = read_pictures(decoder, shape, weights, scales)
    elif mode == 4:
        weights = [decoder.uniform(256) - 128 for _ in range(6)]
        scales = indices(decoder, 15, 64)
        others = indices(decoder, 15, 64)
        n = size // (side**2 * math.prod(shape[-2:]))
        means = read_pictures(decoder, (n, *shape[-2:]), weights, scales)
        symbols = read_frequencies(decoder, (n, side, *shape[-2:]), means, others)
        scales = scales + others
    else:
        scales = indices(decoder, n_rows, 64)
        places = [[] for _ in range(n_rows)]
        for place in range(size):
            places[place // inner % n_rows].append(place)
        symbols = [0] * size
        for k in range(1, 64):
            of_scale = [p for row in range(n_rows) if scales[row] == k for p in places[row]]
            for place, value in zip(of_scale, decoder.laplace(len(of_scale), k), strict=True):
                symbols[place] = value
    if mode in (1, 3):
        frame = size // shape[0]
        for place in range(frame, size):
            symbols[place] += symbols[place - frame]
            if not -32768 <= symbols[place] <= 32767:
                raise Corrupt("a symbol is out of its range")
    return Tensor(axis - 1 if axis else None, mode, steps, scales, symbols)


EDGES = [1, 2, 3, 5, 7, 11, 15, 22, 31, 45, 63, 90, 127, 181]


def read_pictures(
    decoder: RangeDecoder, shape: tuple[int, ...], weights: list[int], scales: list[int]
) -> list[int]:
    height, width = shape[-2:]
    n = math.prod(shape[:-2])
    known: dict[tuple[int, int, int], int] = {}
    for t in range(width + 2 * (height - 1)):
        by_table: dict[tuple[int, int], list[tuple[tuple[int, int, int], int, int]]] = {}
        for p in range(n):
            for y in range(height):
                x = t - 2 * y
                if not 0 <= x < width:
                    continue
                places = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (-2, 0), (0, -2)]
                near = [known.get((p, y + dy, x + dx), 0) for dy, dx in places]
                quarters = sum(w * s for w, s in zip(weights, near, strict=True)) + 8 >> 4
                centre = quarters + 2 >> 2
                fraction = quarters - 4 * centre
                activity = sum(abs(s) for s in near) + abs(near[0]) + abs(near[1])
                k = scales[bisect_right(EDGES, activity)]
                group = by_table.setdefault((k, abs(fraction)), [])
                group.append(((p, y, x), centre, -1 if fraction < 0 else 1))
        for (k, f), members in sorted(by_table.items()):
            values = decoder.laplace(len(members), k, f)
            for (place, centre, sign), value in zip(members, values, strict=True):
                known[place] = (centre + sign * value + 32768) % 65536 - 32768
    return [known[p, y, x] for p in range(n) for y in range(height) for x in range(width)]


def read_frequencies(
    decoder: RangeDecoder, shape: tuple[int, int, int, int], means: list[int], scales: list[int]
) -> list[int]:
    count, n, height, width = shape
    places = [(p, y, x) for p in range(count) for y in range(height) for x in range(width)]
    known = {(p, 0, 0, y, x): s for (p, y, x), s in zip(places, means, strict=True)}

    def pair(i: int, p: int, u: int, v: int, y: int, x: int) -> int:
        lower = [(a, b) for a, b in ((u - i, v), (u, v - i)) if a >= 0 and b >= 0]
        found = [abs(known.get((p, a, b, y, x), 0)) for a, b in lower]
        return found[0] + found[-1] if found else 0

    for d in range(1, 2 * n - 1):
        for u in range(max(0, d - n + 1), min(d, n - 1) + 1):
            v = d - u
            by_table: dict[int, list[tuple[int, int, int]]] = {}
            for p, y, x in places:
                activity = 4 * pair(1, p, u, v, y, x) + pair(2, p, u, v, y, x)
                for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1)):
                    activity += pair(1, p, u, v, y + dy, x + dx)
                if u and v:
                    activity += 2 * abs(known[p, u - 1, v - 1, y, x])
                by_table.setdefault(scales[bisect_right(EDGES, activity)], []).append((p, y, x))
            for k, members in sorted(by_table.items()):
                for (p, y, x), value in zip(members, decoder.laplace(len(members), k), strict=True):
                    known[p, u, v, y, x] = value
    return [
        known[p, u, v, y, x]
        for p in range(count)
        for u in range(n)
        for v in range(n)
        for y in range(height)
        for x in range(width)
    ]


def tensor(
    decoder: RangeDecoder, shape: tuple[int, ...], temporal: bool, predicts: bool = False
) -> tuple[list[int], list[int]]:
    """Return the step indices and the symbols in C order."""
    read = read_tensor(decoder, shape, temporal, predicts)
    return read.steps, read.symbols


def step_size(index: int) -> float:
    return MANTISSAS[index & 7] * 2.0 ** ((index >> 3) - 39)
