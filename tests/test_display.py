"""Rotation, pixel aspect and field order are kept, not applied, and said where they cannot be."""

import struct
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
from media_factory import make_movie

import nvcodec
from nvcodec.bitstream.container import Chunk
from nvcodec.bitstream.extras import pack_display, unpack_display
from nvcodec.bitstream.header import unpack_stream
from nvcodec.codec.inspect import describe_file
from nvcodec.errors import CorruptError
from nvcodec.media import BOTTOM_FIRST, PLAIN, PROGRESSIVE, TOP_FIRST, Display
from nvcodec.video.matroska import RESERVE, display_size, extend_video
from nvcodec.video.reader import open_video
from nvcodec.video.writer import open_writer

TURN = Display(a=0, b=-65536, c=65536, d=0)
MIRROR = Display(a=-65536)
FILES = [".mp4", ".mov", ".mkv", ".webm"]


def read(path):
    with open_video(path) as reader:
        frames = list(reader)
        reader.resolve_timing()
        return frames, reader.info, reader.warnings


def write(path, frames, info):
    with open_writer(path, info) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.warnings


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return read(make_movie(tmp_path_factory.mktemp("plain") / "a.mkv", n_frames=3))


def written(plain, path, display):
    """Return the warnings of a write and what is read back."""
    frames, info, _ = plain
    warnings = write(path, frames, replace(info, display=display))
    _, back, lost = read(path)
    assert not lost
    return warnings, back.display


def test_everything_survives_the_codec(tmp_path):
    def prepare(stream):
        stream.set_display_rotation(90)
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        stream.codec_context.field_order = 3

    path = make_movie(
        tmp_path / "a.mp4", n_frames=3, prepare=prepare,
        options={"x264-params": "fake-interlaced=1:bff=1"},
    )  # fmt: skip
    _, info, warnings = read(path)
    assert not warnings
    wanted = replace(TURN, sar_num=4, sar_den=3, field_order=BOTTOM_FIRST)
    assert info.display == wanted
    assert info.display.rotation == 90
    options = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=4.0), passes=1)
    data, _ = nvcodec.encode(path, tmp_path / "a.nrv", options)
    assert unpack_stream(data).display == wanted
    shown = describe_file(tmp_path / "a.nrv")["display"]
    assert shown["pixel_aspect"] == [4, 3]
    assert (shown["rotation"], shown["fields"]) == (90, "bottom first")
    with nvcodec.open(data) as video:
        frames = list(video)
        for suffix in (".mp4", ".mov", ".mkv"):
            assert not write(tmp_path / f"b{suffix}", frames, video.info)
            assert read(tmp_path / f"b{suffix}")[1].display == wanted


@pytest.mark.parametrize("suffix", FILES)
@pytest.mark.parametrize("turned", [TURN, MIRROR, Display(a=0, b=65536, c=-65536, d=0)])
def test_rotation(plain, tmp_path, suffix, turned):
    assert written(plain, tmp_path / f"b{suffix}", turned) == ([], turned)


def test_translation_is_said_where_it_is_lost(plain, tmp_path):
    moved = replace(TURN, x=48 << 16)
    assert written(plain, tmp_path / "b.mp4", moved) == ([], moved)
    warnings, back = written(plain, tmp_path / "b.mkv", moved)
    assert warnings == ["matroska turns the picture, but does not move it"]
    assert back == TURN


@pytest.mark.parametrize("suffix", [*FILES, ".y4m"])
@pytest.mark.parametrize("aspect", [(4, 3), (8, 9), (12, 11), (32, 27)])
def test_pixel_aspect(plain, tmp_path, suffix, aspect):
    display = Display(sar_num=aspect[0], sar_den=aspect[1])
    assert written(plain, tmp_path / f"b{suffix}", display) == ([], display)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".y4m"])
@pytest.mark.parametrize("order", [TOP_FIRST, BOTTOM_FIRST])
def test_field_order(plain, tmp_path, suffix, order):
    display = Display(field_order=order)
    assert written(plain, tmp_path / f"b{suffix}", display) == ([], display)


def test_field_order_that_cannot_be_said(plain, tmp_path):
    display = Display(field_order=TOP_FIRST)
    warnings, back = written(plain, tmp_path / "b.webm", display)
    assert "webm cannot say that the video is interlaced" in warnings[0]
    assert back.field_order == PROGRESSIVE
    frames = [frame[:30] for frame in plain[0]]
    info = replace(plain[1], height=30, display=display)
    (warning,) = write(tmp_path / "b.mp4", frames, info)
    assert "a video of 30 rows is interlaced" in warning


@pytest.mark.parametrize("target", ["b.y4m", "png/"])
def test_rotation_that_cannot_be_said(plain, tmp_path, target):
    frames, info, _ = plain
    (warning,) = write(f"{tmp_path}/{target}", frames, replace(info, display=TURN))
    assert "to be turned by 90 degrees; it is not turned" in warning


def test_png_loses_the_aspect(plain, tmp_path):
    frames, info, _ = plain
    display = Display(sar_num=4, sar_den=3)
    (warning,) = write(f"{tmp_path}/png/", frames, replace(info, display=display))
    assert "without the pixel aspect 4/3" in warning


def test_a_patched_file_is_whole(plain, tmp_path):
    path = tmp_path / "b.mkv"
    written(plain, path, Display(sar_num=4, sar_den=3))
    assert RESERVE.encode() not in path.read_bytes()
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert "title" not in stream.metadata
        container.seek(200, stream=stream, backward=True)
        frames = [f.to_ndarray() for f in container.decode(stream)]
    write(tmp_path / "c.mkv", plain[0], plain[1])
    with av.open(str(tmp_path / "c.mkv")) as container:
        whole = [f.to_ndarray() for f in container.decode(video=0)]
    assert all(np.array_equal(a, b) for a, b in zip(frames, whole[-len(frames) :], strict=True))


def test_patching_needs_room(plain, tmp_path):
    write(tmp_path / "c.mkv", plain[0], plain[1])
    before = (tmp_path / "c.mkv").read_bytes()
    with pytest.raises(ValueError, match="bytes of room"):
        extend_video(tmp_path / "c.mkv", display_size(32, 32, Fraction(4, 3)))
    assert (tmp_path / "c.mkv").read_bytes() == before


@pytest.mark.parametrize("field", ["A0:0", "A4", "A4:x", "A5000000000:1", "A-1:1"])
def test_senseless_aspects_of_y4m_mean_square(tmp_path, field):
    path = tmp_path / "x.y4m"
    path.write_bytes(f"YUV4MPEG2 W2 H2 F25:1 {field} Cmono\nFRAME\n".encode() + b"abcd")
    assert read(path)[1].display == PLAIN


def test_display_chunk():
    display = replace(TURN, sar_num=12, sar_den=11, x=-5, field_order=2)
    packed = pack_display(display)
    chunk = Chunk(packed[4:8].decode(), packed[8:-4], 0)
    assert unpack_display(chunk) == display
    with pytest.raises(CorruptError, match="1 bytes too many"):
        unpack_display(replace(chunk, payload=chunk.payload + b"x"))
    bad = chunk.payload[:4] + struct.pack("<I", 0) + chunk.payload[8:]
    with pytest.raises(CorruptError, match=r"Display\.sar_den is 0"):
        unpack_display(replace(chunk, payload=bad))
