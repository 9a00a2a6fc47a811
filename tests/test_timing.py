"""Every frame keeps its time: constant rates as a rate, all others tick by tick."""

from fractions import Fraction

import pytest
from media_factory import frame_times, make_movie

import nvcodec
from nvcodec.bitstream.header import unpack_stream
from nvcodec.codec.inspect import describe_file
from nvcodec.media import Timing
from nvcodec.video.reader import open_video
from nvcodec.video.timing import FrameTimes, storable
from nvcodec.video.writer import open_writer

MS = Fraction(1, 1000)
UNEVEN = [0, 40, 80, 130, 290, 291, 400, 1000]


def read(path, **wanted):
    with open_video(path, **wanted) as reader:
        frames = list(reader)
        reader.resolve_timing()
        return frames, reader.info, reader.warnings


def write(path, frames, info):
    with open_writer(path, info) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.warnings


@pytest.mark.parametrize("source", [".mkv", ".mp4"])
@pytest.mark.parametrize("shift", [0, 1500])
def test_varying_times_survive_the_codec(tmp_path, source, shift):
    times = [time + shift for time in UNEVEN]
    path = make_movie(
        tmp_path / f"a{source}", n_frames=8, times=times, time_base=MS,
        muxing={"movie_timescale": "1000"} if source == ".mp4" else None,
    )  # fmt: skip
    wanted = frame_times(path)
    assert [float(t) for t in wanted] == [time / 1000 for time in times]
    options = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=4.0), passes=1)
    data, _ = nvcodec.encode(path, tmp_path / "a.nrv", options)
    timing = unpack_stream(data).timing
    assert [pts * timing.time_base for pts in timing.pts] == wanted
    info = describe_file(tmp_path / "a.nrv")
    assert not info["constant_rate"]
    assert info["start_s"] == shift / 1000
    with nvcodec.open(data) as video:
        frames = list(video)
    for suffix in (".mp4", ".mkv", ".mov", ".webm"):
        assert not write(tmp_path / f"b{suffix}", frames, video.info)
        assert frame_times(tmp_path / f"b{suffix}") == wanted


@pytest.mark.parametrize("rate", [Fraction(24000, 1001), Fraction(50), Fraction(1, 3)])
@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_constant_rates_need_no_times(tmp_path, rate, suffix):
    path = make_movie(tmp_path / f"a{suffix}", n_frames=6, rate=rate)
    _, info, warnings = read(path)
    assert info.frame_rate == rate
    assert info.timing.is_constant(rate)
    assert not warnings


def test_a_start_offset_is_exact(tmp_path):
    rate = Fraction(30000, 1001)
    times = [7 * 1001 + i * 1001 for i in range(6)]
    path = make_movie(
        tmp_path / "a.mp4", n_frames=6, rate=rate, times=times, time_base=Fraction(1, 30000),
        muxing={"movie_timescale": "30000"},
    )  # fmt: skip
    frames, info, _ = read(path)
    assert info.frame_rate == rate
    assert info.timing.seconds(0) == 7 / rate
    assert not info.timing.varies()
    write(tmp_path / "b.mp4", frames, info)
    assert frame_times(tmp_path / "b.mp4") == frame_times(path)
    assert frame_times(path)[0] == 7 / rate


def test_a_part_begins_at_zero(tmp_path):
    path = make_movie(tmp_path / "a.mkv", n_frames=8, times=UNEVEN, time_base=MS)
    _, info, _ = read(path, start=3, count=3)
    assert list(info.timing.pts) == [0, 160, 161]
    whole = read(path)[1].timing
    assert list(whole.cut(3, 6).pts) == [0, 160, 161]
    assert whole.cut(3, 6).duration == 109
    assert whole.window(3, 6).start == Fraction(130, 1000)
    assert whole.window(3, 6).end == Fraction(400, 1000)
    assert whole.window(0, 8).start is whole.window(0, 8).end is None


def test_outputs_without_times_say_so(tmp_path):
    path = make_movie(tmp_path / "a.mkv", n_frames=8, times=UNEVEN, time_base=MS)
    frames, info, _ = read(path)
    for target in (tmp_path / "b.y4m", f"{tmp_path}/png/"):
        (warning,) = write(target, frames, info)
        assert "cannot say that the frame rate varies" in warning


def resolve(pts, *, rates=(Fraction(10),), base=MS, keep_start=True):
    times = FrameTimes(time_base=base, rates=rates)
    for tick in pts:
        times.add(tick, 100)
    return times.resolve(keep_start=keep_start)


@pytest.mark.parametrize(
    ("pts", "message"),
    [
        ([0, None, 200], "some frames have no time"),
        ([0, 100, 100], "do not increase"),
        ([0, 200, 100], "do not increase"),
        ([2**62, 2**62 + 1], "out of range"),
    ],
)
def test_unusable_times_are_said(pts, message):
    timing, rate, warning = resolve(pts)
    assert message in warning
    assert "a constant 10 frames/s is used" in warning
    assert (timing, rate) == (Timing.constant(Fraction(10), len(pts)), 10)


def test_a_source_without_times_is_constant():
    assert resolve([None, None]) == (Timing.constant(Fraction(10), 2), 10, None)


def test_rounded_times_of_a_constant_rate():
    rate = Fraction(24000, 1001)
    rounded = [round(i * 1000 / rate) for i in range(5000)]
    timing, found, _ = resolve(rounded, rates=(Fraction(24), rate))
    assert found == rate
    assert timing == Timing.constant(rate, 5000)
    late = [pts + 21 for pts in rounded]
    assert resolve(late, rates=(rate,))[0].seconds(0) == Fraction(21, 1000)
    assert resolve(late, rates=(rate,), keep_start=False)[0].is_constant(rate)


def test_a_gap_of_one_tick_is_not_rounding():
    timing, _, _ = resolve([0, 2, 3, 4], base=Fraction(1, 10))
    assert list(timing.pts) == [0, 2, 3, 4]
    assert timing.time_base == Fraction(1, 10)


def test_the_rate_of_varying_times_is_the_mean():
    timing, rate, _ = resolve([0, 100, 300])
    assert timing.seconds(3) == Fraction(4, 10)
    assert rate == Fraction(75, 10)


@pytest.mark.parametrize("rate", [Fraction(2**40, 2**40 - 1), Fraction(2**33 + 1, 2**40)])
def test_storable_rates(rate):
    near = storable(rate)
    assert max(near.as_integer_ratio()) < 2**32
    assert abs(near / rate - 1) < 1e-4
