import dataclasses
import json
import os
import shlex
import signal
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_audio, make_video, moving_frames

import nvcodec
from nvcodec import cli, fields, storage
from nvcodec.bitstream.container import SIGNATURE, pack_chunk
from nvcodec.bitstream.header import StreamHeader, unpack_stream
from nvcodec.cli import options, values
from nvcodec.cli.values import shares
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.device import DEVICES
from nvcodec.codec.losses import LOSSES
from nvcodec.codec.options import (
    AUTO_ARCH,
    CODINGS,
    COLORS,
    OPTIMIZERS,
    PRESET_PASSES,
    EncodeOptions,
)
from nvcodec.codec.prune import PRUNE_SCOPES
from nvcodec.codec.ptq import QUANT_AXES
from nvcodec.codec.schedule import SCHEDULES
from nvcodec.console import duration, print_json, printable
from nvcodec.metrics import psnr_db
from nvcodec.models import ARCHITECTURES
from nvcodec.video.reader import open_video

QUICK = ("--arch", "hnerv", "--bpp", "2", "--passes", "2", "--device", "cpu")


def run(*args, code=0):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")
    assert result.exit_code == code, result.output
    assert "Traceback" not in result.output
    return result


def run_json(*args, code=0):
    lines = [json.loads(line) for line in run(*args, "--json", code=code).stdout.splitlines()]
    assert lines[-1]["type"] == ("error" if code else "done")
    return lines


def fail(code, *args):
    """Run a command that must fail; return its sentence, whose form is checked."""
    stderr = run(*args, code=code).stderr
    lines = stderr.splitlines()
    assert len(lines) == 1, stderr
    assert lines[0].startswith("nvcodec: error: ")
    return lines[0].removeprefix("nvcodec: error: ")


def environment():
    root = str(Path(nvcodec.__file__).parents[1])
    return os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}


def program(*args, **given):
    command = [sys.executable, "-m", "nvcodec", *map(str, args)]
    return subprocess.Popen(
        command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, **given
    )


def listing(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """32 x 32, 6 frames, lossless RGB."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return make_video(
        path, codec="ffv1", pixel_format="bgr0", frames=moving_frames(6, width=32, height=32)
    )


@pytest.fixture(scope="module")
def encoded(clip) -> tuple[Path, dict]:
    """An .nrv file of the clip beside it, and what `encode --json` said."""
    lines = run_json("encode", clip, *QUICK)
    return clip.with_suffix(".nrv"), lines[-2]


@pytest.fixture
def nrv(encoded) -> Path:
    return encoded[0]


@pytest.fixture
def data(nrv) -> bytes:
    return nrv.read_bytes()


# Interface


def test_help_is_light():
    code = (
        "import sys; from nvcodec.cli import main\n"
        "for command in [], *([name] for name in main.commands):\n"
        "    main([*command, '--help'], standalone_mode=False)\n"
        "assert not {'torch', 'av', 'rich', 'numpy'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True)
    assert done.returncode == 0, done.stderr
    assert b"--max-time" in done.stdout


def test_choices_and_defaults_are_those_of_the_codec():
    assert (AUTO_ARCH, *ARCHITECTURES) == options.ARCHITECTURES
    assert tuple(PRESET_PASSES) == options.PRESETS
    assert LOSSES == options.LOSSES
    assert OPTIMIZERS == options.OPTIMIZERS
    assert (CODINGS, COLORS) == (options.CODINGS, options.COLORS)
    assert SCHEDULES == options.SCHEDULES
    assert (QUANT_AXES, PRUNE_SCOPES) == (options.QUANT_AXES, options.PRUNE_SCOPES)
    assert DEVICES == options.DEVICES
    defaults = {option.name: option.default for option in cli.encode.encode.params}
    wanted = EncodeOptions()
    for field in dataclasses.fields(EncodeOptions):
        default, value = defaults.get(field.name), getattr(wanted, field.name)
        if isinstance(value, tuple):
            assert shares(None, None, default) == value, field.name
        elif isinstance(default, (int, float, str)):
            assert default == value, field.name


def test_version_names_the_format():
    assert run("--version").stdout == f"nvcodec {nvcodec.__version__} (.nrv format 1)\n"


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (values.amount, "200k", 200_000),
        (values.amount, "1.5M", 1_500_000),
        (values.amount, "800", 800),
        (values.seconds, "90", 90),
        (values.seconds, "90s", 90),
        (values.seconds, "10m", 600),
        (values.seconds, "1h30m", 5400),
        (values.shares, "0.2,.5", (0.2, 0.5)),
        (values.assignments, ("embed-dim=3",), {"embed_dim": "3"}),
    ],
)
def test_values_are_parsed(parse, text, value):
    assert parse(None, None, text) == value


@pytest.mark.parametrize(
    "option",
    [
        ("--size", "1e5"), ("--size", "inf"), ("--bitrate", "-3"), ("--max-time", "1x"),
        ("--max-time", ""), ("--model", "strides"), ("--prune-at", "a"), ("--arch", "foo"),
        ("--loss", "huber"),
        ("--start", "-1"), ("--frames", "0"), ("--frames", 10**30), ("--threads", "0"),
    ],
)  # fmt: skip
def test_values_are_refused_by_the_parser(tmp_path, clip, option):
    result = run("encode", clip, "-o", tmp_path / "a.nrv", *option, code=2)
    assert option[0] in result.stderr
    assert listing(tmp_path) == []


# What the commands do


def test_metrics_are_those_of_the_decoded_file(tmp_path, clip, encoded):
    nrv, said = encoded
    assert said["type"] == "result"
    assert said["kind"] == "encode"
    assert said["file"] == str(nrv)
    assert said["n_bytes"] == nrv.stat().st_size <= said["target_bytes"]
    verified = run_json("verify", nrv, "--source", clip)[-2]
    run("decode", nrv, "-o", f"{tmp_path}/png/")
    with open_video(clip) as source, open_video(tmp_path / "png") as decoded:
        values = [psnr_db(a, b) for a, b in zip(decoded, source, strict=True)]
    assert len(values) == 6
    for result in (said, verified):
        assert result["psnr_per_frame_db"] == pytest.approx(values, abs=1e-9)
        assert result["psnr_db"] == pytest.approx(np.mean(values), abs=1e-9)
        assert result["ms_ssim"] is None


@pytest.mark.parametrize("name", ["a.y4m", "a.mp4", "a.mkv", "a/%04d.png", "new/"])
def test_decode_writes_every_kind_of_output(tmp_path, nrv, name):
    values = run_json("decode", nrv, "-o", f"{tmp_path}/{name}", "--start", 2, "--frames", 3)[-2]
    assert (values["start"], values["frames"]) == (2, 3)
    assert values["decode_fps"] > values["end_to_end_fps"] > 0
    with open_video(f"{tmp_path}/{name}") as reader:
        assert len(list(reader)) == 3
    assert not [path for path in listing(tmp_path) if ".part" in path]


def test_decode_tells_both_speeds(tmp_path, nrv):
    result = run("decode", nrv, "-o", tmp_path / "a.mp4", "--frames", 99)
    assert result.stdout == ""
    for text in ("decode only", "end to end", "H.264", "99 frames were asked for, but only 6"):
        assert text in result.stderr
    assert run("decode", nrv, "-o", tmp_path / "b.mp4", "-q").output == ""


def test_summary_goes_to_stderr(tmp_path, clip):
    output = tmp_path / "a.nrv"
    result = run("encode", clip, "-o", output, *QUICK)
    assert result.stdout == ""
    for text in (str(output), "bpp (target 2.0", "PSNR", "MS-SSIM", "parameters", "frames/s"):
        assert text in result.stderr
    assert run("encode", clip, "-o", output, *QUICK, "-y", "-q").output == ""


def test_standard_streams(tmp_path, clip, data):
    y4m = tmp_path / "clip.y4m"
    (tmp_path / "a.nrv").write_bytes(data)
    raw = run("decode", tmp_path / "a.nrv", "-o", "-").stdout_bytes
    run("decode", tmp_path / "a.nrv", "-o", y4m)
    assert raw == y4m.read_bytes()
    with program("encode", "-", "-o", "-", *QUICK, stdin=subprocess.PIPE) as process:
        out, _ = process.communicate(raw, timeout=60)
    assert process.returncode == 0
    assert len(unpack_stream(out).segments) == 1
    assert run("encode", y4m, "-o", "-", *QUICK).stdout_bytes == out


def test_dry_run_writes_nothing(tmp_path, clip):
    before = listing(clip.parent)
    values = run_json("encode", clip, *QUICK, "--dry-run", "-o", tmp_path / "a.nrv")[-2]
    assert values["kind"] == "plan"
    assert (values["frames"], values["width"], values["steps"]) == (6, 32, 6)
    assert "parameters" in run("encode", clip, *QUICK, "--dry-run").stdout
    assert listing(tmp_path) == []
    assert listing(clip.parent) == before


def test_options_reach_the_encoder(tmp_path, clip):
    output = tmp_path / "a.nrv"
    options = (
        "--arch",
        "hnerv",
        "-m",
        "strides=4,4",
        "-m",
        "embed-dim=3",
        "--frames",
        3,
        "--start",
        1,
        "--seed",
        5,
    )
    options += ("--size", "1.2k", "--passes", 2, "--loss", "l1", "--optimizer", "adam")
    run("encode", clip, "-o", output, *options, "--no-metadata", "--batch", 3, "--threads", 1)
    values = run_json("info", output)[-2]
    assert values["metadata"] == ""
    assert 1000 < values["bytes"] <= 1200
    assert values["header"]["n_frames"] == 3
    config = values["segments"][0]["config"]
    assert (config["strides"], config["embed_dim"]) == ([4, 4], 3)
    run("verify", output, "--source", clip, "--start", 1)


def test_environment_gives_defaults(tmp_path, clip):
    result = CliRunner(env={"NVCODEC_ENCODE_PASSES": "1"}).invoke(
        cli.main, ["encode", str(clip), "--dry-run", "--json", "--bpp", "2"]
    )
    assert json.loads(result.stdout.splitlines()[-2])["steps"] == 3


def test_info_accounts_for_every_byte(nrv):
    values = run_json("info", nrv)[-2]
    assert sum(values["parts"].values()) == pytest.approx(values["bytes"])
    assert 0 <= values["parts"]["coder"] < 16
    (segment,) = values["segments"]
    assert segment["arch"] == "hnerv"
    assert segment["parameters"] == sum(row["parameters"] for row in segment["tensors"])
    text = run("info", nrv).stdout
    for row in segment["tensors"]:
        assert row["name"] in text
        assert 0 <= row["sparsity"] <= 1
    assert "side information" in text


def test_metadata_cannot_speak_to_the_terminal(tmp_path, data):
    hostile = "\x1b[31mred\x07 [bold]x[/bold] \u202e\n"
    stream = dataclasses.replace(unpack_stream(data), metadata=hostile.encode())
    path = tmp_path / "a.nrv"
    from nvcodec.bitstream.header import pack_stream

    path.write_bytes(pack_stream(stream))
    text = run("info", path).stdout
    assert r"\x1b[31mred\x07 [bold]x[/bold] \u202e\x0a" in text
    assert run_json("info", path)[-2]["metadata"] == hostile


def test_doctor_names_versions_devices_and_codecs():
    values = run_json("doctor")[-2]
    assert {"python", "nvcodec", "format", "torch", "numpy", "av"} <= set(values["versions"])
    assert values["encoders"]["libx264"]
    assert values["devices"][0]["device"] == "cpu"
    text = run("doctor").stdout
    assert "libx264" in text
    assert "bfloat16" in text


def test_console_details(capsys):
    assert printable("a\x1b\x9f\nü") == r"a\x1b\x9f\x0aü"
    assert [duration(s) for s in (0.04, 9.97, 59, 200, 3725)] == [
        "0.0 s", "10 s", "59 s", "3 min 20 s", "1 h 02 min"
    ]  # fmt: skip
    print_json({"a": float("inf"), "b": [float("nan"), 1]})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1]}


# Failures


def text_file(path: Path) -> Path:
    path.write_text("this is no video\n" * 50)
    return path


def truncated_mp4(path: Path) -> Path:
    make_video(path, frames=moving_frames(4))
    path.write_bytes(path.read_bytes()[:300])
    return path


BAD_VIDEOS = {
    "missing": (lambda path: path, ".mp4", "does not exist"),
    "empty folder": (lambda path: path.mkdir() or path, "", "has no PNG files"),
    "text": (text_file, ".mp4", "cannot be read as a video"),
    "text file": (text_file, ".txt", "is not a video"),
    "empty": (lambda path: path.touch() or path, ".mp4", "cannot be read as a video"),
    "audio": (make_audio, ".wav", "has no video stream"),
    "truncated": (truncated_mp4, ".mp4", "cannot be"),
}


@pytest.mark.parametrize("kind", BAD_VIDEOS)
def test_bad_videos_exit_3(tmp_path, kind):
    make, suffix, words = BAD_VIDEOS[kind]
    source = make(tmp_path / f"in{suffix}")
    before = listing(tmp_path)
    assert words in fail(3, "encode", source, "-o", tmp_path / "out.nrv", *QUICK)
    assert listing(tmp_path) == before


def encode_mistakes(clip, folder):
    out = ("-o", folder / "out.nrv")
    taken = folder / "taken.nrv"
    return [
        (2, ("-o", clip), "is the input itself"),
        (2, ("-o", taken), "use -y to overwrite"),
        (2, ("-o", folder), "is a directory"),
        (2, ("-o", folder / "none" / "a.nrv"), "does not exist"),
        (2, ("-o", taken / "a.nrv"), "does not exist"),
        (2, (*out, "--bpp", "0.01"), "the smallest hnerv file has about"),
        (2, (*out, "--bpp", "0"), "a number above 0 is needed"),
        (2, (*out, "--bpp", "nan"), "a number above 0 is needed"),
        (2, (*out, "--bpp", "1", "--psnr", "30"), "exclude each other"),
        (2, (*out, "--psnr", "90"), "allowed are 10 to 60"),
        (2, (*out, "--prune", "1"), "prune is 1.0"),
        (2, (*out, "-m", "strides=0"), "strides"),
        (2, (*out, "-m", "strides=5;4"), "strides is '5;4', allowed is 1 to 8"),
        (
            2,
            (*out, "--bpp", "2", "--analysis", "dct"),
            "allowed with this hnerv are convnext, conv, ",
        ),
        (2, (*out, "--bpp", "2", "--side-weight", "1"), "no heads at lower resolutions"),
        (2, (*out, "--bpp", "2", "--resume"), "nothing to resume"),
        (2, (*out, "--loss", "fusion10"), "needs sides of at least"),
        (3, (*out, "--start", "9"), "the video has 6 frames"),
    ]


@pytest.mark.parametrize("number", range(18))
def test_mistakes_in_encode(tmp_path, clip, number):
    (tmp_path / "taken.nrv").write_bytes(b"old")
    before = listing(tmp_path)
    code, args, words = encode_mistakes(clip, tmp_path)[number]
    assert words in fail(code, "encode", clip, "--device", "cpu", *args)
    assert listing(tmp_path) == before
    assert (tmp_path / "taken.nrv").read_bytes() == b"old"


def test_output_needs_a_name(clip):
    assert "-o" in fail(2, "encode", "-")
    assert "-o" in fail(2, "encode", "frames/%06d.png")
    assert "exclude" in run_json("encode", clip, "--bpp", 1, "--size", 9, code=2)[-1]["message"]
    assert "--json" in fail(2, "encode", clip, "-o", "-", "--json")
    assert "--json" in fail(2, "decode", clip, "-o", "-", "--json")


def test_mistakes_in_decode(tmp_path, nrv):
    taken = tmp_path / "taken.mp4"
    taken.write_bytes(nrv.read_bytes())
    for code, words, *args in (
        (2, "start is 6, but the file has 6 frames", nrv, "-o", tmp_path / "a.mp4", "--start", 6),
        (2, "use -y to overwrite", nrv, "-o", taken),
        (2, "is the input itself", taken, "-o", taken, "-y"),
        (2, "has suffix .avi", nrv, "-o", tmp_path / "a.avi"),
        (2, "batch is 0", nrv, "-o", tmp_path / "a.mp4", "--batch", 0),
        (3, "cannot be read", tmp_path / "none.nrv", "-o", tmp_path / "a.mp4"),
        (3, "is a directory", tmp_path, "-o", tmp_path / "a.mp4"),
    ):
        assert words in fail(code, "decode", *args)
        assert listing(tmp_path) == ["taken.mp4"]
    assert taken.read_bytes() == nrv.read_bytes()


def repacked(data: bytes, **changes) -> bytes:
    """Return a file whose header says something else, with a right checksum."""
    header = dataclasses.replace(unpack_stream(data).header, **changes)
    chunk = pack_chunk("VHDR", fields.pack(header))
    return SIGNATURE + chunk + data[len(SIGNATURE) + len(chunk) :]


def newer(data: bytes) -> bytes:
    payload = bytearray(fields.pack(unpack_stream(data).header))
    payload[0] = 2
    chunk = pack_chunk("VHDR", bytes(payload))
    return SIGNATURE + chunk + data[len(SIGNATURE) + len(chunk) :]


def other_tensors(data: bytes) -> bytes:
    """Flip a bit of the tensor hash and repair the checksum of the segment."""
    position = data.index(b"SEGM")
    size = int.from_bytes(data[position - 4 : position], "little")
    body = bytearray(data[position : position + 4 + size])
    body[4 + 10] ^= 1
    crc = zlib.crc32(body).to_bytes(4, "little")
    return data[:position] + bytes(body) + crc + data[position + 4 + size + 4 :]


BAD_FILES = {
    "text": (4, lambda data: b"hello, this is text", "this is not an .nrv file"),
    "empty": (4, lambda data: b"", "file ends at byte 0"),
    "truncated": (4, lambda data: data[:-40], "announces"),
    "flipped": (4, lambda data: data[:-60] + bytes([data[-60] ^ 4]) + data[-59:], "CRC-32"),
    "longer": (4, lambda data: data + b"x", "follow the END chunk"),
    "newer": (5, newer, "a newer nvcodec is needed"),
    "frames": (6, lambda data: repacked(data, n_frames=4_000_000_000), "the limit"),
    "pixels": (6, lambda data: repacked(data, width=32_000, height=32_000), "the limit"),
    "hash": (4, other_tensors, "do not match their hash"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_bad_files(tmp_path, data, kind):
    code, damage, words = BAD_FILES[kind]
    path = tmp_path / "bad.nrv"
    path.write_bytes(damage(data))
    assert words in fail(code, "decode", path, "-o", tmp_path / "a.mp4")
    assert words in fail(code, "verify", path)
    assert words in fail(code, "info", path)
    error = run_json("decode", path, "-o", f"{tmp_path}/new/", code=code)[-1]
    assert error["code"] == code
    assert words in error["message"]
    assert listing(tmp_path) == ["bad.nrv"]


def test_verify_finds_another_source(tmp_path, clip, nrv):
    longer = make_video(tmp_path / "wide.mkv", codec="ffv1", pixel_format="bgr0")
    assert "frames of 64x48, the file has 32x32" in fail(8, "verify", nrv, "--source", longer)
    message = fail(8, "verify", nrv, "--source", clip, "--start", 2, "-q")
    assert "has 4 frames from frame 2 on, the file has 6" in message
    assert "does not exist" in fail(3, "verify", nrv, "--source", tmp_path / "none.mp4")


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (MemoryError(), 7, "memory does not suffice"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), 7, "memory does not suffice"),
        (OSError(28, "No space left on device"), 7, "No space left"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (RuntimeError("two\nlines"), 1, "unexpected RuntimeError: two lines"),
    ],
)
def test_other_errors_leave_nothing_behind(tmp_path, nrv, monkeypatch, error, code, words):
    def frames(video, indices):
        raise error
        yield

    monkeypatch.setattr(nvcodec.VideoFile, "frames", frames)
    assert words in fail(code, "decode", nrv, "-o", tmp_path / "a.mp4")
    assert run_json("decode", nrv, "-o", tmp_path / "a.mp4", code=code)[-1]["code"] == code
    assert listing(tmp_path) == []
    result = CliRunner().invoke(cli.main, ["decode", str(nrv), "-o", str(tmp_path / "a.mp4"), "-v"])
    assert "Traceback" in result.stderr


def test_nobody_reads(nrv):
    with program("decode", nrv, "-o", "-") as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 7


# Interruptions


def test_interrupted_encode_is_resumed_to_the_same_bytes(tmp_path, clip):
    args = ("--bpp", "2", "--passes", "40", "--device", "cpu", "--threads", "1")
    whole, output = tmp_path / "whole.nrv", tmp_path / "it's.nrv"
    with program("encode", clip, "-o", output, *args, "--json") as process:
        while json.loads(process.stdout.readline())["stage"] in ("read", "prepare"):
            pass
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert not output.exists()
    assert checkpoint_path(output).exists()
    assert b"Traceback" not in err
    error = json.loads(out.splitlines()[-1])
    assert error["code"] == 130
    command = error["hint"].removeprefix("continue with: ")
    assert command in err.decode()
    words = shlex.split(command)
    assert words[:5] == ["python", "-m", "nvcodec", "encode", "--resume"]
    done = subprocess.run(
        [sys.executable, *words[1:]], env=environment(), capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert b"resumed at step" in done.stdout
    with program("encode", clip, "-o", whole, *args) as process:
        assert process.wait(timeout=60) == 0
    assert output.read_bytes() == whole.read_bytes()
    assert listing(tmp_path) == ["it's.nrv", "whole.nrv"]


def test_second_signal_aborts_at_once(tmp_path, clip):
    with program("encode", clip, "-o", tmp_path / "a.nrv", "--bpp", "2", "--json") as process:
        while json.loads(process.stdout.readline())["stage"] in ("read", "prepare"):
            pass
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert b"Traceback" not in err
    assert not (tmp_path / "a.nrv").exists()
    assert not storage.part_path(tmp_path / "a.nrv").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_within_executed_text_leaves_the_exit_code(number):
    """As within the import of a dataclass: CPython then ends as if killed by SIGINT."""
    code = f"""
import signal, click
from nvcodec.cli.base import Command
@click.command(cls=Command)
def play():
    try:
        exec("signal.raise_signal({int(number)})")
    except KeyboardInterrupt:
        print("stopped")
signal.signal(signal.SIGINT, signal.default_int_handler)
play([], standalone_mode=False)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert (result.returncode, result.stdout) == (0, b"stopped\n"), result.stderr


def test_stop_while_reading(tmp_path, clip, monkeypatch):
    from nvcodec.video.reader import VideoReader

    frames = VideoReader.with_planes

    def interrupted(reader):
        os.kill(os.getpid(), signal.SIGINT)
        return frames(reader)

    monkeypatch.setattr(VideoReader, "with_planes", interrupted)
    message = fail(130, "encode", clip, "-o", tmp_path / "a.nrv", *QUICK)
    assert "while reading" in message
    assert listing(tmp_path) == []
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_header_of_the_fixture_is_what_the_patches_expect(data):
    assert data[len(SIGNATURE) + 8 :].startswith(fields.pack(unpack_stream(data).header))
    assert isinstance(unpack_stream(data).header, StreamHeader)
