import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec.depth import change_depth
from nvcodec.errors import InputError, UsageError
from nvcodec.video.color import chroma_shape, rgb_to_yuv, yuv_to_rgb
from nvcodec.video.frames import ColorTags, resolve_tags

WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 6: (0.299, 0.114), 9: (0.2627, 0.0593)}


def tags_of(matrix: int = 1, *, full: bool = False, siting: int = 0) -> ColorTags:
    return ColorTags(
        matrix=matrix, primaries=2, transfer=2, full_range=full, siting=siting, specified=True
    )


def sample_at(plane: np.ndarray, row: float, column: float) -> float:
    """Bilinear interpolation at a position in samples, with repeated edges."""
    top, left = math.floor(row), math.floor(column)
    total = 0.0
    for r, weight_r in ((top, 1 - (row - top)), (top + 1, row - top)):
        for c, weight_c in ((left, 1 - (column - left)), (left + 1, column - left)):
            r_in = min(max(r, 0), plane.shape[0] - 1)
            c_in = min(max(c, 0), plane.shape[1] - 1)
            total += weight_r * weight_c * float(plane[r_in, c_in])
    return total


def chroma_position(row: int, column: int, chroma: int, siting: int) -> tuple[float, float]:
    """Where a luma sample lies on the chroma grid (H.273, Chroma420SampleLocType)."""
    shift_x = 0.0 if siting in (0, 2) else 0.5
    shift_y = 0.0 if siting in (2, 3) else 0.5
    at_row = (row - shift_y) / 2 if chroma == 420 else row
    at_column = (column - shift_x) / 2 if chroma in (420, 422) else column
    return at_row, at_column


def reference_pixel(luma: float, cb: float, cr: float, tags: ColorTags, bits: int) -> list[int]:
    """The equations of H.273, clause 8.3, solved for R, G, B."""
    if tags.full_range:
        e_y = luma / (2**bits - 1)
        e_b, e_r = ((c - 2 ** (bits - 1)) / (2**bits - 1) for c in (cb, cr))
    else:
        unit = 2 ** (bits - 8)
        e_y = (luma / unit - 16) / 219
        e_b, e_r = ((c / unit - 128) / 224 for c in (cb, cr))
    k_r, k_b = WEIGHTS[tags.matrix]
    red = e_y + 2 * (1 - k_r) * e_r
    blue = e_y + 2 * (1 - k_b) * e_b
    green = (e_y - k_r * red - k_b * blue) / (1 - k_r - k_b)
    return [math.floor((2**bits - 1) * min(max(c, 0.0), 1.0) + 0.5) for c in (red, green, blue)]


def random_planes(height: int, width: int, chroma: int, bits: int) -> list[np.ndarray]:
    generator = np.random.default_rng(7)
    kind = np.uint8 if bits == 8 else np.uint16
    shapes = [(height, width), *[chroma_shape(height, width, chroma)] * 2]
    return [generator.integers(0, 1 << bits, shape).astype(kind) for shape in shapes]


@pytest.mark.parametrize("siting", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("chroma", "bits", "full", "matrix", "height", "width"),
    [
        (420, 8, False, 1, 9, 11),
        (420, 10, True, 9, 8, 6),
        (422, 8, True, 6, 5, 7),
        (444, 12, False, 5, 4, 5),
        (420, 16, False, 1, 2, 3),
        (420, 8, False, 6, 1, 1),
    ],
)
def test_agrees_with_a_reference_pixel_by_pixel(chroma, bits, full, matrix, height, width, siting):
    tags = tags_of(matrix, full=full, siting=siting)
    y, u, v = random_planes(height, width, chroma, bits)
    rgb = yuv_to_rgb(y, u, v, tags, bits, chroma)
    assert rgb.shape == (height, width, 3)
    assert rgb.dtype == (np.uint8 if bits == 8 else np.uint16)
    assert rgb.flags.c_contiguous
    for row in range(height):
        for column in range(width):
            at = chroma_position(row, column, chroma, siting)
            cb, cr = (sample_at(plane, *at) for plane in (u, v))
            wanted = reference_pixel(float(y[row, column]), cb, cr, tags, bits)
            assert np.abs(rgb[row, column].astype(int) - wanted).max() <= 1


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
    assert tags.full_range == (chroma == 0)
