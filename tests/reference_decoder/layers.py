"""The layers of section 9, on arrays (channels, rows, columns) of 64-bit floats."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

Array = np.ndarray

_erf = np.vectorize(math.erf, otypes=[np.float64])


def gelu(x: Array) -> Array:
    return x * (1 + _erf(x / math.sqrt(2))) / 2


def logistic(x: Array) -> Array:
    # 1 / (1 + e^-x), written so that nothing overflows
    return 0.5 + np.tanh(x / 2) / 2


ACTIVATIONS: list[Callable[[Array], Array]] = [
    gelu,
    lambda x: np.maximum(x, 0),
    lambda x: np.where(x > 0, x, 0.01 * x),
    lambda x: np.where(x > 0, x, 0.1 * x),
    lambda x: np.minimum(np.maximum(x, 0), 6),
    lambda x: x * logistic(x),
    lambda x: np.logaddexp(0, x),
    lambda x: x * np.minimum(np.maximum(x + 3, 0), 6) / 6,
    np.sin,
]
OUTPUTS: list[Callable[[Array], Array]] = [
    lambda x: np.tanh(x) / 2 + 0.5,
    logistic,
    lambda x: x + 0.5,
]
BATCH, INSTANCE = 1, 2
PSHUFFLE, DECONV = 0, 1


def conv(x: Array, kernel: Array, bias: Array) -> Array:
    size = kernel.shape[-1]
    rows, columns = x.shape[1:]
    pad = ((size - 1) // 2, size // 2)
    x = np.pad(x, ((0, 0), pad, pad))
    y = np.zeros((len(kernel), rows, columns)) + bias[:, None, None]
    for u in range(size):
        for v in range(size):
            y += np.tensordot(kernel[:, :, u, v], x[:, u : u + rows, v : v + columns], 1)
    return y


def depthwise(x: Array, kernel: Array, bias: Array) -> Array:
    """Convolve every channel with its own kernel (C, 1, k, k)."""
    parts = [conv(x[c : c + 1], kernel[c : c + 1], bias[c : c + 1]) for c in range(len(x))]
    return np.concatenate(parts)


def conv3d(x: Array, kernel: Array, bias: Array) -> Array:
    """Convolve a clip (C, T, rows, columns)."""
    times = kernel.shape[2]
    n = x.shape[1]
    x = np.pad(x, ((0, 0), (times // 2, times // 2), (0, 0), (0, 0)))
    nothing = np.zeros(len(kernel))
    frames = [
        sum(conv(x[:, t + r], kernel[:, :, r], nothing) for r in range(times)) for t in range(n)
    ]
    return np.stack(frames, axis=1) + bias[:, None, None, None]


def deconv(x: Array, kernel: Array, bias: Array, s: int) -> Array:
    n_out, size = kernel.shape[1:3]
    rows, columns = x.shape[1:]
    p = math.ceil(max(size - s, 0) / 2)
    spread = np.zeros((n_out, s * rows + size + p, s * columns + size + p))
    for u in range(size):
        for v in range(size):
            part = np.tensordot(kernel[:, :, u, v].T, x, 1)
            spread[:, u : u + s * rows : s, v : v + s * columns : s] += part
    return spread[:, p : p + s * rows, p : p + s * columns] + bias[:, None, None]


def pixel_shuffle(x: Array, s: int, t: int | None = None) -> Array:
    t = s if t is None else t
    rows, columns = x.shape[1:]
    x = x.reshape(-1, s, t, rows, columns).transpose(0, 3, 1, 4, 2)
    return x.reshape(-1, rows * s, columns * t)


def sample_axis(x: Array, axis: int, positions: Array) -> Array:
    """Interpolate linearly at positions 0..n - 1 of an axis."""
    n = x.shape[axis]
    before = np.minimum(np.floor(positions).astype(int), n - 1)
    after = np.minimum(before + 1, n - 1)
    share = (positions - before).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    return x.take(before, axis) * (1 - share) + x.take(after, axis) * share


def enlarge(x: Array, s: int) -> Array:
    """Interpolate as a block does: a row lies at (i + 1/2) / s - 1/2."""
    for axis in (1, 2):
        at = np.maximum(0, (np.arange(s * x.shape[axis]) + 0.5) / s - 0.5)
        x = sample_axis(x, axis, at)
    return x


def enlarge_corners(x: Array, s: int) -> Array:
    """Interpolate as NeRV does: first and last rows stay first and last."""
    for axis in (1, 2):
        n = x.shape[axis]
        at = np.arange(s * n) * (n - 1) / (s * n - 1) if s * n > 1 else np.zeros(1)
        x = sample_axis(x, axis, at)
    return x


def instance_norm(x: Array) -> Array:
    mean = x.mean(axis=(1, 2), keepdims=True)
    variance = ((x - mean) ** 2).mean(axis=(1, 2), keepdims=True)
    return (x - mean) / np.sqrt(variance + 0.00001)


def normalize(kind: int, x: Array, weights: dict[str, Array], name: str) -> Array:
    if kind == BATCH:
        a, b = weights[f"{name}.norm.scale"], weights[f"{name}.norm.shift"]
        return a[:, None, None] * x + b[:, None, None]
    return instance_norm(x) if kind == INSTANCE else x


def encode_position(t: float, base: float, levels: int) -> Array:
    if levels == 0:
        return np.array([t])
    angles = base ** np.arange(levels, dtype=np.float64) * math.pi * t
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).ravel()


Shapes = list[tuple[str, tuple[int, ...], bool]]


def pair(name: str, *shape: int, bias: int | None = None) -> Shapes:
    """Return weight and bias of a layer, neither of them temporal."""
    n_bias = shape[0] if bias is None else bias
    return [(f"{name}.weight", shape, False), (f"{name}.bias", (n_bias,), False)]


class Block:
    """Upsampling, normalisation, activation."""

    def __init__(
        self, name: str, c: int, d: int, s: int, k: int, config: dict, *, corners: bool = False
    ) -> None:
        self.name, self.s, self.config, self.corners = name, s, config, corners
        kind = config["upsampling"]
        if kind == PSHUFFLE:
            shape, n_bias = (d * s * s, c, k, k), d * s * s
        elif kind == DECONV:
            shape, n_bias = (c, d, k, k), d
        else:
            shape, n_bias = (d, c, k, k), d
        self.shapes = pair(f"{name}.conv", *shape, bias=n_bias) + norm_shapes(name, d, config)

    def __call__(self, x: Array, weights: dict[str, Array]) -> Array:
        kernel, bias = weights[f"{self.name}.conv.weight"], weights[f"{self.name}.conv.bias"]
        kind = self.config["upsampling"]
        if kind == PSHUFFLE:
            x = pixel_shuffle(conv(x, kernel, bias), self.s)
        elif kind == DECONV:
            x = deconv(x, kernel, bias, self.s)
        else:
            x = (enlarge_corners if self.corners else enlarge)(x, self.s)
            x = conv(x, kernel, bias)
        x = normalize(self.config["norm"], x, weights, self.name)
        return ACTIVATIONS[self.config["activation"]](x)


def norm_shapes(name: str, d: int, config: dict) -> Shapes:
    if config["norm"] != BATCH:
        return []
    return [(f"{name}.norm.scale", (d,), False), (f"{name}.norm.shift", (d,), False)]
