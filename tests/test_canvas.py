"""Canvas: its formula, its motion, and frames of any size and number."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import make_video, moving_frames

import nvcodec
from nvcodec import fields
from nvcodec.codec import work
from nvcodec.errors import Interrupted, UsageError
from nvcodec.models.base import count_params, shape_only, weigh_params
from nvcodec.models.canvas import MOTION_UNIT, Canvas, CanvasConfig
from nvcodec.models.local_motion import count_local_steps, front_share, local_motion, luma_side
from nvcodec.models.motion import camera_motion
from nvcodec.models.tracks import count_track_steps, tracks

CONFIG = CanvasConfig(
    widths=(8, 4),
    depths=(2, 1),
    strides=(2, 3),
    canvas_channels=(3, 2),
    grid_channels=(2, 3),
)


def small_model(n_frames=5, height=37, width=50, **changes):
    torch.manual_seed(1)
    config = CanvasConfig(**{name: getattr(CONFIG, name) for name in CONFIG.__slots__} | changes)
    model = Canvas(config, n_frames, height, width)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def bilinear(x, rows, columns):
    """Interpolate x (C, h, w) at float64 rows and columns within it, as the specification says."""
    top, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    bottom = np.minimum(top + 1, x.shape[1] - 1)
    right = np.minimum(left + 1, x.shape[2] - 1)
    v, u = rows - top, columns - left
    return (
        x[:, top, left] * (1 - v) * (1 - u)
        + x[:, top, right] * (1 - v) * u
        + x[:, bottom, left] * v * (1 - u)
        + x[:, bottom, right] * v * u
    )


def resize(x, h, w):
    def where(n, of):
        return np.clip((np.arange(n) + 0.5) * of / n - 0.5, 0, None)

    rows, columns = np.meshgrid(where(h, x.shape[1]), where(w, x.shape[2]), indexing="ij")
    return bilinear(x, rows, columns)


def look(canvas, flow, motion, margin, h, w):
    matrix = (np.array([[1, 0, 0], [0, 1, 0]]) + motion.reshape(2, 3) / 128) / (1 + margin / 100)
    y, x = np.meshgrid(
        2 * (np.arange(h) + 0.5) / h - 1, 2 * (np.arange(w) + 0.5) / w - 1, indexing="ij"
    )
    seen = np.einsum("ab,bhw->ahw", matrix, np.stack([x, y, np.ones_like(x)]))
    if flow is not None:
        seen = seen + resize(flow, h, w) / 128
    columns = np.clip(((seen[0] + 1) * canvas.shape[2] - 1) / 2, 0, canvas.shape[2] - 1)
    rows = np.clip(((seen[1] + 1) * canvas.shape[1] - 1) / 2, 0, canvas.shape[1] - 1)
    return bilinear(canvas, rows, columns)


def at_time(grid, t, n_frames):
    a = np.clip((t + 0.5) * len(grid) / n_frames - 0.5, 0, len(grid) - 1)
    before = int(a)
    after = min(before + 1, len(grid) - 1)
    return grid[before] * (1 - (a - before)) + grid[after] * (a - before)


def plain_frame(model, t):
    """Draw frame t from the formulas of the specification, in float64."""
    p = {name: value.detach().double().numpy() for name, value in model.named_parameters()}
    config = model.config
    total = math.prod(config.strides)
    h, w = -(-model.height // total), -(-model.width // total)

    def conv(x, name, groups=1):
        weight = torch.from_numpy(p[f"{name}.weight"])
        bias = torch.from_numpy(p[f"{name}.bias"])
        x = torch.from_numpy(x)[None]
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=groups)[0].numpy()

    def gelu(x):
        return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    def shuffle(x, s):
        c, rows, columns = x.shape[0] // s**2, *x.shape[1:]
        x = x.reshape(c, s, s, rows, columns).transpose(0, 3, 1, 4, 2)
        return x.reshape(c, rows * s, columns * s)

    def block(x, name):
        y = conv(x, f"{name}.depthwise", groups=len(x))
        y = (y - y.mean(0)) / np.sqrt(y.var(0) + 1e-5)
        for layer in ("expand", "project"):
            y = np.einsum("oc,chw->ohw", p[f"{name}.{layer}.weight"], y)
            y = y + p[f"{name}.{layer}.bias"][:, None, None]
            y = gelu(y) if layer == "expand" else y
        return x + y

    def seen(name, h, w):
        if config.motion == 0:
            return resize(p[name], h, w)
        flow = p["flow"][t] if config.motion == 2 else None
        canvas, others = p[name], (p["motion"][t], config.margin_percent, h, w)
        if config.layers == 1 or name == "detail":
            return look(canvas, flow, *others)
        back, front = np.split(canvas, 2)
        share = 1 / (1 + np.exp(3 - 4 * resize(p["front_mask"][t], h, w)))
        return (1 - share) * look(back, flow, *others) + share * look(
            front, p["front_flow"][t], *others
        )

    slow = [p[f"slow_grids.{i}"] for i in range(len(config.grid_channels) - 1)]
    features = [resize(p["grid"][t], h, w)]
    features += [resize(at_time(grid, t, model.n_frames), h, w) for grid in slow]
    x = conv(np.concatenate([*features, seen("canvases.0", h, w)]), "stems.0")
    for i in range(len(config.widths)):
        if i > 0:
            x = shuffle(conv(x, f"ups.{i - 1}"), config.strides[i - 1])
            h, w = x.shape[1:]
            x = gelu(x + conv(seen(f"canvases.{i}", h, w), f"stems.{i}"))
        for b in range(config.depths[i]):
            x = block(x, f"stages.{i}.{b}")
    y = shuffle(conv(x, "head"), config.strides[-1])
    y, gates = y[:3], y[3:]
    if config.detail_channels:
        inside = gates * seen("detail", *y.shape[1:])
        y = y + np.einsum("ck,khw->chw", p["mix.weight"][:, :, 0, 0], inside)
    y = y[:, : model.height, : model.width]
    return 1 / (1 + np.exp(-y)) if config.output == 1 else np.tanh(y) / 2 + 0.5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"motion": 0},
        {"motion": 1, "detail_channels": 0},
        {"output": 0, "kernel": 5, "detail_channels": 2},
        {"slow_shift": 1, "grid_channels": (2, 1, 2, 1), "n_frames": 11},
        {"layers": 2, "flow_shift": 2},
        {"layers": 2, "detail_channels": 0},
    ],
)
def test_draw_equals_the_formula(changes):
    model = small_model(**changes)
    model.motion.data.mul_(20)
    with torch.inference_mode():
        drawn = model(torch.tensor([4, 1])).numpy()
    for i, t in enumerate((4, 1)):
        np.testing.assert_allclose(drawn[i], plain_frame(model, t), atol=2e-5)


def test_tensor_order_is_that_of_the_specification():
    names = [name for name, _ in small_model(layers=2).named_parameters()]
    kinds = " ".join(dict.fromkeys(name.split(".")[0] for name in names))
    fields = "motion flow front_flow front_mask grid detail slow_grids canvases"
    assert kinds == f"{fields} stems stages ups head mix"


def test_configs_of_the_first_version_are_as_they_were():
    old = dataclasses.replace(CONFIG, motion=1, detail_channels=0)
    assert old.flow_shift == 3
    packed = fields.pack(old)
    assert len(fields.pack(CONFIG)) == len(packed) + 1
    assert fields.unpack(CanvasConfig, fields.ByteReader(packed, "a config")) == old
    assert fields.unpack(CanvasConfig, fields.ByteReader(packed + b"\0", "a config")) == old


def test_what_lasts_longer_has_finer_cells():
    def shapes(**changes):
        model = small_model(n_frames=21, height=200, width=300, **changes)
        return [tuple(grid.shape) for grid in (model.grid, *model.slow_grids)]

    assert shapes(grid_channels=(1, 2, 3), slow_shift=2) == [
        (21, 1, 9, 13), (6, 2, 17, 25), (2, 3, 34, 50),
    ]  # fmt: skip
    # Never finer than the first stage.
    assert shapes(grid_channels=(1, 1, 1, 1), slow_shift=3)[2:] == [(1, 1, 34, 50)] * 2
    assert shapes(grid_channels=(1, 1, 1)) == [(21, 1, 9, 13), (11, 1, 5, 7), (6, 1, 3, 4)]


def test_slow_grids_have_as_many_entries_as_the_budget_bears():
    budgets = (90_000, 102_000, 152_000, 253_000, 500_000)
    plain = [Canvas.solve(n, 132, 180, 320, dct_shift=0) for n in budgets]
    assert [config.slow_shift for config in plain] == [0, 4, 3, 2, 2]
    assert [Canvas.solve(n, 132, 180, 320).slow_shift for n in (80_000, 99_000)] == [4, 3]
    assert Canvas.solve(253_000, 132, 180, 320, slow_shift=0).slow_shift == 0


def test_coefficients_pay_where_there_are_few_bits():
    assert [Canvas.solve(n, 132, 180, 320).dct_shift for n in (99_000, 500_000, 1_300_000)] == [
        3,
        3,
        0,
    ]
    assert Canvas.solve(1_300_000, 132, 180, 320, dct_shift=2).dct_shift == 2


def test_layers_come_with_coefficients_and_leave_the_network_as_it_is():
    two, one = Canvas.solve(253_000, 132, 180, 320), Canvas.solve(253_000, 132, 180, 320, layers=1)
    assert (two.layers, dataclasses.replace(two, layers=1)) == (2, one)
    assert Canvas.solve(1_300_000, 132, 180, 320).layers == 1
    assert Canvas.solve(253_000, 1, 180, 320).layers == 1
    assert Canvas.solve(60_000, 32, 90, 160).layers == 1
    assert Canvas.solve(253_000, 132, 180, 320, motion="affine").layers == 1
    assert Canvas.smallest(132, 180, 320).layers == 1


def test_a_canvas_of_full_resolution_needs_a_budget():
    assert Canvas.solve(80_000, 132, 180, 320).detail_channels == 0
    assert Canvas.solve(99_000, 132, 180, 320).detail_channels == 1
    assert Canvas.solve(99_000, 132, 180, 320, dct_shift=0).detail_channels == 0
    assert Canvas.solve(235_000, 132, 180, 320, detail_channels=0).detail_channels == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"depths": (1,)}, "differ in length"),
        ({"kernel": 4}, "kernel size 4 must be odd"),
        ({"layers": 2, "motion": 1}, "layers is 2, which needs the motion flow"),
    ],
)
def test_impossible_configs(changes, words):
    with pytest.raises(ValueError, match=words):
        small_model(**changes)


def test_options_that_do_not_go_together():
    with pytest.raises(UsageError, match=r"Canvas cannot be built: .* differ in length"):
        Canvas.solve(99_000, 132, 180, 320, widths="3,2,1")
    with pytest.raises(UsageError, match="Canvas cannot be built: kernel size 4 must be odd"):
        Canvas.smallest(132, 180, 320, kernel=4)


@pytest.mark.parametrize("n_params", [20_000, 60_000, 300_000])
@pytest.mark.parametrize(("n_frames", "height", "width"), [(1, 16, 16), (7, 48, 27), (33, 90, 160)])
def test_solved_width_fits_the_budget(n_params, n_frames, height, width):
    config = Canvas.solve(n_params, n_frames, height, width)
    fields.check(config)
    model = shape_only(Canvas, config, n_frames, height, width)
    assert weigh_params(model) <= n_params
    assert model.macs_per_frame() > 0
    assert model.peak_activations() >= 3 * height * width


@pytest.mark.parametrize("n_params", [500_000, 1_000_000, 4_000_000])
@pytest.mark.parametrize(("height", "width"), [(180, 320), (96, 160), (720, 1280)])
def test_cost_at_the_presets_is_small(n_params, height, width):
    config = Canvas.solve(n_params, 132, height, width)
    model = shape_only(Canvas, config, 132, height, width)
    assert model.macs_per_frame() <= max(min(8_000 * height * width, 8.5e8), 900 * height * width)


def test_the_budget_of_720p_is_used_up():
    config = Canvas.solve(4_500_000, 132, 720, 1280, dct_shift=0)
    model = shape_only(Canvas, config, 132, 720, 1280)
    assert 4_100_000 < count_params(model) <= 4_500_000


def test_what_a_network_may_not_grow_by_goes_into_canvases():
    small, large = (Canvas.solve(n, 132, 720, 1280) for n in (1_400_000, 1_700_000))
    assert large.widths == small.widths
    assert large.canvas_channels > small.canvas_channels
    # They are lean: arithmetic is what limits them.
    assert large.depths == (1, 1, 1, 0)
    assert all(width % 8 == 0 for width in large.widths)
    # Of a small frame it is the network alone that says how many values there are.
    more, most = (Canvas.solve(n, 132, 180, 320) for n in (1_300_000, 2_000_000))
    assert (more.widths, more.canvas_channels) == (most.widths, most.canvas_channels)
    assert most.depths == (1, 1)
    free = Canvas.solve(1_000_000, 132, 180, 320, widths=(114, 57))
    assert free.widths == (114, 57)


def test_a_fine_flow_needs_a_budget():
    shifts = [Canvas.solve(n, 132, 180, 320).flow_shift for n in (90_000, 290_000, 700_000)]
    assert shifts == [3, 3, 2]
    assert Canvas.solve(500_000, 132, 180, 320, flow_shift=3).flow_shift == 3
    assert Canvas.solve(290_000, 1, 16, 16).flow_shift == 0


def test_too_small_a_budget_is_said():
    with pytest.raises(UsageError, match="Canvas needs at least"):
        Canvas.solve(50, 4, 64, 64)


def textured(height, width):
    rows, columns = np.mgrid[0:height, 0:width]
    rng = np.random.default_rng(0)
    picture = sum(
        np.sin(rows * rng.uniform(-0.5, 0.5) + columns * rng.uniform(-0.5, 0.5) + rng.uniform(0, 6))
        for _ in range(12)
    )
    return np.clip(128 + 25 * picture, 0, 255)


def test_motion_of_a_pan_is_found():
    scene = textured(100, 140)
    frames = [scene[10 + t : 70 + t, 20 + 2 * t : 116 + 2 * t] for t in range(9)]
    video = torch.from_numpy(np.stack(frames)).to(torch.uint8)[:, None].repeat(1, 3, 1, 1)
    # An object that moves otherwise must not matter.
    for t in range(9):
        video[t, :, 20:40, 10 + 5 * t : 25 + 5 * t] = 255
    maps = camera_motion(video)
    pixels = maps[:, :, 2] * torch.tensor([96 / 2, 60 / 2])
    expected = torch.stack([2.0 * (torch.arange(9) - 4), 1.0 * (torch.arange(9) - 4)], 1)
    assert float((pixels - expected).abs().max()) < 0.3
    assert float((maps[:, :, :2] - torch.eye(2)).abs().max()) < 0.02


@pytest.mark.parametrize("value", [0, 255])
def test_flat_frames_have_no_motion(value):
    maps = camera_motion(torch.full((4, 3, 40, 60), value, dtype=torch.uint8))
    assert torch.equal(maps, torch.eye(2, 3).repeat(4, 1, 1))


def test_motion_starts_from_the_estimate():
    model = small_model(9, 60, 96)
    scene = textured(100, 140)
    frames = np.stack([scene[10:70, 20 + 2 * t : 116 + 2 * t] for t in range(9)])
    model.prepare(torch.from_numpy(frames).to(torch.uint8)[:, None].repeat(1, 3, 1, 1))
    drift = model.motion.detach()[:, 2] * MOTION_UNIT * 48
    assert float((drift.diff() - 2).abs().max()) < 0.4


def test_flow_of_what_moves_is_found():
    scene = textured(60, 140)
    frames = np.stack([scene[:, 20:116]] * 7)
    for t in range(7):
        frames[t, :, 40:] = scene[:, 60 + 2 * t : 116 + 2 * t]
    still = torch.eye(2, 3).repeat(7, 1, 1) / 1.12
    flow = (
        local_motion(torch.from_numpy(frames) / 255, still, (6, 10), 0.12).flows[0] * 1.12 * 96 / 2
    )
    speed = (flow[6] - flow[0]) / 6
    assert float((speed[0, :, 6:9] - 2).abs().max()) < 0.7
    assert float(speed[0, :, :3].abs().max()) < 0.5


def test_what_moves_before_the_scene_gets_a_layer():
    scene, thing = textured(80, 160), 255 - textured(90, 90)[20:70, 20:80]
    frames = np.stack([scene] * 11)
    for t in range(11):
        frames[t, 15:65, 20 + 5 * t : 80 + 5 * t] = thing
    still = torch.eye(2, 3).repeat(11, 1, 1) / 1.12
    luma = torch.from_numpy(frames).float() / 255
    found = local_motion(luma, still, (8, 16), 0.12, (16, 32))
    share = front_share(found.mask)[:, 0]
    for t in (1, 5, 9):
        inside = share[t, 4:12, 6 + t : 14 + t].mean()
        around = torch.cat([share[t, :2].flatten(), share[t, 14:].flatten()]).mean()
        assert inside > 0.15
        assert inside > 3 * around


def test_flow_is_found_where_the_first_looks_see_half_of_the_samples():
    scene = textured(40, 240)
    frames = np.stack([scene[:, 10:202]] * 3)
    for t in range(3):
        frames[t, :, 80:] = scene[:, 90 + 3 * t : 202 + 3 * t]
    still = torch.eye(2, 3).repeat(3, 1, 1) / 1.12
    flow = (
        local_motion(torch.from_numpy(frames) / 255, still, (3, 12), 0.12).flows[0] * 1.12 * 192 / 2
    )
    speed = (flow[2] - flow[0]) / 2
    assert float((speed[0, :, 7:11] - 3).abs().max()) < 0.7
    assert float(speed[0, :, :3].abs().max()) < 0.5


@pytest.mark.parametrize(
    ("height", "width", "side"), [(16, 16, 160), (180, 320, 160), (400, 200, 200), (720, 1280, 320)]
)
def test_larger_frames_are_looked_at_with_more_samples(height, width, side):
    assert luma_side(height, width) == side


@pytest.mark.parametrize(("n_asked", "moves"), [(5, False), (100, True)])
def test_preparation_makes_do_with_less_time(n_asked, moves):
    model, asked = small_model(3, 20, 30, motion=2), []

    def go_on(done: int, total: int) -> bool:
        asked.append((done, total))
        return len(asked) < n_asked

    frames = torch.randint(256, (3, 3, 20, 30), dtype=torch.uint8)
    model.prepare(frames, 255, go_on)
    total = 3 + count_local_steps(3)
    assert asked == [(done, total) for done in range(2, n_asked + 2)]
    # Tracks are of use only when all of them are known.
    assert bool(model.flow.abs().max() > 0) == moves
    assert count_track_steps(3) < 97 < count_local_steps(3)


@pytest.mark.parametrize("n_frames", [1, 2, 70])
def test_preparation_ends_with_the_last_of_its_steps(n_frames):
    model, asked = small_model(n_frames, 20, 30, motion=2), []
    frames = torch.randint(256, (n_frames, 3, 20, 30), dtype=torch.uint8)
    model.prepare(frames, 255, lambda done, total: asked.append((done, total)) or True)
    total = n_frames + count_local_steps(n_frames)
    assert asked[-1] == (total, total)


def test_tracks_follow_what_moves_farther_than_its_size():
    scene, thing = textured(60, 160), 255 - textured(90, 90)[60:84, 60:84]
    frames = np.stack([scene] * 15)
    for t in range(15):
        frames[t, 18:42, 10 + 8 * t : 34 + 8 * t] = thing
    still = torch.eye(2, 3).repeat(15, 1, 1)
    flow = tracks(torch.from_numpy(frames) / 255, still, (6, 16)) * 160 / 2
    assert flow[7].abs().max() < 1e-4
    for t in (2, 5, 9, 12):
        cell = (22 + 8 * t) / 10 - 0.5
        here = flow[t, 0, 2:4].mean(0)
        seen = torch.lerp(here[int(cell)], here[int(cell) + 1], cell - int(cell))
        assert abs(float(seen) - 8 * (7 - t)) < 0.25 * 8 * abs(7 - t)
        assert flow[t, 0, :, (t < 8) * 14].abs().max() < 4


def test_preparation_can_be_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "_PATIENCE_S", 0.0)
    path = make_video(tmp_path / "in.mkv", codec="ffv1", frames=moving_frames(3, 48, 32))
    options = nvcodec.EncodeOptions(arch="canvas", target=nvcodec.Target(size=4000), passes=5)
    with pytest.raises(Interrupted, match="before the first step"):
        nvcodec.encode(path, tmp_path / "out.nrv", options, stop=lambda: True, device="cpu")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["in.mkv"]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 20, 30), (3, 16, 16)])
@pytest.mark.parametrize(("mask_size", "n_layers"), [(None, 1), ((2, 3), 2)])
def test_flow_of_next_to_nothing_is_finite(shape, mask_size, n_layers):
    maps = torch.eye(2, 3).repeat(shape[0], 1, 1)
    found = local_motion(torch.full(shape, 0.4), maps, (1, 2), 0.0, mask_size)
    assert [flow.shape for flow in found.flows] == [(shape[0], 2, 1, 2)] * n_layers
    assert all(torch.isfinite(flow).all() for flow in found.flows)
    assert mask_size is None or torch.isfinite(found.mask).all()


@pytest.mark.parametrize(("n_frames", "width", "height"), [(1, 32, 32), (5, 33, 47), (6, 64, 36)])
def test_encode_and_decode(tmp_path, n_frames, width, height):
    path = make_video(
        tmp_path / "in.mkv",
        codec="ffv1",
        pixel_format="bgr0",
        frames=moving_frames(n_frames, width, height),
    )
    options = nvcodec.EncodeOptions(
        arch="canvas", target=nvcodec.Target(bpp=4.0), passes=12, batch=1
    )
    data, result = nvcodec.encode(path, None, options, device="cpu")
    assert 0.98 <= 8 * len(data) / (4.0 * n_frames * width * height) <= 1
    with nvcodec.open(data, device="cpu") as video:
        assert video[:].shape == (n_frames, height, width, 3)
    assert result.psnr_db > 9
