import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec.depth import change_depth
from nvcodec.errors import InputError, UsageError
from nvcodec.video.color import chroma_shape, rgb_to_yuv, yuv_to_rgb
from nvcodec.video.frames import ColorTags, resolve_tags

WEIGHTS = {
    1: (0.2126, 0.0722), 4: (0.30, 0.11), 5: (0.299, 0.114), 6: (0.299, 0.114),
    7: (0.212, 0.087), 9: (0.2627, 0.0593),
}  # fmt: skip
"""H.273, table 4: K_R and K_B."""


def tags_of(matrix: int = 1, *, full: bool = False, siting: int = 0) -> ColorTags:
    return ColorTags(
        matrix=matrix, primaries=2, transfer=2, full_range=full, siting=siting, specified=True
    )


def random_planes(height: int, width: int, chroma: int, bits: int) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    kind = np.uint8 if bits == 8 else np.uint16
    shapes = [(height, width), *[chroma_shape(height, width, chroma)] * 2]
    return [generator.integers(0, 1 << bits, shape).astype(kind) for shape in shapes]


def interpolation(size: int, n_chroma: int, on_luma: bool) -> np.ndarray:
    """The matrix (size, n_chroma) of bilinear interpolation at the positions of luma samples."""
    matrix = np.zeros((size, n_chroma))
    for i in range(size):
        at = i / 2 if on_luma else (i - 0.5) / 2
        low = math.floor(at)
        for j, weight in ((low, 1 - (at - low)), (low + 1, at - low)):
            matrix[i, min(max(j, 0), n_chroma - 1)] += weight
    return matrix


def decimation(size: int, n_chroma: int, on_luma: bool) -> np.ndarray:
    """The matrix (n_chroma, size) of [1 2 1]/4 on a luma sample, [1 1]/2 between two."""
    matrix = np.zeros((n_chroma, size))
    taps = ((-1, 0.25), (0, 0.5), (1, 0.25)) if on_luma else ((0, 0.5), (1, 0.5))
    for j in range(n_chroma):
        for step, weight in taps:
            matrix[j, min(max(2 * j + step, 0), size - 1)] += weight
    return matrix


def in_float64(matrix, full, bits):
    """Return (K_R, K_G, K_B), black, span of luma, middle and span of chroma (H.273, 8.3)."""
    k_r, k_b = WEIGHTS[matrix]
    unit, white = 2.0 ** (bits - 8), 2.0**bits - 1
    black, span, wide = (0.0, white, white) if full else (16 * unit, 219 * unit, 224 * unit)
    return (k_r, 1 - k_r - k_b, k_b), black, span, 128 * unit, wide


def along(planes, make, chroma, siting, size):
    """Apply `make` to the axes that the chroma format halves."""
    height, width = size
    rows, columns = chroma_shape(height, width, chroma)
    down = make(height, rows, siting in (2, 3)) if chroma == 420 else np.eye(height)
    across = make(width, columns, siting in (0, 2)) if chroma != 444 else np.eye(width)
    return [down @ plane @ across.T for plane in planes]


SIZES = ((13, 18), (1, 1), (2, 3))
each_format = pytest.mark.parametrize(
    ("chroma", "siting"), [(444, 0), *product((420, 422), range(4))]
)
each_depth = pytest.mark.parametrize("bits", [8, 9, 10, 12, 14, 16])


@each_depth
@each_format
def test_yuv_to_rgb_agrees_with_float64_within_one_level(bits, chroma, siting):
    for matrix, full, size in product(WEIGHTS, (False, True), SIZES):
        y, u, v = random_planes(*size, chroma, bits)
        mine = yuv_to_rgb(y, u, v, tags_of(matrix, full=full, siting=siting), bits, chroma)
        assert (mine.shape, mine.dtype, mine.flags.c_contiguous) == ((*size, 3), y.dtype, True)
        (k_r, k_g, k_b), black, span, middle, wide = in_float64(matrix, full, bits)
        e_b, e_r = along([(p - middle) / wide for p in (u, v)], interpolation, chroma, siting, size)
        e_y = (y - black) / span
        red, blue = e_y + 2 * (1 - k_r) * e_r, e_y + 2 * (1 - k_b) * e_b
        theirs = np.stack([red, (e_y - k_r * red - k_b * blue) / k_g, blue], axis=-1)
        worst = np.abs(mine - theirs.clip(0, 1) * (2**bits - 1)).max()
        assert worst < 1, (matrix, full, size)


@each_depth
@each_format
def test_rgb_to_yuv_agrees_with_float64_within_one_level(bits, chroma, siting):
    white = (1 << bits) - 1
    for matrix, full, size in product(WEIGHTS, (False, True), SIZES):
        rgb = np.stack(random_planes(*size, 444, bits), axis=-1)
        mine = rgb_to_yuv(rgb, tags_of(matrix, full=full, siting=siting), chroma, bits)
        (k_r, k_g, k_b), black, span, middle, wide = in_float64(matrix, full, bits)
        red, green, blue = np.moveaxis(rgb / white, -1, 0)
        e_y = k_r * red + k_g * green + k_b * blue
        e_b, e_r = (blue - e_y) / (2 * (1 - k_b)), (red - e_y) / (2 * (1 - k_r))
        small = along([e_b, e_r], decimation, chroma, siting, size)
        theirs = [e_y * span + black, *(plane * wide + middle for plane in small)]
        for a, b in zip(mine, theirs, strict=True):
            assert (a.shape, a.dtype) == (b.shape, rgb.dtype)
            assert np.abs(a - b.clip(0, white)).max() < 1, (matrix, full, size)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("bits", [8, 9, 10, 12, 16])
@pytest.mark.parametrize("chroma", [400, 444])
@pytest.mark.parametrize("rgb_depth", [None, 8, 16])
def test_gray_is_exact_for_every_code(bits, full, chroma, rgb_depth):
    codes = np.arange(1 << bits).reshape(1, -1)
    black, span = (0, 2**bits - 1) if full else (16 << (bits - 8), 219 << (bits - 8))
    white = 2 ** (rgb_depth or bits) - 1
    wanted = np.clip((2 * white * (codes - black) + span) // (2 * span), 0, white)
    y = codes.astype(np.uint8 if bits == 8 else np.uint16)
    middle = np.full_like(y, 1 << (bits - 1))
    rgb = yuv_to_rgb(y, middle, middle, tags_of(full=full), bits, chroma, rgb_depth)
    assert (rgb == wanted[..., None]).all()


@pytest.mark.parametrize(
    ("matrix", "full", "rgb", "yuv"),
    [
        (1, False, (255, 255, 255), (235, 128, 128)),
        (1, False, (0, 0, 0), (16, 128, 128)),
        (1, False, (255, 0, 0), (63, 102, 240)),
        (1, False, (0, 255, 0), (173, 42, 26)),
        (1, False, (0, 0, 255), (32, 240, 118)),
        (6, False, (255, 0, 0), (81, 90, 240)),
        (6, False, (0, 255, 0), (145, 54, 34)),
        (6, False, (0, 0, 255), (41, 240, 110)),
        (6, True, (255, 0, 0), (76, 85, 255)),
        (9, False, (255, 0, 0), (74, 97, 240)),
    ],
)
def test_known_colours(matrix, full, rgb, yuv):
    tags = tags_of(matrix, full=full)
    pixel = np.array([[rgb]], np.uint8)
    planes = rgb_to_yuv(pixel, tags, 444)
    assert tuple(int(plane[0, 0]) for plane in planes) == yuv
    assert np.abs(yuv_to_rgb(*planes, tags, 8, 444).astype(int) - pixel).max() <= 2


@given(
    pixels=st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=40),
    matrix=st.sampled_from([1, 5, 6, 9]),
    full=st.booleans(),
)
@settings(max_examples=150, deadline=None)
def test_round_trip_through_444_stays_within_two_levels(pixels, matrix, full):
    tags = tags_of(matrix, full=full)
    rgb = np.array([pixels], np.uint8)
    back = yuv_to_rgb(*rgb_to_yuv(rgb, tags, 444), tags, 8, 444)
    assert np.abs(back.astype(int) - rgb).max() <= 2


@given(color=st.tuples(*[st.integers(0, 255)] * 3), siting=st.integers(0, 3))
@settings(max_examples=80, deadline=None)
def test_constant_planes_stay_constant(color, siting):
    tags = tags_of(siting=siting)
    for height, width in ((1, 1), (5, 7), (6, 4), (2, 1)):
        rgb = np.broadcast_to(np.array(color, np.uint8), (height, width, 3))
        for chroma in (420, 422, 444):
            planes = rgb_to_yuv(rgb, tags, chroma)
            assert planes[1].shape == planes[2].shape == chroma_shape(height, width, chroma)
            assert all((plane == plane[0, 0]).all() for plane in planes)
            back = yuv_to_rgb(*planes, tags, 8, chroma)
            assert (back == back[0, 0]).all()


@pytest.mark.parametrize("full", [False, True])
def test_every_gray_survives_a_round_trip(full):
    rgb = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    tags = tags_of(full=full)
    y, u, v = rgb_to_yuv(rgb, tags, 420)
    assert (u == 128).all()
    assert (v == 128).all()
    assert np.abs(yuv_to_rgb(y, u, v, tags).astype(int) - rgb).max() <= (0 if full else 1)


def test_identity_matrix_is_lossless_and_ordered_gbr():
    rgb = np.random.default_rng(0).integers(0, 256, (5, 3, 3), dtype=np.uint8)
    tags = resolve_tags(height=5, chroma=0)
    g, b, r = rgb_to_yuv(rgb, tags, 444)
    assert (g == rgb[..., 1]).all()
    assert (b == rgb[..., 2]).all()
    assert (r == rgb[..., 0]).all()
    assert (yuv_to_rgb(g, b, r, tags, 8, 444) == rgb).all()


@pytest.mark.parametrize("bits", [10, 12, 16])
def test_deep_rgb_survives_a_round_trip(bits):
    rgb = np.random.default_rng(1).integers(0, 1 << bits, (8, 9, 3)).astype(np.uint16)
    tags = tags_of(9)
    planes = rgb_to_yuv(rgb, tags, 444, bits)
    assert planes[0].dtype == np.uint16
    assert np.abs(yuv_to_rgb(*planes, tags, bits, 444).astype(int) - rgb).max() <= 2


def test_ten_bit_planes_keep_every_eight_bit_value():
    rgb = np.random.default_rng(1).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    tags = tags_of(9)
    planes = rgb_to_yuv(change_depth(rgb, 8, 10), tags, 444, 10)
    assert (yuv_to_rgb(*planes, tags, 10, 444, 8) == rgb).all()


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 16])
def test_another_depth_and_back_changes_nothing(bits):
    codes = np.arange(256, dtype=np.uint8)
    wide = change_depth(codes, 8, bits)
    assert (wide.dtype, wide[0], wide[255]) == (np.uint16, 0, 2**bits - 1)
    assert (wide == (codes.astype(int) * (2**bits - 1) * 2 + 255) // 510).all()
    back = change_depth(wide, bits, 8)
    assert back.dtype == np.uint8
    assert (back == codes).all()


def column_filter(siting: int) -> list[int]:
    """The Cb that columns 0, 0, 255, 0, 0, 0 of blue give, in units of a whole pixel."""
    rgb = np.zeros((2, 6, 3), np.uint8)
    rgb[:, 2, 2] = 255
    _, u, _ = rgb_to_yuv(rgb, tags_of(6, full=True, siting=siting), 420)
    return [round(4 * (int(code) - 128) / 127.5) for code in u[0]]


def test_chroma_filters_are_those_of_the_siting():
    assert column_filter(0) == [0, 2, 0]  # [1 2 1]/4, centred on column 2
    assert column_filter(1) == [0, 2, 0]  # columns 2 and 3
    rgb = np.zeros((2, 6, 3), np.uint8)
    rgb[:, 3, 2] = 255
    u_left = rgb_to_yuv(rgb, tags_of(6, full=True, siting=0), 420)[1][0].astype(int)
    u_center = rgb_to_yuv(rgb, tags_of(6, full=True, siting=1), 420)[1][0].astype(int)
    assert u_left[1] == u_left[2] == 160  # a quarter for each neighbour
    assert u_center.tolist() == [128, 192, 128]


def test_a_chroma_ramp_keeps_its_place_after_down_and_up():
    ramp = np.zeros((8, 64, 3), np.uint8)
    ramp[..., 2] = np.arange(64) * 3 + 20
    for siting in (0, 1, 2):
        tags = tags_of(1, full=True, siting=siting)
        back = yuv_to_rgb(*rgb_to_yuv(ramp, tags), tags)
        assert np.abs(back.astype(int) - ramp)[:, 2:-2].max() <= 2


def test_values_above_the_bit_depth_are_clipped():
    y = np.array([[1023, 65535]], np.uint16)
    assert yuv_to_rgb(y, y, y, tags_of(full=True), 10, 400)[..., 0].tolist() == [[1023, 1023]]


@pytest.mark.parametrize("matrix", [8, 10, 14, 200])
def test_unknown_matrix_is_named(matrix):
    with pytest.raises(InputError, match=f"matrix is {matrix}.*supported"):
        rgb_to_yuv(np.zeros((2, 2, 3), np.uint8), tags_of(matrix))


def test_wrong_requests_are_named():
    rgb = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(UsageError, match="411"):
        rgb_to_yuv(rgb, tags_of(), 411)
    with pytest.raises(InputError, match="siting is 5"):
        rgb_to_yuv(rgb, tags_of(siting=5))
    with pytest.raises(InputError, match="chroma 420"):
        rgb_to_yuv(rgb, tags_of(0), 420)


@pytest.mark.parametrize(
    ("height", "chroma", "matrix", "wanted", "specified"),
    [
        (719, 420, 2, 6, False),
        (720, 420, 2, 1, False),
        (1080, 420, 5, 5, True),
        (480, 444, 0, 0, True),
        (480, 420, 0, 6, False),
        (480, 400, 2, 6, False),
        (480, 0, 2, 0, True),
    ],
)
def test_open_tags_are_resolved(height, chroma, matrix, wanted, specified):
    tags = resolve_tags(height=height, chroma=chroma, matrix=matrix)
    assert (tags.matrix, tags.specified) == (wanted, specified)
    assert tags.full_range == (chroma in (0, 400))


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("chroma", [400, 420, 422, 444])
def test_a_range_that_is_said_is_believed(chroma, full):
    assert resolve_tags(height=480, chroma=chroma, full_range=full).full_range == full


@pytest.mark.parametrize("chroma", [400, 420, 422, 444])
@pytest.mark.parametrize("siting", [0, 1, 2, 3])
@pytest.mark.parametrize("height", [64, 65, 150])
def test_strips_join_without_a_seam(monkeypatch, chroma, siting, height):
    rgb = np.random.default_rng(height).integers(0, 256, (height, 7, 3), dtype=np.uint8)
    tags = ColorTags(
        matrix=1, primaries=1, transfer=1, full_range=False, siting=siting, specified=True
    )
    planes = rgb_to_yuv(rgb, tags, chroma)
    monkeypatch.setattr("nvcodec.video.color._STRIP_ROWS", height)
    for strips, whole in zip(planes, rgb_to_yuv(rgb, tags, chroma), strict=True):
        np.testing.assert_array_equal(strips, whole)
