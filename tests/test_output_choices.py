"""Codec, crf and pixel format of what `decode` writes, and single frames by number and time."""

import json
from dataclasses import replace

import av
import numpy as np
import pytest
from click.testing import CliRunner
from media_factory import make_movie
from nrv_factory import make_nrv

import nvcodec
from nvcodec import cli
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.cli import options, values
from nvcodec.video.coding import SOURCE, TITLES, pixel_format
from nvcodec.video.color import rgb_to_yuv
from nvcodec.video.planes import read_picture
from nvcodec.video.reader import open_video
from nvcodec.video.sinks import yuv_tags

SIZE = (64, 64)


def run(*args, code=0):
    result = CliRunner().invoke(cli.main, [str(arg) for arg in args], prog_name="nvcodec")
    assert result.exit_code == code, result.output
    return result


def decode(*args):
    lines = run("decode", *args, "--json").stdout.splitlines()
    return json.loads(lines[-2])


def fail(*args, code=2):
    lines = run("decode", *args, code=code).stderr.splitlines()
    assert len(lines) == 1 or lines[0].startswith("Usage")
    return lines[-1]


def changed(data, metadata=b"", **header):
    stream = unpack_stream(data)
    stream = replace(stream, header=replace(stream.header, **header), metadata=metadata)
    return pack_stream(stream)


@pytest.fixture(scope="module")
def nrv(tmp_path_factory):
    """4:2:0 of an H.264 source, 10 bit."""
    path = tmp_path_factory.mktemp("nrv") / "a.nrv"
    data = make_nrv(4, *SIZE)
    path.write_bytes(changed(data, b"nvcodec 0 x y h264", chroma=420, bit_depth=10))
    return path


def read(path):
    """Return codec, tag, pixel format and frames as planes."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        frames = [
            [plane.copy() for plane in read_picture(frame, "").planes]
            for frame in container.decode(stream)
        ]
        return context.codec.canonical_name, context.codec_tag, context.pix_fmt, frames


def wanted_planes(nrv, chroma, bit_depth):
    """Return the planes that a lossless output holds."""
    with nvcodec.open(nrv, bit_depth=bit_depth) as video:
        tags = replace(yuv_tags(video.info), siting=0)
        return [rgb_to_yuv(frame, tags, chroma, bit_depth) for frame in video]


def psnr(planes, wanted, bit_depth):
    pairs = zip(planes, wanted, strict=True)
    mse = np.mean([np.square(a[0].astype(float) - b[0]).mean() for a, b in pairs])
    return 10 * np.log10(((1 << bit_depth) - 1) ** 2 / max(mse, 1e-9))


def test_choices_are_those_of_the_writer():
    assert (*TITLES, SOURCE) == options.CODECS


@pytest.mark.parametrize("suffix", [".mkv", ".mp4", ".mov"])
@pytest.mark.parametrize(("encoder", "name"), [("libx264", "h264"), ("libx265", "hevc")])
@pytest.mark.parametrize(
    ("pixel_format", "chroma", "bit_depth"),
    [("yuv420p", 420, 8), ("yuv422p10le", 422, 10), ("yuv444p", 444, 8), ("gray", 400, 8)],
)
def test_lossy_codecs(tmp_path, nrv, suffix, encoder, name, pixel_format, chroma, bit_depth):
    path = tmp_path / f"a{suffix}"
    said = decode(nrv, "-o", path, "-c:v", encoder, "--pix-fmt", pixel_format)
    codec, tag, found, planes = read(path)
    assert codec == name
    # FFmpeg's decoder of H.264 gives gray video neutral chroma.
    assert found == ("yuv420p" if (name, chroma) == ("h264", 400) else pixel_format)
    assert (said["codec"], said["crf"], said["pixel_format"]) == (encoder, 12, pixel_format)
    assert said["loss"] == "visually lossless"
    assert tag == {"h264": "avc1", "hevc": "hvc1"}[name] or suffix == ".mkv"
    assert len(planes) == 4
    assert psnr(planes, wanted_planes(nrv, chroma, bit_depth), bit_depth) > 40


@pytest.mark.parametrize(
    ("pixel_format", "chroma", "bit_depth"),
    [("yuv420p", 420, 8), ("yuv420p10le", 420, 10), ("yuv422p12le", 422, 12),
     ("yuv444p9le", 444, 9), ("yuv444p16le", 444, 16), ("gray", 400, 8), ("gray16le", 400, 16)],
)  # fmt: skip
def test_ffv1_keeps_every_sample(tmp_path, nrv, pixel_format, chroma, bit_depth):
    said = decode(nrv, "-o", tmp_path / "a.mkv", "--codec", "ffv1", "--pix-fmt", pixel_format)
    assert (said["codec"], said["crf"], said["loss"]) == ("ffv1", None, "lossless")
    _, _, found, planes = read(tmp_path / "a.mkv")
    assert found == pixel_format
    for mine, wanted in zip(planes, wanted_planes(nrv, chroma, bit_depth), strict=True):
        for a, b in zip(mine[: 1 if chroma == 400 else 3], wanted, strict=False):
            assert (a == b).all()


@pytest.mark.parametrize(
    ("pixel_format", "bit_depth"),
    [("bgr0", 8), ("gbrp9le", 9), ("gbrp10le", 10), ("gbrp12le", 12), ("gbrp14le", 14),
     ("gbrp16le", 16)],
)  # fmt: skip
def test_rgb_in_ffv1_is_exact(tmp_path, nrv, pixel_format, bit_depth):
    decode(nrv, "-o", tmp_path / "a.mkv", "--pix-fmt", pixel_format)
    _, _, found, planes = read(tmp_path / "a.mkv")
    assert found == pixel_format
    with nvcodec.open(nrv, bit_depth=bit_depth) as video:
        for (green, blue, red), rgb in zip(planes, video, strict=True):
            assert (np.stack([red, green, blue], -1) == rgb).all()


def test_crf_is_used_and_0_is_lossless(tmp_path, nrv):
    sizes = {}
    for crf in ("0", "12", "40.5"):
        path = tmp_path / f"{crf}.mp4"
        said = decode(nrv, "-o", path, "--crf", crf, "--pix-fmt", "yuv420p")
        sizes[crf] = (tmp_path / f"{crf}.mp4").stat().st_size
    assert (said["crf"], said["loss"]) == (40.5, "lossy")
    assert sizes["0"] > sizes["12"] > sizes["40.5"]
    _, _, _, planes = read(tmp_path / "0.mp4")
    for mine, wanted in zip(planes, wanted_planes(nrv, 420, 8), strict=True):
        assert all((a == b).all() for a, b in zip(mine, wanted, strict=True))


def test_defaults_are_said(tmp_path, nrv):
    for name, words in (
        ("a.mkv", "written by   ffv1, lossless, yuv420p10le"),
        ("a.mp4", "written by   libx264, crf 12, visually lossless, yuv420p10le"),
        ("b.mp4", "written by   libx265, crf 30, lossy, yuv420p10le"),
    ):
        more = ("-c:v", "libx265", "--crf", 30) if name == "b.mp4" else ()
        assert words in run("decode", nrv, "-o", tmp_path / name, *more).stderr
    assert "written by" not in run("decode", nrv, "-o", f"{tmp_path}/png/").stderr


@pytest.mark.parametrize(("source", "codec", "wanted"), [
    (9, "ffv1", "yuv420p9le"), (10, "ffv1", "yuv420p10le"), (12, "ffv1", "yuv420p12le"),
    (16, "ffv1", "yuv420p16le"), (9, "libx264", "yuv420p10le"), (12, "libx264", "yuv420p10le"),
    (12, "libx265", "yuv420p12le"), (16, "libx265", "yuv420p12le"), (8, "ffv1", "yuv420p"),
])  # fmt: skip
def test_the_depth_of_an_output_is_that_of_the_source(tmp_path, source, codec, wanted):
    path, output = tmp_path / "a.nrv", tmp_path / "a.mkv"
    path.write_bytes(changed(make_nrv(1, *SIZE), chroma=420, bit_depth=source))
    said = run("decode", path, "-o", output, "-c:v", codec).stderr
    assert read(output)[2] == wanted
    lost = {
        (12, "libx264"): "H.264 is written with 10 bits per sample; the video has 12",
        (16, "libx265"): "H.265 is written with 12 bits per sample; the video has 16",
    }.get((source, codec), "")
    assert lost in said
    assert ("bits per sample" in said) == bool(lost)
    wish = ("--pix-fmt", "yuv420p")
    said = run("decode", path, "-o", output, "-c:v", codec, *wish, "-y").stderr
    assert "bits per sample" not in said
    assert read(output)[2] == "yuv420p"


@pytest.mark.parametrize("bit_depth", [8, 9, 10, 12, 14, 16])
@pytest.mark.parametrize(
    ("chroma", "space"), [(420, "420"), (422, "422"), (444, "444"), (400, "mono")]
)
def test_deep_y4m_keeps_every_sample(tmp_path, bit_depth, chroma, space):
    path = tmp_path / "a.nrv"
    path.write_bytes(changed(make_nrv(2, 33, 27), chroma=chroma, bit_depth=bit_depth))
    decode(path, "-o", tmp_path / "a.y4m")
    header = (tmp_path / "a.y4m").read_bytes().split(b"\n")[0].decode().split(" ")
    deep = ("" if chroma == 400 else "p") + str(bit_depth)
    shallow = "mpeg2" if chroma == 420 else ""
    assert f"C{space}{shallow if bit_depth == 8 else deep}" in header
    wanted = wanted_planes(path, chroma, bit_depth)
    with open_video(tmp_path / "a.y4m") as reader:
        assert (reader.info.bit_depth, reader.info.chroma) == (bit_depth, chroma)
        assert reader.info.color.siting == 0
        for mine, planes in zip(reader.pictures(), wanted, strict=True):
            count = 1 if chroma == 400 else 3
            pairs = zip(mine.planes[:count], planes[:count], strict=True)
            assert all((a == b).all() for a, b in pairs)
    if bit_depth < 14:
        found, planes = read(tmp_path / "a.y4m")[2:]
        assert found == pixel_format(chroma, bit_depth)
        assert (planes[1][0] == wanted[1][0]).all()


def test_codec_of_the_source(tmp_path, nrv):
    said = decode(nrv, "-o", tmp_path / "a.mp4", "-c:v", "source")
    assert (said["codec"], said["pixel_format"]) == ("libx264", "yuv420p10le")
    assert read(tmp_path / "a.mp4")[0] == "h264"
    data = nrv.read_bytes()
    other = tmp_path / "b.nrv"
    for metadata, suffix, words in (
        (b"", ".mkv", "the codec of the source is not known to this file; -c:v source writes h264"),
        (
            b"nvcodec 0 x y prores",
            ".mkv",
            "the codec of the source is prores; -c:v source writes h264",
        ),
        (
            b"nvcodec 0 x y ffv1",
            ".mp4",
            "codec of a .mp4 file is ffv1, allowed are libx264, libx265",
        ),
    ):
        other.write_bytes(changed(data, metadata))
        output = tmp_path / f"b{suffix}"
        assert words in fail(other, "-o", output, "-c:v", "source")
        assert not output.exists()


def test_encode_remembers_the_codec_of_the_source(tmp_path):
    source = make_movie(tmp_path / "a.mkv", n_frames=2)
    small = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=8.0), passes=1)
    data, _ = nvcodec.encode(source, None, small)
    assert nvcodec.open(data).info.codec == "h264"
    data, _ = nvcodec.encode(source, None, small, metadata=False)
    assert nvcodec.open(data).info.codec == ""


@pytest.mark.parametrize(("name", "args", "words"), [
    ("a.mp4", ("-c:v", "ffv1"), "allowed are libx264, libx265"),
    ("a.webm", ("-c:v", "libx264"), "codec of a .webm file is libx264, allowed are libvpx-vp9"),
    ("a.mkv", ("--crf", 10), "FFV1 is lossless; take libx264 or libx265"),
    ("a.mp4", ("--crf", 52), "crf is 52, allowed with libx264 are 0 to 51"),
    ("a.mp4", ("--crf", -1), "crf is -1, allowed are 0 to 51"),
    ("a.mp4", ("--crf", "nan"), "crf is nan, allowed"),
    ("a.webm", ("--crf", 1.5), "whole numbers"),
    ("a.mp4", ("--pix-fmt", "yuv420p12le"), "pixel format of libx264 is yuv420p12le, allowed are"),
    ("a.mkv", ("--pix-fmt", "nonsense"), "pixel format of ffv1 is nonsense, allowed are bgr0"),
    ("a.y4m", ("-c:v", "ffv1"), "Y4M has no choice of codec"),
    ("a.y4m", ("--pix-fmt", "rgb24"), "pixel format of Y4M is rgb24, allowed are yuv420p"),
    ("%d.png", ("--crf", 10), "PNG files has no choice of crf"),
    ("%d.npy", ("--pix-fmt", "yuv420p"), "pixel format of NumPy files is yuv420p, allowed are"),
    ("a.png", (), "has suffix .png; allowed are .mp4"),
    ("a.mp4", ("--frames-list", "0,4"), "frame 4 was asked for, but the file has 4 frames"),
    ("a.mp4", ("--frames-list", "1,-1"), "not a list of frames"),
    ("a.mp4", ("--frames-list", ""), "not a list of frames"),
    ("a.mp4", ("--time", 9), "time is 9 s, but frames are shown from 0 s to before 0.166833 s"),
    ("a.mp4", ("--time", "-0.5"), "time is -0.5 s"),
    ("a.mp4", ("--time", "1:75"), "'1:75' is not a time such as"),
    ("a.mp4", ("--time", 0, "--start", 1), "exclude each other"),
    ("a.mp4", ("--frames-list", 0, "--time", 0), "exclude each other"),
    ("a.mp4", ("--frames-list", 0, "--evenly", 2), "exclude each other"),
    ("a.mp4", ("--evenly", 5), "5 frames were asked for, allowed are 1 to 4"),
])  # fmt: skip
def test_mistakes(tmp_path, nrv, name, args, words):
    assert words in fail(nrv, "-o", tmp_path / name, *args)
    assert list(tmp_path.iterdir()) == []


def test_odd_sizes_and_pixel_formats(tmp_path):
    path = tmp_path / "odd.nrv"
    path.write_bytes(changed(make_nrv(2, 33, 27), chroma=420))
    assert decode(path, "-o", tmp_path / "a.mp4")["pixel_format"] == "yuv444p"
    words = fail(path, "-o", tmp_path / "b.mp4", "-c:v", "libx265")
    assert "libx265 needs sides of at least 64, the video has 33x27" in words
    words = fail(path, "-o", tmp_path / "b.mp4", "--pix-fmt", "yuv420p")
    assert "libx264 writes yuv420p only with even sides, the video has 33x27" in words
    assert decode(path, "-o", tmp_path / "c.mkv")["pixel_format"] == "yuv420p"


@pytest.mark.parametrize("suffix", [".png", ".npy"])
@pytest.mark.parametrize(("pixel_format", "bit_depth"), [(None, 16), ("rgb24", 8), ("rgb48be", 16)])
def test_pictures(tmp_path, nrv, suffix, pixel_format, bit_depth):
    more = () if pixel_format is None else ("--pix-fmt", pixel_format)
    decode(nrv, "-o", f"{tmp_path}/p/%02d{suffix}", "--frames-list", "3,1,1", *more)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == [
        f"0{i}{suffix}" for i in (1, 2, 3)
    ]
    with nvcodec.open(nrv, bit_depth=bit_depth) as video:
        for i, number in enumerate((3, 1, 1), 1):
            found = picture(tmp_path / "p" / f"0{i}{suffix}")
            assert found.dtype == f"u{bit_depth // 8}"
            assert (found == video[number]).all()


def picture(path):
    if path.suffix == ".npy":
        return np.load(path)
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    green, blue, red = read_picture(frame, "png").planes
    return np.stack([red, green, blue], -1)


def test_a_moment_in_a_picture(tmp_path, nrv):
    for name in ("a.png", "a.npy"):
        said = decode(nrv, "-o", tmp_path / name, "--time", "00:00:00.09")
        assert (said["start"], said["frames"]) == (2, 1)
        with nvcodec.open(nrv, bit_depth=16) as video:
            assert (picture(tmp_path / name) == video[2]).all()
        assert "use -y to overwrite" in fail(nrv, "-o", tmp_path / name, "--time", "0")
        decode(nrv, "-o", tmp_path / name, "--time", "0", "-y")


@pytest.mark.parametrize(
    ("args", "numbers"), [(("--frames-list", "2,0,3"), (2, 0, 3)), (("--evenly", 3), (0, 1, 2))]
)
def test_single_frames_follow_each_other(tmp_path, nrv, args, numbers):
    decode(nrv, "-o", tmp_path / "a.mkv", *args, "--pix-fmt", "bgr0")
    with av.open(str(tmp_path / "a.mkv")) as container:
        frames = list(container.decode(video=0))
    assert [frame.pts for frame in frames] == [0, 42, 83]
    with nvcodec.open(nrv) as video:
        for frame, number in zip(frames, numbers, strict=True):
            assert (frame.to_ndarray(format="rgb24") == video[number]).all()


def test_sound_is_left_out_of_single_frames(tmp_path):
    source = make_movie(tmp_path / "a.mp4", n_frames=3, audio=[{"codec": "aac", "seconds": 0.3}])
    small = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=8.0), passes=1)
    nvcodec.encode(source, tmp_path / "a.nrv", small)
    args = ("decode", tmp_path / "a.nrv", "--frames-list", "2,1")
    assert "sound and subtitles are left out" in run(*args, "-o", tmp_path / "b.mkv").stderr
    assert "left out" not in run(*args, "-o", tmp_path / "c.mkv", "--audio", "none").stderr
    with av.open(str(tmp_path / "b.mkv")) as container:
        assert [stream.type for stream in container.streams] == ["video"]


@pytest.mark.parametrize(("text", "seconds"), [
    ("2.5", "2.5"), ("90", "90"), (".5", "0.5"), ("-1", "-1"), ("01:02.25", "62.25"),
    ("00:00:02.5", "2.5"), ("10:00:00", "36000"),
])  # fmt: skip
def test_moments_are_parsed(text, seconds):
    assert str(float(values.moment(None, None, text))) == str(float(seconds))
