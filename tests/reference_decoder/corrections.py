"""Corrections: the rest of section 6."""

from __future__ import annotations

import math

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


class Corrections:
    def __init__(self, words: bytes, n_frames: int, height: int, width: int) -> None:
        decoder = RangeDecoder(words)
        self.height, self.width = height, width
        self.side = 8 << decoder.uniform(4)
        step = decoder.uniform(256)
        v = [decoder.uniform(256) for _ in range(22)]
        rows, columns = -(-height // self.side), -(-width // self.side)
        limit(n_frames * rows * columns, 1 << 28, "blocks")
        self.blocks: list[tuple[int, int, int]] = []
        before: set[tuple[int, int]] = set()
        for t in range(n_frames):
            now: set[tuple[int, int]] = set()
            for half in (0, 1):
                by_context: dict[int, list[tuple[int, int]]] = {}
                for y in range(rows):
                    for x in range(half ^ y & 1, columns, 2):
                        around = ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1))
                        past = 2 * ((y, x) in before) + sum(place in before for place in around)
                        c = past
                        if half:
                            c = 7 + 3 * sum(place in now for place in around)
                            c += (past > 0) + (past > 2)
                        by_context.setdefault(c, []).append((y, x))
                for c, places in sorted(by_context.items()):
                    ones = 2 * v[c] + 1 << 15
                    left = [0, (1 << 24) - ones, 1 << 24]
                    now |= {place for place in places if decoder.symbol(left)}
            self.blocks += [(t, y, x) for y, x in sorted(now)]
            before = now
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
        """Return what is added to y of frame t: (height, width, 3)."""
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
