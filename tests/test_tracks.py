"""Sound, subtitles, chapters and tags go through untouched; hostile chunks are refused."""

import struct
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from media_factory import frame_times, make_movie, packets_of

import nvcodec
from nvcodec import fields
from nvcodec.bitstream.container import pack_chunk
from nvcodec.bitstream.extras import (
    pack_extras,
    pack_timing,
    pack_track,
    track_bytes,
    unpack_extras,
    unpack_timing,
    unpack_track,
)
from nvcodec.bitstream.header import Segment, SegmentHeader, add_tracks, pack_stream, unpack_stream
from nvcodec.codec.inspect import describe_file, verify_file
from nvcodec.errors import BitstreamError, CorruptError, InputError, LimitError, UsageError
from nvcodec.fields import pack_varint
from nvcodec.limits import Limits
from nvcodec.media import (
    AUDIO,
    SUBTITLES,
    Chapter,
    Extras,
    Packet,
    Tag,
    Timing,
    Track,
    TrackHeader,
    Window,
)
from nvcodec.video.reader import open_video
from nvcodec.video.remux import _attach
from nvcodec.video.tracks import _Collector
from nvcodec.video.writer import open_writer

SEGMENTS = (
    Segment(SegmentHeader(first_frame=0, n_frames=4, arch_id=1, tensors_sha256=0), b"", b""),
)
BUNNY = Path(__file__).parent.parent / "examples" / "bunny.mp4"
OPTIONS = nvcodec.EncodeOptions(target=nvcodec.Target(bpp=2.0), passes=1)


def read(path, **wanted):
    """Return frames, info, extras and warnings."""
    with open_video(path, **wanted) as reader:
        frames = list(reader)
        extras = reader.read_extras()
        return frames, reader.info, extras, reader.warnings


def write(path, frames, info, extras):
    with open_writer(path, info, extras) as writer:
        for frame in frames:
            writer.write(frame)
    return writer.warnings


def pieces(track):
    base = track.header.time_base
    return [(p.time * base, p.duration * base, p.data) for p in track.packets]


def close(mine, theirs, tick=Fraction(1, 1000)):
    """Same bytes, and times within a tick of the container."""
    assert [data for *_, data in mine] == [data for *_, data in theirs]
    for (time, *_), (wanted, *_) in zip(mine, theirs, strict=True):
        assert abs(time - wanted) <= tick


@pytest.fixture(scope="module")
def two_tracks(tmp_path_factory):
    return make_movie(
        tmp_path_factory.mktemp("movies") / "two.mkv",
        audio=[
            {"codec": "aac", "language": "fre", "title": "Version française", "disposition": 1},
            {"codec": "libopus", "language": "eng", "disposition": 8, "start": 0.25, "pitch": 300},
        ],
        subtitles=[
            {"codec": "subrip", "language": "ger", "disposition": 64},
            {"codec": "ass", "title": "Signs"},
        ],
        chapters=[(0, 500, "One"), (500, 1200, "Two")],
        tags={"title": "A title", "artist": "Somebody", "location": "+1+1"},
    )


@pytest.fixture(scope="module")
def encoded(two_tracks, tmp_path_factory):
    path = tmp_path_factory.mktemp("files") / "two.nrv"
    data, result = nvcodec.encode(two_tracks, path, OPTIONS)
    return path, data, result


def test_the_sound_of_the_example_is_kept_bit_by_bit(tmp_path):
    frames, info, extras, warnings = read(BUNNY)
    (track,) = extras.tracks
    assert not warnings
    assert track.header.codec == "aac"
    assert (track.header.channels, track.header.channel_mask) == (6, 0x3F)
    close(pieces(track), packets_of(BUNNY, "audio"), tick=0)
    for suffix in (".mp4", ".mkv", ".mov"):
        assert not write(tmp_path / f"out{suffix}", frames[:3], info, extras)
        close(packets_of(tmp_path / f"out{suffix}", "audio"), packets_of(BUNNY, "audio"))
    with av.open(str(tmp_path / "out.mp4")) as container:
        sound = container.streams.audio[0]
        assert (sound.codec_context.layout.name, sound.sample_rate) == ("5.1", 48000)
        assert sum(frame.samples for frame in container.decode(sound)) == 90 * 1024


def test_tracks_survive_the_codec(two_tracks, encoded, tmp_path):
    _, data, _ = encoded
    with nvcodec.open(data) as video:
        extras = video.stream.extras
        write(tmp_path / "out.mkv", list(video), video.info, extras)
    headers = [track.header for track in extras.tracks]
    assert [h.codec for h in headers] == ["aac", "opus", "subrip", "ass"]
    assert [h.language for h in headers] == ["fre", "eng", "ger", ""]
    assert [h.title for h in headers] == ["Version française", "", "", "Signs"]
    assert [h.disposition for h in headers] == [1, 8, 64, 0]
    assert [h.initial_padding for h in headers] == [1024, 312, 0, 0]
    with av.open(str(two_tracks)) as before, av.open(str(tmp_path / "out.mkv")) as after:
        for stream, made in zip(list(before.streams)[1:], list(after.streams)[1:], strict=True):
            assert made.type == stream.type
            assert made.codec_context.extradata == stream.codec_context.extradata
            assert made.disposition == stream.disposition
            assert made.start_time == stream.start_time
            for key in ("language", "title"):
                assert made.metadata.get(key) == stream.metadata.get(key)
        assert after.metadata["title"] == "A title"
        assert [c["metadata"]["title"] for c in after.chapters()] == ["One", "Two"]
    for kind in ("audio", "subtitle"):
        for index in (0, 1):
            there = packets_of(tmp_path / "out.mkv", kind, index)
            close(there, packets_of(two_tracks, kind, index), tick=0)
    assert frame_times(tmp_path / "out.mkv") == frame_times(two_tracks)


def test_bytes_are_counted_apart(encoded):
    path, data, result = encoded
    stream = unpack_stream(data)
    audio, subtitles = track_bytes(stream.extras.tracks)
    without = pack_stream(replace(stream, extras=replace(stream.extras, tracks=())))
    assert len(data) - len(without) == audio + subtitles
    assert (result.audio_bytes, result.subtitle_bytes) == (audio, subtitles)
    assert result.n_bytes == len(data)
    assert result.bpp == 8 * len(without) / (12 * 32 * 32)
    assert len(without) <= result.target_bytes
    info = describe_file(path)
    assert sum(info["parts"].values()) == pytest.approx(len(data))
    assert (info["parts"]["audio"], info["parts"]["subtitles"]) == (audio, subtitles)
    assert info["bpp"] == result.bpp == verify_file(path)["bpp"]
    assert [t["kind"] for t in info["tracks"]] == ["audio", "audio", "subtitle", "subtitle"]
    assert sum(t["bytes"] for t in info["tracks"]) == audio + subtitles
    assert info["tags"] == {"artist": "Somebody", "title": "A title"}
    assert [c["title"] for c in info["chapters"]] == ["One", "Two"]


def test_tracks_can_be_left_out(two_tracks):
    data, result = nvcodec.encode(
        two_tracks, None, OPTIONS, audio=False, subtitles=False, metadata=False
    )
    stream = unpack_stream(data)
    assert stream.extras == Extras()
    assert stream.metadata == b""
    assert (result.audio_bytes, result.subtitle_bytes) == (0, 0)
    assert result.bpp == 8 * len(data) / (12 * 32 * 32)


def test_no_metadata_leaves_no_trace_of_words(tmp_path):
    files = []
    for name, words in (("a", {}), ("b", {"tags": {"title": "Other"}, "chapters": [(0, 9, "x")]})):
        path = make_movie(tmp_path / f"{name}.mkv", n_frames=4, audio=[{"codec": "flac"}], **words)
        data, _ = nvcodec.encode(path, None, OPTIONS, metadata=False)
        files.append(pack_stream(replace(unpack_stream(data), segments=SEGMENTS)))
    assert files[0] == files[1]


def test_size_is_that_of_the_whole_file(two_tracks, encoded):
    _, _, result = encoded
    copied = result.audio_bytes + result.subtitle_bytes
    target = nvcodec.Target(size=copied + 4000)
    small, figures = nvcodec.encode(two_tracks, None, replace(OPTIONS, target=target))
    assert figures.target_bytes == 4000
    assert 0.9 * 4000 <= len(small) - copied <= 4000
    with pytest.raises(UsageError, match=rf"have {copied} bytes, so that the smallest file has"):
        nvcodec.encode(two_tracks, None, replace(OPTIONS, target=nvcodec.Target(size=copied)))


def test_a_part_of_the_video_has_that_part_of_the_sound(two_tracks):
    _, info, extras, _ = read(two_tracks, start=3, count=4)
    assert info.timing == Timing(time_base=Fraction(1, 10), pts=range(4), duration=1)
    start, end = Fraction(3, 10), Fraction(7, 10)
    for track, (kind, index) in zip(extras.tracks, [("audio", 0), ("audio", 1)], strict=False):
        wanted = [
            (time - start, duration, data)
            for time, duration, data in packets_of(two_tracks, kind, index)
            if start <= time < end
        ]
        close(pieces(track), wanted, tick=0)
        assert track.header.initial_padding == 0
    texts = [(float(t), float(d), data) for t, d, data in pieces(extras.tracks[2])]
    assert texts == [(0.0, 0.1, b"one"), (0.1, 0.3, b"two")]
    assert [(c.start, c.end) for c in extras.chapters] == [(0, 200000000), (200000000, 400000000)]


def test_a_part_from_the_start_keeps_its_first_packets(two_tracks):
    _, _, extras, _ = read(two_tracks, count=4)
    wanted = [p for p in packets_of(two_tracks, "audio") if p[0] < Fraction(4, 10)]
    close(pieces(extras.tracks[0]), wanted, tick=0)
    assert extras.tracks[0].header.initial_padding == 1024


def test_decoding_a_part_agrees_with_encoding_it(two_tracks, encoded):
    _, data, _ = encoded
    timing = Timing.constant(Fraction(10), 12)
    mine = unpack_stream(data).extras.cut(timing.window(3, 7))
    _, _, theirs, _ = read(two_tracks, start=3, count=4)
    assert [pieces(t) for t in mine.tracks] == [pieces(t) for t in theirs.tracks]
    assert mine.chapters == theirs.chapters


@pytest.mark.parametrize(
    ("suffix", "kept"),
    [(".mp4", ["aac", "opus"]), (".mov", ["aac"]), (".webm", ["opus"]), (".y4m", []), ("/", [])],
)
def test_what_an_output_cannot_hold_is_named(two_tracks, tmp_path, suffix, kept):
    frames, info, extras, _ = read(two_tracks)
    target = f"{tmp_path}/out{suffix}"
    warnings = write(target, frames, info, extras)
    if suffix in (".y4m", "/"):
        assert "audio track 1 (aac, fre), audio track 2" in " ".join(warnings)
        assert len(warnings) == 1
        return
    dropped = [t.label(i) for i, t in enumerate(extras.tracks) if t.header.codec not in kept]
    assert [w.split(" is left out")[0] for w in warnings] == dropped
    with av.open(target) as container:
        tracks = [s.codec_context.codec.canonical_name for s in list(container.streams)[1:]
                  if s.type in ("audio", "subtitle")]  # fmt: skip
    assert tracks == kept


def test_mov_text_in_mp4(tmp_path):
    path = make_movie(
        tmp_path / "a.mp4", subtitles=[{"codec": "mov_text", "language": "ger"}], n_frames=3
    )
    frames, info, extras, _ = read(path)
    assert not write(tmp_path / "b.mp4", frames, info, extras)
    texts = [(t, d, data) for t, d, data in packets_of(tmp_path / "b.mp4", "subtitle") if any(data)]
    close(texts, [p for p in packets_of(path, "subtitle") if any(p[2])], tick=0)


AUDIO_CODECS = [
    "aac", "ac3", "eac3", "flac", "libmp3lame", "libopus", "mp2", "alac", "wavpack",
    "pcm_s16le", "pcm_s24le", "pcm_f32le", "pcm_mulaw", "pcm_alaw", "pcm_u8",
]  # fmt: skip


@pytest.mark.parametrize("codec", AUDIO_CODECS)
def test_every_codec_decodes_to_the_same_samples(tmp_path, codec):
    suffix = ".mov" if codec.endswith("law") else ".mkv"
    path = make_movie(tmp_path / f"a{suffix}", n_frames=2, audio=[{"codec": codec, "seconds": 0.2}])
    frames, info, extras, _ = read(path)
    copy = tmp_path / f"b{suffix}"
    assert not write(copy, frames, info, extras)
    assert samples(copy) == samples(path)
    close(packets_of(copy, "audio"), packets_of(path, "audio"), tick=0)


def samples(path):
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        return [(f.pts, f.sample_rate, f.to_ndarray().tobytes()) for f in container.decode(stream)]


def test_codecs_that_cannot_be_copied_are_named(tmp_path):
    path = make_movie(tmp_path / "a.avi", n_frames=2, audio=[{"codec": "adpcm_ms"}])
    _, _, extras, warnings = read(path)
    assert not extras.tracks
    assert warnings == ["the audio stream 1 is adpcm_ms, which cannot be copied; it is left out"]


def test_corrupt_sound_is_copied_as_it_is_and_never_decoded(tmp_path):
    path = make_movie(tmp_path / "a.mkv", n_frames=3, audio=[{"codec": "flac"}])
    data = bytearray(path.read_bytes())
    at = data.index(packets_of(path, "audio")[5][2])
    data[at : at + 20] = b"\xff" * 20
    path.write_bytes(data)
    frames, info, extras, _ = read(path)
    assert not write(tmp_path / "b.mkv", frames, info, extras)
    close(packets_of(tmp_path / "b.mkv", "audio"), packets_of(path, "audio"), tick=0)


def test_sound_that_the_muxer_refuses_is_one_sentence(tmp_path):
    path = make_movie(tmp_path / "a.mkv", n_frames=12, audio=[{"codec": "eac3"}])
    frames, info, extras, _ = read(path)
    (track,) = extras.tracks
    packets = [*track.packets]
    packets[3] = replace(packets[3], data=b"\x00" * 30)
    bad = replace(extras, tracks=(Track(track.header, packets),))
    with pytest.raises(InputError, match=r"audio track 1 \(eac3\) is damaged .* --audio none"):
        write(tmp_path / "b.mp4", frames, info, bad)
    assert not list(tmp_path.glob("*b*"))


def test_a_cut_file_ends_with_a_warning(tmp_path):
    path = make_movie(tmp_path / "a.mkv", audio=[{"codec": "flac", "seconds": 3}])
    path.write_bytes(path.read_bytes()[:-20000])
    _, _, extras, _ = read(path, count=3)
    assert len(extras.tracks) == 1
    whole = packets_of(path, "audio")
    assert [p.data for p in extras.tracks[0].packets] == [p[2] for p in whole if p[0] < 0.3]


def test_attachments_and_covers_are_named(tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width = stream.height = 32
        container.add_attachment("font.ttf", "font/ttf", b"abc")
        for i in range(2):
            frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), "rgb24")
            frame.pts = i
            container.mux(stream.encode(frame.reformat(format="yuv420p")))
        container.mux(stream.encode(None))
    assert "the attachment font.ttf is not kept" in read(tmp_path / "a.mkv")[3]


HEADER = TrackHeader(kind=AUDIO, codec="flac", time_base_num=1, time_base_den=1000)
packets = st.lists(
    st.builds(
        Packet,
        time=st.integers(-(2**40), 2**40),
        duration=st.integers(0, 2**32 - 1),
        data=st.binary(min_size=1, max_size=300),
        key=st.booleans(),
        skip_start=st.integers(0, 2**32 - 1),
        skip_end=st.integers(0, 2**32 - 1),
        cue_id=st.text(max_size=9),
        cue_settings=st.text(max_size=9),
    ),
    max_size=8,
)


@given(packets)
def test_round_trip_of_any_packets(packets):
    track = unpack_track(pack_track(Track(HEADER, packets)), "a track")
    assert track.header == HEADER
    assert list(track.packets) == packets
    assert len(track.packets) == len(packets)


def test_a_steady_track_costs_three_bytes_a_packet():
    steady = [Packet(time=20 * i, duration=20, data=b"x" * 200) for i in range(100)]
    empty = len(pack_track(Track(HEADER, [])))
    assert len(pack_track(Track(HEADER, steady))) == empty + 4 + 100 * 203


@given(st.data())
def test_truncated_and_changed_tracks_raise_only_bitstream_errors(data):
    packets = [Packet(time=5, duration=7, data=b"abc"), Packet(time=9, duration=7, data=b"d")]
    payload = bytearray(pack_track(Track(HEADER, packets)))
    at = data.draw(st.integers(0, len(payload) - 1))
    if data.draw(st.booleans()):
        payload = payload[:at]
    else:
        payload[at] ^= data.draw(st.integers(1, 255))
    try:
        for packet in unpack_track(bytes(payload), "a track").packets:
            assert packet.data
    except BitstreamError:
        pass


def tampered(*, n_packets=1, table=b"\x00\x01", data=b"x"):
    return fields.pack(HEADER) + struct.pack("<I", n_packets) + table + data


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (tampered(n_packets=2**32 - 1), "3 bytes for 4294967295 packets"),
        (tampered(table=b"\x20\x01"), "flags .* are 32, allowed are 0 to 31"),
        (tampered(table=b"\x00\x00"), "packet without bytes"),
        (tampered(table=b"\x00\x02"), "1 bytes of packets, announced are 2"),
        (tampered(data=b"xy"), "2 bytes of packets, announced are 1"),
        (tampered(table=b"\x00\x81\x00"), "shortest form"),
        (tampered(table=b"\x00" + b"\xff" * 9), "too large"),
        (tampered(table=b"\x03" + struct.pack("<qI", 2**63 - 1, 1) + b"\x01"), "beyond 64 bits"),
    ],
)
def test_bad_packets(payload, message):
    with pytest.raises(CorruptError, match=message):
        unpack_track(payload, "the trAK chunk at byte 9")


def test_limits_of_tracks(encoded):
    payload = pack_track(Track(HEADER, [Packet(time=0, duration=1, data=b"x")] * 3))
    with pytest.raises(LimitError, match="3 packets, the limit is 2"):
        unpack_track(payload, "a track", Limits(max_packets=2))
    _, data, _ = encoded
    with pytest.raises(LimitError, match="4 tracks, the limit is 3"):
        unpack_stream(data, Limits(max_tracks=3))
    with pytest.raises(LimitError, match="'trAK' at byte"):
        unpack_stream(data, Limits(max_track_bytes=1000))


def test_only_what_can_be_stored_is_packed():
    for data in (b"", b"x" * (1 << 24)):
        with pytest.raises(ValueError, match="bytes, allowed are 1 to"):
            pack_track(Track(HEADER, [Packet(time=0, duration=0, data=data)]))
    with pytest.raises(ValueError, match="1025 records"):
        pack_extras(Extras(tags=(), chapters=(chapter(),) * 1025))


def chapter(**changes):
    given = {"time_base_num": 1, "time_base_den": 1000, "start": -5, "end": 10, "title": "x"}
    return Chapter(**given | changes)


def test_a_decoder_that_knows_no_tracks_still_shows_the_video(encoded):
    _, data, _ = encoded
    stream = unpack_stream(data)
    renamed = data
    for old, new in ((b"trAK", b"zzAK"), (b"chAP", b"zzAP"), (b"taGS", b"zzGS")):
        at = 0
        while (at := renamed.find(old, at)) >= 0:
            size = struct.unpack_from("<I", renamed, at - 4)[0]
            chunk = pack_chunk(new.decode(), renamed[at + 4 : at + 4 + size])
            renamed = renamed[: at - 4] + chunk + renamed[at + 8 + size :]
    assert unpack_stream(renamed) == replace(stream, extras=Extras())


def test_tracks_are_added_before_the_first_segment(encoded):
    _, data, _ = encoded
    stream = unpack_stream(data)
    without = pack_stream(replace(stream, extras=replace(stream.extras, tracks=())))
    assert add_tracks(without, stream.extras.tracks) == data
    assert pack_stream(stream) == data


def test_duplicate_words_are_corrupt():
    for extras in (Extras(tags=(Tag(key="title", value="x"),)), Extras(chapters=(chapter(),))):
        from nvcodec.bitstream.container import Chunk

        (packed,) = pack_extras(extras)
        found = Chunk(packed[4:8].decode(), packed[8:-4], 0)
        assert unpack_extras([found]) == extras
        with pytest.raises(CorruptError, match="file has 2"):
            unpack_extras([found, found])


def timing_chunk(timing):
    from nvcodec.bitstream.container import Chunk

    packed = pack_timing(timing)
    return Chunk(packed[4:8].decode(), packed[8:-4], 0)


@given(
    st.integers(-(2**40), 2**40),
    st.lists(st.integers(1, 2**40), max_size=20),
    st.integers(0, 2**32 - 1),
)
def test_round_trip_of_any_times(first, steps, duration):
    pts = [first, *(first + sum(steps[: i + 1]) for i in range(len(steps)))]
    timing = Timing(time_base=Fraction(1001, 90000), pts=pts, duration=duration)
    assert unpack_timing(timing_chunk(timing), len(pts)) == timing


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([(2, 5)], "times of 3 frames, needed are 4"),
        ([(4, 5)], "a run of 4 steps"),
        ([(3, 0)], "3 steps of 0 ticks"),
        ([(0, 5)], "a run of 0 steps"),
        ([(5, 5)], "too large"),
        ([(3, 2**53)], "too large"),
    ],
)
def test_bad_times(runs, message):
    chunk = timing_chunk(Timing(time_base=Fraction(1, 10), pts=[0], duration=1))
    coded = b"".join(pack_varint(n) + pack_varint(step) for n, step in runs)
    with pytest.raises(CorruptError, match=message):
        unpack_timing(replace(chunk, payload=chunk.payload + coded), 4)


def test_windows_of_subtitles_and_sound():
    packets = [Packet(time=t, duration=100, data=b"x") for t in (-50, 50, 150, 250)]
    window = Window(start=Fraction(1, 10), end=Fraction(2, 10))
    for kind, wanted in ((AUDIO, [(50, 100)]), (SUBTITLES, [(0, 50), (50, 50)])):
        extras = Extras(tracks=(Track(replace(HEADER, kind=kind), packets),)).cut(window)
        assert [(p.time, p.duration) for p in extras.tracks[0].packets] == wanted
    assert not Extras(tracks=(Track(HEADER, packets),)).cut(Window(start=Fraction(9))).tracks


def run(*args):
    from click.testing import CliRunner

    from nvcodec.cli import main

    result = CliRunner().invoke(main, [str(arg) for arg in args])
    assert result.exit_code == 0, result.output
    return result


def kinds(path):
    with av.open(str(path)) as container:
        return [stream.type for stream in container.streams]


def test_commands_leave_out_what_they_are_told_to(two_tracks, encoded, tmp_path):
    path, *_ = encoded
    some = tmp_path / "some.nrv"
    options = ("--passes", 1, "--bpp", 2, "--threads", 1, "--frames", 4, "--no-metadata")
    run("encode", two_tracks, "-o", some, "--subtitles", "none", *options)
    assert [t["kind"] for t in describe_file(some)["tracks"]] == ["audio", "audio"]
    assert not describe_file(some)["chapters"]
    run("decode", path, "-o", tmp_path / "a.mkv", "--audio", "none")
    assert kinds(tmp_path / "a.mkv") == ["video", "subtitle", "subtitle"]
    run(
        "decode", path, "-o", tmp_path / "b.mkv", "--subtitles", "none", "--start", 3, "--frames", 4
    )
    assert kinds(tmp_path / "b.mkv") == ["video", "audio", "audio"]
    start, end = Fraction(3, 10), Fraction(7, 10)
    wanted = [p for p in packets_of(two_tracks, "audio") if start <= p[0] < end]
    close([(t + start, d, x) for t, d, x in packets_of(tmp_path / "b.mkv", "audio")], wanted)
    result = run("decode", path, "-o", tmp_path / "c.webm")
    assert "audio track 1 (aac, fre) is left out: webm files cannot hold it" in result.stderr
    shown = run("info", path).output
    for words in ("aac, 48000 Hz, 1 channels, fre, Version française", "0.500 to 1.200 s Two",
                  "bytes of it sound", "bytes of it subtitles", "video only"):  # fmt: skip
        assert words in shown


def test_a_plan_names_the_copied_bytes(two_tracks, encoded):
    _, _, result = encoded
    shown = run("encode", two_tracks, "--dry-run", "--passes", 1, "--bpp", 2, "--threads", 1).output
    assert f"{result.audio_bytes:,} bytes of sound" in shown
    assert f"{result.subtitle_bytes:,} bytes of subtitles" in shown


def collect(*packets):
    collector = _Collector(HEADER, "stream 1", shift=0, unwrapper=None)
    for packet in packets:
        collector.take(packet)
    return collector.finish(Window()), collector.warnings


def packet(data=b"x", pts=0, duration=5):
    made = av.Packet(data)
    made.pts, made.duration = pts, duration
    return made


def test_packets_without_times():
    track, warnings = collect(packet(pts=None), packet(pts=3))
    assert track is None
    assert warnings == ["stream 1 (flac) has packets without a time; it is left out"]
    track, warnings = collect(packet(pts=7), packet(pts=None), packet(pts=None))
    assert [p.time for p in track.packets] == [7, 12, 17]
    assert warnings == ["stream 1 (flac) lacks the times of some packets; they follow each other"]


def test_times_that_jump_back_are_said():
    track, warnings = collect(packet(pts=9), packet(pts=3))
    assert [p.time for p in track.packets] == [9, 3]
    assert warnings == ["stream 1 (flac) jumps back in time; it is copied as it is"]


def test_unknown_side_data_is_said():
    odd = packet()
    _attach(odd, "stereo_3d", b"12345678")
    _attach(odd, "skip_samples", struct.pack("<IIxx", 3, 4))
    track, warnings = collect(odd, packet(pts=5))
    assert track.header.initial_padding == 3
    assert next(iter(track.packets)).skip_end == 4
    assert warnings == ["stream 1 (flac) has side data (stereo_3d), which is not kept"]


def test_a_language_that_mp4_cannot_say(tmp_path):
    path = make_movie(tmp_path / "a.mkv", n_frames=2, audio=[{"codec": "aac", "language": "pt-BR"}])
    frames, info, extras, _ = read(path)
    (warning,) = write(tmp_path / "b.mp4", frames, info, extras)
    assert warning == "audio track 1 (aac, pt-BR) loses its language, which mp4 files cannot say"
