import json
from dataclasses import replace

import pytest
from bench_results import bench_results
from click.testing import CliRunner

from nvcodec import cli
from nvcodec.bench.compare import compare_results
from nvcodec.bench.results import BenchResults, save_results
from nvcodec.errors import UsageError


@pytest.fixture
def old() -> BenchResults:
    return bench_results()


def with_points(results, name, change):
    """Return results in which `change` has replaced the points of a codec."""
    codecs = tuple(
        replace(codec, points=tuple(change(codec.points))) if codec.name == name else codec
        for codec in results.codecs
    )
    return replace(results, codecs=codecs)


def test_equal_benches_differ_in_nothing(old):
    found = compare_results(old, old)
    assert found.notes == ()
    assert {point.state for point in found.points} == {"same", "still failed"}
    assert {bd.state for bd in found.bd} == {"same"}
    assert len(found.points) == sum(len(codec.points) for codec in old.codecs)
    assert len(found.bd) == len(old.bd)


def test_points_are_found_by_codec_and_q(old):
    def change(points):
        first, second, third, fourth = points
        yield replace(first, encode_s=9.5)
        yield replace(second, n_bytes=300, bpp=0.06, psnr_rgb_db=28.0)
        yield replace(third, status="failed", reason="no memory")
        yield replace(fourth, q=27.0)

    new = with_points(old, "x264 medium", change)
    found = {(p.codec, p.q): p for p in compare_results(old, new).points}
    states = {q: found["x264 medium", q].state for q in (40, 36, 32, 28, 27)}
    assert states == {40: "same", 36: "changed", 32: "failed", 28: "missing", 27: "new"}
    figures = found["x264 medium", 36].figures
    assert (figures["n_bytes"].old, figures["n_bytes"].new) == (275, 300)
    assert figures["bpp"].difference == pytest.approx(0.005)
    assert figures["psnr_rgb_db"].difference == pytest.approx(-1.5)
    assert found["x264 medium", 40].figures["encode_s"].difference == 8.0
    assert found["x264 medium", 27].figures["bpp"].difference is None
    assert "vmaf" not in figures

    back = {(p.codec, p.q): p.state for p in compare_results(new, old).points}
    assert back["x264 medium", 32] == "repaired"
    assert back["x264 medium", 28] == "new"


def test_differences_in_rate_are_compared(old):
    first, second, *rest = old.bd
    changed = replace(first, rate_percent=20.0)
    new = replace(old, bd=(changed, *rest, replace(second, method="other")))
    found = {
        (bd.metric, bd.method): bd
        for bd in compare_results(old, new).bd
        if bd.anchor == "x264 medium"
    }
    assert found["psnr_rgb_db", "pchip"].state == "changed"
    assert found["psnr_rgb_db", "pchip"].rate_percent.difference == -5.0
    assert found["psnr_rgb_db", "akima"].state == "missing"
    assert found["psnr_rgb_db", "other"].state == "new"
    assert found["psnr_yuv_db", "pchip"].state == "same"


def test_what_limits_the_comparison_is_said(old):
    machine = replace(old.machine, n_threads=8)
    codecs = (replace(old.codecs[0], parameters="other"), *old.codecs[1:])
    notes = compare_results(old, replace(old, machine=machine, codecs=codecs)).notes
    assert len(notes) == 2
    assert "number of threads changed, and times with it: 2 -> 8" in notes[0]
    assert (
        notes[1]
        == "settings of nvcodec hnerv changed: nvcodec encode --arch hnerv --bpp {q} -> other"
    )


def test_other_frames_are_refused(old):
    other = replace(old, source=replace(old.source, frames_sha256="0", file="other.mkv"))
    with pytest.raises(UsageError, match=r"different frames \(clip.mkv and other.mkv\)"):
        compare_results(old, other)


# The command


@pytest.fixture
def paths(tmp_path, old):
    def change(points):
        first, *rest = points
        yield replace(first, psnr_rgb_db=28.5, encode_s=3.0)
        yield from rest[:-1]
        yield replace(rest[-1], q=27)

    results = (old, with_points(old, "x264 medium", change))
    for name, one in zip(("old", "new"), results, strict=True):
        (tmp_path / name).mkdir()
        save_results(tmp_path / name, one)
    return tmp_path / "old" / "results.json", tmp_path / "new"


def run(*args, code=0):
    result = CliRunner().invoke(cli.main, ["bench", *map(str, args)])
    assert result.exit_code == code, result.output
    return result


def test_command_shows_a_table(paths):
    lines = [" ".join(line.split()) for line in run("--compare", *paths).stdout.splitlines()]
    assert "x264 medium 40 changed 0.0220 27.00 -> 28.50 1.5 -> 3.0 250.0" in lines
    assert "x264 medium 27 new - -> 0.2200 - -> 34.50 - -> 4.5 - -> 250.0" in lines
    assert "x264 medium 28 missing 0.2200 -> - 34.50 -> - 4.5 -> - 250.0 -> -" in lines
    assert "nvcodec hnerv 0.4 still failed" in lines
    assert "BD-rate of nvcodec hnerv against x264 medium, same: 25.0 %" in lines


def test_command_prints_json(paths):
    lines = [json.loads(line) for line in run("--compare", *paths, "--json").stdout.splitlines()]
    assert [line["type"] for line in lines] == ["result", "done"]
    points = {(p["codec"], p["q"]): p for p in lines[0]["points"]}
    assert points["x264 medium", 40]["figures"]["psnr_rgb_db"] == {"old": 27.0, "new": 28.5}
    assert points["x264 medium", 27]["state"] == "new"


def test_command_refuses_what_it_cannot_compare(paths, tmp_path):
    assert "neither INPUT nor --output" in run("x.mkv", "--compare", *paths, code=2).stderr
    assert "cannot be read" in run("--compare", paths[0], tmp_path / "none", code=3).stderr
    assert "--output" in run("x.mkv", code=2).stderr
