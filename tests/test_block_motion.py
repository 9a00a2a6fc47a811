"""Blocks that are copied from the frame before: their words come back, wrong ones are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_decoder import RangeDecoder
from reference_decoder.corrections import read_motion as reference_motion

from nvcodec.bitstream.block_motion import MAX_VECTOR, Motion, read_motion, write_motion
from nvcodec.bitstream.entropy import SymbolReader, SymbolWriter
from nvcodec.errors import CorruptError


def random_motion(seed, shape, density, largest, rough=1.0):
    """Vectors of the frames' own plus noise, a share `rough` of all; the first frame has none."""
    rng = np.random.default_rng(seed)
    blocks = rng.random(shape) < density
    blocks[0] = False
    # Some frames have none at all.
    blocks[rng.random(shape[0]) < 0.2 * (density < 1)] = False
    own = rng.integers(-largest, largest + 1, (shape[0], 2))[np.nonzero(blocks)[0]]
    noise = rng.integers(-largest, largest + 1, own.shape)
    vectors = np.rint(own * (1 - rough) + noise * rough).astype(np.int64)
    return Motion(blocks, vectors)


def packed(motion):
    writer = SymbolWriter()
    write_motion(writer, motion)
    return writer.finish()


def unpacked(words, shape):
    reader = SymbolReader(words)
    found = read_motion(reader, shape)
    reader.close()
    return found


def vectors_by_place(motion):
    """Return what the reference decoder reads: of each frame the vectors by row and column."""
    found = [{} for _ in motion.blocks]
    for (t, y, x), vector in zip(np.argwhere(motion.blocks), motion.vectors, strict=True):
        found[t][int(y), int(x)] = tuple(vector.tolist())
    return found


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 1 << 20),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 7), st.integers(1, 7)),
    density=st.sampled_from([0.0, 0.1, 0.6, 1.0]),
    largest=st.sampled_from([0, 1, 30, MAX_VECTOR]),
    rough=st.sampled_from([0.0, 0.05, 1.0]),
)
def test_motion_comes_back(seed, shape, density, largest, rough):
    given = random_motion(seed, shape, density, largest, rough)
    words = packed(given)
    assert bool(words) == (shape[0] > 1)
    found = unpacked(words, shape)
    np.testing.assert_array_equal(found.blocks, given.blocks)
    np.testing.assert_array_equal(found.vectors, given.vectors)
    decoder = RangeDecoder(words)
    assert reference_motion(decoder, *shape) == vectors_by_place(given)
    assert decoder.finished()
    for cut in {4, len(words) // 8 * 4} - {0}:
        if words:
            with pytest.raises(CorruptError):
                unpacked(words[:-cut], shape)


def test_the_largest_vectors_come_back():
    blocks = np.ones((3, 2, 3), dtype=np.bool_)
    blocks[0] = False
    corners = np.array([[1023, -1023], [-1023, 1023], [1023, 1023], [-1023, -1023]])
    given = Motion(blocks, np.tile(corners, (3, 1)))
    found = unpacked(packed(given), blocks.shape)
    np.testing.assert_array_equal(found.vectors, given.vectors)


@pytest.mark.parametrize("vector", [(1024, 0), (0, 1024), (-1024, 0), (5, -40_000)])
def test_vectors_that_no_reader_accepts_are_not_written(vector):
    blocks = np.array([[[False, False]], [[True, True]]])
    with pytest.raises(ValueError, match="beyond 1023 half pixels"):
        packed(Motion(blocks, np.array([(3, 4), vector])))


def test_nothing_moves_in_the_first_frame():
    blocks = np.zeros((2, 2, 2), dtype=np.bool_)
    blocks[0, 1, 1] = True
    with pytest.raises(ValueError, match="first frame"):
        packed(Motion(blocks, np.array([[0, 0]])))


def by_hand(*vectors, moves=True):
    """Words of frames of one block, which moves in all but the first one by these differences."""
    n = max(1, len(vectors))
    writer = SymbolWriter()
    writer.uniform(np.ones(n, dtype=np.int64), 2)
    writer.uniform(np.full(22, 128), 256)
    for _ in range(n):
        writer.bits(np.array([moves]), 128)
    writer.uniform(np.full(18, 30), 64)
    for vector in vectors:
        for part in vector:
            writer.laplace(np.array([part]), 30)
    return writer.finish(), (n + 1, 1, 1)


def test_vectors_too_large_are_refused():
    words, shape = by_hand((1000, -7), (23, -1016))
    assert unpacked(words, shape).vectors.tolist() == [[1000, -7], [1023, -1023]]
    for vectors in (
        [(1024, 0)],
        [(0, -1024)],
        [(1000, 0), (24, 0)],
        [(5, -1023), (0, 0), (0, -1)],
    ):
        words, shape = by_hand(*vectors)
        with pytest.raises(CorruptError, match="by 1024 half pixels, allowed are 1023"):
            unpacked(words, shape)


def test_frames_said_to_move_must_move():
    words, shape = by_hand(moves=False)
    with pytest.raises(CorruptError, match="no block of it moves"):
        unpacked(words, shape)


def test_neighbours_that_move_alike_take_few_bytes():
    shape = (20, 12, 16)
    blocks = np.ones(shape, dtype=np.bool_)
    blocks[0] = False
    rng = np.random.default_rng(0)
    apart = rng.integers(-40, 41, (19 * 12 * 16, 2))
    n_bytes = len(packed(Motion(blocks, apart)))
    assert n_bytes > 5000
    # As a camera moves: all blocks of a frame alike, and from frame to frame nearly so.
    turn = np.arange(19)[:, None, None] // 4
    alike = np.stack(np.broadcast_arrays(37 + turn, -12 - turn, np.zeros((1, 12, 16)))[:2], -1)
    assert len(packed(Motion(blocks, alike.reshape(-1, 2).astype(np.int64)))) < 120
    # As it zooms: vectors grow from the centre on.
    across = np.broadcast_to(np.arange(16) - 8, shape)[1:]
    down = np.broadcast_to(np.arange(12)[:, None] - 6, shape)[1:]
    zoom = np.stack([down, across], -1).reshape(-1, 2)
    assert len(packed(Motion(blocks, zoom))) < n_bytes / 5


def test_a_block_goes_on_as_in_the_last_frame_that_has_any():
    blocks = np.zeros((13, 18, 18), dtype=np.bool_)
    blocks[1::4, ::3, ::3] = True
    once = np.random.default_rng(1).integers(-500, 501, (36, 2))
    first = len(packed(Motion(blocks[:5], once)))
    # Twice more, three frames apart, and nothing but the blocks themselves around.
    assert len(packed(Motion(blocks, np.tile(once, (3, 1))))) < first + 40
    assert len(packed(Motion(blocks[:9], np.concatenate([once, once[::-1]])))) > first + 70
