"""Y4M and .nrv files through the pipes of real processes, at 8 and more bits."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from media_factory import make_movie

import nvcodec
from nvcodec.bitstream.header import unpack_stream
from nvcodec.video.color import chroma_shape
from nvcodec.video.reader import open_video

QUICK = ("--arch", "hnerv", "--bpp", "8", "--passes", "2", "--device", "cpu")
WIDTH, HEIGHT, N_FRAMES = 34, 32, 3
PIPE = subprocess.PIPE


def start(*args, **given):
    root = str(Path(nvcodec.__file__).parents[1])
    env = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "nvcodec", *map(str, args)]
    return subprocess.Popen(command, env=env, stdout=PIPE, stderr=PIPE, **given)


def make_y4m(path, bit_depth):
    """A moving ramp in 4:2:0; return its bytes."""
    space = "420mpeg2" if bit_depth == 8 else f"420p{bit_depth}"
    kind = "u1" if bit_depth == 8 else "<u2"
    shapes = [(HEIGHT, WIDTH), *[chroma_shape(HEIGHT, WIDTH, 420)] * 2]
    data = f"YUV4MPEG2 W{WIDTH} H{HEIGHT} F25:1 Ip A1:1 C{space} XCOLORRANGE=LIMITED\n".encode()
    for number in range(N_FRAMES):
        data += b"FRAME\n"
        for rows, columns in shapes:
            ramp = np.linspace(0.2, 0.8, rows * columns + 9)[number * 3 :][: rows * columns]
            data += (ramp * ((1 << bit_depth) - 1)).astype(kind).tobytes()
    path.write_bytes(data)
    return data


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_encode_and_decode_in_a_pipeline(tmp_path, bit_depth):
    given = make_y4m(tmp_path / "x.y4m", bit_depth)
    with (
        subprocess.Popen(["cat", str(tmp_path / "x.y4m")], stdout=PIPE) as source,
        start("encode", "-", "-o", "-", *QUICK, stdin=source.stdout) as encoder,
        start("decode", "-", "-o", "-", "--device", "cpu", stdin=encoder.stdout) as decoder,
    ):
        source.stdout.close()
        encoder.stdout.close()
        out, err = decoder.communicate(timeout=300)
        said = encoder.stderr.read()
    assert (source.returncode, encoder.returncode, decoder.returncode) == (0, 0, 0), said + err
    assert b"PSNR" in said
    assert len(out) == len(given)
    assert out.split(b"\n")[0] == given.split(b"\n")[0]
    (tmp_path / "y.y4m").write_bytes(out)
    with open_video(tmp_path / "x.y4m") as before, open_video(tmp_path / "y.y4m") as after:
        assert before.info.bit_depth == after.info.bit_depth == bit_depth
        for a, b in zip(before, after, strict=True):
            assert np.abs(a / a.max() - b / a.max()).mean() < 0.3


def test_files_and_pipes_give_the_same_bytes(tmp_path):
    make_y4m(tmp_path / "x.y4m", 10)
    with open(tmp_path / "x.y4m", "rb") as source, start(
        "encode", "-", "-o", "-", *QUICK, stdin=source
    ) as process:  # fmt: skip
        data, _ = process.communicate(timeout=300)
    with start("encode", tmp_path / "x.y4m", "-o", tmp_path / "a.nrv", *QUICK) as process:
        assert process.communicate(timeout=300)[0] == b""
    assert (tmp_path / "a.nrv").read_bytes() == data
    assert unpack_stream(data).header.bit_depth == 10
    for command in ("info", "verify"):
        with start(command, "-", "--json", stdin=PIPE) as process:
            out, _ = process.communicate(data, timeout=300)
        assert process.returncode == 0
        assert json.loads(out.splitlines()[-2])["bytes"] == len(data)
    with start("decode", tmp_path / "a.nrv", "-o", tmp_path / "y.y4m") as process:
        assert process.wait(300) == 0
    with start("decode", "-", "-o", "-", stdin=PIPE) as process:
        assert process.communicate(data, timeout=300)[0] == (tmp_path / "y.y4m").read_bytes()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not on the PATH")
@pytest.mark.parametrize("pixel_format", ["yuv420p10le", "gray10le"])
def test_ffmpeg_writes_and_reads_the_same(tmp_path, pixel_format):
    """Its own Y4M comes in, and it decodes ours to the samples that we drew."""
    make = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", f"testsrc2=s={WIDTH}x{HEIGHT}:d=0.08",
            "-pix_fmt", pixel_format, "-strict", "-1", "-f", "yuv4mpegpipe", "-"]  # fmt: skip
    with (
        subprocess.Popen(make, stdout=PIPE, stdin=subprocess.DEVNULL) as source,
        start("encode", "-", "-o", "-", *QUICK, stdin=source.stdout) as encoder,
    ):
        source.stdout.close()
        data, said = encoder.communicate(timeout=300)
    assert encoder.returncode == 0, said
    with start("decode", "-", "-o", "-", stdin=PIPE) as process:
        out, _ = process.communicate(data, timeout=300)
    read = ["ffmpeg", "-v", "error", "-f", "yuv4mpegpipe", "-i", "-", "-f", "rawvideo", "-"]
    done = subprocess.run(read, input=out, capture_output=True, check=True, timeout=60)
    assert done.stdout == b"".join(frame for frame in frames_of(out))
    (tmp_path / "a.y4m").write_bytes(out)
    probe = ["ffprobe", "-v", "error", "-show_entries", "stream=pix_fmt", "-of", "csv=p=0",
             str(tmp_path / "a.y4m")]  # fmt: skip
    found = subprocess.run(probe, capture_output=True, check=True, text=True, timeout=60)
    assert found.stdout.strip() == pixel_format


@pytest.mark.skipif(
    not all(map(shutil.which, ("bash", "ffmpeg", "ffplay"))), reason="no bash, ffmpeg or ffplay"
)
@pytest.mark.parametrize("pixel_format", ["yuv420p", "yuv420p10le"])
def test_the_pipeline_of_a_shell(tmp_path, pixel_format):
    """From a video to a player, all of them programs of their own."""
    make_movie(tmp_path / "in.mkv", n_frames=3, video="ffv1", pixel_format=pixel_format)
    line = (
        "ffmpeg -v error -i in.mkv -strict -1 -f yuv4mpegpipe - | $NVCODEC encode - -o - $QUICK | "
        "$NVCODEC decode - -o - | tee out.y4m | ffplay -v error -autoexit -"
    )
    env = os.environ | {
        "PYTHONPATH": str(Path(nvcodec.__file__).parents[1]), "OMP_NUM_THREADS": "1",
        "NVCODEC": f"{sys.executable} -m nvcodec", "QUICK": " ".join(QUICK),
        "SDL_VIDEODRIVER": "dummy", "SDL_AUDIODRIVER": "dummy",
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=tmp_path, env=env, capture_output=True,
        stdin=subprocess.DEVNULL, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with open_video(tmp_path / "in.mkv") as before, open_video(tmp_path / "out.y4m") as after:
        assert (after.info.bit_depth, after.info.chroma) == (before.info.bit_depth, 420)
        assert after.info.frame_rate == before.info.frame_rate
        for a, b in zip(before, after, strict=True):
            assert a.shape == b.shape


def frames_of(y4m):
    """Return the samples of each frame of a stream without further FRAME parameters."""
    head, _, body = y4m.partition(b"\n")
    words = {word[:1]: word[1:] for word in head.split(b" ")}
    chroma = words[b"C"]
    columns = 0 if chroma.startswith(b"mono") else 2 * (WIDTH // 2)
    rows = HEIGHT // 2 if chroma.startswith(b"420") else HEIGHT
    size = 2 * (WIDTH * HEIGHT + columns * rows)
    count, rest = divmod(len(body), size + 6)
    assert (rest, count > 0) == (0, True)
    return [body[i * (size + 6) + 6 :][:size] for i in range(count)]


def test_a_reader_that_goes_ends_the_encoder_quietly(tmp_path):
    make_y4m(tmp_path / "x.y4m", 10)
    with open(tmp_path / "x.y4m", "rb") as source, start(
        "encode", "-", "-o", "-", *QUICK, stdin=source
    ) as encoder:  # fmt: skip
        encoder.stdout.close()
        assert b"Traceback" not in encoder.stderr.read()
    assert encoder.returncode == 7


def test_nothing_and_half_a_file_are_named(tmp_path):
    for data in (b"", b"\x89NRV\r\n\x1a\n"):
        with start("decode", "-", "-o", "-", stdin=PIPE) as process:
            out, err = process.communicate(data, timeout=300)
        assert (process.returncode, out) == (4, b"")
        assert b"file ends at byte" in err
        assert b"Traceback" not in err
