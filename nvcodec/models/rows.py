"""Layers of ConvNeXt-like networks, on a CPU drawn a few rows of pixels at a time.

What a layer makes on the way stays in the cache, in memory that is used again. Few channels are
short vectors, so the inside of a block is turned to (channels, pixels) by the products themselves:
sums over channels and GELU then run along the pixels. A bias is one more column, times ones.
Where gradients are asked for, layers of few channels are those of row_gradients.py; all others, and
those of other devices, are the library's.
"""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.models import row_gradients
from nvcodec.models.layers import (
    activate,
    conv_for_shuffle,
    scale_to_samples,
    shuffle,
    shuffle_weights,
    squash,
    squash_,
    to_samples,
)

_CHUNK_VALUES = 2_000_000
"""Values of a chunk on its way: 8 MB; with smaller ones, threads wait for Python too often."""
_MAX_CHANNELS = 128
"""Above, vectors over the channels are as fast (benchmarks/NOTES.md)."""


def block(x: Tensor, depthwise: nn.Conv2d, expand: nn.Linear, project: nn.Linear) -> Tensor:
    """Return x + project(GELU(expand(norm(depthwise(x))))) of x (B, C, H, W)."""
    y = depthwise(x)
    most = _MAX_CHANNELS if _pays(x) else row_gradients.MAX_CHANNELS
    if x.device.type == "cpu" and x.shape[1] <= most:
        matrices = _with_bias(expand), _with_bias(project)
        return _picture(row_gradients.mix(_pixels(x), _pixels(y), *matrices), x.shape)
    # Channels last: the two layers are plain matrix products without a copy.
    y = y.permute(0, 2, 3, 1)
    y = F.layer_norm(y, y.shape[-1:], eps=row_gradients.EPSILON)
    y = project(activate(0, expand(y)))
    moved: Tensor = y.permute(0, 3, 1, 2)
    return x + moved


def upsample(x: Tensor, conv: nn.Module, stride: int, added: Tensor | None) -> Tensor:
    """Return GELU(PixelShuffle(conv(x)) + added); conv is 1x1, and `added` may be overwritten."""
    assert isinstance(conv, nn.Conv2d)
    if not _pays(x):
        x = shuffle(conv_for_shuffle(conv, x, stride), stride)
        return activate(0, x if added is None else x + added)
    b, c_in, height, width = x.shape
    weight, bias = shuffle_weights(conv, stride)
    c_out = len(weight)
    matrix = weight.view(c_out, c_in).T
    shape = (b * height, stride, width, c_out // stride)
    lines = _pixels(x).view(b * height, width, c_in)
    result = (x.new_zeros(shape) if added is None else _pixels(added)).view(shape)
    n = max(1, _CHUNK_VALUES // (width * (c_in + 2 * c_out)))
    made = torch.empty(min(n, len(lines)) * width, c_out)
    for part, here in zip(torch.split(lines, n), torch.split(result, n), strict=True):
        product = torch.addmm(bias, part.flatten(0, 1), matrix, out=made[: len(part) * width])
        here.add_(product.view(len(part), width, stride, -1).transpose(1, 2))
        torch.ops.aten.gelu.out(here, out=here)
    return _picture(result, (b, -1, height * stride, width * stride))


def draw(
    x: Tensor,
    conv: nn.Conv2d,
    stride: int,
    output: int,
    *,
    detail: tuple[Tensor, Tensor] | None = None,
    bit_depth: int | None = None,
) -> Tensor:
    """Return squash(PixelShuffle(conv(x))), three channels to which detail is added before.

    detail is what is seen (B, C, H, W) and weights (3, C, 1, 1); C more channels of the convolution
    are its gates, by which it is multiplied before the weights. With a bit depth of 8 the result is
    samples (uint8), which saves passes over the whole picture; with others `to_samples` does it.
    """
    if not _pays(x):
        cells = conv_for_shuffle(conv, x, stride)
        if detail is None:
            drawn = squash(output, shuffle(cells, stride))
        else:
            drawn = _blend(cells, stride, output, *detail)
        return drawn if bit_depth is None else to_samples(drawn, bit_depth)
    b, _, height, width = x.shape
    weight, bias = shuffle_weights(conv, stride)
    # The colours of all pixels of a cell, then their gates.
    order = torch.arange(len(weight)).view(stride**2, -1)
    order = torch.cat([order[:, :3].flatten(), order[:, 3:].flatten()])
    weight = weight[order].contiguous(memory_format=torch.channels_last)
    lines = F.conv2d(x, weight, bias[order], padding=conv.padding).permute(0, 2, 3, 1).flatten(0, 1)
    n_colours = 3 * stride**2
    n = max(1, _CHUNK_VALUES // (4 * lines[0].numel()))
    kind = torch.uint8 if bit_depth == 8 else torch.float32
    result = torch.empty(b * height, stride, width, stride, 3, dtype=kind)
    if detail is not None:
        seen = detail[0].transpose(0, 1).flatten(1, 2)
        mix = detail[1].flatten(1).T
        to_colours = torch.block_diag(*[mix] * stride**2)  # type: ignore[no-untyped-call]
    for i in range(0, len(lines), n):
        part = lines[i : i + n]
        values = part[..., :n_colours]
        if detail is not None:
            near = seen[:, i * stride : (i + n) * stride]
            gates = part[..., n_colours:].flatten(0, 1).T.contiguous()
            cells = gates.view(stride, stride, len(near), len(part), width)
            # One plane after the other, along whole rows: pixel by pixel it takes twice as long.
            for dy, dx in itertools.product(range(stride), repeat=2):
                cells[dy, dx].mul_(near[:, dy::stride, dx::stride])
            values = torch.addmm(values.flatten(0, 1), gates.T, to_colours)
        values = squash_(output, values)
        if bit_depth == 8:
            values = scale_to_samples(values.nan_to_num_(0.0), 8)
        result[i : i + n].copy_(values.view(len(part), width, stride, stride, 3).transpose(1, 2))
    picture = _picture(result, (b, 3, height * stride, width * stride))
    return picture if bit_depth in (None, 8) else to_samples(picture, bit_depth)


def _blend(cells: Tensor, stride: int, output: int, seen: Tensor, weights: Tensor) -> Tensor:
    """Return what `draw` does from the values of its convolution on."""
    if cells.device.type == "cpu":
        b, _, height, width = cells.shape
        shaped = _pixels(cells).view(b, height, width, stride, stride, -1)
        return row_gradients.blend(shaped, seen, weights.flatten(1), output)
    drawn = shuffle(cells, stride)
    return squash(output, drawn[:, :3] + F.conv2d(drawn[:, 3:] * seen, weights))


def _pays(x: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _pixels(x: Tensor) -> Tensor:
    """Return (B, C, H, W) as (B H W, C), without a copy where it is in channels_last layout."""
    return x.permute(0, 2, 3, 1).contiguous().view(-1, x.shape[1])


def _picture(lines: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return values in the order of channels_last layout as (B, C, H, W)."""
    b, c, height, width = shape
    return lines.view(b, height, width, c).permute(0, 3, 1, 2)


def _with_bias(layer: nn.Linear) -> Tensor:
    return torch.cat([layer.weight, layer.bias[:, None]], 1)
