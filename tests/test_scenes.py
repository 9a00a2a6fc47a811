"""A video that cuts from scene to scene: where it does, and a network for each."""

import dataclasses
import json
from fractions import Fraction

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import make_video, moving_frames
from media_factory import make_movie

import nvcodec
from nvcodec.bitstream.header import unpack_stream
from nvcodec.cli import main
from nvcodec.codec.checkpoint import checkpoint_path, finished_files, holds_fit, read_checkpoint
from nvcodec.codec.encoder import dry_run
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.scenes import find_cuts, split_scenes
from nvcodec.errors import Interrupted, UsageError
from nvcodec.events import Log, Progress
from nvcodec.metrics import QualityMeter
from nvcodec.video.reader import open_video


def cut_frames(n_each=8, width=32, height=32):
    """Two scenes: shapes that move, and the same upside down in other colours."""
    first = moving_frames(n_each, width, height)
    return first + [np.ascontiguousarray(255 - frame[::-1, :, ::-1]) for frame in first]


def options(**changes):
    return EncodeOptions(
        **{"target": Target(bpp=2.0), "passes": 10, "batch": 2, "arch": "hnerv"} | changes
    )


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    path = tmp_path_factory.mktemp("cut") / "in.mkv"
    return make_video(path, codec="ffv1", pixel_format="bgr0", frames=cut_frames())


def noise(n, level, seed=0):
    """Frames of one texture under a little noise."""
    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 60, (36, 64, 3))
    return [np.uint8(texture + level + rng.integers(0, 8, texture.shape)) for _ in range(n)]


@pytest.mark.parametrize("peak", [255, 1023])
def test_a_cut_is_found_at_its_frame(peak):
    frames = np.stack(noise(12, 20) + noise(9, 120, seed=1) + noise(10, 60, seed=2))
    frames = frames.astype(np.uint16) * 4 if peak == 1023 else frames
    assert list(find_cuts(frames, peak)) == [12, 21]
    assert split_scenes(frames, peak) == [range(12), range(12, 21), range(21, 31)]


def test_what_is_no_cut():
    still = noise(20, 80)
    flash = [*still[:10], np.full_like(still[0], 255), *still[11:]]
    fade = [np.uint8(frame * (0.2 + 0.04 * t)) for t, frame in enumerate(still)]
    bars = np.kron(np.arange(64) % 16 < 8, np.ones(1)) * 200
    pan = [np.uint8(np.broadcast_to(np.roll(bars, 7 * t)[None, :, None], (36, 64, 3)))
           for t in range(20)]  # fmt: skip
    rng = np.random.default_rng(0)
    snow = [rng.integers(0, 256, (9, 16, 3), dtype=np.uint8) for _ in range(20)]
    for frames in (still, flash, fade, pan, snow, still[:1]):
        assert find_cuts(np.stack(frames), 255) == {}


def test_short_scenes_stay_with_the_neighbour_that_differs_less():
    scenes = noise(12, 20) + noise(5, 120, seed=1) + noise(10, 150, seed=2)
    frames = np.stack(scenes)
    assert list(find_cuts(frames, 255)) == [12, 17]
    assert split_scenes(frames, 255) == [range(12), range(12, 27)]
    assert split_scenes(frames, 255, lambda n: n > 12) == [range(27)]


def test_each_scene_has_a_network_in_one_file(tmp_path, video):
    heard = []
    out = tmp_path / "out.nrv"
    data, result = nvcodec.encode(video, out, options(), device="cpu", listener=heard.append)
    assert result.scenes == [0, 8]
    headers = [segment.header for segment in unpack_stream(data).segments]
    assert [(h.first_frame, h.n_frames) for h in headers] == [(0, 8), (8, 8)]
    assert out.read_bytes() == data
    assert not checkpoint_path(out).exists()
    assert 0.97 * result.target_bytes < len(data) <= result.target_bytes == 16 * 32 * 32 * 2 // 8
    with open_video(video) as reader:
        source = list(reader)
    meter = QualityMeter()
    for frame, truth in zip(nvcodec.open(data), source, strict=True):
        meter.add(frame, truth)
    assert meter.psnr_db == pytest.approx(result.psnr_db)
    np.testing.assert_array_equal(nvcodec.open(data)[11], list(nvcodec.open(data))[11])
    said = [event.message for event in heard if isinstance(event, Log)]
    assert said == ["scene 1 of 2: frames 0 to 7", "scene 2 of 2: frames 8 to 15"]
    steps = [e for e in heard if isinstance(e, Progress) and e.stage.startswith("fit")]
    assert (steps[-1].done, steps[-1].total) == (result.n_steps, result.n_steps) == (80, 80)
    assert all(event.total == 80 for event in steps)


def test_one_network_where_one_is_asked_for(video):
    for changes in (
        {"scenes": "none"},
        {"coding": "ptq"},
        {"n_params": 4000, "target": Target()},
        {"target": Target(bpp=0.15)},
    ):
        data, result = nvcodec.encode(video, None, options(**changes), device="cpu")
        assert result.scenes == [0]
        assert len(unpack_stream(data).segments) == 1
    with pytest.raises(UsageError, match="scenes is all, allowed are auto, none"):
        EncodeOptions(scenes="all")


@pytest.mark.parametrize("stop_at", [3, 39, 40, 41, 70])
def test_stop_and_resume_in_any_scene_give_the_uninterrupted_file(tmp_path, video, stop_at):
    whole, result = nvcodec.encode(video, None, options(), device="cpu")
    out = tmp_path / "out.nrv"
    stops = iter([False] * (stop_at - 1) + [True])
    with pytest.raises(Interrupted, match="the state is in"):
        nvcodec.encode(video, out, options(), device="cpu", stop=stops.__next__)
    _, state = read_checkpoint(checkpoint_path(out))
    assert len(finished_files(state)) == (stop_at >= 40)
    assert holds_fit(state)
    resumed, again = nvcodec.encode(video, out, options(), device="cpu", resume=True)
    assert resumed == whole == out.read_bytes()
    assert (again.n_steps, again.n_params) == (result.n_steps, result.n_params)
    assert not checkpoint_path(out).exists()


def test_a_stop_between_scenes_keeps_the_finished_ones(tmp_path, video, monkeypatch):
    monkeypatch.setattr("nvcodec.codec.work._PATIENCE_S", 0.0)
    asked = options(arch="canvas", target=Target(bpp=8.0))
    whole, _ = nvcodec.encode(video, None, asked, device="cpu")
    out = tmp_path / "out.nrv"
    heard = []

    def in_second_scene():
        said = [event.message for event in heard if isinstance(event, Log)]
        prepares = heard and isinstance(heard[-1], Progress) and heard[-1].stage == "prepare"
        return len(said) == 2 and prepares

    with pytest.raises(Interrupted, match="before the first step of a scene; those before are in"):
        nvcodec.encode(video, out, asked, device="cpu", listener=heard.append, stop=in_second_scene)
    _, state = read_checkpoint(checkpoint_path(out))
    assert len(finished_files(state)) == 1
    assert not holds_fit(state)
    resumed, _ = nvcodec.encode(video, out, asked, device="cpu", resume=True)
    assert resumed == whole


def test_a_checkpoint_of_other_scenes_is_refused(tmp_path, video):
    out = tmp_path / "out.nrv"
    stops = iter([False] * 50 + [True])
    with pytest.raises(Interrupted):
        nvcodec.encode(video, out, options(), device="cpu", stop=stops.__next__)
    one = dataclasses.replace(options(), scenes="none")
    with pytest.raises(UsageError, match="made with other scenes"):
        nvcodec.encode(video, out, one, device="cpu", resume=True)
    path = checkpoint_path(out)
    sound = path.read_bytes()
    n = int.from_bytes(sound[:8], "little")
    header = json.loads(sound[8 : 8 + n])
    start = 8 + n + header["file.0"]["data_offsets"][0]
    path.write_bytes(sound[:start] + b"no" + sound[start + 2 :])
    with pytest.raises(UsageError, match="is damaged"):
        nvcodec.encode(video, out, options(), device="cpu", resume=True)
    key = json.loads(header["__metadata__"]["nvcodec"])
    key["done_steps"] = "many"
    header["__metadata__"]["nvcodec"] = json.dumps(key)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + sound[8 + n :])
    with pytest.raises(UsageError, match="is damaged"):
        nvcodec.encode(video, out, options(), device="cpu", resume=True)


def test_time_is_shared(video):
    data, result = nvcodec.encode(video, None, options(max_time_s=4.0), device="cpu")
    assert result.scenes == [0, 8]
    assert result.n_steps > 10
    assert len(nvcodec.open(data)) == 16


def test_quality_is_reached_in_every_scene(video):
    asked = options(target=Target(psnr=18.0), passes=40)
    data, result = nvcodec.encode(video, None, asked, device="cpu")
    assert result.scenes == [0, 8]
    for scene in (slice(0, 8), slice(8, 16)):
        assert np.mean(result.psnr_per_frame_db[scene]) >= 18.0
    assert result.target_bytes == len(data)


def test_planes_and_masks_are_those_of_the_scene(tmp_path):
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=cut_frames())
    _, result = nvcodec.encode(path, None, options(color="yuv", passes=40), device="cpu")
    assert result.scenes == [0, 8]
    assert result.psnr_db > 15
    hidden = np.zeros((16, 32, 32), np.bool_)
    hidden[8:, :, :16] = True
    _, masked = nvcodec.encode(path, None, options(passes=40), device="cpu", hidden=hidden)
    _, seen = nvcodec.encode(path, None, options(passes=40), device="cpu")
    assert masked.psnr_per_frame_db[:8] == seen.psnr_per_frame_db[:8]
    assert np.mean(masked.psnr_per_frame_db[8:]) < np.mean(seen.psnr_per_frame_db[8:]) - 1


def test_sound_times_and_tags_stay_whole(tmp_path):
    sound = {"codec": "aac", "seconds": 1.6, "pitch": 440}
    path = make_movie(
        tmp_path / "in.mkv", n_frames=16, video="ffv1", audio=[sound], tags={"title": "Two"},
        rate=Fraction(10), times=[t + (t > 11) for t in range(16)], frames=cut_frames(),
    )  # fmt: skip
    data, result = nvcodec.encode(path, None, options(target=Target(size=20000)), device="cpu")
    stream = unpack_stream(data)
    assert len(stream.segments) == len(result.scenes) == 2
    assert len(stream.extras.tracks) == 1
    assert [t.value for t in stream.extras.tags if t.key == "title"] == ["Two"]
    assert stream.timing is not None
    assert len(data) <= 20000
    assert len(data) - result.audio_bytes <= result.target_bytes


def test_dry_run_speaks_of_all_scenes(video):
    plan = dry_run(video, options(), device="cpu")
    assert (plan["frames"], plan["scenes"], plan["steps"]) == (16, [0, 8], 80)
    _, result = nvcodec.encode(video, None, options(), device="cpu")
    assert plan["parameters"] == pytest.approx(result.n_params, rel=0.05)
    assert plan["expected_bytes"] == pytest.approx(result.target_bytes, rel=0.05)


def test_the_command_says_how_many(tmp_path, video):
    out = tmp_path / "out.nrv"
    args = ["encode", str(video), "-o", str(out), "--arch", "hnerv", "--bpp", "2", "--passes", "5"]
    done = CliRunner().invoke(main, args)
    assert done.exit_code == 0
    assert "scene 2 of 2: frames 8 to 15" in done.stderr
    assert "scenes      2, from frames 0, 8" in done.stderr
    seen = CliRunner().invoke(main, [*args, "--dry-run"])
    assert "2, from frames 0, 8" in seen.stdout
