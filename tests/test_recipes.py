"""Recipes and files of settings: who wins, what is refused, and that a run can be repeated."""

import csv
import dataclasses
import json
import struct
import subprocess
import sys
import tomllib

import pytest
from conftest import make_video, moving_frames
from test_cli import environment, fail, listing, run, run_json

import nvcodec
from nvcodec import cli
from nvcodec.cli.runlog import append_run
from nvcodec.cli.settings import chosen, settings_of, settle, to_toml
from nvcodec.codec.options import EncodeOptions
from nvcodec.codec.plan import make_plan
from nvcodec.codec.recipes import RECIPES
from nvcodec.errors import UsageError
from nvcodec.events import Progress
from nvcodec.models import ARCHITECTURES

PRESENT = [name for name, recipe in RECIPES.items() if recipe["arch"] in ARCHITECTURES]
SMALL = ("--params", "3k", "--passes", "2", "--device", "cpu", "-m", "lower-width=4")
SMALL += ("-m", "embed-dim=2")


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """48 x 32, 4 frames, lossless RGB."""
    path = tmp_path_factory.mktemp("clip") / "clip.mkv"
    return make_video(
        path, codec="ffv1", pixel_format="bgr0", frames=moving_frames(4, width=48, height=32)
    )


def settled(*args):
    """What an encode with these options would do."""
    command = cli.encode.encode
    with command.make_context("encode", ["in.mp4", *map(str, args)]) as ctx:
        return settle(ctx, ctx.params)


# Recipes


@pytest.mark.parametrize("name", PRESENT)
def test_recipes_are_options_that_plan(name):
    options = EncodeOptions(**RECIPES[name])
    plan = make_plan(
        dataclasses.replace(options, n_params=3e6),
        n_frames=132, height=720, width=1280, frame_rate=25, overhead_bytes=140,
    )  # fmt: skip
    assert plan.max_bytes is None
    assert 0.5e6 < plan.n_params <= 3e6
    assert plan.fit.n_steps >= 300 * 66
    assert plan.fit.coding == "ptq"


@pytest.mark.parametrize("name", RECIPES)
def test_recipes_speak_of_options_that_exist(name):
    with cli.encode.encode.make_context("encode", ["in.mp4"]) as ctx:
        assert set(RECIPES[name]) <= set(settings_of(ctx))
    assert set(RECIPES[name]) <= {field.name for field in dataclasses.fields(EncodeOptions)}
    values = settled("--recipe", name)
    for key, value in RECIPES[name].items():
        assert values[key] == value


def test_hnerv_recipe_is_the_published_network():
    plan = make_plan(
        EncodeOptions(**RECIPES["hnerv-paper"], n_params=1.506e6),
        n_frames=132, height=640, width=1280, frame_rate=25, overhead_bytes=140,
    )  # fmt: skip
    assert plan.n_params == 1_505_172
    assert plan.encoder_params() == 306_160
    assert plan.fit.n_steps == 300 * 66
    assert (plan.fit.analysis, plan.fit.analysis_share) == ("convnext", 1.0)
    assert (plan.fit.lr, plan.fit.beta1, plan.fit.beta2, plan.fit.loss) == (1e-3, 0.9, 0.999, "l2")
    assert (plan.fit.weight_bits, plan.fit.embed_bits) == (8, 6)
    assert (plan.fit.warmup_share, plan.fit.lr_floor) == (0.1, 0.0)


@pytest.mark.parametrize(
    ("name", "height", "n_params", "strides", "fc_dim"),
    [
        ("nerv-paper", 720, 3_201_905, (5, 2, 2, 2, 2), 26),
        ("nerv-paper", 720, 6_282_001, (5, 2, 2, 2, 2), 58),
        ("nerv-paper-pruned", 720, 12_524_563, (5, 2, 2, 2, 2), 112),
        ("enerv-paper", 720, 12_490_314, (5, 2, 2, 2, 2), 196),
        ("nerv-paper", 1080, 12_524_563, (5, 3, 2, 2, 2), None),
    ],
)
def test_recipes_of_nerv_are_the_published_networks(name, height, n_params, strides, fc_dim):
    plan = make_plan(
        EncodeOptions(**RECIPES[name], n_params=n_params),
        n_frames=132, height=height, width=height * 16 // 9, frame_rate=25, overhead_bytes=140,
    )  # fmt: skip
    assert plan.config.strides == strides
    if fc_dim is not None:
        assert (plan.n_params, plan.config.fc_dim) == (n_params, fc_dim)
    fit = plan.fit
    assert (fit.batch, fit.loss, fit.lr, fit.beta1, fit.beta2) == (1, "fusion6", 5e-4, 0.5, 0.999)
    assert (fit.warmup_share, fit.lr_floor, fit.lr_schedule) == (0.2, 0.0, "cosine")
    pruned = name.endswith("pruned")
    assert fit.n_steps == (400 if pruned else 300) * 132
    assert (fit.prune, fit.prune_at) == ((0.4, (0.75,)) if pruned else (0.0, (0.2,)))


def test_3dnerv_recipe_is_the_published_network():
    recipe = RECIPES["3dnerv-paper"]
    options = EncodeOptions(
        **recipe | {"model": recipe["model"] | {"strides": "5,3,2,2,2"}}, n_params=3.03e6
    )
    plan = make_plan(
        options, n_frames=600, height=1080, width=1920, frame_rate=120, overhead_bytes=140
    )
    assert (plan.config.fc_dim, plan.config.clip_frames, plan.fit.batch) == (52, 2, 2)
    assert plan.n_params == 1_633_763 + 600 // 2 * 32 * 9 * 16
    assert plan.fit.n_steps == 300 * 300
    assert plan.fit.analysis_share == 1.0


def test_hinerv_recipe_is_the_published_network():
    plan = make_plan(
        EncodeOptions(**RECIPES["hinerv-paper"], n_params=3_188_933),
        n_frames=600, height=1080, width=1920, frame_rate=120, overhead_bytes=140,
    )  # fmt: skip
    assert plan.n_params == 3_188_933
    fit = plan.fit
    assert (fit.batch, fit.loss, fit.lr, fit.beta1, fit.beta2) == (1, "fusion10", 2e-3, 0.9, 0.999)
    assert fit.n_steps == 360 * 600
    assert (fit.warmup_share * fit.n_steps, fit.prune_at[0] * fit.n_steps) == (18_000, 180_000)
    assert (fit.lr_start * fit.lr, fit.lr_floor * fit.lr) == (2e-5, 2e-5)
    assert (fit.prune, fit.weight_bits, fit.embed_bits) == (0.15, 6, 6)


def test_nerv_baseline_of_hnerv_has_no_embeddings():
    plan = make_plan(
        EncodeOptions(**RECIPES["hnerv-paper-nerv"], n_params=1.5e6),
        n_frames=132, height=640, width=1280, frame_rate=25, overhead_bytes=140,
    )  # fmt: skip
    assert plan.fit.analysis == "none"
    assert plan.model().latent_names == ()
    assert plan.encoder_params() == 0
    assert plan.config.kernels() == [3] * len(plan.config.strides)


@pytest.mark.parametrize("name", PRESENT)
def test_a_recipe_encodes_end_to_end(tmp_path, clip, name):
    output = tmp_path / "a.nrv"
    small = ("-m", "pe-levels=8") if "embed_dim" not in RECIPES[name].get("model", {}) else SMALL
    small += ("-m", "lower-width=4")
    if name == "hinerv-paper":
        small = ("--loss", "fusion6")  # MS-SSIM needs larger frames.
    args = ("--recipe", name, *small, "--passes", 2, "--device", "cpu")
    args += ("--params", "40k" if RECIPES[name]["arch"] == "3dnerv" else "20k")
    said = run_json("encode", clip, "-o", output, *args)[-2]
    assert said["target_bytes"] is None
    assert said["arch"] == RECIPES[name]["arch"]
    assert said["n_steps"] == 2 * 4 // RECIPES[name]["batch"]
    assert said["float_psnr_db"] == pytest.approx(said["psnr_db"], abs=0.5)
    assert said["float_psnr_db"] != said["psnr_db"]
    assert said["float_ms_ssim"] is None
    summary = run("encode", clip, "-o", output, *args, "-y").stderr
    assert f"{said['float_psnr_db']:.2f} dB before quantisation" in summary
    assert "bpp (size of the network)" in summary
    verified = run_json("verify", output, "--source", clip)[-2]
    assert verified["psnr_db"] == said["psnr_db"]


def test_ptq_reaches_a_target_size(tmp_path, clip):
    output = tmp_path / "a.nrv"
    args = ("--recipe", "hnerv-paper", "--size", "5k", "--passes", 2, "--device", "cpu")
    said = run_json("encode", clip, "-o", output, *args, "-m", "embed-dim=2")[-2]
    assert 4900 <= said["n_bytes"] <= said["target_bytes"] == 5000


# Who wins


def test_the_command_line_wins_over_the_recipe():
    values = settled("--recipe", "hnerv-paper", "--lr", "0.01", "--passes", 7)
    assert (values["lr"], values["passes"], values["loss"]) == (0.01, 7, "l2")


def test_even_a_default_that_is_given_wins():
    assert settled("--recipe", "hnerv-paper", "--optimizer", "muon")["optimizer"] == "muon"


def test_a_given_preset_takes_back_the_passes_of_a_recipe():
    assert settled("--recipe", "hnerv-paper")["passes"] == 300
    assert settled("--recipe", "hnerv-paper", "--preset", "fast")["passes"] is None


def test_the_environment_wins_over_the_recipe(monkeypatch):
    with cli.main.make_context("nvcodec", ["encode", "x"]) as parent:
        monkeypatch.setenv("NVCODEC_ENCODE_BATCH", "5")
        command = cli.encode.encode
        args = ["in.mp4", "--recipe", "hnerv-paper"]
        with command.make_context("encode", args, parent=parent) as ctx:
            assert settle(ctx, ctx.params)["batch"] == 5


def test_options_of_the_network_add_up(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[model]\nk-max = 3\nstrides = [5, 4]\nembed_dim = 7\n")
    values = settled("--recipe", "hnerv-paper", "--config", path, "-m", "embed-dim=9")
    assert values["model"] == {
        "embed_dim": "9", "reduction_percent": 120, "lower_width": 12, "k_min": 1, "k_max": "3",
        "strides": "5,4",
    }  # fmt: skip


def test_another_architecture_drops_the_networks_options():
    assert settled("--recipe", "3dnerv-paper")["model"]["k_time"] == 7
    values = settled("--recipe", "3dnerv-paper", "--arch", "hnerv", "-m", "k-max=3")
    assert (values["arch"], values["model"]) == ("hnerv", {"k_max": "3"})


def test_file_wins_over_recipe_and_loses_to_the_command_line(tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("lr = 0.5\nbatch = 9\nmax_time = '10m'\nbpp = 0.3\nresize = '64x48'\n")
    values = settled("--recipe", "hnerv-paper", "--config", path, "--batch", 4)
    assert (values["lr"], values["batch"], values["beta2"]) == (0.5, 4, 0.999)
    assert (values["max_time"], values["bpp"], values["resize"]) == (600, 0.3, (64, 48))
    # One target replaces another.
    values = settled("--config", path, "--size", "20k")
    assert (values["bpp"], values["size"]) == (None, 20_000)


# Files of settings


def test_a_saved_run_is_repeated_from_its_file(tmp_path, clip):
    config, first, second = (tmp_path / name for name in ("a.toml", "1.nrv", "2.nrv"))
    args = ("--recipe", "hnerv-paper", *SMALL, "--frames", 3, "--resize", "32x24", "--threads", 1)
    run("encode", clip, "-o", first, *args, "--seed", 5, "--save-config", config, "--no-metadata")
    saved = tomllib.loads(config.read_text())
    assert saved["lr"] == 1e-3
    assert saved["resize"] == "32x24"
    assert saved["model"]["lower_width"] == 4
    assert saved["prune_at"] == [0.2]
    assert saved["no_metadata"] is True
    assert config.read_text().startswith("# settings of nvcodec")
    again = tmp_path / "b.toml"
    run("encode", clip, "-o", second, "--config", config, "--save-config", again)
    assert first.read_bytes() == second.read_bytes()
    assert tomllib.loads(again.read_text()) == saved


SETTINGS = {
    "corrections": 0.25,
    "group": 4,
    "arch": "nerv", "bitrate": "200k", "preset": "slow", "max_time": "1h30m", "start": 1,
    "frames": 2, "crop": "30x20", "resize": 24, "crop_last": True, "every": "2/3", "device": "cpu",
    "threads": 3, "batch": 4, "loss": "l1", "color": "rgb", "scenes": "none",
    "side_weight": 0.5,
    "optimizer": "adam", "lr": 1e-7, "beta1": 0.5, "beta2": 0.999, "lr_schedule": "hybrid",
    "warmup": 0.1, "lr_floor": 0.25, "lr_start": 0.5, "lr_powers": "2,3", "lr_steps": "0.25,0.5",
    "coding": "ptq", "weight_bits": 6, "embed_bits": 5, "quant_axis": "1", "prune": 0.25,
    "prune_at": "0.25,0.5", "prune_scope": "layer", "eval_every": 2, "params": "1.5M",
    "model": "strides=4,3", "analysis": "none", "analysis_width": 8, "analysis_blocks": 2,
    "analysis_share": 1.0, "seed": 7, "init": 'q"\\\x7fü.nrv', "video_size": "64x48",
    "pixel_format": "yuv420p", "framerate": "30000/1001", "audio": "none", "subtitles": "none",
    "no_metadata": True,
}  # fmt: skip
"""A value of every setting that is not its default."""


def read_settings(*args):
    """Return all settings that an encode with these arguments has."""
    command = cli.encode.encode
    with command.make_context("encode", ["in.mp4", *args]) as ctx:
        return chosen(ctx, settle(ctx, ctx.params))


def test_every_setting_survives_the_file(tmp_path):
    path = tmp_path / "a.toml"
    for others in ({}, {"bitrate": None, "bpp": 0.125, "preset": None, "passes": 9},
                   {"bitrate": None, "size": "1M"}, {"bitrate": None, "psnr": 32.5},
                   {"framerate": "25", "resize": "32x24", "every": "2"}):  # fmt: skip
        given = {name: value for name, value in (SETTINGS | others).items() if value is not None}
        args = []
        for name, value in given.items():
            args += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
        settings = read_settings(*args)
        assert json.loads(json.dumps(settings)) == settings
        path.write_text(to_toml(settings, None))
        assert read_settings("--config", str(path)) == settings
        defaults = read_settings()
        assert {name for name in settings if settings[name] != defaults.get(name)} == set(given)
    with cli.encode.encode.make_context("encode", ["in.mp4"]) as ctx:
        assert {*SETTINGS, "bpp", "passes", "size", "psnr"} == {*settings_of(ctx)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("bp = 0.1", "has an unknown setting bp; allowed are analysis, "),
        ("output = 'x.nrv'", "unknown setting output"),
        ("batch = 'two'", "batch is 'two': a whole number is needed"),
        ("batch = 2.5", "batch is 2.5: a whole number is needed"),
        ("batch = true", "batch is True: a whole number is needed"),
        ("lr = '1e-3'", "lr is '1e-3': a number is needed"),
        ("no_metadata = 1", "no_metadata is 1: true or false is needed"),
        ("loss = 3", "loss is 3: a text is needed"),
        ("loss = 'huber'", "loss is 'huber': 'huber' is not one of 'log-mse'"),
        ("frames = 0", "frames is 0: 0 is not in the range"),
        ("max_time = 'soon'", "max_time is 'soon': 'soon' is not a time"),
        ("crop = '64'", "crop is '64': '64' is not a size"),
        ("prune_at = 0.2", "prune_at is 0.2: a list of numbers is needed"),
        ("prune_at = ['x']", "prune_at is ['x']: 'x' is not a list of shares"),
        ("model = 3", "model is 3: a table is needed"),
        ("[model]\nstrides = 2.5", "strides needs a whole number, a list of them or a name"),
        ("lr = ", "is not a TOML file"),
        ("lr = 7.0", "lr is 7.0, allowed is 1e-07 to 1.0"),
        ("[model]\nfoo = 1", "HNeRV has no option foo"),
    ],
)
def test_bad_settings(tmp_path, clip, text, message):
    path = tmp_path / "a.toml"
    path.write_text(text)
    before = listing(clip.parent)
    assert message in fail(2, "encode", clip, "--config", path)
    assert listing(clip.parent) == before


def test_missing_and_binary_files_of_settings(tmp_path, clip):
    assert "cannot be read" in fail(2, "encode", clip, "--config", tmp_path / "none.toml")
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    assert "is not a TOML file" in fail(2, "encode", clip, "--config", tmp_path / "a.toml")


def test_saved_settings_replace_nothing_unasked(tmp_path, clip):
    config = tmp_path / "a.toml"
    config.write_text("mine = 1\n")
    args = ("encode", clip, "--dry-run", "--bpp", "2", "--save-config", config)
    assert "use -y to overwrite" in fail(2, *args)
    assert config.read_text() == "mine = 1\n"
    run(*args, "-y")
    saved = config.read_text()
    assert tomllib.loads(saved)["bpp"] == 2
    # The same settings once more, as after an interruption.
    run(*args)
    assert config.read_text() == saved
    assert "does not exist" in fail(2, *args[:-1], tmp_path / "none" / "a.toml")


# Logs


def test_logs_gain_a_row_for_every_run(tmp_path, clip):
    table, lines = tmp_path / "runs.csv", tmp_path / "runs.json"
    for seed, log in ((1, table), (2, table), (1, lines), (2, lines)):
        args = ("--seed", seed, "--log", log, "--recipe", "hnerv-paper", *SMALL)
        said = run_json("encode", clip, "-o", tmp_path / "a.nrv", *args, "-y")[-2]
    with open(table, newline="") as file:
        rows = list(csv.DictReader(file))
    runs = [json.loads(line) for line in lines.read_text().splitlines()]
    assert [row["settings.seed"] for row in rows] == ["1", "2"]
    assert [entry["settings"]["seed"] for entry in runs] == [1, 2]
    assert float(rows[1]["result.psnr_db"]) == said["psnr_db"] == runs[1]["result"]["psnr_db"]
    assert float(rows[1]["settings.lr"]) == 1e-3
    assert "lower_width=4" in rows[0]["settings.model"]
    assert rows[0]["recipe"] == runs[0]["recipe"] == "hnerv-paper"
    assert rows[0]["source"] == str(clip)
    assert len(runs[0]["result"]["psnr_per_frame_db"]) == 4
    assert runs[0]["finished"] <= runs[1]["finished"]
    assert runs[0]["nvcodec"] == nvcodec.__version__


def test_new_columns_keep_old_rows(tmp_path):
    path = tmp_path / "a.csv"
    append_run(path, {"a": 1, "b": {"c": 'x,y\n"z"', "d": None}})
    append_run(path, {"a": 2})
    append_run(path, {"a": 3, "e": [1, 2], "b": {"f": {"g": 4}}})
    append_run(path, {"a": 5})
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["a"] for row in rows] == ["1", "2", "3", "5"]
    assert rows[0]["b.c"] == 'x,y\n"z"'
    assert rows[2]["e"] == "1 2"
    assert rows[2]["b.f"] == "g=4"
    assert rows[3]["e"] == ""
    assert listing(tmp_path) == ["a.csv"]


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_a_torn_last_line_is_kept(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    append_run(path, {"a": 1})
    path.write_bytes(path.read_bytes()[:-1])
    append_run(path, {"a": 2})
    whole = path.read_text()
    assert whole == ("a\n1\n2\n" if suffix == ".csv" else '{"a": 1}\n{"a": 2}\n')


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", None, "allowed are .csv, .json"),
        ("a.json", "[1, 2]\n", "is not a log of encodes"),
        ("a.json", "text\n", "is not a log of encodes"),
        ("a.csv", "a,a\n1,2\n", "is not a log of encodes"),
        ("a.csv", '"a\n', "is not a log of encodes"),
        ("none/a.csv", None, "does not exist"),
    ],
)
def test_what_is_no_log_is_refused_before_any_work(tmp_path, clip, name, text, message):
    path = tmp_path / name
    if text is not None:
        path.write_text(text)
    output = tmp_path / "a.nrv"
    assert message in fail(2, "encode", clip, "-o", output, "--log", path)
    assert not output.exists()
    assert text is None or path.read_text() == text


# TensorBoard and Weights & Biases


def test_curves_for_tensorboard(tmp_path, clip):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = tmp_path / "curves"
    output = tmp_path / "a.nrv"
    args = ("--tensorboard", folder, "--bpp", 2, "--passes", 30, "--arch", "hnerv", "--lr", "0.004")
    said = run_json("encode", clip, "-o", output, *args)[-2]
    events = EventAccumulator(str(folder))
    events.Reload()
    assert set(events.Tags()["scalars"]) == {"loss", "psnr_db", "bpp", "lr"}
    for name in ("loss", "psnr_db", "bpp", "lr"):
        assert events.Scalars(name)[-1].step == said["n_steps"]
    assert events.Scalars("lr")[-1].value < 0.004
    assert events.Scalars("bpp")[-1].value == pytest.approx(said["bpp"], rel=0.5)


def test_the_curve_of_evaluations(tmp_path, clip):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    args = ("--recipe", "hnerv-paper", *SMALL, "--eval-every", 1, "--tensorboard", tmp_path / "t")
    said = run_json("encode", clip, "-o", tmp_path / "a.nrv", *args)[-2]
    events = EventAccumulator(str(tmp_path / "t"))
    events.Reload()
    curve = events.Scalars("psnr_all_db")
    assert [point.step for point in curve] == [2, 4]
    best = max(point.value for point in curve)
    assert said["float_psnr_db"] == pytest.approx(best, abs=0.05)


def records(path):
    """The records of a file that wandb keeps offline: a log in the format of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    data, position, parts = path.read_bytes(), 7, b""
    while position < len(data):
        if position % 32768 > 32768 - 7:
            # A header never crosses the end of a block.
            position += -position % 32768
        _, n_bytes, kind = struct.unpack_from("<IHB", data, position)
        parts += data[position + 7 : position + 7 + n_bytes]
        position += 7 + n_bytes
        if kind in (1, 4):
            yield Record.FromString(parts)
            parts = b""


def test_curves_for_wandb(tmp_path, clip):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    place = {"WANDB_MODE": "offline", "WANDB_DIR": str(tmp_path), "HOME": str(tmp_path)}
    args = ("--recipe", "hnerv-paper", *SMALL, "--eval-every", "1", "--tensorboard", tmp_path / "t")
    # A program of its own: what wandb starts ends with it.
    done = subprocess.run(
        [sys.executable, "-m", "nvcodec", "encode", clip, "-o", tmp_path / "a.nrv", *args,
         "--wandb", "films", "--quiet"],
        env=environment() | place, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    kept = list(records(path))
    (run,) = [record.run for record in kept if record.HasField("run")]
    assert (run.project, run.display_name) == ("films", "a.nrv")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (config["passes"], config["model"]["embed_dim"]) == (2, 2)
    rows = [
        {item.key or item.nested_key[0]: json.loads(item.value_json) for item in r.history.item}
        for r in kept
        if r.HasField("history")
    ]
    events = EventAccumulator(str(tmp_path / "t"))
    events.Reload()
    for name in ("loss", "psnr_db", "lr", "psnr_all_db"):
        curve = [(row["step"], pytest.approx(row[name], rel=1e-6)) for row in rows if name in row]
        assert curve == [(point.step, point.value) for point in events.Scalars(name)]
        assert len(curve) > 0


def test_no_curves_without_training(tmp_path, clip, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    args = ("--tensorboard", tmp_path / "t", "--wandb", "films")
    run("encode", clip, "--dry-run", "--bpp", 2, *args)
    fail(2, "encode", clip, "-o", tmp_path / "a.nrv", "--bpp", "0.001", *args)
    assert listing(tmp_path) == []


def test_progress_tells_loss_and_learning_rate(tmp_path, clip):
    seen = []
    options = EncodeOptions(**RECIPES["hnerv-paper"] | {"passes": 3, "model": {}}, n_params=3e3)
    nvcodec.encode(clip, None, options, device="cpu", listener=seen.append)
    steps = [event for event in seen if isinstance(event, Progress) and event.unit == "step"]
    assert steps[-1].done == 6
    assert 0 < steps[-1].loss < 1
    assert 0 < steps[-1].lr < 1e-3


def test_what_wandb_refuses(tmp_path, clip, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "sideways")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    args = ("--recipe", "hnerv-paper", *SMALL, "--wandb", "films", "--quiet")
    assert "'offline'" in fail(2, "encode", clip, "-o", tmp_path / "a.nrv", *args)
    assert listing(tmp_path) == []


@pytest.mark.parametrize(
    ("package", "module"), [("tensorboard", "torch.utils.tensorboard"), ("wandb", "wandb")]
)
def test_without_the_package_one_sentence(tmp_path, clip, monkeypatch, package, module):
    monkeypatch.setitem(sys.modules, module, None)
    message = fail(2, "encode", clip, "-o", tmp_path / "a.nrv", f"--{package}", tmp_path / "t")
    assert f"pip install 'nvcodec[{package}]'" in message
    assert listing(tmp_path) == []


# Weights to start from


@pytest.fixture(scope="module")
def trained(tmp_path_factory, clip):
    """A file of the clip, its options and its PSNR."""
    path = tmp_path_factory.mktemp("trained") / "a.nrv"
    options = EncodeOptions(arch="hnerv", n_params=3e3, coding="ptq", passes=100)
    _, result = nvcodec.encode(clip, path, options, device="cpu")
    return path, options, result.psnr_db


def test_initial_weights_are_those_of_the_file(trained, clip):
    path, options, psnr_db = trained
    gentle = dataclasses.replace(options, passes=1, lr=1e-7)
    _, result = nvcodec.encode(clip, None, gentle, device="cpu", init=path)
    assert result.psnr_db == pytest.approx(psnr_db, abs=0.1)
    _, cold = nvcodec.encode(clip, None, gentle, device="cpu")
    assert cold.psnr_db < psnr_db - 2
    more = dataclasses.replace(options, passes=30, lr=2e-3)
    _, better = nvcodec.encode(clip, None, more, device="cpu", init=path)
    assert better.psnr_db > psnr_db


def test_initial_weights_of_another_network_are_refused(tmp_path, trained, clip):
    path, options, _ = trained
    for changes, message in (
        ({"n_params": 5e3}, r"a network with another embed_dim \(\d+ there, \d+ here\), fc_dim"),
        ({"model": {"norm": "bn"}}, "norm"),
        ({"analysis": "conv"}, "the encoder network conv would replace the embeddings"),
    ):
        with pytest.raises(UsageError, match=message):
            nvcodec.encode(
                clip, None, dataclasses.replace(options, **changes), device="cpu", init=path
            )
    args = ("-o", tmp_path / "a.nrv", "--arch", "hnerv", "--coding", "ptq", "--params", "3k")
    assert "another frames (4 there, 3 here)" in fail(
        2, "encode", clip, *args, "--init", path, "--frames", 3
    )
    assert "is not an .nrv file" in fail(4, "encode", clip, *args, "--init", clip)
    assert "--psnr makes several runs" in fail(
        2, "encode", clip, *args[:2], "--psnr", 30, "--init", path
    )
    assert run_json("encode", clip, *args[2:], "--init", path, "--dry-run")[-2]["kind"] == "plan"
    assert listing(tmp_path) == []


def test_resume_asks_for_the_same_initial_weights(tmp_path, trained, clip):
    path, options, _ = trained
    output = tmp_path / "a.nrv"
    short = dataclasses.replace(options, passes=5)
    with pytest.raises(nvcodec.errors.Interrupted):
        nvcodec.encode(clip, output, short, device="cpu", init=path, stop=lambda: True)
    with pytest.raises(UsageError, match="made with another"):
        nvcodec.encode(clip, output, short, device="cpu", resume=True)
    resumed, _ = nvcodec.encode(clip, output, short, device="cpu", init=path, resume=True)
    whole, _ = nvcodec.encode(clip, None, short, device="cpu", init=path)
    assert resumed == whole
