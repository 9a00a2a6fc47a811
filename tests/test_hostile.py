"""Files and inputs that want harm, beside those of test_container, test_tensors and test_entropy.

Every file here has right checksums: what is refused is refused for what it says.
"""

import dataclasses
import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from conftest import make_video, moving_frames
from nrv_factory import join_nrv, make_tiny
from test_cli import environment, fail, listing, run, run_json
from test_codec import options

import nvcodec
from nvcodec import fields, storage
from nvcodec.bitstream.container import SIGNATURE, pack_chunk, read_chunks
from nvcodec.bitstream.header import Segment, pack_stream, unpack_stream
from nvcodec.bitstream.segments import pack_segment
from nvcodec.bitstream.tensors import QTensor, pack_tensors, tensors_sha256
from nvcodec.codec.checkpoint import checkpoint_path, read_checkpoint
from nvcodec.codec.contents import check_structure, empty_model, read_tensors, video_info
from nvcodec.codec.quantize import tensor_specs
from nvcodec.errors import (
    BitstreamError,
    CorruptError,
    InputError,
    Interrupted,
    LimitError,
    UsageError,
)
from nvcodec.limits import Limits
from nvcodec.media import Chapter, Extras, Packet, Tag, Track, TrackHeader
from nvcodec.models import ARCHITECTURES
from nvcodec.video.reader import open_video
from nvcodec.video.writer import open_writer

sys.path.append(str(Path(__file__).parent / "fuzz"))

import targets

CONTROLS = "\x1b]0;owned\x07\x1b[2J\x9b31m \u202e\u2066\u200f\r\n\t\x7f\0"


@pytest.fixture(scope="module")
def data():
    return make_tiny("hnerv", 2, 16, 16)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def tiny(request):
    """A file of each architecture."""
    return make_tiny(request.param)


def with_config(data, config):
    stream = unpack_stream(data)
    (segment,) = stream.segments
    changed = Segment(segment.header, config, segment.payload)
    return pack_stream(dataclasses.replace(stream, segments=(changed,)))


def in_child(code, *args, memory_mib):
    """Run code in a process that may take so much more memory than it has after its imports."""
    start = (
        "import resource, sys, torch, nvcodec\n"
        "from nvcodec.codec.contents import check_structure\n"
        "pages = int(open('/proc/self/statm').read().split()[0])\n"
        f"limit = pages * resource.getpagesize() + ({memory_mib} << 20)\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (60, 60))\n"
    )
    command = [sys.executable, "-c", start + code, *map(str, args)]
    return subprocess.run(command, env=environment(), capture_output=True, text=True)


REFUSED = """
for path in sys.argv[1:]:
    for lenient in (False, True):
        try:
            nvcodec.open(path, device="cpu", lenient=lenient)[0]
        except nvcodec.errors.BitstreamError as error:
            print(type(error).__name__)
        else:
            sys.exit("accepted")
"""


# Damage


VECTORS = Path(__file__).parent / "vectors" / "uncommon"
NEWER = ("light", "yuv-top", "canvas-flow")
"""12 bits and hdRM, a network of Y'CbCr, and a coarse flow."""


def vector(name):
    return (VECTORS / f"{name}.nrv").read_bytes()


@pytest.mark.parametrize("name", ["hnerv", *NEWER])
def test_truncation_of_a_whole_file_at_every_byte(data, name):
    data = data if name == "hnerv" else vector(name)
    for n_bytes in range(len(data)):
        with pytest.raises(BitstreamError):
            check_structure(data[:n_bytes])


@pytest.mark.parametrize("name", ["hnerv", *NEWER])
def test_a_flip_of_every_bit_of_a_whole_file(data, name):
    data = data if name == "hnerv" else vector(name)
    n_detected = 0
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(BitstreamError):
            check_structure(bytes(damaged))
        n_detected += 1
    assert n_detected == 8 * len(data) > 1000


@pytest.mark.parametrize("name", [*NEWER, "canvas-details", "grey-16"])
def test_a_flip_of_every_bit_behind_right_checksums(name):
    """Of headers, hdRM and configurations: drawn, or refused with the family of errors."""
    data = vector(name)
    starts = [chunk.offset for chunk in read_chunks(data)]
    (segment,) = unpack_stream(data).segments
    n_bytes = starts[-1] + 8 + 20 + len(segment.config)
    read = 0
    for position in range(8 * len(SIGNATURE), 8 * n_bytes):
        changed = bytearray(data)
        changed[position // 8] ^= 1 << position % 8
        changed = targets.with_checksums(bytes(changed))
        if changed == data:
            # A bit of a checksum, repaired.
            continue
        targets.container(changed)
        with suppress(BitstreamError):
            check_structure(changed)
            targets.decode_tiny(changed)
            read += 1
    # Colours, light and times may be any.
    assert read > 50


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_noise_and_floods_in_little_memory(tmp_path, data):
    """16 MiB of anything are refused within 100 MiB, whatever the bytes say."""
    rng = np.random.default_rng(1)
    head = data[: len(SIGNATURE) + 12 + 35]
    n = 16 << 20
    segment = pack_chunk("SEGM", bytes(20))
    kinds = {
        "noise": rng.bytes(n),
        "signature": data[:8] + rng.bytes(n),
        "header": head + rng.bytes(n),
        "segments": head + segment * (n // len(segment)),
        "ancillary": head + pack_chunk("juNK", b"") * (n // 12),
        "large": head + pack_chunk("meTA", bytes(n)),
    }
    for name, content in kinds.items():
        (tmp_path / name).write_bytes(content)
    done = in_child(REFUSED, *(tmp_path / name for name in kinds), memory_mib=100)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 2 * len(kinds)


# Sizes


@pytest.mark.skipif(sys.platform != "linux", reason="needs RLIMIT_AS and /proc")
def test_huge_networks_are_counted_before_they_are_made(tmp_path):
    """Any byte of a configuration at 255, and large frames: drawn, or refused, in little memory."""
    paths = []
    for arch in ARCHITECTURES:
        data = make_tiny(arch)
        stream = unpack_stream(data)
        config = stream.segments[0].config
        header = dataclasses.replace(stream.header, width=16_000, height=16_000)
        paths.append(tmp_path / f"{arch}.nrv")
        paths[-1].write_bytes(pack_stream(dataclasses.replace(stream, header=header)))
        for i in range(len(config)):
            paths.append(tmp_path / f"{arch}{i}.nrv")
            paths[-1].write_bytes(with_config(data, config[:i] + b"\xff" + config[i + 1 :]))
    tried = REFUSED.replace('sys.exit("accepted")', 'print("drawn")')
    tried = tried.replace("(False, True)", "(False,)")
    done = in_child(tried, *paths, memory_mib=600)
    assert done.returncode == 0, done.stderr[-2000:]
    said = done.stdout.split()
    assert len(said) == len(paths)
    assert {"CorruptError", "LimitError"} <= set(said)


def test_every_limit_of_a_network(tiny):
    for limits, what in (
        (Limits(max_params=3), "parameters"),
        (Limits(max_activations=3), "feature map values"),
        (Limits(max_macs=3), "multiply-accumulates"),
    ):
        with pytest.raises(LimitError, match=what):
            nvcodec.open(tiny, limits=limits)[0]


def asking_for(n_frames, width, height):
    """Return a file of a few hundred bytes with so many frames of this size."""
    stream = unpack_stream(make_tiny("nerv"))
    (segment,) = stream.segments
    header = dataclasses.replace(stream.header, n_frames=n_frames, width=width, height=height)
    tensors = [
        QTensor(spec, np.zeros(spec.shape, np.int32), np.zeros(spec.n_rows, np.uint8))
        for spec in tensor_specs(empty_model(segment, header))
    ]
    segment = pack_segment(segment.header.arch_id, segment.config, tensors, n_frames=n_frames)
    return pack_stream(dataclasses.replace(stream, header=header, segments=(segment,)))


@pytest.mark.skipif(os.name != "posix", reason="needs symbolic links")
@pytest.mark.parametrize("name", ["a.y4m", "a.mkv", "a.npy"])
def test_links_at_an_output_are_replaced_and_never_followed(tmp_path, data, name):
    """Neither one of the output's name nor one of the hidden file beside it."""
    nrv, output, other = tmp_path / "a.nrv", tmp_path / name, tmp_path / "other"
    nrv.write_bytes(data)
    other.write_bytes(b"mine")
    output.symlink_to(other)
    storage.part_path(output).symlink_to(other)
    run("decode", nrv, "-o", output, "-y", "--frames", 1)
    assert other.read_bytes() == b"mine"
    assert output.is_file()
    assert not output.is_symlink()
    assert listing(tmp_path) == sorted([nrv.name, name, other.name])


@pytest.mark.parametrize("name", ["frames/%06d.npy", "frames/"])
def test_outputs_beyond_the_limit_are_refused_before_they_are_drawn(tmp_path, name):
    nrv = tmp_path / "a.nrv"
    nrv.write_bytes(asking_for(2_592_000, 320, 240))
    said = fail(6, "decode", nrv, "-o", f"{tmp_path}/{name}")
    assert "would have up to 597196800000 bytes, the limit of this decoder is 274877906944" in said
    assert listing(tmp_path) == ["a.nrv"]
    run("decode", nrv, "-o", f"{tmp_path}/{name}", "--start", 7, "--frames", 2)
    assert len(listing(tmp_path / "frames")) == 2


@pytest.mark.parametrize(
    ("name", "overhead"), [("a.y4m", len("FRAME\n")), ("a/%d.png", 0), ("a/%d.npy", 0)]
)
def test_the_limit_of_an_output_is_exact(tmp_path, name, overhead):
    info = video_info(unpack_stream(asking_for(3, 32, 16)))
    size = 3 * (32 * 16 * 3 + overhead)
    with pytest.raises(LimitError, match=f"up to {size} bytes"):
        open_writer(tmp_path / name, info, max_bytes=size - 1)
    assert listing(tmp_path) == []
    open_writer(tmp_path / name, info, max_bytes=size).abort()


def test_the_limit_is_not_for_compressed_videos(tmp_path):
    info = video_info(unpack_stream(asking_for(3, 32, 16)))
    open_writer(tmp_path / "a.mkv", info, max_bytes=1).abort()


def test_no_limits(tmp_path):
    nrv = tmp_path / "a.nrv"
    nrv.write_bytes(asking_for(2_592_001, 32, 32))
    decode = ("decode", nrv, "-o", tmp_path / "a.png", "--frames-list", 2_592_000)
    assert "n_frames is 2592001, the limit of this decoder is 2592000" in fail(6, *decode)
    run(*decode, "--no-limits")
    assert listing(tmp_path) == ["a.nrv", "a.png"]


def test_odd_sizes_with_subsampled_chroma_are_no_division_by_zero(tmp_path):
    for width, height in ((17, 19), (33, 17)):
        stream = unpack_stream(make_tiny("hnerv", 2, width, height))
        for chroma in (420, 422, 444, 400, 0):
            header = dataclasses.replace(stream.header, chroma=chroma)
            path = tmp_path / f"{width}{chroma}.nrv"
            path.write_bytes(pack_stream(dataclasses.replace(stream, header=header)))
            run("decode", path, "-o", tmp_path / f"{width}{chroma}.y4m")


def test_many_segments_cost_no_search_through_all_of_them(data):
    """A frame's segment is found by bisection: few of the 512 are looked at."""
    joined = join_nrv(*([data] * 512))
    video = nvcodec.open(joined)
    touched: list[int] = []

    class Counted(list):
        def __getitem__(self, index):
            touched.append(index)
            return super().__getitem__(index)

    video._firsts = Counted(video._firsts)
    assert [video._place(i)[0] for i in (0, 1, 2, 1022, 1023)] == [0, 0, 1, 511, 511]
    assert len(touched) <= 5 * 10
    np.testing.assert_array_equal(video[1023], nvcodec.open(data)[1])


# Weights


def exploding(data):
    """Return a file whose weights are as large as the format allows."""
    stream = unpack_stream(data)
    (segment,) = stream.segments
    _, tensors = read_tensors(segment, stream.header)
    large = [
        QTensor(
            q.spec, np.full(q.spec.shape, 32767, np.int32), np.full(q.spec.n_rows, 255, np.uint8)
        )
        for q in tensors
    ]
    header = dataclasses.replace(segment.header, tensors_sha256=tensors_sha256(large))
    changed = Segment(header, segment.config, pack_tensors(large))
    return pack_stream(dataclasses.replace(stream, segments=(changed,)))


def test_weights_that_explode_still_draw_bytes(tiny):
    """Activations may become infinite or not a number; samples are 0 to 255 all the same."""
    video = nvcodec.open(exploding(tiny))
    frames = video[:]
    assert frames.dtype == np.uint8
    assert len(frames) == len(video)


# Words


def hostile_words(data):
    """Return a file whose every text wants to speak to the terminal."""
    stream = unpack_stream(data)
    track = TrackHeader(
        kind=1, codec="opus", time_base_num=1, time_base_den=48000, language=CONTROLS[:20],
        title=CONTROLS, sample_rate=48000, channels=1,
    )  # fmt: skip
    extras = Extras(
        tracks=(Track(track, (Packet(data=b"x", time=0, duration=960),)),),
        chapters=(Chapter(start=0, end=1, time_base_num=1, time_base_den=1, title=CONTROLS),),
        tags=(Tag(key="title" + CONTROLS, value="../../../" + CONTROLS),),
    )
    return pack_stream(
        dataclasses.replace(stream, extras=extras, metadata=("[red]" + CONTROLS).encode())
    )


def test_no_text_of_a_file_reaches_the_terminal_raw(tmp_path, data):
    path = tmp_path / "a.nrv"
    path.write_bytes(hostile_words(data))
    outputs = [run("info", path).output, run("verify", path).output]
    outputs.append(run("decode", path, "-o", tmp_path / "a.y4m").output)
    outputs.append(run("info", path, "--json").stdout)
    for text in outputs:
        bad = [c for c in text if c != "\n" and (not c.isprintable() or c in "\u202e\u2066\u200f")]
        assert bad == []
    assert r"\x1b]0;owned\x07" in outputs[0]
    assert run_json("info", path)[-2]["metadata"] == "[red]" + CONTROLS


def test_texts_of_a_file_name_no_output(tmp_path, data):
    path = tmp_path / "in" / "a.nrv"
    path.parent.mkdir()
    path.write_bytes(hostile_words(data))
    out = tmp_path / "out"
    run("decode", path, "-o", f"{out}/")
    assert listing(tmp_path) == ["in", "in/a.nrv", "out", "out/000001.png", "out/000002.png"]


@pytest.mark.parametrize("text", [b"\xc3\x28", b"\xed\xa0\x80", b"\xc0\x80", b"\xff"])
def test_text_that_is_not_utf8(data, text):
    head, *rest = read_chunks(data)
    title = len(text).to_bytes(2, "little") + text
    chunks = [(head.type, head.payload), ("taGS", b"\x01\x00a" + title)]
    chunks += [(chunk.type, chunk.payload) for chunk in rest] + [("END ", b"")]
    with pytest.raises(CorruptError, match="not UTF-8"):
        unpack_stream(SIGNATURE + b"".join(pack_chunk(*chunk) for chunk in chunks))


def test_numbers_that_never_end():
    for n in (1, 5, 10, 1000):
        with pytest.raises(BitstreamError, match=r"too large|ends at byte"):
            fields.ByteReader(b"\x80" * n, "a test").varint((1 << 32) - 1)


def test_nothing_in_the_bitstream_is_decompressed():
    folder = Path(nvcodec.__file__).parent / "bitstream"
    for path in folder.glob("*.py"):
        assert "decompress" not in path.read_text(encoding="utf-8")


# What encode reads


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_video_is_read_or_refused(tmp_path, seed):
    """FFmpeg may conceal or refuse damage; nothing else comes out than a file or one sentence."""
    path = make_video(tmp_path / "in.mp4", frames=moving_frames(4))
    damaged = bytearray(path.read_bytes())
    rng = np.random.default_rng(seed)
    for position in rng.integers(0, len(damaged), 20):
        damaged[position] ^= 1 << int(rng.integers(8))
    path.write_bytes(damaged)
    with suppress(InputError), open_video(path) as reader:
        assert all(frame.shape == (48, 64, 3) for frame in reader)


def test_an_edited_checkpoint_is_refused(tmp_path):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(2, 32, 32))
    out = tmp_path / "out.nrv"
    with pytest.raises(Interrupted):
        nvcodec.encode(path, out, options(5, arch="hnerv"), device="cpu", stop=lambda: True)
    state = checkpoint_path(out)
    sound = state.read_bytes()
    key, _ = read_checkpoint(state)
    header_bytes = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + header_bytes])
    name = next(name for name in header if name.startswith("model."))
    begin, end = header[name]["data_offsets"]

    def edited(**changes):
        text = json.dumps(header | {name: header[name] | changes}).encode()
        return len(text).to_bytes(8, "little") + text + sound[8 + header_bytes :]

    for damaged in (
        b"",
        sound[:-1],
        sound + b"x",
        b"\xff" * 8 + sound[8:],
        edited(data_offsets=[begin, end + 4]),
        edited(shape=[1 << 40, 1 << 40]),
        edited(dtype="code"),
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
    ):
        state.write_bytes(damaged)
        with pytest.raises(UsageError, match="damaged"):
            nvcodec.encode(path, out, options(5, arch="hnerv"), device="cpu", resume=True)
    other = json.dumps(header | {"__metadata__": {"nvcodec": json.dumps(key | {"arch": "nerv"})}})
    state.write_bytes(len(other).to_bytes(8, "little") + other.encode() + sound[8 + header_bytes :])
    with pytest.raises(UsageError, match="made with another arch"):
        nvcodec.encode(path, out, options(5, arch="hnerv"), device="cpu", resume=True)
    assert not out.exists()


def test_errors_are_one_sentence_for_every_kind_of_damage(tmp_path, data):
    rng = np.random.default_rng(3)
    path = tmp_path / "a.nrv"
    for position in rng.integers(0, len(data), 8):
        damaged = bytearray(data)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        assert fail(4, "decode", path, "-o", tmp_path / "a.mp4")
    assert listing(tmp_path) == ["a.nrv"]
