"""Corrections: the rest of section 6, and what section 10 makes of them."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Collection

import numpy as np

from reference_decoder.coder import (
    RangeDecoder,
    indices,
    read_frequencies,
    read_pictures,
    step_size,
)
from reference_decoder.container import limit
from reference_decoder.errors import check

COLOURS = [
    [1 / math.sqrt(3)] * 3,
    [1 / math.sqrt(2), 0, -1 / math.sqrt(2)],
    [1 / math.sqrt(6), -2 / math.sqrt(6), 1 / math.sqrt(6)],
]

Place = tuple[int, int]
"""Row and column of a block."""
Vectors = dict[Place, tuple[int, int]]
"""Of the blocks of a frame that move: down and across, in half pixels."""


def read_maps(
    decoder: RangeDecoder, n: int, rows: int, columns: int, hint: list[Vectors] | None = None
) -> list[set[Place]]:
    """Return of each frame the blocks whose bit is 1."""
    v = [decoder.uniform(256) for _ in range(0 if n == 0 else 22 if hint is None else 44)]
    maps: list[set[Place]] = []
    before: set[Place] = set()
    for j in range(n):
        hinted: Collection[Place] = [] if hint is None else hint[j]
        found: set[Place] = set()
        now = set(hinted)
        for half in (0, 1):
            by_context: dict[int, list[Place]] = {}
            for y in range(rows):
                for x in range(half ^ y & 1, columns, 2):
                    around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                    past = 2 * ((y, x) in before) + sum(place in before for place in around)
                    i = past
                    if half:
                        i = 7 + 3 * sum(place in now for place in around)
                        i += (past > 0) + (past > 2)
                    if (y, x) in hinted:
                        i += 22
                    by_context.setdefault(i, []).append((y, x))
            for i, places in sorted(by_context.items()):
                ones = 2 * v[i] + 1 << 15
                left = [0, (1 << 24) - ones, 1 << 24]
                found |= {place for place in places if decoder.symbol(left)}
            now |= found
        maps.append(found)
        before = now
    return maps


def read_motion(decoder: RangeDecoder, n_frames: int, rows: int, columns: int) -> list[Vectors]:
    """Return the vectors of each frame."""
    some = [0] + [decoder.uniform(2) for _ in range(n_frames - 1)]
    maps = read_maps(decoder, sum(some), rows, columns)
    check(all(maps), "no block moves in a frame in which some do")
    vectors: list[Vectors] = [{} for _ in maps]
    scales = [decoder.uniform(64) for _ in range(18 if maps else 0)]
    rounds: dict[int, list[tuple[int, int, int]]] = {}
    for j, moved in enumerate(maps):
        for y, x in sorted(moved):
            rounds.setdefault(j + x + 2 * y, []).append((j, y, x))
    for _, blocks in sorted(rounds.items()):
        medians, levels = [], []
        for j, y, x in blocks:
            around = [vectors[j].get(place) for place in ((y, x - 1), (y - 1, x), (y - 1, x + 1))]
            around.append(vectors[j - 1].get((y, x)) if j else None)
            median, level = middle([vector for vector in around if vector is not None])
            medians.append(median)
            levels.append(level)
        down = read_parts(decoder, levels, scales)
        contexts = [level + (12 if d else 6) for level, d in zip(levels, down, strict=True)]
        across = read_parts(decoder, contexts, scales)
        for (j, y, x), median, *d in zip(blocks, medians, down, across, strict=True):
            vectors[j][y, x] = median[0] + d[0], median[1] + d[1]
            check(max(map(abs, vectors[j][y, x])) <= 1023, "a vector is too large")
    left = iter(vectors)
    return [next(left) if moves else {} for moves in some]


def middle(around: list[tuple[int, int]]) -> tuple[tuple[int, int], int]:
    """Return the median of vectors, and the level of how far they lie apart."""
    if not around:
        return (0, 0), 0
    down, across = (sorted(parts) for parts in zip(*around, strict=True))
    at = (len(around) - 1) // 2
    spread = down[-1] - down[0] + across[-1] - across[0]
    level = 1 if len(around) == 1 else 2 + bisect_left([0, 2, 8], spread)
    return (down[at], across[at]), level


def read_parts(decoder: RangeDecoder, contexts: list[int], scales: list[int]) -> list[int]:
    """Return parts of vectors of which each has a context."""
    parts = [0] * len(contexts)
    for i in sorted(set(contexts)):
        places = [place for place, context in enumerate(contexts) if context == i]
        for place, d in zip(places, decoder.laplace(len(places), scales[i]), strict=True):
            parts[place] = d
    return parts


class Corrections:
    def __init__(self, words: bytes, n_frames: int, height: int, width: int) -> None:
        decoder = RangeDecoder(words)
        self.height, self.width = height, width
        self.side = 8 << decoder.uniform(4)
        step = decoder.uniform(256)
        moves = decoder.uniform(2)
        rows, columns = -(-height // self.side), -(-width // self.side)
        limit(n_frames * rows * columns, 1 << 28, "blocks")
        self.vectors: list[Vectors] = [{} for _ in range(n_frames)]
        if moves:
            self.vectors = read_motion(decoder, n_frames, rows, columns)
        maps = read_maps(decoder, n_frames, rows, columns, self.vectors if moves else None)
        self.blocks = [(t, y, x) for t, found in enumerate(maps) for y, x in sorted(found)]
        n = len(self.blocks)
        limit(192 * n, 1 << 28, "coefficients")
        symbols: list[int] = []
        if n:
            weights = [decoder.uniform(256) - 128 for _ in range(6)]
            scales = indices(decoder, 15, 64)
            others = indices(decoder, 15, 64)
            width = min(n, 64)
            height = -(-n // width)
            means = read_pictures(decoder, (3, height, width), weights, scales)
            symbols = read_frequencies(decoder, (3, 8, height, width), means, others)
        check(decoder.finished(), "the corrections do not end as they must")
        size = step_size(step)
        values = np.array(symbols, dtype=np.float64).reshape(3, 8, 8, -1)
        check(not values[..., n:].any(), "there are coefficients beyond the last block")
        self.values = size * values[..., :n]

    def of_frame(self, t: int) -> np.ndarray:
        """Return what is added to frame t, as a part of its range: (height, width, 3)."""
        side = self.side
        k, n = np.arange(8)[:, None], np.arange(side)
        waves = np.cos((2 * n + 1) * k * np.pi / (2 * side))
        waves *= np.sqrt(np.where(k == 0, 1, 2) / side)
        frame = np.zeros((self.height + side, self.width + side, 3))
        for i, (number, y, x) in enumerate(self.blocks):
            if number == t:
                block = np.einsum("cuv,uy,vx,ck->yxk", self.values[..., i], waves, waves, COLOURS)
                frame[y * side : (y + 1) * side, x * side : (x + 1) * side] = block
        return frame[: self.height, : self.width]

    def moved(self, t: int) -> np.ndarray:
        """Return which pixels of frame t are in blocks that move: (height, width, 1)."""
        side = self.side
        pixels = np.zeros((self.height, self.width, 1), dtype=bool)
        for y, x in self.vectors[t]:
            pixels[y * side : (y + 1) * side, x * side : (x + 1) * side] = True
        return pixels

    def shown(self, t: int, drawn: np.ndarray, before: np.ndarray | None) -> np.ndarray:
        """Return what is drawn (height, width, 3), or where blocks move shown in frame t - 1."""
        base, side = drawn.astype(np.float64), self.side
        for (y, x), (down, across) in self.vectors[t].items():
            rows = np.arange(y * side, min((y + 1) * side, self.height))
            columns = np.arange(x * side, min((x + 1) * side, self.width))
            samples = [
                before[
                    np.clip(rows + p, 0, self.height - 1)[:, None],
                    np.clip(columns + q, 0, self.width - 1),
                ].astype(np.float64)
                for p in (down >> 1, down + 1 >> 1)
                for q in (across >> 1, across + 1 >> 1)
            ]
            base[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = sum(samples) / 4
        return base

    def finish(self, t: int, mended: np.ndarray, white: int) -> np.ndarray:
        """Return the samples of frame t as integers; in blocks that move ties are its own."""
        ties = np.floor(mended + 0.5) if t % 2 else np.ceil(mended - 0.5)
        return np.where(self.moved(t), ties, np.rint(mended)).clip(0, white)
