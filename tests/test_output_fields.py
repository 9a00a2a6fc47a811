"""What ffprobe says of an output is what the file says of its source, whatever the codec."""

import json
import shutil
import subprocess
from dataclasses import replace
from fractions import Fraction

import pytest
from nrv_factory import make_nrv

import nvcodec
from nvcodec.depth import change_depth
from nvcodec.media import PLAIN, Timing
from nvcodec.video.coding import Wish
from nvcodec.video.writer import open_writer

pytestmark = pytest.mark.skipif(
    shutil.which("ffprobe") is None, reason="ffprobe is not on the PATH"
)
CODECS = {"libx264": "h264", "libx265": "hevc", "ffv1": "ffv1"}
CHOICES = [
    (suffix, codec, pixel_format)
    for suffix, codecs in ((".mkv", CODECS), (".mp4", ("libx264", "libx265")),
                           (".mov", ("libx264", "libx265")))
    for codec in codecs
    for pixel_format in ("yuv420p", "yuv420p10le")
]  # fmt: skip
UNEVEN = Timing(time_base=Fraction(1, 1000), pts=[0, 40, 100, 101], duration=20)
COLORS = {  # matrix, primaries, transfer: ffprobe's names
    "bt709": ((1, 1, 1), ("bt709", "bt709", "bt709")),
    "bt2020": ((9, 9, 16), ("bt2020nc", "bt2020", "smpte2084")),
}


@pytest.fixture(scope="module")
def video():
    return nvcodec.open(make_nrv(4, 128, 128), bit_depth=16)


def probe(path):
    command = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_frames", path]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    values = json.loads(done.stdout)
    return values["streams"][0], values["frames"]


def write(path, video, info, codec, pixel_format):
    with open_writer(path, info, wish=Wish(codec=codec, pixel_format=pixel_format)) as writer:
        for frame in video:
            writer.write(change_depth(frame, 16, writer.bit_depth))
    assert writer.warnings == []
    return probe(path)


@pytest.mark.parametrize(("suffix", "codec", "pixel_format"), CHOICES)
@pytest.mark.parametrize("name", COLORS)
def test_fields(tmp_path, video, suffix, codec, pixel_format, name):
    codes, wanted = COLORS[name]
    matrix, primaries, transfer = codes
    full = name == "bt2020"
    color = replace(
        video.info.color, matrix=matrix, primaries=primaries, transfer=transfer, full_range=full,
        specified=True,
    )  # fmt: skip
    # A matrix that turns by 90 degrees clockwise.
    display = replace(PLAIN, a=0, b=1 << 16, c=-1 << 16, d=0, sar_num=4, sar_den=3)
    info = replace(video.info, chroma=420, color=color, display=display, timing=UNEVEN)
    stream, frames = write(tmp_path / f"a{suffix}", video, info, codec, pixel_format)
    assert stream["codec_name"] == CODECS[codec]
    assert (stream["width"], stream["height"]) == (128, 128)
    # FFmpeg's decoders call full-range 8-bit 4:2:0 of these codecs yuvj420p.
    assert stream["pix_fmt"].replace("yuvj", "yuv") == pixel_format
    assert stream["sample_aspect_ratio"] == "4:3"
    assert stream["color_range"] == ("pc" if full else "tv")
    found = (stream["color_space"], stream["color_primaries"], stream["color_transfer"])
    assert found == wanted
    assert [side["rotation"] for side in stream["side_data_list"] if "rotation" in side] == [-90]
    times = [float(frame["pts_time"]) for frame in frames]
    assert times == pytest.approx([0, 0.04, 0.1, 0.101], abs=0.001)


@pytest.mark.parametrize(("suffix", "codec"), [
    (".mp4", "libx264"), (".mkv", "libx264"), (".mkv", "ffv1"), (".mkv", "libx265"),
])  # fmt: skip
def test_field_order(tmp_path, video, suffix, codec):
    info = replace(video.info, chroma=420, display=replace(PLAIN, field_order=1))
    stream, _ = write(tmp_path / f"a{suffix}", video, info, codec, "yuv420p")
    assert stream["field_order"] in ("tt", "tb")


def test_interlaced_h265_in_mp4_is_a_warning(tmp_path, video):
    info = replace(video.info, chroma=420, display=replace(PLAIN, field_order=1))
    with open_writer(tmp_path / "a.mp4", info, wish=Wish(codec="libx265")) as writer:
        writer.write((video[0] >> 8).astype("u1"))
    (warning,) = writer.warnings
    assert warning.startswith("H.265 cannot say that the video is interlaced")


@pytest.mark.parametrize("codec", ["libx264", "libx265"])
@pytest.mark.parametrize(("siting", "name"), [(0, "left"), (1, "center"), (2, "topleft")])
def test_chroma_location(tmp_path, video, codec, siting, name):
    color = replace(video.info.color, matrix=1, full_range=False, siting=siting, specified=True)
    info = replace(video.info, chroma=420, color=color)
    stream, _ = write(tmp_path / "a.mp4", video, info, codec, "yuv420p")
    assert stream.get("chroma_location", "left") == name
