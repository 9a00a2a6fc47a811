"""Damaged files: what is whole is drawn, what is lost is listed, and times stay in step."""

import dataclasses
import json
import re
import struct

import numpy as np
import pytest
from click.testing import CliRunner
from nrv_factory import join_nrv, make_nrv

import nvcodec
from nvcodec import cli, fields
from nvcodec.bitstream.container import SIGNATURE, pack_chunk, read_chunks
from nvcodec.bitstream.header import pack_stream, unpack_stream
from nvcodec.bitstream.salvage import salvage_stream
from nvcodec.errors import BitstreamError, CorruptError, LimitError, UnsupportedError
from nvcodec.limits import Limits
from nvcodec.media import Extras, Tag
from nvcodec.video.reader import open_video

LENGTHS = (3, 2, 4)
FIRSTS = (0, 3, 5)


@pytest.fixture(scope="module")
def file():
    """Three segments of 3, 2 and 4 frames, and a tag."""
    joined = join_nrv(*(make_nrv(n, 32, 32, seed=n) for n in LENGTHS))
    stream = dataclasses.replace(
        unpack_stream(joined), extras=Extras(tags=(Tag(key="title", value="three"),))
    )
    return pack_stream(stream)


@pytest.fixture(scope="module")
def frames(file):
    return nvcodec.open(file)[:]


def offsets(data, type="SEGM"):
    return [chunk.offset for chunk in read_chunks(data) if chunk.type == type]


def flipped(data, position):
    damaged = bytearray(data)
    damaged[position] ^= 0x10
    return bytes(damaged)


def lost(video):
    return [(d.first_frame, d.n_frames) for d in video.damage]


def test_a_sound_file_is_read_as_ever(file, frames):
    video = nvcodec.open(file, lenient=True)
    assert video.damage == ()
    assert video.stream == unpack_stream(file)
    np.testing.assert_array_equal(video[:], frames)


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, [3, 3, 3, 3, 4, 5, 6, 7, 8]),
        (1, [0, 1, 2, 2, 2, 5, 6, 7, 8]),
        (2, [0, 1, 2, 3, 4, 4, 4, 4, 4]),
    ],
)
@pytest.mark.parametrize("part", ["length", "type", "body", "crc"])
def test_one_damaged_segment(file, frames, number, shown, part):
    start = offsets(file)[number]
    size = struct.unpack_from("<I", file, start)[0]
    position = {"length": start + 1, "type": start + 5, "body": start + 60, "crc": start + 8 + size}
    damaged = flipped(file, position[part])
    with pytest.raises(BitstreamError):
        nvcodec.open(damaged)
    video = nvcodec.open(damaged, batch=2, lenient=True)
    assert lost(video) == [(FIRSTS[number], LENGTHS[number])]
    assert video.damage[0].reason
    assert len(video) == 9
    np.testing.assert_array_equal(video[:], frames[shown])
    assert [(tag.key, tag.value) for tag in video.stream.extras.tags] == [("title", "three")]


def test_a_segment_with_a_right_checksum_and_wrong_tensors(file, frames):
    stream = unpack_stream(file)
    first, second, third = stream.segments
    wrong = dataclasses.replace(second.header, tensors_sha256=1)
    unknown = dataclasses.replace(third.header, arch_id=99)
    for changed, expected, reason in (
        ((first, dataclasses.replace(second, header=wrong), third), (3, 2), "match their hash"),
        ((first, second, dataclasses.replace(third, header=unknown)), (5, 4), "99 is unknown"),
    ):
        data = pack_stream(dataclasses.replace(stream, segments=changed))
        video = nvcodec.open(data, lenient=True)
        assert lost(video) == [expected]
        assert reason in video.damage[0].reason
        np.testing.assert_array_equal(video[0], frames[0])


def test_truncation_at_every_byte_keeps_what_was_whole(file):
    ends = [*offsets(file)[1:], offsets(file)[-1] + 12 + len(read_chunks(file)[-1].payload)]
    for n_bytes in range(0, len(file), 7):
        n_whole = sum(n_bytes >= end for end in ends)
        if n_bytes < len(SIGNATURE) + 12 + 35:
            with pytest.raises(BitstreamError):
                salvage_stream(file[:n_bytes])
            continue
        stream, damage = salvage_stream(file[:n_bytes])
        assert len(stream.segments) == n_whole
        assert sum(d.n_frames for d in damage) == sum(LENGTHS[n_whole:])
        assert damage


def test_a_flip_of_any_bit_never_costs_more_than_its_segment(file):
    starts = offsets(file)
    rng = np.random.default_rng(0)
    for position in rng.integers(len(SIGNATURE) + 12 + 35, len(file), 400):
        stream, damage = salvage_stream(flipped(file, position))
        hit = [i for i, start in enumerate(starts) if position >= start]
        lost = sum(d.n_frames for d in damage)
        assert damage
        assert lost in ((0, LENGTHS[hit[-1]]) if hit else (0,))
        assert len(stream.segments) >= 2


def test_a_piece_cut_out_of_the_middle(file, frames):
    first, second, third = offsets(file)
    damaged = file[: first + 100] + file[second + 50 :]
    video = nvcodec.open(damaged, lenient=True)
    assert lost(video) == [(0, 5)]
    np.testing.assert_array_equal(video[5:], frames[5:])
    video = nvcodec.open(file[:second] + file[third:], lenient=True)
    assert lost(video) == [(3, 2)]
    assert video.damage[0].reason == "no segment of the file has these frames"


def test_segments_that_repeat_or_overlap_are_left_out(file, frames):
    chunks = read_chunks(file)
    header, tags, *segments = [pack_chunk(chunk.type, chunk.payload) for chunk in chunks]
    end = pack_chunk("END ", b"")
    order = [0, 0, 2, 1]
    data = SIGNATURE + header + tags + b"".join(segments[i] for i in order) + end
    video = nvcodec.open(data, lenient=True)
    assert lost(video) == [(3, 2), (9, 0)]
    assert "has frames 0 to 2, which are taken or not of this video" in video.damage[0].reason
    np.testing.assert_array_equal(video[[0, 3, 5]], frames[[0, 2, 5]])


def test_damage_beside_the_frames(file, frames):
    damaged = flipped(file, offsets(file, "taGS")[0] + 12)
    video = nvcodec.open(damaged, lenient=True)
    assert lost(video) == [(0, 0)]
    assert video.stream.extras.tags == ()
    np.testing.assert_array_equal(video[:], frames)
    chunks = [pack_chunk(chunk.type, chunk.payload) for chunk in read_chunks(file)]
    bad = [pack_chunk("diSP", b"?"), pack_chunk("meTA", b"\xff"), chunks[1]]
    data = SIGNATURE + b"".join([*chunks[:2], *bad, *chunks[2:], pack_chunk("END ", b"x")])
    video = nvcodec.open(data, lenient=True)
    assert lost(video) == [(0, 0)] * 3
    assert "another taGS chunk" in video.damage[2].reason
    np.testing.assert_array_equal(video[:], frames)


def test_bytes_after_the_end_are_listed(file):
    video = nvcodec.open(file + b"junk", lenient=True)
    assert video.damage[0].reason == "4 bytes follow the END chunk"
    assert video.damage[0].n_frames == 0


def test_what_only_the_strict_reader_refuses_is_listed(file, frames):
    chunks = read_chunks(file)
    header = dataclasses.replace(unpack_stream(file).header, n_segments=4)
    miscounted = pack_chunk("VHDR", fields.pack(header))
    packed = [pack_chunk(chunk.type, chunk.payload) for chunk in chunks]
    end = pack_chunk("END ", b"")
    for parts, reason in (
        ([miscounted, *packed[1:], end], "3 segments, its header says 4"),
        ([*packed, packed[1], end], "'taGS' at byte .* is out of its order"),
        ([*packed[:3], packed[0], *packed[3:], end], "'VHDR' at byte .* is out of its order"),
        ([*packed, pack_chunk("END ", b"x")], "END chunk has 1 bytes"),
    ):
        data = SIGNATURE + b"".join(parts)
        video = nvcodec.open(data, lenient=True)
        assert [d.n_frames for d in video.damage] == [0]
        assert re.search(reason, video.damage[0].reason)
        np.testing.assert_array_equal(video[:], frames)


def test_what_no_damage_explains_is_refused(file):
    with pytest.raises(CorruptError, match="first chunk is 'END '"):
        salvage_stream(SIGNATURE + pack_chunk("END ", b""))
    with pytest.raises(CorruptError, match="CRC-32"):
        salvage_stream(flipped(file, 20))
    with pytest.raises(UnsupportedError, match="newer"):
        salvage_stream(file[:55] + pack_chunk("NEWC", b"") + file[55:])
    newer = bytearray(read_chunks(file)[0].payload)
    newer[0] = 2
    with pytest.raises(UnsupportedError, match="version 2"):
        salvage_stream(SIGNATURE + pack_chunk("VHDR", bytes(newer)))
    for limits in (Limits(max_segments=2), Limits(max_pixels=99), Limits(max_metadata_bytes=1)):
        with pytest.raises(LimitError):
            salvage_stream(file, limits)


def test_a_file_without_a_whole_segment(file, tmp_path):
    cut = file[: offsets(file)[0] + 30]
    with pytest.raises(CorruptError, match="no segment of the file is whole: chunk at byte"):
        nvcodec.open(cut, lenient=True)


@pytest.mark.parametrize(
    "piece",
    [b"SEGM", b"\x10\0\0\0SEGM", b"\0\0\x70\0SEGM", b"SEGM" + b"\xff" * 4, b"END "],
    ids=["types", "small chunks", "7 MiB chunks", "4 GiB chunks", "ends"],
)
def test_the_search_is_linear(file, piece, monkeypatch):
    """However many types a damaged file shows, the bytes checked stay within a few lengths."""
    from nvcodec.bitstream import salvage

    noise = piece * ((8 << 20) // len(piece))
    data = file[:55] + b"\xff" + noise
    checked = []
    read_chunk = salvage.read_chunk

    def counted(whole, offset):
        n_bytes = int.from_bytes(whole[offset : offset + 4], "little")
        checked.append(64 + (n_bytes if offset + 12 + n_bytes <= len(whole) else 0))
        return read_chunk(whole, offset)

    monkeypatch.setattr(salvage, "read_chunk", counted)
    stream, _ = salvage_stream(data)
    assert stream.segments == ()
    assert sum(checked) <= 5 * len(data)


# The command


def decode(*args):
    result = CliRunner().invoke(cli.main, ["decode", *map(str, args)], prog_name="nvcodec")
    assert "Traceback" not in result.output
    return result


def test_decode_lenient(file, frames, tmp_path):
    path, output = tmp_path / "a.nrv", tmp_path / "png"
    path.write_bytes(flipped(file, offsets(file)[1] + 99))
    strict = decode(path, "-o", f"{output}/")
    assert strict.exit_code == 4
    assert not output.exists()
    result = decode(path, "-o", f"{output}/", "--lenient")
    assert result.exit_code == 4
    assert "warning: frames 3 to 4 are lost: chunk at byte" in result.stderr
    assert "2 of its 9 frames are lost" in result.stderr.splitlines()[-1]
    with open_video(output) as reader:
        shown = np.stack(list(reader))
    np.testing.assert_array_equal(shown, frames[[0, 1, 2, 2, 2, 5, 6, 7, 8]])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.nrv", "png"]
    said = decode(path, "-o", f"{output}/", "--lenient", "-y", "--json").stdout.splitlines()
    values, error = json.loads(said[-2]), json.loads(said[-1])
    assert (error["type"], error["code"]) == ("error", 4)
    assert values["damage"][0]["first_frame"] == 3
    assert values["damage"][0]["n_frames"] == 2
    assert "CRC-32" in values["damage"][0]["reason"]


def test_lenient_on_a_sound_file_is_success(file, tmp_path):
    path = tmp_path / "a.nrv"
    path.write_bytes(file)
    result = decode(path, "-o", tmp_path / "a.mkv", "--lenient", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout.splitlines()[-2])["damage"] == []
