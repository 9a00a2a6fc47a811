"""Figures of quality, BD-rate and the search for a rate."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from bjontegaard import bd_psnr, bd_rate
from conftest import make_video, moving_frames
from hypothesis import given, settings
from hypothesis import strategies as st

from nvcodec.bench import bdrate
from nvcodec.bench.bdrate import all_bd, bd, mean_bd
from nvcodec.bench.codecs import Scale
from nvcodec.bench.quality import SequenceMeter, has_vmaf, measure, vmaf
from nvcodec.bench.results import CodecResult, Point
from nvcodec.bench.search import find_q
from nvcodec.bench.source import prepare_source, write_y4m
from nvcodec.errors import Interrupted, ResourceError, VerificationError
from nvcodec.metrics import QualityMeter, weighted
from nvcodec.video.color import yuv_to_rgb
from nvcodec.video.frames import resolve_tags

TAGS = resolve_tags(height=48, chroma=420)


@pytest.fixture
def source(tmp_path):
    clip = make_video(tmp_path / "clip.mkv", codec="ffv1", pixel_format="yuv420p")
    return prepare_source(clip, tmp_path)


def planes_of(source):
    with source.frames() as frames:
        return [tuple(plane.copy() for plane in planes) for planes in frames]


def shifted(planes, by):
    return tuple(plane + np.uint8(by) for plane in planes)


def test_equal_frames_count_as_100_db(source):
    values = measure(source, iter(planes_of(source)), xpsnr=True)
    assert values["psnr_rgb_db"] == values["psnr_yuv_db"] == values["psnr_y_db"] == 100
    assert values["psnr_rgb_of_mean_mse_db"] == 100
    assert values["xpsnr_db"] == 100
    assert values["ms_ssim"] is None
    assert values["psnr_rgb_per_frame_db"] == (100,) * 12


def test_figures_of_planes_against_known_errors():
    meter = SequenceMeter(TAGS)
    zeros = (np.zeros((48, 64), np.uint8), *[np.zeros((24, 32), np.uint8)] * 2)
    meter.add(tuple(plane + np.uint8(k) for plane, k in zip(zeros, (1, 2, 5), strict=True)), zeros)
    meter.add(shifted(zeros, 10), zeros)
    y, u, v, second = (10 * math.log10(255**2 / mse) for mse in (1, 4, 25, 100))
    values = meter.values()
    assert values["psnr_y_db"] == pytest.approx((y + second) / 2)
    assert values["psnr_yuv_db"] == pytest.approx(((6 * y + u + v) / 8 + second) / 2)
    assert weighted((8.0, 0.0, 0.0)) == 6


def test_rgb_is_that_of_the_source_converted_here(source):
    decoded = [shifted(planes, 3) for planes in planes_of(source)]
    values = measure(source, iter(decoded))
    reference = QualityMeter()
    errors = []
    for a, b in zip(decoded, planes_of(source), strict=True):
        rgb, truth = yuv_to_rgb(*a, source.tags), yuv_to_rgb(*b, source.tags)
        reference.add(rgb, truth)
        errors.append(np.square(rgb.astype(float) - truth).mean())
    assert values["psnr_rgb_db"] == pytest.approx(reference.psnr_db)
    assert values["psnr_rgb_of_mean_mse_db"] == pytest.approx(
        10 * math.log10(255**2 / np.mean(errors))
    )
    assert values["psnr_rgb_per_frame_db"] == pytest.approx(reference.psnr_per_frame_db, abs=1e-4)


def test_decoded_rgb_is_judged_in_both_forms(source):
    rgb = [yuv_to_rgb(*planes, source.tags) for planes in planes_of(source)]
    values = measure(source, iter(rgb))
    assert values["psnr_rgb_db"] == 100
    assert 40 < values["psnr_y_db"] < 100  # there and back, in 8 bits


def test_ms_ssim_of_frames_that_are_large_enough(tmp_path):
    frames = moving_frames(2, width=180, height=162)
    clip = make_video(tmp_path / "a.mkv", codec="ffv1", pixel_format="yuv420p", frames=frames)
    source = prepare_source(clip, tmp_path)
    noise = np.random.default_rng(0).integers(0, 60, (162, 180), np.uint8)
    noisy = [(np.minimum(y, 190) + noise, u, v) for y, u, v in planes_of(source)]
    assert measure(source, iter(planes_of(source)))["ms_ssim"] == pytest.approx(1)
    assert 0.3 < measure(source, iter(noisy))["ms_ssim"] < 0.99


def test_other_counts_and_sizes_are_errors(source):
    planes = planes_of(source)
    with pytest.raises(VerificationError, match="11 frames were decoded, the source has 12"):
        measure(source, iter(planes[:-1]))
    with pytest.raises(VerificationError, match="more frames were decoded than the 12"):
        measure(source, iter([*planes, planes[0]]))
    cropped = [tuple(plane[:-1] for plane in frame) for frame in planes]
    with pytest.raises(VerificationError, match=r"decoded frames are 64x47, .* source 64x48"):
        measure(source, iter(cropped))
    with pytest.raises(Interrupted):
        measure(source, iter(planes), stop=lambda: True)


def test_sample_is_the_middle_frame(tmp_path, source):
    measure(source, iter(planes_of(source)), sample=tmp_path / "a.png")
    from nvcodec.video.reader import open_video

    (tmp_path / "png").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "png/a.png")
    with open_video(tmp_path / "png") as reader:
        (frame,) = reader
    assert np.array_equal(frame, yuv_to_rgb(*planes_of(source)[6], source.tags))


def test_xpsnr_falls_with_the_error(source):
    values = [
        measure(source, iter([shifted(p, k) for p in planes_of(source)]), xpsnr=True)["xpsnr_db"]
        for k in (1, 4)
    ]
    assert 20 < values[1] < values[0] - 6 < 100


def test_vmaf_by_a_program(tmp_path, source):
    program = shutil.which("ffmpeg")
    if program is None or not has_vmaf(program):
        pytest.skip("no ffmpeg with libvmaf on the PATH")
    write_y4m(source, tmp_path / "source.y4m")
    measure(source, iter([shifted(p, 9) for p in planes_of(source)]), y4m=tmp_path / "bad.y4m")
    good, bad = (
        vmaf(program, tmp_path / f"{name}.y4m", tmp_path / "source.y4m", threads=1)
        for name in ("source", "bad")
    )
    assert 0 <= bad < good <= 100


def test_vmaf_without_the_filter(tmp_path, source):
    assert not has_vmaf(str(tmp_path / "none"))
    program = shutil.which("ffmpeg")
    if program is None or has_vmaf(program):
        pytest.skip("no ffmpeg without libvmaf on the PATH")
    write_y4m(source, tmp_path / "source.y4m")
    with pytest.raises(ResourceError, match=r"VMAF by .* failed: "):
        vmaf(program, tmp_path / "source.y4m", tmp_path / "source.y4m", threads=1)


# BD-rate

X265 = ((0.0146, 32.26), (0.0313, 34.33), (0.0492, 35.49), (0.0962, 36.94), (0.1844, 38.02))
HM18 = ((0.0075, 32.79), (0.0155, 34.63), (0.0324, 36.41), (0.0730, 38.06), (0.1878, 39.43))
"""Points of two codecs on UVG."""


def codec(name, points, kind="anchor"):
    return CodecResult(
        name=name, kind=kind, parameters="",
        points=tuple(Point(q=i, bpp=r, psnr_rgb_db=q) for i, (r, q) in enumerate(points)),
    )  # fmt: skip


@pytest.mark.parametrize("method", bdrate.METHODS)
def test_bd_equals_the_package(method):
    found = bd(codec("hm", HM18), codec("x265", X265[:4]), "psnr_rgb_db", method)
    (test_r, test_q), (base_r, base_q) = (zip(*c, strict=True) for c in (HM18, X265[:4]))
    given = {"require_matching_points": False, "min_overlap": 0}
    rate = bd_rate(base_r, base_q, test_r, test_q, method, **given)
    psnr = bd_psnr(base_r, base_q, test_r, test_q, method, **given)
    assert found.rate_percent == rate
    assert found.psnr_db == psnr
    assert (found.low, found.high, found.error) == (32.79, 36.94, None)
    assert -65 < rate < -50


@pytest.mark.parametrize("method", bdrate.METHODS)
def test_half_the_bits_are_minus_50_percent(method):
    half = codec("half", [(rate / 2, psnr) for rate, psnr in X265])
    found = bd(half, codec("x265", X265), "psnr_rgb_db", method)
    assert found.rate_percent == pytest.approx(-50)
    assert bd(half, half, "psnr_rgb_db", method).rate_percent == pytest.approx(0)
    worse = codec("worse", [(rate, psnr - 1) for rate, psnr in X265])
    against = bd(worse, codec("x265", X265), "psnr_rgb_db", method)
    assert against.psnr_db == pytest.approx(-1)


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (HM18[:3], "hm has 3 points, 4 are needed"),
        ([(r, q + 10) for r, q in HM18], "do not overlap in quality: 42.7900 to 49.4300 against"),
        ([*HM18[:3], (0.05, 36.0)], r"does not rise from 0.03240 bpp \(36.4100\) to 0.05000"),
        ([HM18[0], *HM18[:3]], "does not rise"),
    ],
)
def test_bd_is_refused_with_a_sentence(points, words):
    found = bd(codec("hm", points), codec("x265", X265), "psnr_rgb_db", "pchip")
    assert found.rate_percent is None
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(found.error)


def test_bd_psnr_needs_a_common_rate():
    far = codec("far", [(rate * 100, psnr) for rate, psnr in X265])
    found = bd(far, codec("x265", X265), "psnr_rgb_db", "pchip")
    assert found.rate_percent == pytest.approx(9900)
    assert found.psnr_db is None


def test_ours_against_all_that_ran_on_these_frames():
    ours = codec("nvcodec hnerv", X265, "nvcodec")
    failed = replace(ours.points[0], status="failed", reason="out of bits", bpp=None)
    others = [
        codec("x265 medium", HM18),
        codec("vtm (imported)", HM18, "imported"),
        codec("HiNeRV (UVG)", HM18, "published"),
        CodecResult(name="vvenc", kind="external", parameters="", status="not run", reason="no"),
        replace(codec("vp9", HM18), points=(*HM18_POINTS[:3], failed)),
    ]
    found = all_bd([ours, *others])
    assert {(item.codec, item.metric) for item in found} == {("nvcodec hnerv", "psnr_rgb_db")}
    pairs = {(item.anchor, item.method): item.error for item in found}
    assert pairs == {
        (name, method): error
        for name, error in (
            ("x265 medium", None),
            ("vtm (imported)", None),
            ("vp9", "vp9 has 3 points, 4 are needed"),
        )
        for method in bdrate.METHODS
    }


HM18_POINTS = codec("", HM18).points


def test_mean_over_sequences():
    one, two = (
        all_bd([codec("ours", [(r * k, q) for r, q in X265], "nvcodec"), codec("x265", X265)])
        for k in (2, 4)
    )
    assert [item.rate_percent for item in mean_bd([one, two])] == pytest.approx([200, 200])
    lost = all_bd([codec("ours", X265[:3], "nvcodec"), codec("x265", X265)])
    mean = mean_bd([one, lost])[0]
    assert mean.rate_percent is None
    assert mean.error == "1 of 2 sequences have no figure"


def test_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "bjontegaard", None)
    with pytest.raises(ResourceError, match=r"pip install nvcodec\[bench\]"):
        bdrate.check_extra()


# Search


@settings(max_examples=200, deadline=None)
@given(
    slope=st.floats(0.02, 0.4),
    guess=st.floats(0.02, 0.4),
    top=st.floats(0.3, 20),
    bend=st.floats(-0.001, 0.001),
    wanted=st.floats(0.001, 2),
)
def test_search_finds_the_nearest(slope, guess, top, bend, wanted):
    scale = Scale(low=0, high=51, start=30, slope=guess)

    def rate(q):
        return top * math.exp(-slope * q - bend * q * q)

    rates = {q: rate(q) for q in range(52)}
    if any(rates[q] <= rates[q + 1] for q in range(51)):
        return
    known = {}
    found = find_q(wanted, scale, rate, known)

    def distance(q):
        return abs(math.log(rates[q] / wanted))

    nearest = min(rates, key=distance)
    assert found == nearest or distance(found) <= math.log(1.021)
    assert len(known) <= 12


def test_search_uses_what_is_known():
    probes = []

    def rate(q):
        probes.append(q)
        return math.exp(-0.13 * q)

    known = {}
    scale = Scale(low=0, high=51, start=30, slope=0.13)
    first = [find_q(bpp, scale, rate, known) for bpp in (0.02, 0.05, 0.1, 0.2)]
    assert first == [30, 23, 18, 12]
    assert len(probes) == len(set(probes)) <= 8
    assert [find_q(bpp, scale, rate, known) for bpp in (0.02, 0.05, 0.1, 0.2)] == first
    assert len(probes) == len(set(probes)) <= 8
    assert find_q(1e-9, scale, rate, known) == 51
    assert find_q(1e9, scale, rate, known) == 0


def test_search_ends_on_rates_that_do_not_fall():
    assert find_q(0.1, Scale(low=1, high=5, start=3, slope=0.1), lambda q: 0.2, {}) == 5
    wavy = {1: 0.2, 2: 0.3, 3: 0.1, 4: 0.25, 5: 0.05}
    assert find_q(0.15, Scale(low=1, high=5, start=4, slope=0.1), wavy.__getitem__, {}) in wavy
