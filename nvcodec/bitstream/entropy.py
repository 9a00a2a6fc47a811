"""One range-coder stream: uniform and Laplace symbols in, 32-bit words out, and back.

This is the only module that knows constriction. Its decoder accepts any bytes and returns plausible
symbols for any count, and it reports misuse by panics that are not of class Exception; so counts
come from the caller, never from the file, every call is wrapped, and what was decoded is coded
again: only a stream that is, word for word, what a writer makes of its symbols is accepted.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, TypeVar

import constriction
import numpy as np
from numpy.typing import NDArray

from nvcodec.bitstream import laplace
from nvcodec.errors import CorruptError

MAX_UNIFORM = 1 << 16
"""Largest alphabet of a uniform symbol."""

_INT16_OFFSET = 1 << 15
# symbols decoded before the next look at the end of the stream: a short one cannot cost much time
_BLOCK = 1 << 20

T = TypeVar("T")


def uniform_table(n: int) -> NDArray[np.int64]:
    """Return n frequencies that differ by at most 1 and sum to 2^24."""
    if not 2 <= n <= MAX_UNIFORM:
        raise ValueError(f"alphabet has {n} symbols, allowed is 2 to {MAX_UNIFORM}")
    edges = (np.arange(n + 1, dtype=np.int64) << laplace.PRECISION) // n
    return np.diff(edges)


def _model(frequencies: NDArray[np.int64]) -> Any:
    # constriction grants each symbol 1 and shares the other 2^24 - n in proportion to the weights.
    # Weights of g - 1 sum to just that, so it multiplies by exactly 1.0 and codes g itself.
    weights = (frequencies - 1).astype(np.float64)
    return constriction.stream.model.Categorical(weights, perfect=False)


@lru_cache(maxsize=8)
def _uniform_model(n: int) -> Any:
    return _model(uniform_table(n))


def bit_table(v: int) -> NDArray[np.int64]:
    """Return the frequencies of 0 and of 1, whose probability is (2 v + 1) / 512."""
    one = 2 * v + 1
    return np.array([512 - one, one], dtype=np.int64) << (laplace.PRECISION - 9)


@lru_cache(maxsize=256)
def _bit_model(v: int) -> Any:
    return _model(bit_table(v))


@lru_cache(maxsize=3 * laplace.N_SCALES)
def _laplace_model(k: int, shift: int = 0) -> Any:
    return _model(laplace.table(k, shift))


class SymbolWriter:
    """Codes arrays of symbols into one stream; arguments that cannot be coded are ValueErrors."""

    def __init__(self) -> None:
        """Start an empty stream."""
        self._encoder = constriction.stream.queue.RangeEncoder()

    def uniform(self, values: NDArray[np.integer], n: int) -> None:
        """Code values 0..n-1, all equally probable."""
        _check_values(values, 0, n - 1)
        model = _uniform_model(n)
        if values.size:
            self._encoder.encode(_flat_int32(values), model)

    def bits(self, values: NDArray[np.bool_], v: int) -> None:
        """Code bits that are 1 with a probability of (2 v + 1) / 512, v being 0..255."""
        if values.size:
            self._encoder.encode(values.astype(np.int32), _bit_model(v))

    def laplace(self, values: NDArray[np.integer], k: int, shift: int = 0) -> None:
        """Code int16 values with the table of scale index k and a mean of some quarters."""
        _check_values(values, -_INT16_OFFSET, _INT16_OFFSET - 1)
        if k == 0:
            if values.any():
                raise ValueError("values are not all 0, scale index 0 codes only zeros")
            return
        flat = _flat_int32(values)
        if not flat.size:
            return
        largest = laplace.support(k, shift)
        escaped = np.abs(flat) > largest
        symbols = np.where(escaped, 2 * largest + 1, flat + largest).astype(np.int32)
        self._encoder.encode(symbols, _laplace_model(k, shift))
        self.uniform(flat[escaped] + _INT16_OFFSET, MAX_UNIFORM)

    def finish(self) -> bytes:
        """Return the stream: u32 little-endian words, none if nothing was coded."""
        return _sealed(self._encoder)


class SymbolReader:
    """Decodes what SymbolWriter wrote, in the same order; raises CorruptError."""

    def __init__(self, data: bytes) -> None:
        """Read the words of one stream."""
        if len(data) % 4:
            raise CorruptError(f"stream has {len(data)} bytes, needed is a multiple of 4")
        words = np.frombuffer(data, dtype="<u4").astype(np.uint32)
        self._data = data
        self._decoder = _guard(lambda: constriction.stream.queue.RangeDecoder(words))
        self._mirror = constriction.stream.queue.RangeEncoder()

    def uniform(self, count: int, n: int) -> NDArray[np.int32]:
        """Return `count` values 0..n-1."""
        return self._decode(_uniform_model(n), count)

    def bits(self, count: int, v: int) -> NDArray[np.bool_]:
        """Return `count` bits of the same probability."""
        return self._decode(_bit_model(v), count).astype(np.bool_)

    def laplace(self, count: int, k: int, shift: int = 0) -> NDArray[np.int32]:
        """Return `count` int16 values that were coded with the same table."""
        if k == 0 or count == 0:
            return np.zeros(count, dtype=np.int32)
        largest = laplace.support(k, shift)
        values = self._decode(_laplace_model(k, shift), count) - np.int32(largest)
        if values.max() > largest:
            escaped = np.flatnonzero(values > largest)
            plain = self.uniform(escaped.size, MAX_UNIFORM) - np.int32(_INT16_OFFSET)
            if (np.abs(plain) <= largest).any():
                raise CorruptError("stream escapes a value that has its own symbol")
            values[escaped] = plain
        return values

    def close(self) -> None:
        """Raise CorruptError unless the stream is exactly that of the symbols that were read."""
        expected = _sealed(self._mirror)
        if len(expected) != len(self._data):
            raise CorruptError(
                f"stream has {len(self._data) // 4} words, its symbols need {len(expected) // 4}"
            )
        if expected != self._data:
            raise CorruptError("stream does not end as its symbols require")

    def _decode(self, model: Any, count: int) -> NDArray[np.int32]:
        if count == 0:
            return np.zeros(0, dtype=np.int32)
        if not self._data:
            raise CorruptError(f"stream has 0 words for {count} symbols")
        if count <= _BLOCK:
            return self._decode_block(model, count)
        symbols = np.empty(count, dtype=np.int32)
        for start in range(0, count, _BLOCK):
            block = symbols[start : start + _BLOCK]
            block[:] = self._decode_block(model, block.size)
        return symbols

    def _transcode(self, model: Any, count: int) -> NDArray[np.int32]:
        symbols: NDArray[np.int32] = self._decoder.decode(model, count)
        self._mirror.encode(symbols, model)
        return symbols

    def _decode_block(self, model: Any, count: int) -> NDArray[np.int32]:
        symbols = _guard(lambda: self._transcode(model, count))
        # The end of a stream takes 1 or 2 words, so that the count may still shrink by 1.
        if self._mirror.num_words() > len(self._data) // 4 + 1:
            raise CorruptError(
                f"stream ends after {len(self._data) // 4} words, before its symbols"
            )
        return symbols


def _sealed(encoder: Any) -> bytes:
    words: NDArray[np.uint32] = encoder.get_compressed()
    return words.astype("<u4").tobytes()


def _flat_int32(values: NDArray[np.integer]) -> NDArray[np.int32]:
    return np.ascontiguousarray(values.ravel(), dtype=np.int32)


def _check_values(values: NDArray[np.integer], lo: int, hi: int) -> None:
    if values.size and not (lo <= values.min() and values.max() <= hi):
        raise ValueError(f"values are {values.min()} to {values.max()}, allowed is {lo} to {hi}")


def _guard(call: Callable[[], T]) -> T:
    """Call into constriction; its panics derive from BaseException and become CorruptError."""
    try:
        return call()
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except BaseException as error:
        raise CorruptError(f"stream cannot be decoded: {error}") from error
