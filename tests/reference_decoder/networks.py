"""Section 9: the tensors of the six architectures, and how they draw a frame."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np

from reference_decoder import layers
from reference_decoder.errors import check
from reference_decoder.layers import ACTIVATIONS, OUTPUTS, Array, Block, Shapes, pair

Config = dict[str, Any]
Weights = dict[str, Array]

CHOICES = (
    ("upsampling", "u8", 0, 2),
    ("norm", "u8", 0, 2),
    ("activation", "u8", 0, 8),
    ("output", "u8", 0, 2),
)
ENCODING = (("pe_base_percent", "u16", 100, 1000), ("pe_levels", "u8", 0, 255))
STAGES = (
    ("fc_dim", "u16", 1, 2048),
    ("expansion_percent", "u16", 1, 1600),
    ("reduction_percent", "u16", 100, 1000),
    ("lower_width", "u8", 1, 255),
    ("strides", "u8*8", 1, 8),
)


def nearest_even(value: Fraction) -> int:
    return round(value)  # Python rounds ties of exact fractions to even


def narrow(width: int, percent: int, stride: int, lower: int) -> int:
    """Return the width after a stage of HNeRV or 3DNeRV."""
    if percent:
        return max(nearest_even(Fraction(100 * width, percent)), lower)
    m = 0
    while stride * (2 * m + 1) ** 2 < 4 * width**2:
        m += 1
    tie = stride * (2 * m + 1) ** 2 == 4 * width**2
    return max(m + 1 if tie and m % 2 else m, lower)


def stage_widths(config: Config) -> list[int]:
    """Return C_0, C_1, ... of NeRV and E-NeRV."""
    c = config["fc_dim"]
    widths = [c, max(1, c * config["expansion_percent"] // 100)]
    for s in config["strides"][1:]:
        c = widths[-1] if s == 1 else widths[-1] * 100 // config["reduction_percent"]
        widths.append(max(c, config["lower_width"]))
    return widths


def check_encoding(config: Config) -> None:
    power = max(0, config["pe_levels"] - 1)
    highest = Fraction(config["pe_base_percent"], 100) ** power
    check(highest <= 2**30, "the positional encoding has too high a frequency")


def block_kernel(upsampling: int, s: int) -> int:
    """Return the kernel size of NeRV's blocks."""
    return (3, s, 2 * s + 1)[upsampling]


class Network:
    """`shapes` lists name, shape and whether it is temporal of all tensors in coding order."""

    fields: tuple[tuple[str, str, int, int], ...]
    absent: ClassVar[dict[str, int]] = {}
    """Last fields that a config may lack, and what it means then."""
    shapes: Shapes

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        self.config = config
        self.n_frames, self.height, self.width = n_frames, height, width
        # the sides of the blocks of which tensors hold frequencies
        self.sides: dict[str, int] = {}

    def draw(self, weights: Weights, t: int) -> Array:
        """Return frame t of the segment, (3, height, width), nominally in 0..1."""
        raise NotImplementedError

    def act(self, x: Array) -> Array:
        return ACTIVATIONS[self.config["activation"]](x)

    def finish(self, y: Array) -> Array:
        return OUTPUTS[self.config["output"]](y[:, : self.height, : self.width])

    def grid(self, total: int) -> tuple[int, int]:
        return -(-self.height // total), -(-self.width // total)

    def at_time(self, grid: Array, t: int) -> Array:
        n = len(grid)
        a = np.clip((t + 0.5) * n / self.n_frames - 0.5, 0, n - 1)
        return layers.sample_axis(grid, 0, np.array([a]))[0]

    def encode(self, t: float) -> Array:
        config = self.config
        return layers.encode_position(t, config["pe_base_percent"] / 100, config["pe_levels"])


class HNeRV(Network):
    fields = (
        ("embed_dim", "u8", 1, 255),
        ("fc_dim", "u16", 1, 2048),
        ("strides", "u8*8", 1, 8),
        ("reduction_percent", "u16", 0, 1000),
        ("lower_width", "u8", 1, 255),
        ("k_min", "u8", 1, 11),
        ("k_max", "u8", 1, 11),
        ("n_blocks", "u8", 1, 8),
        *CHOICES,
        ("embed", "u8", 0, 1),
        ("fc_scale", "u8", 1, 16),
        *ENCODING,
    )

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        check(config["k_min"] % 2 == 1 and config["k_max"] % 2 == 1, "a kernel size is even")
        percent = config["reduction_percent"]
        check(percent == 0 or percent >= 100, "reduction_percent is below 100")
        check_encoding(config)
        total = math.prod(config["strides"])
        c = config["fc_dim"]
        if config["embed"] == 0:
            e, self.scales = config["embed_dim"], (config["fc_scale"],) * 2
            h, w = self.grid(total * config["fc_scale"])
            self.shapes = [("embeddings", (n_frames, e, h, w), True)]
        else:
            e, self.scales = max(1, 2 * config["pe_levels"]), self.grid(total)
            h, w = 1, 1
            self.shapes = []
        cells = h * w * math.prod(self.scales)
        check(config["norm"] == 0 or cells * config["strides"][0] > 1, "one pixel is normalised")
        self.shapes += pair("stem", c * math.prod(self.scales), e, 1, 1)
        self.blocks = []
        for i, s in enumerate(config["strides"]):
            d = narrow(c, percent, s, config["lower_width"])
            for b in range(config["n_blocks"]):
                factor = s if b == 0 else 1
                k = min(config["k_min"] + 2 * i, config["k_max"])
                if config["upsampling"] != layers.PSHUFFLE and factor > 1:
                    k += factor
                name = f"stages.{len(self.blocks)}"
                self.blocks.append(Block(name, c, d, factor, k, config))
                self.shapes += self.blocks[-1].shapes
                c = d
        self.shapes += pair("head", 3, c, 3, 3)

    def draw(self, weights: Weights, t: int) -> Array:
        if self.config["embed"] == 0:
            x = weights["embeddings"][t]
        else:
            x = self.encode(t / self.n_frames)[:, None, None]
        x = self.act(layers.conv(x, weights["stem.weight"], weights["stem.bias"]))
        x = layers.pixel_shuffle(x, *self.scales)
        for block in self.blocks:
            x = block(x, weights)
        return self.finish(layers.conv(x, weights["head.weight"], weights["head.bias"]))


class NeRV(Network):
    fields = (
        *ENCODING,
        ("stem_dim", "u16", 1, 4096),
        ("stem_layers", "u8", 0, 8),
        *STAGES,
        ("blocks", "u8*8", 1, 8),
        *CHOICES,
    )

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        check_encoding(config)
        strides, counts = config["strides"], config["blocks"]
        check(len(counts) in (1, len(strides)), "blocks has neither 1 nor n entries")
        if len(counts) == 1:
            counts = counts * len(strides)
        self.start = (config["fc_dim"], *self.grid(math.prod(strides)))
        sizes = [max(1, 2 * config["pe_levels"])]
        sizes += [config["stem_dim"]] * config["stem_layers"] + [math.prod(self.start)]
        self.shapes = []
        for j in range(len(sizes) - 1):
            self.shapes += pair(f"stem.{j}", sizes[j + 1], sizes[j])
        self.n_stem = len(sizes) - 1
        widths = stage_widths(config)
        self.blocks = []
        for i, s in enumerate(strides):
            for b in range(counts[i]):
                c, factor = (widths[i], s) if b == 0 else (widths[i + 1], 1)
                k = block_kernel(config["upsampling"], factor)
                name = f"stages.{i}.{b}"
                block = Block(name, c, widths[i + 1], factor, k, config, corners=True)
                self.blocks.append(block)
                self.shapes += block.shapes
        self.shapes += pair("head", 3, widths[-1], 1, 1)

    def draw(self, weights: Weights, t: int) -> Array:
        x = self.encode(t / self.n_frames)
        for j in range(self.n_stem):
            x = self.act(weights[f"stem.{j}.weight"] @ x + weights[f"stem.{j}.bias"])
        x = x.reshape(self.start)
        for block in self.blocks:
            x = block(x, weights)
        return self.finish(layers.conv(x, weights["head.weight"], weights["head.bias"]))


class ENeRV(Network):
    fields = (
        *ENCODING,
        ("stem_dim", "u16", 1, 4096),
        ("block_dim", "u16", 1, 2048),
        ("mlp_dim", "u16", 1, 4096),
        ("heads_1", "u8", 1, 64),
        ("heads_2", "u8", 1, 64),
        ("head_dim", "u8", 1, 255),
        ("style_dim", "u16", 1, 2048),
        *STAGES,
        ("upsampling", "u8", 0, 2),
        ("stage_norm", "u8", 0, 1),
        *CHOICES[1:],
    )

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        check_encoding(config)
        p = max(1, 2 * config["pe_levels"])
        d, style = config["block_dim"], config["style_dim"]
        self.shapes = self.linear("time.0", p, config["stem_dim"])
        self.shapes += self.linear("time.1", config["stem_dim"], d)
        self.shapes += self.linear("place.0", 2 * p, d)
        for name, heads in (("before", config["heads_1"]), ("after", config["heads_2"])):
            inner = heads * config["head_dim"]
            self.shapes.append((f"{name}.qkv.weight", (3 * inner, d), False))
            self.shapes += self.linear(f"{name}.out", inner, d)
            self.shapes += self.linear(f"{name}.expand", d, config["mlp_dim"])
            self.shapes += self.linear(f"{name}.project", config["mlp_dim"], d)
        if d != config["fc_dim"]:
            self.shapes += self.linear("to_map.0", d, config["fc_dim"])
        self.shapes += self.linear("style.0", p, style) + self.linear("style.1", style, style)
        widths = stage_widths(config)
        self.blocks = []
        for i, s in enumerate(config["strides"]):
            c, c_out = widths[i : i + 2]
            self.shapes += self.linear(f"stages.{i}.modulate.0", style, 2 * c)
            name = f"stages.{i}.block"
            if i == 0:
                self.shuffles_first = c <= c_out
                m = max(1, c // 4) if self.shuffles_first else c_out
                first, last = (m * s * s, c_out) if self.shuffles_first else (c_out, c_out * s * s)
                self.shapes += pair(f"{name}.conv1", first, c, 3, 3)
                self.shapes += pair(f"{name}.conv2", last, m, 3, 3)
                self.shapes += layers.norm_shapes(name, c_out, config)
            else:
                k = block_kernel(config["upsampling"], s)
                self.blocks.append(Block(name, c, c_out, s, k, config, corners=True))
                self.shapes += self.blocks[-1].shapes
        self.shapes += pair("head", 3, widths[-1], 1, 1)

    @staticmethod
    def linear(name: str, n_in: int, n_out: int) -> Shapes:
        return pair(name, n_out, n_in)

    def mlp(self, weights: Weights, name: str, x: Array) -> Array:
        return self.act(x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"])

    def transform(self, weights: Weights, name: str, heads: int, x: Array) -> Array:
        e = self.config["head_dim"]
        qkv = (x @ weights[f"{name}.qkv.weight"].T).reshape(len(x), 3, heads, e)
        results = []
        for head in range(heads):
            q, k, v = (qkv[:, i, head] for i in range(3))
            scores = q @ k.T / math.sqrt(e)
            shares = np.exp(scores - scores.max(axis=1, keepdims=True))
            results.append(shares / shares.sum(axis=1, keepdims=True) @ v)
        out = np.concatenate(results, axis=1)
        x = x + out @ weights[f"{name}.out.weight"].T + weights[f"{name}.out.bias"]
        hidden = x @ weights[f"{name}.expand.weight"].T + weights[f"{name}.expand.bias"]
        moved = layers.gelu(hidden) @ weights[f"{name}.project.weight"].T
        return x + moved + weights[f"{name}.project.bias"]

    def draw(self, weights: Weights, t: int) -> Array:
        config = self.config
        h, w = self.grid(math.prod(config["strides"]))
        tau = self.encode(t / max(1, self.n_frames - 1))
        places = [
            np.concatenate([self.encode(i / h), self.encode(j / w)])
            for i in range(h)
            for j in range(w)
        ]
        tokens = self.mlp(weights, "place.0", np.stack(places))
        tokens = self.transform(weights, "before", config["heads_1"], tokens)
        tokens = tokens * self.mlp(weights, "time.1", self.mlp(weights, "time.0", tau))
        tokens = self.transform(weights, "after", config["heads_2"], tokens)
        if config["block_dim"] != config["fc_dim"]:
            tokens = self.mlp(weights, "to_map.0", tokens)
        x = tokens.T.reshape(-1, h, w)
        style = self.mlp(weights, "style.1", self.mlp(weights, "style.0", tau))
        for i, s in enumerate(config["strides"]):
            if config["stage_norm"] == 0:
                x = layers.instance_norm(x)
            scale, shift = np.split(self.mlp(weights, f"stages.{i}.modulate.0", style), 2)
            x = x * scale[:, None, None] + shift[:, None, None]
            x = self.first_block(weights, x, s) if i == 0 else self.blocks[i - 1](x, weights)
        return self.finish(layers.conv(x, weights["head.weight"], weights["head.bias"]))

    def first_block(self, weights: Weights, x: Array, s: int) -> Array:
        name = "stages.0.block"
        x = layers.conv(x, weights[f"{name}.conv1.weight"], weights[f"{name}.conv1.bias"])
        if self.shuffles_first:
            x = layers.pixel_shuffle(x, s)
        x = layers.conv(x, weights[f"{name}.conv2.weight"], weights[f"{name}.conv2.bias"])
        if not self.shuffles_first:
            x = layers.pixel_shuffle(x, s)
        return self.act(layers.normalize(self.config["norm"], x, weights, name))


class NeRV3D(Network):
    fields = (
        ("clip_frames", "u8", 2, 4),
        ("embed_dim", "u8", 2, 254),
        ("fc_dim", "u16", 1, 2048),
        ("strides", "u8*8", 1, 8),
        ("reduction_percent", "u16", 100, 1000),
        ("lower_width", "u8", 1, 255),
        ("k_min", "u8", 1, 11),
        ("k_max", "u8", 1, 11),
        ("k_time", "u8", 1, 11),
        ("head_kernel", "u8", 1, 11),
        ("output", "u8", 0, 2),
    )

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        for name, odd in (
            ("clip_frames", 0),
            ("embed_dim", 0),
            ("k_min", 1),
            ("k_max", 1),
            ("k_time", 1),
            ("head_kernel", 1),
        ):
            check(config[name] % 2 == odd, f"{name} is {config[name]}")
        length, e = config["clip_frames"], config["embed_dim"]
        c = config["fc_dim"]
        n_clips = -(-n_frames // length)
        grid = self.grid(math.prod(config["strides"]))
        self.shapes = [("embeddings", (n_clips, e, length // 2, *grid), True)]
        self.shapes += pair("stem", c, e // 2, 1, 1, 1)
        for i, s in enumerate(config["strides"]):
            d = narrow(c, config["reduction_percent"], s, config["lower_width"])
            k = min(config["k_min"] + 2 * i, config["k_max"])
            self.shapes += pair(f"stages.{i}", d * s * s, c, min(k, config["k_time"]), k, k)
            c = d
        k = config["head_kernel"]
        self.shapes += pair("head", 3, c, min(k, config["k_time"]), k, k)
        self.clips: dict[int, Array] = {}

    def draw(self, weights: Weights, t: int) -> Array:
        clip, frame = divmod(t, self.config["clip_frames"])
        if clip not in self.clips:
            self.clips = {clip: self.draw_clip(weights, clip)}
        return self.finish(self.clips[clip][:, frame])

    def draw_clip(self, weights: Weights, m: int) -> Array:
        def layer(x: Array, name: str) -> Array:
            return layers.conv3d(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        e = weights["embeddings"][m]
        x = np.empty((e.shape[0] // 2, 2 * e.shape[1], *e.shape[2:]))
        for a in range(e.shape[1]):
            for b in range(2):
                x[:, 2 * a + b] = e[b::2, a]
        x = layers.gelu(layer(x, "stem"))
        for i, s in enumerate(self.config["strides"]):
            x = layers.gelu(layer(x, f"stages.{i}"))
            frames = [layers.pixel_shuffle(x[:, t], s) for t in range(x.shape[1])]
            x = np.stack(frames, axis=1)
        return layer(x, "head")


class Canvas(Network):
    fields = (
        ("widths", "u8*5", 1, 255),
        ("depths", "u8*5", 0, 16),
        ("strides", "u8*5", 1, 8),
        ("canvas_channels", "u8*5", 0, 255),
        ("grid_channels", "u8*4", 1, 255),
        ("margin_percent", "u8", 0, 255),
        ("expansion", "u8", 1, 8),
        ("kernel", "u8", 1, 11),
        ("motion", "u8", 0, 2),
        ("output", "u8", 0, 2),
        ("detail_channels", "u8", 0, 255),
        ("flow_shift", "u8", 0, 6),
        ("slow_shift", "u8", 0, 7),
        ("dct_shift", "u8", 0, 5),
        ("layers", "u8", 1, 2),
    )
    absent: ClassVar = {
        "detail_channels": 0, "flow_shift": 3, "slow_shift": 0, "dct_shift": 0, "layers": 1
    }  # fmt: skip

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        widths, strides, canvases = (config[k] for k in ("widths", "strides", "canvas_channels"))
        n, p, grids = len(widths), config["margin_percent"], config["grid_channels"]
        lists = (config["depths"], strides, canvases)
        check(all(len(values) == n for values in lists), "lists differ in length")
        check(config["kernel"] % 2 == 1, "the kernel size is even")
        check(config["layers"] == 1 or config["motion"] == 2, "two layers without a flow")
        h, w = self.grid(math.prod(strides))
        self.sizes = [(h, w)]
        for s in strides:
            self.sizes.append((self.sizes[-1][0] * s, self.sizes[-1][1] * s))
        detail = config["detail_channels"]
        self.shapes = [("motion", (n_frames, 6), True)]
        if config["motion"] == 2:
            cell = 1 << config["flow_shift"]
            size = math.ceil(h / cell), math.ceil(w / cell)
            self.shapes.append(("flow", (n_frames, 2, *size), True))
            if config["layers"] == 2:
                self.shapes.append(("front_flow", (n_frames, 2, *size), True))
                cell = 2 ** max(1, config["flow_shift"] - 1)
                size = math.ceil(h / cell), math.ceil(w / cell)
                self.shapes.append(("front_mask", (n_frames, 1, *size), True))
        for i, g in enumerate(grids):
            k = config["slow_shift"]
            a, b = (k * i, max(0, 2 - i)) if k else (i, i + 2)
            size = (math.ceil(h / 2**b), math.ceil(w / 2**b))
            name = f"slow_grids.{i - 1}" if i else "grid"
            shape = math.ceil(n_frames / 2**a), g, *size
            self.shapes.append((name, self.stored(name, *shape) if i else shape, i == 0))
            if i == 0 and detail:
                size = tuple(-(-side * (100 + p) // 100) for side in self.sizes[-1])
                self.shapes.append(("detail", self.stored("detail", detail, *size), False))
        with_canvas = [i for i in range(n) if canvases[i]]
        for j, i in enumerate(with_canvas):
            size = [-(-side * (100 + p) // 100) for side in self.sizes[i]]
            name = f"canvases.{j}"
            self.shapes.append(
                (name, self.stored(name, config["layers"] * canvases[i], *size), False)
            )
        # the number of a stage's canvas and stem
        self.canvas_of = {i: j for j, i in enumerate(with_canvas)}
        stems = sorted({0, *with_canvas})
        self.stem_of = {i: j for j, i in enumerate(stems)}
        for i in stems:
            c_in = canvases[i] + (sum(grids) if i == 0 else 0)
            self.shapes += pair(f"stems.{self.stem_of[i]}", widths[i], c_in, 3, 3)
        k, e = config["kernel"], config["expansion"]
        for i, c in enumerate(widths):
            for b in range(config["depths"][i]):
                name = f"stages.{i}.{b}"
                self.shapes += pair(f"{name}.depthwise", c, 1, k, k)
                self.shapes += pair(f"{name}.expand", e * c, c)
                self.shapes += pair(f"{name}.project", c, e * c)
        for i in range(1, n):
            name = f"ups.{i - 1}"
            self.shapes += pair(name, widths[i] * strides[i - 1] ** 2, widths[i - 1], 1, 1)
        self.shapes += pair("head", (3 + detail) * strides[-1] ** 2, widths[-1], 3, 3)
        if detail:
            self.shapes.append(("mix.weight", (3, detail, 1, 1), False))

    def stored(self, name: str, *shape: int) -> tuple[int, ...]:
        *rest, c, h, w = shape
        n = 2 ** self.config["dct_shift"]
        a, b = math.ceil(h / n), math.ceil(w / n)
        if n == 1 or min(a, b) < 4 or a * b < 50:
            return shape
        self.sides[name] = n
        return (*rest, c * n * n, a, b)

    def pictures(self, weights: Weights, name: str) -> Array:
        if name not in self.sides:
            return weights[name]
        n = self.sides[name]
        *rest, c, a, b = weights[name].shape
        values = weights[name].reshape(-1, c // n**2, n, n, a, b)
        k = np.arange(n)
        f = np.sqrt(np.where(k == 0, 1, 2) / n)[:, None] * np.cos(
            np.pi * k[:, None] * (2 * k + 1) / (2 * n)
        )
        weighed = values * (n / (1 + k[:, None] + k))[:, :, None, None]
        drawn = np.einsum("pcuvij,uy,vx->pciyjx", weighed, f, f)
        return drawn.reshape(*rest, c // n**2, n * a, n * b)

    def draw(self, weights: Weights, t: int) -> Array:
        config = self.config

        def layer(x: Array, name: str) -> Array:
            return layers.conv(x, weights[f"{name}.weight"], weights[f"{name}.bias"])

        parts = [resize(weights["grid"][t], *self.sizes[0])]
        for i in range(len(config["grid_channels"]) - 1):
            slow = self.at_time(self.pictures(weights, f"slow_grids.{i}"), t)
            parts.append(resize(slow, *self.sizes[0]))
        if 0 in self.canvas_of:
            parts.append(self.see(weights, 0, t))
        x = layer(np.concatenate(parts), "stems.0")
        for i, depth in enumerate(config["depths"]):
            if i > 0:
                x = layers.pixel_shuffle(layer(x, f"ups.{i - 1}"), config["strides"][i - 1])
                if i in self.canvas_of:
                    x = x + layer(self.see(weights, i, t), f"stems.{self.stem_of[i]}")
                x = layers.gelu(x)
            for b in range(depth):
                x = self.block(weights, f"stages.{i}.{b}", x)
        z = layers.pixel_shuffle(layer(x, "head"), config["strides"][-1])
        y, gates = z[:3], z[3:]
        if len(gates):
            seen = gates * self.look(weights, self.pictures(weights, "detail"), self.sizes[-1], t)
            y = y + np.tensordot(weights["mix.weight"][:, :, 0, 0], seen, 1)
        return self.finish(y)

    def block(self, weights: Weights, name: str, x: Array) -> Array:
        z = layers.depthwise(
            x, weights[f"{name}.depthwise.weight"], weights[f"{name}.depthwise.bias"]
        )
        z = np.moveaxis(channel_norm(z, 1e-5), 0, -1)
        z = z @ weights[f"{name}.expand.weight"].T + weights[f"{name}.expand.bias"]
        z = layers.gelu(z) @ weights[f"{name}.project.weight"].T + weights[f"{name}.project.bias"]
        return x + np.moveaxis(z, -1, 0)

    def see(self, weights: Weights, stage: int, t: int) -> Array:
        canvas = self.pictures(weights, f"canvases.{self.canvas_of[stage]}")
        size = self.sizes[stage]
        if self.config["layers"] == 1:
            return self.look(weights, canvas, size, t)
        v = len(canvas) // 2
        back = self.look(weights, canvas[:v], size, t)
        front = self.look(weights, canvas[v:], size, t, "front_flow")
        share = 1 / (1 + np.exp(3 - 4 * resize(weights["front_mask"][t], *size)))
        return (1 - share) * back + share * front

    def look(
        self, weights: Weights, canvas: Array, size: tuple[int, int], t: int, flow: str = "flow"
    ) -> Array:
        h, w = size
        if self.config["motion"] == 0:
            return resize(canvas, h, w)
        still = np.array([[1, 0, 0], [0, 1, 0]])
        m = still + weights["motion"][t].reshape(2, 3) / 128
        m = m / (1 + self.config["margin_percent"] / 100)
        u, v = np.meshgrid(
            2 * (np.arange(w) + 0.5) / w - 1, 2 * (np.arange(h) + 0.5) / h - 1, indexing="xy"
        )
        x, y = (m[i, 0] * u + m[i, 1] * v + m[i, 2] for i in range(2))
        if self.config["motion"] == 2:
            x, y = np.stack([x, y]) + resize(weights[flow][t], h, w) / 128
        h_c, w_c = canvas.shape[1:]
        a = np.clip(((x + 1) * w_c - 1) / 2, 0, w_c - 1)
        b = np.clip(((y + 1) * h_c - 1) / 2, 0, h_c - 1)
        left, top = np.floor(a).astype(int), np.floor(b).astype(int)
        right, bottom = np.minimum(left + 1, w_c - 1), np.minimum(top + 1, h_c - 1)
        a, b = a - left, b - top
        above = canvas[:, top, left] * (1 - a) + canvas[:, top, right] * a
        below = canvas[:, bottom, left] * (1 - a) + canvas[:, bottom, right] * a
        return above * (1 - b) + below * b


class HiNeRV(Network):
    fields = (
        ("channels", "u16", 1, 2048),
        ("depths", "u8*8", 1, 16),
        ("expansions", "u8*8", 1, 8),
        ("strides", "u8*8", 1, 8),
        ("base_times", "u16", 1, 65535),
        ("base_channels", "u8", 1, 255),
        ("local_channels", "u8", 1, 255),
        ("output", "u8", 0, 2),
    )

    def __init__(self, config: Config, n_frames: int, height: int, width: int) -> None:
        super().__init__(config, n_frames, height, width)
        strides, depths, widening = (config[k] for k in ("strides", "depths", "expansions"))
        n, b, times = len(strides), config["base_channels"], config["base_times"]
        check(len(depths) == len(widening) == n, "lists differ in length")
        check(times <= n_frames, "the base grid has more times than there are frames")
        size = self.grid(math.prod(strides))
        local = [max(1, config["local_channels"] // 2**i) for i in range(n)]
        widths = [max(1, config["channels"] // 2**i) for i in range(n)]
        self.shapes = [
            (f"base_grids.{j}", (max(1, times // 2**j), b * 2**j, *size), False) for j in range(2)
        ]
        for i, s in enumerate(strides):
            self.shapes.append((f"local_grids.{i}", (n_frames, local[i], s, s), True))
        for i, s in enumerate(strides):
            for j in (1, 2):
                shape = (max(1, n_frames // 2**j), local[i] * 2**j, s, s)
                self.shapes.append((f"slow_grids.{2 * i + j - 1}", shape, False))
        self.shapes += pair("stem", widths[0], 3 * b, 3, 3)
        c = widths[0]
        for i, d in enumerate(widths):
            self.shapes += pair(f"stages.{i}.encode", c, 7 * local[i])
            for k in range(depths[i]):
                name, wide = f"stages.{i}.blocks.{k}", widening[i] * d
                self.shapes.append((f"{name}.depthwise.weight", (c, 1, 3, 3), False))
                self.shapes.append((f"{name}.expand.weight", (wide, c), False))
                self.shapes.append((f"{name}.project.weight", (d, wide), False))
                c = d
        self.shapes += pair("head", 3, c, 1, 1)

    def draw(self, weights: Weights, t: int) -> Array:
        base = [self.at_time(weights[f"base_grids.{j}"], t) for j in range(2)]
        x = layers.conv(np.concatenate(base), weights["stem.weight"], weights["stem.bias"])
        for i, s in enumerate(self.config["strides"]):
            slow = [self.at_time(weights[f"slow_grids.{2 * i + j}"], t) for j in range(2)]
            local = np.concatenate([weights[f"local_grids.{i}"][t], *slow])
            encode = weights[f"stages.{i}.encode.weight"], weights[f"stages.{i}.encode.bias"]
            encoding = np.tensordot(encode[0], local, 1) + encode[1][:, None, None]
            x = layers.enlarge(channel_norm(x, 1e-6), s)
            rows, columns = x.shape[1] // s, x.shape[2] // s
            x = x + np.tile(encoding, (1, rows, columns))
            for k in range(self.config["depths"][i]):
                x = self.block(weights, f"stages.{i}.blocks.{k}", x)
        return self.finish(layers.conv(x, weights["head.weight"], weights["head.bias"]))

    def block(self, weights: Weights, name: str, x: Array) -> Array:
        z = layers.depthwise(x, weights[f"{name}.depthwise.weight"], np.zeros(len(x)))
        z = np.tensordot(weights[f"{name}.expand.weight"], channel_norm(z, 1e-6), 1)
        z = np.tensordot(weights[f"{name}.project.weight"], layers.gelu(z), 1)
        return x + z if len(x) == len(z) else z


def channel_norm(x: Array, epsilon: float) -> Array:
    mean = x.mean(axis=0)
    return (x - mean) / np.sqrt(((x - mean) ** 2).mean(axis=0) + epsilon)


def resize(x: Array, h: int, w: int) -> Array:
    for axis, size in ((1, h), (2, w)):
        at = (np.arange(size) + 0.5) * x.shape[axis] / size - 0.5
        x = layers.sample_axis(x, axis, np.maximum(0, at))
    return x


ARCHITECTURES: dict[int, type[Network]] = {
    1: HNeRV,
    2: NeRV,
    3: ENeRV,
    4: NeRV3D,
    5: Canvas,
    6: HiNeRV,
}
