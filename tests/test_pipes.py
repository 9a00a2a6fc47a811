"""Y4M and .nrv files through the pipes of real processes, at 8 and more bits."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nvcodec
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
