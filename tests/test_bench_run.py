"""`nvcodec bench` from end to end on small clips."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_video, moving_frames

import nvcodec
from nvcodec import cli
from nvcodec.bench import datasets
from nvcodec.bench.imported import import_results
from nvcodec.bench.machine import available_cores, commit, cpu_name
from nvcodec.bench.results import BenchResults, load_results, save_results
from nvcodec.bench.run import METRICS, BenchOptions, bench
from nvcodec.bench.source import prepare_source
from nvcodec.cli.bench import DATASETS as DATASET_CHOICES
from nvcodec.cli.bench import METRICS as METRIC_CHOICES
from nvcodec.codec.options import EncodeOptions
from nvcodec.errors import InputError, Interrupted, UsageError
from nvcodec.metrics import psnr_db
from nvcodec.video.reader import open_video

QUICK = ("--bpp", "2", "--passes", "2", "--device", "cpu", "--threads", "1")


def run(*args, code=0):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def fail(code, *args):
    stderr = run(*args, "-q", code=code).stderr.splitlines()
    assert len(stderr) == 1, stderr
    return stderr[0].removeprefix("nvcodec: error: ")


def make_clip(path, n_frames=6):
    # Noise, so that rates of an anchor spread over its quality parameter.
    noise = np.random.default_rng(0).integers(0, 40, (n_frames, 48, 64, 1), np.uint8)
    frames = np.stack(moving_frames(n_frames, width=64, height=48)) // 2 + noise
    return make_video(path, codec="ffv1", pixel_format="yuv420p", frames=frames)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """64 x 48, 6 frames, lossless 4:2:0."""
    return make_clip(tmp_path_factory.mktemp("clip") / "clip.mkv")


@pytest.fixture(scope="module")
def imported(clip, tmp_path_factory):
    """Four points that somebody measured on the clip."""
    folder = tmp_path_factory.mktemp("import")
    source = prepare_source(clip, folder)
    points = [
        {
            "codec": "vtm", "version": "VTM 23.13", "preset": "ra", "q": q, "n_bytes": n_bytes,
            "settings": f"EncoderAppStatic -c ra.cfg -q {q}", "psnr_rgb": 50 - q / 2,
            "psnr_y": 52 - q / 2, "psnr_u": 55.0, "psnr_v": 56.0,
        }
        for q, n_bytes in ((37, 500), (32, 1000), (27, 2000), (22, 4000))
    ]  # fmt: skip
    values = {
        "width": 64, "height": 48, "n_frames": 6, "raw_yuv420p_md5": source.planes_md5,
        "metric": "mean over frames", "points": points,
    }  # fmt: skip
    path = folder / "vtm.json"
    path.write_text(json.dumps(values))
    return path


@pytest.fixture(scope="module")
def report(clip, imported, tmp_path_factory):
    """The folder of a bench: ours, two anchors, an absent, a failing and an imported codec."""
    folder = tmp_path_factory.mktemp("bench") / "report"
    python = f"{sys.executable} -c"
    failing = f"{python} 'raise SystemExit(\"no licence\")' {{input}} {{output}} {{q}}"
    run(
        *("bench", clip, "-o", folder, *QUICK, "--bpp", "1,2", "--metrics", "xpsnr"),
        *("--anchors", "x264:fast,vtm:ld", "--import", imported, "--published"),
        *("--external", "broken", failing, "", "1"),
        *("--external", "copy", "cp {input} {output}.y4m {q}", "", "1"),
    )
    return folder


def codec_of(results, name):
    return next(codec for codec in results.codecs if codec.name == name)


def test_results_of_all_kinds(report):
    results = load_results(report)
    states = {codec.name: (codec.kind, codec.status) for codec in results.codecs}
    published = {name: s for name, s in states.items() if s[0] == "published"}
    assert len(published) == 3
    assert {name: s for name, s in states.items() if name not in published} == {
        "nvcodec hnerv": ("nvcodec", "ok"),
        "x264 fast": ("anchor", "ok"),
        "vtm ld": ("external", "not run"),
        "broken": ("external", "failed"),
        "copy": ("external", "failed"),
        "vtm ra (imported)": ("imported", "ok"),
    }
    assert codec_of(results, "broken").reason.endswith("ended with exit code 1: no licence")
    assert "NVCODEC_BENCH_VTM" in codec_of(results, "vtm ld").reason
    assert results.source.file == "clip.mkv"
    assert results.command.startswith("nvcodec bench clip.mkv -o report --bpp 2 --passes 2 ")
    assert results.machine.n_threads == 1
    assert results.machine.device == "cpu"


def test_points_are_of_the_files_on_disk(report, clip):
    results = load_results(report)
    for name, suffix in (("nvcodec hnerv", ".nrv"), ("x264 fast", ".h264")):
        codec = codec_of(results, name)
        assert [point.bpp for point in codec.points] == sorted(point.bpp for point in codec.points)
        for point in codec.points:
            slug = name.replace(" ", "_")
            (stream,) = (report / "points").glob(f"{slug}_{point.q:g}_*{suffix}")
            assert point.n_bytes == stream.stat().st_size
            assert point.bpp == 8 * point.n_bytes / (64 * 48 * 6)
            assert point.encode_s > 0
            assert point.decode_fps > 0
            assert point.decode_threads == 1
            assert 1e7 < point.peak_memory_bytes < 4e9
            assert 1e7 < point.encode_peak_memory_bytes < 4e9
            assert point.xpsnr_db is not None
            assert point.ms_ssim is None  # too small
            assert len(point.psnr_rgb_per_frame_db) == 6
            assert (report / point.sample).is_file()
    ours = codec_of(results, "nvcodec hnerv")
    assert [point.q for point in ours.points] == [1, 2]
    for point in ours.points:
        assert 0.9 * point.q < point.bpp <= point.q
        assert point.n_params > 0
        assert point.mac_per_pixel > 0
    stream = next((report / "points").glob("nvcodec_hnerv_2_*.nrv"))
    with nvcodec.open(stream, device="cpu") as video, open_video(clip) as reader:
        psnr = np.mean([psnr_db(a, b) for a, b in zip(video, reader, strict=True)])
    assert ours.points[1].psnr_rgb_db == pytest.approx(psnr, abs=0.01)
    anchor = codec_of(results, "x264 fast")
    for point, wanted in zip(anchor.points, (1, 2), strict=True):
        assert point.q == int(point.q)
        assert 0.8 * wanted < point.bpp < 1.25 * wanted


def test_bd_is_against_all_that_ran(report):
    rows = load_results(report).bd
    assert {row.anchor for row in rows} == {"x264 fast", "vtm ra (imported)"}
    assert {row.codec for row in rows} == {"nvcodec hnerv"}
    assert {row.method for row in rows} == {"pchip", "akima"}
    assert {row.metric for row in rows if row.anchor == "x264 fast"} == {
        "psnr_rgb_db", "psnr_yuv_db", "psnr_y_db", "xpsnr_db",
    }  # fmt: skip
    for row in rows:
        assert row.error == "nvcodec hnerv has 2 points, 4 are needed"


def test_report_is_written_and_no_work_is_left(report):
    names = {path.name for path in report.iterdir()}
    assert {"results.json", "report.html", "points", "samples"} <= names
    assert not [name for name in names if name.startswith(".")]


def test_second_run_reads_what_was_measured(report, clip, imported, tmp_path):
    folder = tmp_path / "again"
    shutil.copytree(report, folder)
    before = load_results(folder)
    lines = run(
        *("bench", clip, "-o", folder, *QUICK, "--bpp", "2,1", "--anchors", "x264:fast"),
        *("--metrics", "xpsnr", "--json"),
    ).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    assert events[-1] == {"type": "done"}
    result = events[-2]
    assert (result["type"], result["kind"], result["folder"]) == ("result", "bench", str(folder))
    assert str(folder / "results.json") in result["files"]
    after = load_results(folder)
    kept = {key: value for key, value in result.items() if key not in ("type", "kind")}
    assert BenchResults.from_dict(kept) == after
    for codec in after.codecs:
        old = {point.q: point for point in codec_of(before, codec.name).points}
        for point in codec.points:
            assert point.from_cache
            assert not old[point.q].from_cache
            assert {**asdict(old[point.q]), "from_cache": True} == asdict(point)


def test_force_measures_again(report, clip, tmp_path):
    shutil.copytree(report, tmp_path / "again")
    args = ("bench", clip, "-o", tmp_path / "again", *QUICK, "--anchors", "x264:fast", "-q")
    run(*args, "--arch", "", "--force")
    (codec,) = load_results(tmp_path / "again").codecs
    assert [point.from_cache for point in codec.points] == [False]


def test_import_of_other_frames_is_refused(imported, clip, tmp_path):
    values = json.loads(imported.read_text())
    source = prepare_source(clip, tmp_path)
    path = tmp_path / "a.json"

    def refused(**changes):
        path.write_text(json.dumps(values | changes))
        with pytest.raises(InputError) as caught:
            import_results(path, source)
        return str(caught.value)

    assert "6 frames of 64x47, the source has 6 frames of 64x48" in refused(height=47)
    assert "5 frames of 64x48" in refused(n_frames=5)
    assert "other frames: the MD5" in refused(raw_yuv420p_md5="0" * 32)
    assert "points is missing" in refused(points=None) or "cannot be imported" in refused(points=1)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be imported"):
        import_results(path, source)
    with pytest.raises(InputError, match="cannot be read"):
        import_results(tmp_path / "none.json", source)
    assert "is about other frames" in fail(
        3, "bench", make_clip(tmp_path / "other.mkv", 5), "-o", tmp_path / "r", *QUICK,
        "--anchors", "", "--frames", 5, "--import", write(path, values | {"n_frames": 5}),
    )  # fmt: skip


def write(path, values):
    path.write_text(json.dumps(values))
    return path


def test_imported_points(imported, clip, tmp_path):
    (codec,) = import_results(imported, prepare_source(clip, tmp_path))
    assert codec.name == "vtm ra (imported)"
    assert codec.parameters == (
        "EncoderAppStatic -c ra.cfg -q {q}; VTM 23.13; imported from vtm.json; mean over frames; "
        "figures in RGB left out, since converted by other means"
    )
    assert [point.q for point in codec.points] == [37, 32, 27, 22]
    point = codec.points[0]
    assert point.bpp == 8 * 500 / (64 * 48 * 6)
    assert point.psnr_yuv_db == pytest.approx((6 * 33.5 + 55 + 56) / 8)
    assert point.psnr_rgb_db is None
    values = json.loads(imported.read_text()) | {"rgb_conversion": "nvcodec"}
    (codec,) = import_results(write(tmp_path / "b.json", values), prepare_source(clip, tmp_path))
    assert codec.points[0].psnr_rgb_db == 31.5


def test_interrupted_bench_continues(clip, tmp_path):
    folder = tmp_path / "report"
    options = BenchOptions(
        bpps=(2.0,), anchors=(), encode=EncodeOptions(passes=30), device="cpu", threads=1
    )
    heard = []

    def stop():
        return any("fit" in getattr(event, "stage", "") for event in heard)

    with pytest.raises(Interrupted, match="nvcodec hnerv 2: stopped; the same command continues"):
        bench(clip, folder, options, listener=heard.append, stop=stop)
    assert {path.suffix for path in (folder / "points").iterdir()} == {".resume", ".seconds"}
    assert {path.name for path in folder.iterdir()} == {"points", "samples"}
    (spent,) = (folder / "points").glob("*.seconds")
    before_s = float(spent.read_text())
    logs = []
    results, _ = bench(clip, folder, options, listener=logs.append)
    assert any("resumed at step" in getattr(event, "message", "") for event in logs)
    (point,) = results.codecs[0].points
    assert point.status == "ok"
    assert point.encode_s > before_s > 0
    kept = {path.suffix for path in (folder / "points").iterdir()}
    assert kept == {".json", ".nrv", ".png"}


def test_ctrl_c(clip, tmp_path):
    environment = os.environ | {"PYTHONPATH": str(Path(nvcodec.__file__).parents[1])}
    command = [sys.executable, "-m", "nvcodec", "bench", str(clip), "-o", str(tmp_path / "r")]
    command += ["--arch", "", "--anchors", "x265:placebo", "--bpp", "0.1,0.2,0.5,1,2", "--json"]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()  # it reads the clip
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert b"Traceback" not in err
    assert json.loads(out.splitlines()[-1])["code"] == 130
    assert not list((tmp_path / "r").glob(".*"))


def test_data_set(tmp_path, monkeypatch):
    small = tuple(
        datasets.Sequence(
            name=name, file=f"{name}.yuv", frame_rate=30, n_frames=2, width=64, height=48
        )
        for name in ("One", "Two")
    )
    monkeypatch.setitem(datasets.DATASETS, "uvg", small)
    rng = np.random.default_rng(0)
    for sequence in small[1:]:
        data = rng.integers(100, 150, sequence.n_bytes, np.uint8).tobytes()
        (tmp_path / sequence.file).write_bytes(data)
    lines = run(
        *("bench", "--dataset", "uvg", "--data", tmp_path, "-o", tmp_path / "out", *QUICK),
        *("--arch", "", "--anchors", "x264:fast", "--json"),
    ).stdout.splitlines()
    events = [json.loads(line) for line in lines]
    results = [event for event in events if event["type"] == "result"]
    assert [event["kind"] for event in results] == ["bench", "bench_mean"]
    assert results[-1]["sequences"] == ["Two"]
    found = load_results(tmp_path / "out" / "Two")
    assert (found.source.file, found.source.codec) == ("Two.yuv", "rawvideo")
    assert found.codecs[0].points[0].status == "ok"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--anchors", "x266"), "anchor is x266, allowed are x264, x265, svtav1, vp9, vtm, vvenc"),
        (("--arch", "mynerv"), "arch is mynerv, allowed are auto, hnerv"),
        (("--arch", "", "--anchors", ""), "at least one architecture"),
        (("--bpp", "0"), "bpp is 0.0"),
        (("--metrics", "ssim"), "metric is ssim, allowed are xpsnr, vmaf"),
        (("--dataset", "uvg"), "give either INPUT or --dataset"),
        (("--anchors", "vtm", "--vtm", "nothing"), "nothing is not a program"),
    ],
)
def test_wrong_options(clip, tmp_path, args, words):
    assert words in fail(2, "bench", clip, "-o", tmp_path / "report", *args)


def test_programs_by_environment(clip, tmp_path, monkeypatch):
    monkeypatch.setenv("NVCODEC_BENCH_VTM", "nowhere")
    args = ("bench", clip, "-o", tmp_path / "report", "--anchors", "vtm")
    assert fail(2, *args) == "nowhere is not a program that can be run"


def test_wrong_folders(clip, tmp_path):
    (tmp_path / "file").write_text("")
    assert "is a file" in fail(2, "bench", clip, "-o", tmp_path / "file")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("")
    assert "holds no bench" in fail(2, "bench", clip, "-o", tmp_path / "full")
    assert "does not exist" in fail(2, "bench", clip, "-o", tmp_path / "a" / "b")
    assert "several times" in fail(2, "bench", "-", "-o", tmp_path / "a")
    assert "does not exist" in fail(3, "bench", tmp_path / "none.mp4", "-o", tmp_path / "a")
    assert "needs --data" in fail(2, "bench", "--dataset", "uvg", "-o", tmp_path / "a")
    assert "not a list of numbers" in run("bench", clip, "-o", "a", "--bpp", "x", code=2).stderr


def test_choices_are_those_of_the_tables():
    assert set(DATASET_CHOICES) == set(datasets.DATASETS)
    assert METRIC_CHOICES == METRICS
    with pytest.raises(UsageError, match="anchor is none"):
        BenchOptions(anchors=("none",))


def test_results_json(report, tmp_path):
    results = load_results(report)
    save_results(tmp_path, results)
    assert load_results(tmp_path) == load_results(tmp_path / "results.json") == results
    values = json.loads((tmp_path / "results.json").read_text())
    values["source"]["weather"] = values["codecs"][0]["points"][0]["weather"] = "fine"
    assert load_results(write(tmp_path / "results.json", values)) == results
    for changes, words in (
        ({"format": 2}, "has format 2; this version reads format 1"),
        ({"codecs": [{}]}, "does not hold the results of a bench"),
        ({"machine": 3}, "does not hold the results of a bench"),
    ):
        with pytest.raises(InputError, match=words):
            load_results(write(tmp_path / "a.json", values | changes))
    with pytest.raises(InputError, match="cannot be read"):
        load_results(tmp_path / "none.json")


def test_machine():
    assert re.fullmatch(r".+ \(\w+\)", cpu_name())
    assert available_cores() >= 1
    assert commit() is None or len(commit()) >= 7
