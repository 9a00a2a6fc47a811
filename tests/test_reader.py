import io
import itertools
import subprocess
import sys
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import RATE, make_audio, make_video, moving_frames
from media_factory import make_movie

from nvcodec.errors import InputError, UsageError
from nvcodec.media import PLAIN
from nvcodec.video.color import chroma_shape, yuv_to_rgb
from nvcodec.video.frames import resolve_tags
from nvcodec.video.planes import read_picture, to_rgb
from nvcodec.video.reader import open_video
from nvcodec.video.y4m import Y4mSource


def read_all(source, **wanted):
    with open_video(source, **wanted) as reader:
        return list(reader), reader.info, reader.warnings


def write_y4m(path: Path, header: str, frames: list[bytes]) -> Path:
    body = b"".join(b"FRAME\n" + frame for frame in frames)
    path.write_bytes(f"YUV4MPEG2 {header}\n".encode() + body)
    return path


def fill(frame: av.VideoFrame, planes: list[bytes]) -> None:
    """Set the planes of a frame from rows without padding."""
    for plane, data in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
        source = np.frombuffer(data, np.uint8).reshape(rows.shape[0], -1)
        rows[:, : source.shape[1]] = source


def raw_video(path: Path, pixel_format: str, width: int, height: int, planes: list[bytes]) -> Path:
    """One uncompressed frame; `planes` are rows without padding."""
    frame = av.VideoFrame(width, height, pixel_format)
    fill(frame, planes)
    frame.pts = 0
    with av.open(str(path), "w") as container:
        stream = container.add_stream("rawvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def test_info_is_there_before_the_first_frame(small_mp4):
    with open_video(small_mp4) as reader:
        info = reader.info
        assert (info.width, info.height) == (64, 48)
        assert info.frame_rate == RATE
        assert (info.codec, info.chroma, info.bit_depth) == ("h264", 420, 8)
        assert info.n_bytes == small_mp4.stat().st_size
        assert info.color == resolve_tags(height=48, chroma=420)
        assert info.display == PLAIN


def test_frames_are_contiguous_rgb_in_order(small_mp4):
    frames, _, warnings = read_all(small_mp4)
    assert len(frames) == 12
    assert warnings == []
    for frame, wanted in zip(frames, moving_frames(), strict=True):
        assert frame.shape == (48, 64, 3)
        assert frame.dtype == np.uint8
        assert frame.flags.c_contiguous
        assert np.abs(frame.astype(int) - wanted).mean() < 6


def test_lossless_rgb_is_exact(small_mkv):
    frames, info, _ = read_all(small_mkv)
    assert (info.chroma, info.color.matrix, info.color.full_range) == (0, 0, True)
    assert all((a == b).all() for a, b in zip(frames, moving_frames(), strict=True))


@pytest.mark.parametrize(("start", "count"), [(0, 1), (0, 12), (5, 3), (11, 1), (7, None)])
def test_start_and_count_select_frames(small_mkv, start, count):
    frames, _, warnings = read_all(small_mkv, start=start, count=count)
    wanted = moving_frames()[start:][:count]
    assert len(frames) == len(wanted)
    assert all((a == b).all() for a, b in zip(frames, wanted, strict=True))
    assert warnings == []


def test_count_beyond_the_end_is_a_warning(small_mkv):
    frames, _, warnings = read_all(small_mkv, start=10, count=5)
    assert len(frames) == 2
    assert warnings == ["5 frames were asked for, but only 2 are there"]


def test_a_reader_is_read_once(small_mkv):
    with open_video(small_mkv) as reader:
        assert len(list(itertools.islice(reader, 5))) == 5
        assert len(list(reader)) == 7
        assert list(reader) == []


@pytest.mark.parametrize(("start", "count"), [(-1, None), (0, 0), (0, -3)])
def test_wrong_ranges_are_usage_errors(small_mkv, start, count):
    with pytest.raises(UsageError, match="allowed are"):
        open_video(small_mkv, start=start, count=count)


@pytest.mark.parametrize("start", [12, 500])
def test_start_beyond_the_end(small_mkv, start):
    with pytest.raises(InputError, match=f"start is {start}, but the video has 12 frames"):
        open_video(small_mkv, start=start)


def test_tags_are_read(tagged_mp4):
    _, info, _ = read_all(tagged_mp4)
    color = info.color
    assert (color.matrix, color.primaries, color.transfer) == (1, 1, 1)
    assert color.specified
    assert not color.full_range


def test_jpeg_is_full_range_and_centered(tmp_path):
    path = make_video(
        tmp_path / "x.avi", codec="mjpeg", pixel_format="yuvj420p", frames=moving_frames(2)
    )
    _, info, _ = read_all(path)
    assert info.color.full_range
    assert info.color.siting == 1


@pytest.mark.parametrize(
    ("pixel_format", "bits"),
    [("yuv420p10le", 10), ("yuv422p12le", 12), ("yuv444p10le", 10), ("gray10le", 10),
     ("gbrp10le", 10), ("gbrp14le", 14), ("yuv420p16le", 16)],
)  # fmt: skip
def test_depth_is_kept(tmp_path, pixel_format, bits):
    path = make_video(
        tmp_path / "x.mkv", codec="ffv1", pixel_format=pixel_format, frames=moving_frames(2)
    )
    frames, info, warnings = read_all(path)
    assert (info.bit_depth, frames[0].dtype, warnings) == (bits, np.uint16, [])
    truth = moving_frames(1)[0]
    if pixel_format == "gray10le":
        truth = (truth @ [0.299, 0.587, 0.114])[..., None]
    assert np.abs(frames[0] / (2**bits - 1) - truth / 255.0).mean() < 4 / 255
    # Averaged chroma makes colours between those of 8 bits; wider RGB alone does not.
    if "gbrp" not in pixel_format:
        assert (np.unique(frames[0]) % (1 << (bits - 8)) > 0).any()


W, H = 17, 5
RNG = np.random.default_rng(3)
Y8, U8, V8 = (
    RNG.integers(0, 256, shape, dtype=np.uint8)
    for shape in ((H, W), *[chroma_shape(H, W, 420)] * 2)
)
Y10, U10, V10 = (p.astype("<u2") * 4 + 1 for p in (Y8, U8, V8))
RGB8 = RNG.integers(0, 256, (H, W, 3), dtype=np.uint8)
A8 = np.full((H, W, 1), 99, np.uint8)
PAIRS = np.stack([U8, V8], axis=-1)
RGB16 = RGB8.astype(np.uint16) * 257
YUV_FORMATS = {
    "yuv420p": (8, [Y8, U8, V8]),
    "yuvj420p": (8, [Y8, U8, V8]),
    "yuva420p": (8, [Y8, U8, V8, A8]),
    "nv12": (8, [Y8, PAIRS]),
    "nv21": (8, [Y8, PAIRS[..., ::-1]]),
    "yuv420p10le": (10, [Y10, U10, V10]),
    "yuv420p10be": (10, [p.astype(">u2") for p in (Y10, U10, V10)]),
}
RGB_FORMATS = {
    "rgb24": [RGB8],
    "bgr24": [RGB8[..., ::-1]],
    "rgba": [np.concatenate([RGB8, A8], axis=-1)],
    "abgr": [np.concatenate([A8, RGB8[..., ::-1]], axis=-1)],
    "0rgb": [np.concatenate([A8, RGB8], axis=-1)],
    "bgr0": [np.concatenate([RGB8[..., ::-1], A8], axis=-1)],
    "gbrp": [RGB8[..., 1], RGB8[..., 2], RGB8[..., 0]],
    "rgb48le": [RGB16.astype("<u2")],
    "rgb48be": [RGB16.astype(">u2")],
    "gbrp16le": [RGB16[..., c].astype("<u2") for c in (1, 2, 0)],
}
GRAY_FORMATS = {
    "gray": (8, [Y8]),
    "gray10le": (10, [Y10]),
    "ya8": (8, [np.stack([Y8, A8[..., 0]], axis=-1)]),
}


@pytest.mark.parametrize("name", YUV_FORMATS)
def test_420_layouts_agree_with_their_planes(tmp_path, name):
    bits, planes = YUV_FORMATS[name]
    path = raw_video(tmp_path / "x.nut", name, W, H, [p.tobytes() for p in planes])
    frames, info, _ = read_all(path)
    assert (info.chroma, info.bit_depth, info.width, info.height) == (420, bits, W, H)
    source = (Y8, U8, V8) if bits == 8 else (Y10, U10, V10)
    assert (frames[0] == yuv_to_rgb(*source, info.color, bits)).all()


def test_p010_agrees_with_its_planes():
    frame = av.VideoFrame(W, H, "p010le")
    fill(frame, [(Y10 << 6).tobytes(), (np.stack([U10, V10], axis=-1) << 6).tobytes()])
    picture = read_picture(frame, "hevc")
    assert (picture.chroma, picture.bit_depth) == (420, 10)
    for ours, wanted in zip(picture.planes, (Y10, U10, V10), strict=True):
        assert (ours == wanted).all()


@pytest.mark.parametrize(
    ("name", "lowest"), [("x2rgb10le", (20, 10, 0)), ("x2bgr10le", (0, 10, 20))]
)
def test_words_of_three_samples_are_exact(name, lowest):
    rgb = RNG.integers(0, 1024, (H, W, 3)).astype(np.uint32)
    frame = av.VideoFrame(W, H, name)
    fill(frame, [sum(rgb[..., c] << lowest[c] for c in range(3)).astype("<u4").tobytes()])
    picture = read_picture(frame, "")
    assert (picture.chroma, picture.bit_depth) == (0, 10)
    assert (to_rgb(picture) == rgb).all()


@pytest.mark.parametrize("bits", [10, 12])
def test_packed_deep_422_agrees_with_its_planes(bits):
    width = 16
    y, u, v = (RNG.integers(0, 1 << bits, (H, w)).astype(np.uint16) for w in (width, 8, 8))
    row = np.empty((H, 2 * width), "<u2")
    row[:, 0::2], row[:, 1::4], row[:, 3::4] = y, u, v
    frame = av.VideoFrame(width, H, f"y2{bits}le")
    fill(frame, [(row << (16 - bits)).tobytes()])
    picture = read_picture(frame, "")
    assert (picture.chroma, picture.bit_depth) == (422, bits)
    assert all((a == b).all() for a, b in zip(picture.planes, (y, u, v), strict=True))


def test_unknown_deep_rgb_is_refused():
    with pytest.raises(InputError, match="gbrpf32le is not supported"):
        read_picture(av.VideoFrame(16, 4, "gbrpf32le"), "")


def test_palettes_and_single_bits_are_expanded_exactly():
    frame = av.VideoFrame(16, H, "pal8")
    palette = RNG.integers(0, 256, (256, 4), dtype=np.uint8)
    palette[:, 3] = 255  # stored as B, G, R, A
    codes = RNG.integers(0, 256, (H, 16), dtype=np.uint8)
    rows = np.frombuffer(memoryview(frame.planes[0]), np.uint8).reshape(H, -1)
    rows[:, :16] = codes
    np.frombuffer(memoryview(frame.planes[1]), np.uint8)[:] = palette.ravel()
    assert (to_rgb(read_picture(frame, "png")) == palette[codes][..., 2::-1]).all()
    bits = av.VideoFrame(16, H, "monob")
    fill(bits, [bytes([0b10100000, 1]) * H])
    rgb = to_rgb(read_picture(bits, "png"))
    assert (rgb[:, :, 0] == [255, 0, 255, *[0] * 12, 255]).all()


@pytest.mark.parametrize(("name", "order"), [("yuyv422", "yuyv"), ("uyvy422", "uyvy")])
def test_packed_422_agrees_with_its_planes(tmp_path, name, order):
    width = 16
    y, u, v = (RNG.integers(0, 256, (H, w), dtype=np.uint8) for w in (width, 8, 8))
    row = np.empty((H, 2 * width), np.uint8)
    row[:, order.index("y") :: 2] = y
    row[:, order.index("u") :: 4] = u
    row[:, order.index("v") :: 4] = v
    frames, info, _ = read_all(raw_video(tmp_path / "x.nut", name, width, H, [row.tobytes()]))
    assert info.chroma == 422
    assert (frames[0] == yuv_to_rgb(y, u, v, info.color, 8, 422)).all()


@pytest.mark.parametrize("name", RGB_FORMATS)
def test_rgb_layouts_are_exact(tmp_path, name):
    planes = [p.tobytes() for p in RGB_FORMATS[name]]
    frames, info, _ = read_all(raw_video(tmp_path / "x.nut", name, W, H, planes))
    assert info.chroma == 0
    assert (frames[0] == (RGB8 if info.bit_depth == 8 else RGB16)).all()


@pytest.mark.parametrize("name", GRAY_FORMATS)
def test_gray_layouts_agree_with_their_plane(tmp_path, name):
    bits, planes = GRAY_FORMATS[name]
    path = raw_video(tmp_path / "x.nut", name, W, H, [p.tobytes() for p in planes])
    frames, info, warnings = read_all(path)
    y = Y8 if bits == 8 else Y10
    assert info.chroma == 400
    assert (frames[0] == yuv_to_rgb(y, y, y, info.color, bits, 400)).all()
    assert ("alpha dropped" in warnings) == (name == "ya8")


@pytest.mark.parametrize("name", ["gray", "gray10le", "gray12le", "gray16le", "ya8"])
def test_untagged_gray_is_what_ffmpeg_takes_it_for(name):
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(2, 0)
    frame = av.VideoFrame.from_ndarray(ramp, "gray").reformat(format=name)
    assert frame.color_range == 0
    picture = read_picture(frame, "ffv1")
    theirs = frame.reformat(format="rgb24").to_ndarray()
    assert picture.tags.full_range
    for gray in (theirs, to_rgb(picture, 8)):
        assert np.abs(gray[..., 0].astype(int) - ramp).max() <= 1


def test_gray_that_says_its_range_is_believed():
    frame = av.VideoFrame.from_ndarray(np.full((2, 2), 235, np.uint8), "gray")
    for tag, white in ((1, 255), (2, 235)):
        frame.color_range = tag
        assert (to_rgb(read_picture(frame, "ffv1")) == white).all()


def test_untagged_mono_of_y4m_has_the_full_range(tmp_path):
    path = write_y4m(tmp_path / "x.y4m", "W4 H2 F25:1 Cmono", [bytes(range(0, 256, 32))])
    frames, info, _ = read_all(path)
    assert info.color.full_range
    assert frames[0][..., 1].ravel().tolist() == list(range(0, 256, 32))


def test_unsupported_pixel_format_is_named(tmp_path):
    data = bytes(16 * 4), bytes(4 * 4), bytes(4 * 4)
    path = raw_video(tmp_path / "x.nut", "yuv411p", 16, 4, list(data))
    with pytest.raises(InputError, match="yuv411p is not supported"):
        open_video(path)


def test_alpha_is_dropped_and_said(tmp_path):
    path = make_video(tmp_path / "x.mov", codec="png", pixel_format="rgba", frames=moving_frames(1))
    frames, _, warnings = read_all(path)
    assert warnings == ["alpha dropped"]
    assert (frames[0] == moving_frames(1)[0]).all()


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(60), Fraction(25, 2)])
def test_constant_rates_are_exact_and_not_called_varying(tmp_path, suffix, rate):
    path = make_video(tmp_path / f"x{suffix}", frames=moving_frames(9), rate=rate)
    _, info, warnings = read_all(path)
    assert info.frame_rate == rate
    assert warnings == []


def test_rotation_is_kept_and_not_applied(tmp_path):
    path = tmp_path / "x.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.set_display_rotation(90)
        for i, rgb in enumerate(moving_frames(2)):
            frame = av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format="yuv420p")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    frames, info, warnings = read_all(path)
    assert info.display.rotation == 90
    assert frames[0].shape == (48, 64, 3)
    assert warnings == []


@pytest.mark.parametrize("share", [0.6, 0.9, 1.0])
@pytest.mark.parametrize(("codec", "suffix"), [("ffv1", ".mkv"), ("libvpx-vp9", ".webm")])
@pytest.mark.parametrize("audio", [[], [{"codec": "libopus", "seconds": 1.2}]])
def test_truncated_matroska_gives_a_warning(tmp_path, codec, suffix, share, audio):
    whole = make_movie(
        tmp_path / f"whole{suffix}", n_frames=12, video=codec, size=(64, 48), audio=audio
    )
    path = tmp_path / f"cut{suffix}"
    path.write_bytes(whole.read_bytes()[: int(whole.stat().st_size * share)])
    frames, _, warnings = read_all(path)
    if share == 1:
        assert (len(frames), warnings) == (12, [])
        return
    assert 1 <= len(frames) < 12
    (warning,) = warnings
    assert warning.startswith(f"the file ends early: {len(frames)} frames decoded, ")


@pytest.mark.parametrize("share", [0.8, 0.9, 0.97])
def test_truncated_mp4_gives_a_warning(tmp_path, small_mp4, share):
    data = small_mp4.read_bytes()
    path = tmp_path / "cut.mp4"
    path.write_bytes(data[: int(len(data) * share)])
    frames, _, warnings = read_all(path)
    assert 1 <= len(frames) < 12
    assert warnings == [f"the file ends early: {len(frames)} frames decoded, 12 announced"]


@pytest.mark.parametrize("n_bytes", [0, 1, 100, 700])
def test_mp4_cut_before_its_first_frame(tmp_path, small_mp4, n_bytes):
    path = tmp_path / "cut.mp4"
    path.write_bytes(small_mp4.read_bytes()[:n_bytes])
    with pytest.raises(InputError, match=r"cut\.mp4"):
        open_video(path)


def test_loss_in_the_middle_is_corrupt(tmp_path):
    path = make_video(tmp_path / "x.mov", codec="png", pixel_format="rgb24")
    data = bytearray(path.read_bytes())
    starts = [i for i in range(len(data)) if data[i : i + 4] == b"\x89PNG"]
    data[starts[5] : starts[5] + 4] = b"oops"
    path.write_bytes(data)
    with pytest.raises(InputError, match="corrupt after frame 4"):
        read_all(path)


def test_garbage_inside_never_hangs_or_escapes_as_another_error(tmp_path, small_mp4):
    good = small_mp4.read_bytes()
    for seed in range(25):
        generator = np.random.default_rng(seed)
        data = np.frombuffer(good, np.uint8).copy()
        data[generator.integers(0, len(data), 30)] = generator.integers(0, 256, 30)
        path = tmp_path / f"{seed}.mp4"
        path.write_bytes(data.tobytes())
        with suppress(InputError):
            read_all(path)


def test_damage_in_the_middle_is_never_silent(tmp_path, small_mp4):
    data = bytearray(small_mp4.read_bytes())
    middle = data.index(b"mdat") + (len(data) - data.index(b"mdat")) // 3
    data[middle : middle + 200] = bytes(b ^ 0x5A for b in data[middle : middle + 200])
    path = tmp_path / "bad.mp4"
    path.write_bytes(data)
    try:
        _, _, warnings = read_all(path)
    except InputError:
        return
    assert any("damaged" in text for text in warnings)


def test_text_is_not_a_video(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("hello world\n" * 100)
    with pytest.raises(InputError, match="not a video"):
        open_video(path)


def test_noise_is_not_a_video(tmp_path):
    path = tmp_path / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    with pytest.raises(InputError, match=r"noise\.mp4"):
        open_video(path)


def test_audio_only(tmp_path):
    path = make_audio(tmp_path / "x.wav")
    with pytest.raises(InputError, match="no video stream"):
        open_video(path)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        open_video(tmp_path / "nothing.mp4")


def test_playlist_cannot_open_other_files(tmp_path, small_mp4):
    path = tmp_path / "list.m3u8"
    path.write_text(f"#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:9/{small_mp4.name}\n#EXT-X-ENDLIST\n")
    with pytest.raises(InputError):
        open_video(path)


def test_name_with_a_colon_and_a_percent_sign(tmp_path, small_mkv):
    path = tmp_path / "a:b 50%d.mkv"
    path.write_bytes(small_mkv.read_bytes())
    assert len(read_all(path)[0]) == 12


def test_size_change_is_refused(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    for name, width in (("1", 8), ("2", 8), ("3", 10)):
        make_video(folder / f"{name}.png", codec="png", pixel_format="rgb24",
                   frames=moving_frames(1, width, 6))  # fmt: skip
    with pytest.raises(InputError, match="from 8 x 6 to 10 x 6 at frame 2"):
        read_all(folder)


def save_png(path: Path, rgb: np.ndarray) -> None:
    make_video(path, codec="png", pixel_format="rgb24", frames=[rgb])


def test_png_folder_and_pattern_are_in_natural_order(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    wanted = moving_frames(12, 9, 7)
    for i, rgb in enumerate(wanted):
        save_png(folder / f"f{i + 1}.png", rgb)
    (folder / "readme.txt").write_text("no frame")
    for source in (folder, str(folder) + "/", folder / "f%d.png"):
        frames, info, warnings = read_all(source)
        assert all((a == b).all() for a, b in zip(frames, wanted, strict=True))
        assert (info.codec, info.n_bytes, info.frame_rate) == ("png", None, 25)
        assert warnings == []
    assert len(read_all(folder, start=3, count=4)[0]) == 4


def test_gray_png_is_full_range(tmp_path):
    gray = np.repeat(np.arange(64, dtype=np.uint8).reshape(8, 8, 1) * 4, 3, axis=2)
    make_video(tmp_path / "g.png", codec="png", pixel_format="gray", frames=[gray])
    frames, info, _ = read_all(tmp_path)
    assert info.chroma == 400
    assert np.abs(frames[0].astype(int) - gray).max() <= 1


def test_folders_without_pictures(tmp_path):
    with pytest.raises(InputError, match="no PNG files"):
        open_video(tmp_path)
    with pytest.raises(InputError, match="no file matches"):
        open_video(tmp_path / "%06d.png")
    (tmp_path / "1.png").write_bytes(b"not a picture")
    with pytest.raises(InputError, match=r"1\.png is not a valid PNG file"):
        open_video(tmp_path)


def test_y4m_header_fields(tmp_path):
    size = 4 * 4 + 2 * 2 * 2
    for space, siting in (("420mpeg2", 0), ("420jpeg", 1), ("420paldv", 2)):
        header = f"W4 H4 F30000:1001 Ip A1:1 C{space} XYSCSS=X XCOLORRANGE=FULL"
        path = write_y4m(tmp_path / "x.y4m", header, [bytes(size)] * 2)
        frames, info, warnings = read_all(path)
        assert len(frames) == 2
        assert (info.color.siting, info.color.full_range) == (siting, True)
        assert info.frame_rate == Fraction(30000, 1001)
        assert warnings == []


def test_y4m_ten_bits_and_mono(tmp_path):
    y = np.arange(64, 64 + 15, dtype="<u2").reshape(3, 5)
    path = write_y4m(tmp_path / "x.y4m", "W5 H3 F25:1 Cmono10", [y.tobytes()])
    frames, info, _ = read_all(path)
    assert (info.chroma, info.bit_depth) == (400, 10)
    assert (frames[0] == yuv_to_rgb(y, y, y, info.color, 10, 400)).all()


def test_y4m_agrees_with_ffmpeg(tmp_path):
    path = make_video(tmp_path / "x.y4m", codec="wrapped_avframe", frames=moving_frames(3, 17, 9))
    frames, info, _ = read_all(path)
    with av.open(str(path)) as container:
        for ours, theirs in zip(frames, container.decode(video=0), strict=True):
            stacked = [np.frombuffer(memoryview(p), np.uint8).reshape(-1, p.line_size)
                       for p in theirs.planes]  # fmt: skip
            planes = [a[:, :w] for a, w in zip(stacked, (17, 9, 9), strict=True)]
            assert (ours == yuv_to_rgb(*planes, info.color)).all()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("W4 H4 F25:1 C411", "C411"),
        ("W4 F25:1", "without a valid size"),
        ("W4 Hx", "without a valid size"),
        ("W0 H4", "0 x 4"),
        ("W-4 H4", "-4 x 4"),
        ("W40000 H4", "40000 x 4"),
        ("W32768 H32768", "pixels"),
        ("W4 H4 C420p32", "32 bits"),
    ],
)
def test_bad_y4m_headers_are_named(tmp_path, header, message):
    path = write_y4m(tmp_path / "x.y4m", header, [bytes(24)])
    with pytest.raises(InputError, match=message):
        open_video(path)


def test_y4m_that_ends_inside_a_frame(tmp_path):
    path = write_y4m(tmp_path / "x.y4m", "W4 H4 F25:1 C444", [bytes(48), bytes(20)])
    frames, _, warnings = read_all(path)
    assert len(frames) == 1
    assert warnings == ["the file ends early: inside frame 1, which is left out"]


def test_y4m_without_frames_or_with_junk_between(tmp_path):
    path = write_y4m(tmp_path / "x.y4m", "W4 H4 F25:1 C444", [])
    with pytest.raises(InputError, match="no frame"):
        open_video(path)
    path.write_bytes(path.read_bytes() + b"FRAME\n" + bytes(48) + b"JUNK\n" + bytes(60))
    with pytest.raises(InputError, match="frame 1 has no FRAME line"):
        read_all(path)


def test_standard_input(tmp_path, video_factory):
    path = video_factory(tmp_path / "x.y4m", codec="wrapped_avframe", frames=moving_frames(3))
    code = (
        "from nvcodec.video import open_video\n"
        "with open_video('-', start=1) as reader:\n"
        "    frames = list(reader)\n"
        "print(len(frames), reader.info.width, reader.info.n_bytes, int(frames[-1].sum()))\n"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], input=path.read_bytes(), capture_output=True, check=True
    )
    total = int(read_all(path)[0][-1].sum())
    assert run.stdout.decode().split() == ["2", "64", "None", str(total)]


def test_a_stream_that_is_not_y4m():
    with pytest.raises(InputError, match="standard input does not begin with a YUV4MPEG2 header"):
        Y4mSource(io.BytesIO(b"RIFF" + bytes(100)), "standard input", None)
