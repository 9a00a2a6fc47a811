import resource
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from conftest import RATE, moving_frames

from nvcodec.errors import InputError, ResourceError, UsageError
from nvcodec.media import Timing
from nvcodec.video.color import rgb_to_yuv, yuv_to_rgb
from nvcodec.video.frames import VideoInfo, resolve_tags
from nvcodec.video.reader import open_video
from nvcodec.video.writer import open_writer


def info_of(
    width: int = 64, height: int = 48, chroma: int = 420, rate: Fraction = RATE, **tags: int
) -> VideoInfo:
    return VideoInfo(
        width=width,
        height=height,
        frame_rate=rate,
        color=resolve_tags(height=height, chroma=chroma, **tags),
        bit_depth=8,
        chroma=chroma,
        codec="h264",
        n_bytes=None,
    )


def write_all(target, info, frames, **options) -> str:
    with open_writer(target, info, **options) as writer:
        for frame in frames:
            writer.write(frame)
        assert writer.n_frames == len(frames)
    return writer.description


def read_all(source):
    with open_video(source) as reader:
        return list(reader), reader.info


def decoded_planes(path: Path, widths: list[int]) -> list[list[np.ndarray]]:
    """The planes that PyAV itself decodes."""
    with av.open(str(path)) as container:
        return [
            [
                np.frombuffer(memoryview(p), np.uint8).reshape(-1, p.line_size)[:, :w].copy()
                for p, w in zip(frame.planes, widths, strict=True)
            ]
            for frame in container.decode(video=0)
        ]


def through_yuv(frame: np.ndarray, info: VideoInfo) -> np.ndarray:
    """What remains of a frame after 8-bit planes."""
    planes = rgb_to_yuv(frame, info.color, info.chroma)
    return yuv_to_rgb(*planes, info.color, 8, info.chroma)


@contextmanager
def disk_that_holds(n_bytes: int) -> Iterator[None]:
    """Let files grow to `n_bytes` only; the write that goes beyond fails as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (35, 33), (17, 5), (1, 1), (2, 2)])
@pytest.mark.parametrize("chroma", [420, 422, 444, 400])
@pytest.mark.parametrize("suffix", [".y4m", ".mkv"])
def test_lossless_outputs_keep_the_planes(tmp_path, suffix, chroma, width, height):
    path = tmp_path / f"x{suffix}"
    info = info_of(width, height, chroma)
    frames = moving_frames(3, width, height)
    write_all(path, info, frames)
    back, back_info = read_all(path)
    assert (back_info.color, back_info.chroma) == (info.color, chroma)
    assert back_info.frame_rate == RATE
    for frame, wanted in zip(back, frames, strict=True):
        assert (frame == through_yuv(wanted, info)).all()
    half = (width + 1) // 2 if chroma in (420, 422) else width
    planes = decoded_planes(path, [width] if chroma == 400 else [width, half, half])
    for ours, theirs in zip(frames, planes, strict=True):
        for a, b in zip(rgb_to_yuv(ours, info.color, chroma), theirs, strict=False):
            assert (a == b).all()


def test_descriptions(tmp_path):
    frames = moving_frames(1)
    odd = [frame[:33, :17] for frame in frames]
    assert write_all(tmp_path / "a.mp4", info_of(), frames) == "H.264 crf 12 yuv420p"
    assert write_all(tmp_path / "b.mp4", info_of(17, 33), odd) == "H.264 crf 12 yuv444p"
    assert write_all(tmp_path / "c.mkv", info_of(), frames) == "FFV1 lossless yuv420p"
    assert write_all(tmp_path / "d.mkv", info_of(chroma=0), frames) == "FFV1 lossless bgr0"
    assert write_all(tmp_path / "e.y4m", info_of(), frames) == "Y4M 420 8 bit"
    assert write_all(f"{tmp_path}/f/", info_of(), frames) == "8-bit RGB PNG files"


def test_rgb_source_is_exact_in_mkv(tmp_path):
    info = info_of(17, 33, 0)
    frames = moving_frames(3, 17, 33)
    write_all(tmp_path / "x.mkv", info, frames)
    back, back_info = read_all(tmp_path / "x.mkv")
    assert back_info.chroma == 0
    assert all((a == b).all() for a, b in zip(back, frames, strict=True))


def test_rgb_source_in_y4m_and_mp4_gets_the_usual_matrix(tmp_path):
    info = info_of(chroma=0)
    frames = moving_frames(3)
    write_all(tmp_path / "x.y4m", info, frames)
    back, back_info = read_all(tmp_path / "x.y4m")
    assert back_info.chroma == 444
    assert np.abs(np.array(back).astype(int) - np.array(frames)).max() <= 2
    write_all(tmp_path / "x.mp4", info, frames)
    _, back_info = read_all(tmp_path / "x.mp4")
    assert (back_info.color.matrix, back_info.color.specified) == (6, True)


@pytest.mark.parametrize(("width", "height"), [(64, 48), (17, 33), (18, 33), (1, 1)])
@pytest.mark.parametrize("n_frames", [1, 5])
def test_mp4_count_rate_size_and_quality(tmp_path, width, height, n_frames):
    path = tmp_path / "x.mp4"
    frames = moving_frames(n_frames, width, height)
    write_all(path, info_of(width, height), frames)
    back, info = read_all(path)
    assert len(back) == n_frames
    assert (info.width, info.height, info.frame_rate) == (width, height, RATE)
    assert info.chroma == (420 if width % 2 == height % 2 == 0 else 444)
    assert np.abs(np.array(back).astype(int) - np.array(frames)).mean() < 6


@pytest.mark.parametrize("rate", [Fraction(30000, 1001), Fraction(50), Fraction(12), Fraction(1)])
@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".y4m"])
def test_rates_are_exact(tmp_path, suffix, rate):
    path = tmp_path / f"x{suffix}"
    write_all(path, info_of(rate=rate), moving_frames(4))
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        times = [frame.pts * frame.time_base for frame in container.decode(stream)]
        assert stream.average_rate == rate
    assert times == pytest.approx([i / float(rate) for i in range(4)], abs=0.001)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(
    ("tags", "full"),
    [((1, 1, 1), False), ((5, 5, 6), True), ((9, 9, 16), False), ((2, 2, 2), False)],
)
def test_colour_tags_are_kept(tmp_path, suffix, tags, full):
    path = tmp_path / f"x{suffix}"
    matrix, primaries, transfer = tags
    info = info_of(matrix=matrix, primaries=primaries, transfer=transfer, full_range=full)
    write_all(path, info, moving_frames(2))
    back, back_info = read_all(path)
    assert back_info.color == info.color
    assert back_info.color.specified == (matrix != 2)
    assert np.abs(np.array(back).astype(int) - np.array(moving_frames(2))).mean() < 6
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.colorspace == matrix
    assert (frame.color_range == 2) == full


def test_y4m_header_is_plain(tmp_path):
    path = tmp_path / "x.y4m"
    write_all(path, info_of(6, 4, full_range=True, siting=1), moving_frames(2, 6, 4))
    line, _, rest = path.read_bytes().partition(b"\n")
    assert line == b"YUV4MPEG2 W6 H4 F24000:1001 Ip A1:1 C420jpeg XCOLORRANGE=FULL"
    assert len(rest) == 2 * (len(b"FRAME\n") + 24 + 12)


@pytest.mark.parametrize("siting", [0, 1, 2])
def test_y4m_keeps_siting(tmp_path, siting):
    write_all(tmp_path / "x.y4m", info_of(siting=siting), moving_frames(1))
    assert read_all(tmp_path / "x.y4m")[1].color.siting == siting


@pytest.mark.parametrize(("target", "names"), [
    ("out/", ["000001.png", "000002.png"]),
    ("out/shot%d.png", ["shot1.png", "shot2.png"]),
])  # fmt: skip
def test_png_series_is_exact(tmp_path, target, names):
    frames = moving_frames(2, 17, 33)
    write_all(f"{tmp_path}/{target}", info_of(17, 33), frames)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    back, _ = read_all(f"{tmp_path}/{target}")
    assert all((a == b).all() for a, b in zip(back, frames, strict=True))


def test_png_series_refuses_and_replaces(tmp_path):
    folder = f"{tmp_path}/out/"
    write_all(folder, info_of(), moving_frames(5))
    (tmp_path / "out" / "notes.txt").write_text("stays")
    with pytest.raises(UsageError, match="has 5 files"):
        open_writer(folder, info_of())
    write_all(folder, info_of(), moving_frames(2), overwrite=True)
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["000001.png", "000002.png", "notes.txt"]


TARGETS = ["x.mp4", "x.mkv", "x.y4m", "out/", "out/f%03d.png"]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_is_left_after_an_exception(tmp_path, target):
    def fail_half_way() -> None:
        with open_writer(f"{tmp_path}/{target}", info_of()) as writer:
            writer.write(moving_frames(1)[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail_half_way()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", TARGETS)
def test_output_appears_only_when_it_is_whole(tmp_path, target):
    with open_writer(f"{tmp_path}/{target}", info_of()) as writer:
        writer.write(moving_frames(1)[0])
        visible = [p for p in tmp_path.rglob("[!.]*.*") if ".part" not in str(p)]
        assert visible == []
    assert len(read_all(f"{tmp_path}/{target}")[0]) == 1


@pytest.mark.parametrize("target", [*TARGETS, "x.png"])
def test_one_writer_at_a_time(tmp_path, target):
    """A second one is refused and leaves the first one's files alone."""
    info, path = info_of(), f"{tmp_path}/{target}"
    if target == "x.png":
        info = replace(info, timing=Timing.constant(info.frame_rate, 1))
    first, second = moving_frames(2)
    with open_writer(path, info) as writer:
        writer.write(first)
        before = sorted(tmp_path.rglob("*"))
        for overwrite in (False, True):
            with pytest.raises(UsageError, match="by another process"):
                open_writer(path, info, overwrite=overwrite)
        assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(UsageError, match=r"exists|has 1 files"):
        open_writer(path, info)
    with open_writer(path, info, overwrite=True) as writer:
        writer.write(second)
    assert [p for p in tmp_path.rglob("*") if p.name.startswith(".")] == []
    assert len(read_all(path)[0]) == 1


@pytest.mark.parametrize("target", TARGETS)
def test_a_video_without_frames_is_refused(tmp_path, target):
    with (
        pytest.raises(UsageError, match="got no frame"),
        open_writer(f"{tmp_path}/{target}", info_of()),
    ):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("target", TARGETS)
def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path, target):
    generator = np.random.default_rng(0)
    frames = [generator.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(4)]
    with (
        disk_that_holds(3000),
        pytest.raises(ResourceError, match=r"cannot be written: file too large"),
    ):
        write_all(f"{tmp_path}/{target}", info_of(), frames)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".y4m"])
def test_existing_output(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_bytes(b"precious")
    with pytest.raises(UsageError, match="exists"):
        open_writer(path, info_of())
    assert path.read_bytes() == b"precious"
    write_all(path, info_of(), moving_frames(2), overwrite=True)
    assert len(read_all(path)[0]) == 2


@pytest.mark.parametrize("name", ["x.avi", "x", "x.png", "x.mp4.txt"])
def test_unknown_suffix_names_the_allowed_ones(tmp_path, name):
    with pytest.raises(UsageError, match=r"allowed are \.mp4, \.mov, \.mkv, \.webm, \.y4m"):
        open_writer(tmp_path / name, info_of())


def test_missing_folder(tmp_path):
    for target in ("no/x.mp4", "no/no/%06d.png"):
        with pytest.raises(UsageError, match="does not exist"):
            open_writer(tmp_path / target, info_of())


def test_unsupported_matrix_is_refused_before_any_file(tmp_path):
    info = info_of()
    strange = replace(info, color=replace(info.color, matrix=14))
    with pytest.raises(InputError, match="matrix is 14"):
        open_writer(tmp_path / "x.mp4", strange)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((48, 63, 3), np.uint8),
        np.zeros((48, 64), np.uint8),
        np.zeros((48, 64, 3), np.float32),
    ],
)
def test_wrong_frames_are_named(tmp_path, frame):
    def write_wrong() -> None:
        with open_writer(tmp_path / "x.y4m", info_of()) as writer:
            writer.write(moving_frames(1)[0])
            writer.write(frame)

    with pytest.raises(UsageError, match=r"frame 1 is .* expected is uint8 \(48, 64, 3\)"):
        write_wrong()
    assert list(tmp_path.iterdir()) == []


def test_a_finished_writer_takes_no_frame(tmp_path):
    with open_writer(tmp_path / "x.y4m", info_of()) as writer:
        writer.write(moving_frames(1)[0])
    writer.close()
    with pytest.raises(UsageError, match="is finished"):
        writer.write(moving_frames(1)[0])


def test_views_without_own_memory_can_be_written(tmp_path):
    frame = np.ascontiguousarray(moving_frames(1)[0].transpose(1, 0, 2)).transpose(1, 0, 2)
    assert not frame.flags.c_contiguous
    for target in ("x.mp4", "y.mkv", "z.y4m", "out/"):
        write_all(f"{tmp_path}/{target}", info_of(chroma=0), [frame])
    assert (read_all(tmp_path / "out")[0][0] == frame).all()
    assert (read_all(tmp_path / "y.mkv")[0][0] == frame).all()


WRITE_TO_STDOUT = """
import sys
import numpy as np
from nvcodec.errors import NvcodecError
from nvcodec.video import open_video, open_writer
try:
    with open_video(sys.argv[1]) as reader, open_writer("-", reader.info) as writer:
        for frame in reader:
            for _ in range(int(sys.argv[2])):
                writer.write(frame)
except NvcodecError as error:
    print(type(error).__name__, error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_standard_output_equals_a_file(tmp_path, small_mp4):
    run = subprocess.run(
        [sys.executable, "-c", WRITE_TO_STDOUT, str(small_mp4), "1"],
        capture_output=True,
        check=True,
    )
    frames, info = read_all(small_mp4)
    write_all(tmp_path / "x.y4m", info, frames)
    assert run.stdout == (tmp_path / "x.y4m").read_bytes()
    assert run.stderr == b""


def test_a_closed_pipe_is_one_sentence(small_mp4):
    command = [sys.executable, "-c", WRITE_TO_STDOUT, str(small_mp4), "200"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(10)
        process.stdout.close()
        message = process.stderr.read().decode()
        assert process.wait(20) == 7
    assert message == ("ResourceError standard output was closed by the program that reads it\n")
