"""HDR10: the light of mastering display and video goes through, or a warning says not."""

import json
import struct
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
from click.testing import CliRunner
from media_factory import make_movie
from nrv_factory import make_nrv

import nvcodec
from nvcodec import cli
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.codec.source import Keep, read_source
from nvcodec.codec.work import EncodeWork
from nvcodec.events import ignore
from nvcodec.media import NO_HDR, Display, Hdr
from nvcodec.video.coding import Wish
from nvcodec.video.frames import ColorTags
from nvcodec.video.hdr import encoder_words, read_hdr
from nvcodec.video.reader import open_video
from nvcodec.video.writer import open_writer

OPTIONS = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=8.0), passes=1)
BT2020_D65 = Hdr(
    red_x=35400, red_y=14600, green_x=8500, green_y=39850, blue_x=6550, blue_y=2300,
    white_x=15635, white_y=16450, max_luminance=10_000_000, min_luminance=50, max_cll=1000,
    max_fall=400,
)  # fmt: skip
LEVELS = Hdr(max_cll=4000, max_fall=65535)
PLAIN_DISPLAY = replace(BT2020_D65, max_cll=0, max_fall=0)
PQ_TAGS = ColorTags(
    matrix=9, primaries=9, transfer=16, full_range=False, siting=2, specified=True
)  # fmt: skip


def run(*args):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")
    assert result.exit_code == 0, result.output
    return result


def bt2020(stream):
    context = stream.codec_context
    context.colorspace, context.color_primaries, context.color_trc = 9, 9, 16


def make_hdr10(path, hdr=BT2020_D65, codec="libx265"):
    name = "x265-params" if codec == "libx265" else "x264-params"
    words = ":".join(["log-level=none"] * (codec == "libx265") + encoder_words(hdr, codec))
    return make_movie(
        path, n_frames=3, size=(64, 64), video=codec, pixel_format="yuv420p10le",
        options={name: words}, prepare=bt2020,
    )  # fmt: skip


@pytest.fixture(scope="module")
def nrv(tmp_path_factory):
    """10-bit BT.2020 PQ with light, of random networks."""
    path = tmp_path_factory.mktemp("nrv") / "a.nrv"
    stream = unpack_stream(make_nrv(3, 64, 64))
    header = replace(
        stream.header, chroma=420, bit_depth=10, matrix=9, primaries=9, transfer=16, siting=3,
        color_specified=1,
    )  # fmt: skip
    path.write_bytes(pack_stream(replace(stream, header=header, hdr=BT2020_D65)))
    return path


@pytest.mark.parametrize("codec", ["libx265", "libx264"])
@pytest.mark.parametrize(
    "hdr", [BT2020_D65, LEVELS, PLAIN_DISPLAY], ids=["all", "levels", "display"]
)
def test_sources_say_their_light(tmp_path, codec, hdr):
    with open_video(make_hdr10(tmp_path / "a.mp4", hdr, codec)) as reader:
        assert reader.info.hdr == hdr


def test_from_source_to_output(tmp_path):
    source = make_hdr10(tmp_path / "a.mp4")
    events = []
    nvcodec.encode(source, tmp_path / "a.nrv", OPTIONS, listener=events.append)
    assert nvcodec.open(tmp_path / "a.nrv").info.hdr == BT2020_D65
    run("decode", tmp_path / "a.nrv", "-o", tmp_path / "b.mp4", "-c:v", "source")
    with open_video(source) as before, open_video(tmp_path / "b.mp4") as after:
        for name in ("hdr", "bit_depth", "chroma", "color", "codec"):
            assert getattr(after.info, name) == getattr(before.info, name)


@pytest.mark.parametrize(
    "hdr", [BT2020_D65, LEVELS, PLAIN_DISPLAY], ids=["all", "levels", "display"]
)
@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mkv", "ffv1"), ("a.mkv", "libx264"), ("a.mkv", "libx265"), ("a.mp4", "libx264"),
     ("a.mp4", "libx265"), ("a.mov", "libx265"), ("a.webm", None)],
)  # fmt: skip
@pytest.mark.parametrize("aspect", [1, Fraction(4, 3)])
def test_outputs_say_the_light(tmp_path, nrv, name, codec, hdr, aspect):
    with nvcodec.open(nrv) as video:
        display = Display(sar_num=Fraction(aspect).numerator, sar_den=Fraction(aspect).denominator)
        info = replace(video.info, hdr=hdr, display=display)
        with open_writer(tmp_path / name, info, wish=Wish(codec=codec)) as writer:
            video.bit_depth = writer.bit_depth
            for frame in video:
                writer.write(frame)
    assert [w for w in writer.warnings if "bits per sample" not in w] == []
    with open_video(tmp_path / name) as reader:
        assert reader.info.hdr == hdr
        assert reader.info.display == display
        assert reader.info.color == video.info.color
        assert len(list(reader)) == 3


@pytest.mark.parametrize("name", ["a.y4m", "f/%d.png", "f/%d.npy"])
def test_what_cannot_say_it_warns(tmp_path, nrv, name):
    said = run("decode", nrv, "-o", tmp_path / name).stderr
    format = {"a": "Y4M", "p": "PNG", "n": "NumPy"}[name[0] if name[0] == "a" else name[-3]]
    assert (
        f"{format} cannot say the transfer is PQ and how bright the mastering display and the "
        "video are"
    ) in said


def test_hlg_in_y4m_warns(tmp_path, nrv):
    with nvcodec.open(nrv) as video:
        color = replace(video.info.color, transfer=18)
        info = replace(video.info, color=color, hdr=NO_HDR)
        with open_writer(tmp_path / "a.y4m", info) as writer:
            video.bit_depth = writer.bit_depth
            writer.write(video[0])
    assert "Y4M cannot say the transfer is HLG" in writer.warnings


def test_info(tmp_path, nrv):
    said = json.loads(run("info", nrv, "--json").stdout.splitlines()[-2])
    assert said["hdr"] == {
        "red": [0.708, 0.292], "green": [0.17, 0.797], "blue": [0.131, 0.046],
        "white": [0.3127, 0.329], "max_luminance": 1000.0, "min_luminance": 0.005,
        "max_cll": 1000, "max_fall": 400,
    }  # fmt: skip
    assert sum(said["parts"].values()) == pytest.approx(said["bytes"])
    shown = run("info", nrv).stdout
    assert "display red 0.708, 0.292; green" in shown
    assert "MaxCLL 1000, MaxFALL 400 cd/m2" in shown
    stream = unpack_stream(nrv.read_bytes())
    partly = tmp_path / "b.nrv"
    partly.write_bytes(pack_stream(replace(stream, hdr=LEVELS)))
    said = json.loads(run("info", partly, "--json").stdout.splitlines()[-2])["hdr"]
    assert (said["red"], said["max_luminance"], said["max_cll"]) == (None, None, 4000)
    partly.write_bytes(pack_stream(replace(stream, hdr=NO_HDR)))
    assert json.loads(run("info", partly, "--json").stdout.splitlines()[-2])["hdr"] is None
    assert "HDR" not in run("info", partly).stdout


def test_its_bytes_are_planned(tmp_path):
    """A target in bytes counts the chunk."""
    source = read_source(make_hdr10(tmp_path / "a.mp4"), start=0, count=None)
    dark = replace(source, info=replace(source.info, hdr=NO_HDR))
    device = torch.device("cpu")
    sizes = [
        EncodeWork(
            video, OPTIONS, device=device, keep=Keep(), listener=ignore, stop=lambda: False
        ).overhead_bytes()
        for video in (source, dark)
    ]
    assert sizes[0] - sizes[1] == 28 + 12


def test_what_else_frames_carry_is_named(tmp_path):
    source = make_movie(
        tmp_path / "a.mkv", n_frames=3, options={"x264-params": "frame-packing=3"}
    )  # fmt: skip
    with open_video(source) as reader:
        list(reader)
        assert reader.warnings == ["3D layout in the frames: not kept"]


class Side:
    """Side data as PyAV gives it."""

    def __init__(self, name, data):
        self.type = type("Type", (), {"name": name})
        self._data = data

    def __bytes__(self):
        return self._data


def frame_with(*sides):
    return type("Frame", (), {"side_data": [Side(*side) for side in sides]})()


def test_senseless_values_are_unknown():
    numbers = [1, 0, -1, 2, 2, 1, *[1, 2] * 5, 1, 10, 1 << 30, 1]
    mastering = struct.pack("=22i", *numbers, 1, 1)
    hdr = read_hdr(
        frame_with(
            ("MASTERING_DISPLAY_METADATA", mastering),
            ("CONTENT_LIGHT_LEVEL", struct.pack("=2I", 1 << 16, 7)),
        )
    )
    assert hdr.primaries == (0, 0, 0, *[25000] * 5)
    assert (hdr.max_luminance, hdr.min_luminance) == (0, 0)
    assert (hdr.max_cll, hdr.max_fall) == (0, 7)
    cut = frame_with(("MASTERING_DISPLAY_METADATA", mastering[:80]), ("CONTENT_LIGHT_LEVEL", b""))
    assert read_hdr(cut) == NO_HDR
    unflagged = frame_with(("MASTERING_DISPLAY_METADATA", struct.pack("=22i", *numbers, 0, 0)))
    assert read_hdr(unflagged) == NO_HDR
