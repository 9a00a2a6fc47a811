import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import RangeDecoder, laplace_table

from nvcodec.bitstream import entropy, laplace
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter, uniform_table
from nvcodec.errors import CorruptError

SCALES = range(1, laplace.N_SCALES)

uniforms = st.integers(2, 65_536).flatmap(
    lambda n: st.tuples(
        st.just("uniform"), st.just(n), st.lists(st.integers(0, n - 1), max_size=30)
    )
)
values = st.one_of(st.integers(-3, 3), st.integers(-200, 200), st.integers(-32_768, 32_767))
laplaces = st.tuples(st.just("laplace"), st.integers(1, 63), st.lists(values, max_size=60))
zeros = st.tuples(st.just("laplace"), st.just(0), st.lists(st.just(0), max_size=5))
scripts = st.lists(st.one_of(laplaces, uniforms, zeros), max_size=8)


def write(script):
    writer = SymbolWriter()
    for method, parameter, symbols in script:
        getattr(writer, method)(np.array(symbols, dtype=np.int64), parameter)
    return writer.finish()


def read(script, data):
    reader = SymbolReader(data)
    result = [getattr(reader, method)(len(symbols), p).tolist() for method, p, symbols in script]
    reader.close()
    return result


def read_by_reference(script, data):
    decoder = RangeDecoder(data)
    result = [
        decoder.laplace(len(symbols), p)
        if method == "laplace"
        else [decoder.uniform(p) for _ in symbols]
        for method, p, symbols in script
    ]
    assert decoder.finished()
    return result


# --- tables


def test_constants_follow_from_their_formula():
    assert [round(2**30 * math.exp(-0.5 / 2 ** ((k - 16) / 4))) for k in SCALES] == list(laplace.E)
    assert [round(2**30 * math.exp(-0.25 / 2 ** ((k - 16) / 4))) for k in SCALES] == list(laplace.Q)


@pytest.mark.parametrize("k", SCALES)
def test_table_is_valid_for_any_coder(k):
    frequencies = laplace.table(k)
    assert frequencies.sum() == 1 << 24
    assert frequencies.min() >= 1
    assert 4 <= frequencies.size == 2 * laplace.support(k) + 2 <= 2 * 4095 + 2
    both_sides = frequencies[:-1]
    assert (both_sides == both_sides[::-1]).all()
    assert frequencies.tolist() == laplace_table(k)


@pytest.mark.parametrize("shift", [1, 2])
@pytest.mark.parametrize("k", SCALES)
def test_shifted_table_is_valid_for_any_coder(k, shift):
    frequencies = laplace.table(k, shift)
    assert frequencies.sum() == 1 << 24
    assert frequencies.min() >= 1
    assert 4 <= frequencies.size == 2 * laplace.support(k, shift) + 2 <= 2 * 4095 + 2
    assert frequencies.tolist() == laplace_table(k, shift)


@pytest.mark.parametrize("shift", [0, 1, 2])
@pytest.mark.parametrize("k", SCALES)
def test_table_is_close_to_the_true_laplace(k, shift):
    b, mean = 2 ** ((k - 16) / 4), shift / 4
    largest = laplace.support(k, shift)
    n = np.arange(1, largest + 1)
    frequencies = laplace.table(k, shift)
    for found, m in (
        (frequencies[largest + 1 : -1], mean),
        (frequencies[:largest][::-1], -mean),
    ):
        true = (np.exp(-(n - 0.5 - m) / b) - np.exp(-(n + 0.5 - m) / b)) / 2 * 2**24
        assert np.abs(found - true).max() < 4


@pytest.mark.parametrize("k", [-1, 0, 64])
def test_scale_index_without_a_table(k):
    with pytest.raises(ValueError, match="allowed is 1 to 63"):
        laplace.table(k)


@pytest.mark.parametrize("n", [2, 3, 64, 255, 256, 257, 1000, 65_535, 65_536])
def test_uniform_table(n):
    frequencies = uniform_table(n)
    assert frequencies.size == n
    assert frequencies.sum() == 1 << 24
    assert frequencies.max() - frequencies.min() <= 1


@pytest.mark.parametrize("n", [-1, 0, 1, 65_537, 2**40])
def test_uniform_alphabet_out_of_range(n):
    with pytest.raises(ValueError, match="allowed is 2 to 65536"):
        uniform_table(n)


# --- choice of the scale


def exact_costs(row):
    """Return the cost of a row under each scale by the definition, one symbol at a time."""
    costs = [0.0 if not any(row) else math.inf]
    for k in SCALES:
        largest, bits = laplace.support(k), laplace.cost_bits(k)
        costs.append(sum(bits[v + largest] if abs(v) <= largest else bits[-1] for v in row))
    return costs


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(values, min_size=4, max_size=4), min_size=1, max_size=5))
def test_best_scale_is_the_argmin(rows):
    costs = laplace.scale_costs(np.array(rows))
    expected = np.array([exact_costs(row) for row in rows])
    np.testing.assert_allclose(costs, expected, rtol=1e-9)
    best = laplace.best_scale_index(np.array(rows))
    np.testing.assert_allclose(expected[range(len(rows)), best], expected.min(axis=1), rtol=1e-9)


def test_best_scale_of_many_rows_goes_in_blocks(monkeypatch):
    rows = np.random.default_rng(0).integers(-50, 50, (37, 11))
    whole = laplace.scale_costs(rows)
    monkeypatch.setattr(laplace, "_HISTOGRAM_CELLS", 200)
    np.testing.assert_allclose(laplace.scale_costs(rows), whole, rtol=1e-12)


@pytest.mark.parametrize("b", [0.3, 1.0, 4.0, 20.0, 300.0])
def test_code_length_is_near_the_entropy(b):
    symbols = np.rint(np.random.default_rng(0).laplace(0, b, 20_000)).astype(np.int64)
    k = int(laplace.best_scale_index(symbols[None])[0])
    assert abs(k - (16 + 4 * math.log2(b))) <= 1
    _, counts = np.unique(symbols, return_counts=True)
    entropy_bits = -(counts * np.log2(counts / symbols.size)).sum()
    ideal = laplace.scale_costs(symbols[None])[0, k]
    coded = 8 * len(write([("laplace", k, symbols)]))
    assert coded <= 1.002 * ideal + 64
    assert coded <= 1.03 * entropy_bits + 64


# --- the coder


@settings(max_examples=150, deadline=None)
@given(scripts)
def test_round_trip(script):
    data = write(script)
    expected = [list(symbols) for _, _, symbols in script]
    assert read(script, data) == expected


@settings(max_examples=80, deadline=None)
@given(scripts)
def test_independent_decoder_agrees(script):
    assert read_by_reference(script, write(script)) == [list(symbols) for _, _, symbols in script]


def test_independent_decoder_agrees_on_long_streams():
    rng = np.random.default_rng(5)
    for k in (1, 4, 9, 16, 22, 30):
        b = 2 ** ((k - 16) / 4)
        symbols = np.rint(rng.laplace(0, b, 3000)).astype(int).clip(-32_768, 32_767).tolist()
        script = [("uniform", 64, [k]), ("laplace", k, symbols), ("uniform", 3, [2, 0, 1])]
        assert read_by_reference(script, write(script)) == [[k], symbols, [2, 0, 1]]


@pytest.mark.parametrize("k", [1, 16, 40, 63])
def test_symbols_at_the_edges_of_the_support_and_of_int16(k):
    a = laplace.support(k)
    script = [("laplace", k, [-32_768, -a - 1, -a, -1, 0, 1, a, a + 1, 32_767] * 3)]
    data = write(script)
    assert read(script, data) == read_by_reference(script, data) == [script[0][2]]


def test_nothing_coded_is_an_empty_stream():
    writer = SymbolWriter()
    writer.laplace(np.zeros(1000, dtype=np.int64), 0)
    writer.uniform(np.zeros(0, dtype=np.int64), 7)
    writer.laplace(np.zeros(0, dtype=np.int64), 9)
    assert writer.finish() == b""
    reader = SymbolReader(b"")
    assert not reader.laplace(1000, 0).any()
    reader.close()


@pytest.mark.parametrize(
    ("method", "symbols", "parameter"),
    [
        ("uniform", [2], 2),
        ("uniform", [-1], 2),
        ("uniform", [0], 1),
        ("uniform", [0], 65_537),
        ("laplace", [1], 0),
        ("laplace", [32_768], 63),
        ("laplace", [-32_769], 1),
        ("laplace", [1], 64),
    ],
)
def test_writer_refuses_what_cannot_be_coded(method, symbols, parameter):
    with pytest.raises(ValueError, match=r"allowed|only zeros"):
        getattr(SymbolWriter(), method)(np.array(symbols), parameter)


# --- hostile data

SCRIPT = [("laplace", 20, list(range(-40, 40)) * 5), ("uniform", 100, [99] * 50)]


def test_empty_stream_gives_no_symbols():
    with pytest.raises(CorruptError, match="0 words for 1000000 symbols"):
        SymbolReader(b"").laplace(1_000_000, 20)


def test_truncated_stream():
    data = write(SCRIPT)
    for n_bytes in range(0, len(data), 4):
        with pytest.raises(CorruptError):
            read(SCRIPT, data[:n_bytes])


def test_few_words_for_many_symbols():
    began = time.perf_counter()
    for data in (bytes(4), bytes(40)):
        with pytest.raises(CorruptError, match="before its symbols"):
            SymbolReader(data).laplace(1 << 28, 20)
    assert time.perf_counter() - began < 2


def test_long_array_is_decoded_in_blocks(monkeypatch):
    monkeypatch.setattr(entropy, "_BLOCK", 7)
    assert read(SCRIPT, write(SCRIPT)) == [symbols for _, _, symbols in SCRIPT]


def test_stream_of_odd_length():
    for n_bytes in (1, 2, 3, 5):
        with pytest.raises(CorruptError, match="multiple of 4"):
            SymbolReader(bytes(n_bytes))


@pytest.mark.parametrize("junk", [bytes(4), b"\xff" * 4, bytes(8), b"junk" * 100])
def test_trailing_words(junk):
    with pytest.raises(CorruptError, match="its symbols need"):
        read(SCRIPT, write(SCRIPT) + junk)
    with pytest.raises(CorruptError, match="its symbols need 0"):
        SymbolReader(junk).close()


def test_random_words():
    rng = np.random.default_rng(3)
    for _ in range(300):
        data = rng.bytes(4 * int(rng.integers(0, 150)))
        with pytest.raises(CorruptError):
            read(SCRIPT, data)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200).map(lambda data: data[: len(data) // 4 * 4]))
def test_hostile_words_are_judged_as_by_the_independent_decoder(data):
    script = [("uniform", 64, [0]), ("laplace", 14, [0] * 30), ("uniform", 1000, [0] * 3)]
    decoder = RangeDecoder(data)
    try:
        expected = [[decoder.uniform(64)], decoder.laplace(30, 14)]
        expected.append([decoder.uniform(1000) for _ in range(3)])
    except ValueError:
        expected = None
    if expected is None or not decoder.finished():
        with pytest.raises(CorruptError):
            read(script, data)
    else:
        assert read(script, data) == expected


def test_escape_of_a_value_with_its_own_symbol():
    largest = laplace.support(9)
    writer = SymbolWriter()
    writer._encoder.encode(np.array([2 * largest + 1], dtype=np.int32), entropy._laplace_model(9))
    writer.uniform(np.array([32_768]), 65_536)
    with pytest.raises(CorruptError, match="escapes"):
        SymbolReader(writer.finish()).laplace(1, 9)


class Panic(BaseException):
    """As pyo3's PanicException: not an Exception."""


@pytest.mark.parametrize("error", [Panic, AssertionError, ValueError, KeyError])
def test_panic_of_the_coder_becomes_corrupt(error):
    def call():
        raise error("boom")

    with pytest.raises(CorruptError, match="boom"):
        entropy._guard(call)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, MemoryError])
def test_interrupts_are_not_swallowed(error):
    def call():
        raise error

    with pytest.raises(error):
        entropy._guard(call)


def test_native_panic_becomes_corrupt(capfd):
    import constriction

    model = constriction.stream.model.QuantizedGaussian(-10, 10)
    decoder = constriction.stream.queue.RangeDecoder(np.zeros(4, dtype=np.uint32))
    bad = np.array([-1.0])
    with pytest.raises(CorruptError):
        entropy._guard(lambda: decoder.decode(model, np.zeros(1), bad))
    capfd.readouterr()  # the trace of the panic
