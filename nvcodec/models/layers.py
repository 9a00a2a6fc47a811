"""Layers that several architectures share: activations, normalisation, upsampling, positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.depth import peak
from nvcodec.models import winograd

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "leaky": F.leaky_relu,
    "leaky01": lambda x: F.leaky_relu(x, 0.1),
    "relu6": F.relu6,
    "swish": F.silu,
    "softplus": F.softplus,
    "hardswish": F.hardswish,
    "sin": torch.sin,
}
"""By name; their order is that of the integers in a Config. "leaky" has a slope of 0.01."""
ACTIVATION_NAMES = tuple(ACTIVATIONS)
NORM_NAMES = ("none", "bn", "in")
UPSAMPLING_NAMES = ("pshuffle", "deconv", "bilinear")
OUTPUT_NAMES = ("tanh", "sigmoid", "linear")
MAX_FREQUENCY = 1 << 30
"""Highest frequency of a positional encoding: float64 knows the phase of higher ones too poorly."""
_EPSILON = 1e-5


def activate(kind: int, x: Tensor) -> Tensor:
    """Apply an activation; GELU in place where no gradient needs x: decoding stores little else."""
    if kind == 0 and not torch.is_grad_enabled():
        result: Tensor = torch.ops.aten.gelu_(x)
        return result
    return ACTIVATIONS[ACTIVATION_NAMES[kind]](x)


def squash(kind: int, x: Tensor) -> Tensor:
    """Map the last layer's values to [0, 1]: tanh(x) / 2 + 1/2, or the logistic function.

    "linear" is x + 1/2, which the conversion to 8 bits clamps (HNeRV's constant output bias; any
    other constant is a matter of the layer's own bias).
    """
    if OUTPUT_NAMES[kind] == "linear":
        return x + 0.5
    return torch.tanh(x) * 0.5 + 0.5 if kind == 0 else torch.sigmoid(x)


def squash_(kind: int, x: Tensor) -> Tensor:
    """Do the same in the memory of x."""
    if OUTPUT_NAMES[kind] == "linear":
        return x.add_(0.5)
    return x.tanh_().mul_(0.5).add_(0.5) if kind == 0 else x.sigmoid_()


def squash_gradient(kind: int, gradient: Tensor, squashed: Tensor) -> Tensor:
    """Return the gradient to x from that to `squash(kind, x)` and its value."""
    if OUTPUT_NAMES[kind] == "linear":
        return gradient
    # Of y = tanh(x) / 2 + 1/2 it is 2 y (1 - y), as tanh(x) is a logistic function of 2 x.
    result: Tensor = torch.ops.aten.sigmoid_backward(gradient, squashed)
    return result.mul_(2) if kind == 0 else result


def scale_to_samples(values: Tensor, bit_depth: int) -> Tensor:
    """Turn numbers, in their own memory, into those of 0 to 2^bit_depth - 1 that stand for them."""
    return values.clamp_(0, 1).mul_(peak(bit_depth)).round_()


def to_samples(drawn: Tensor, bit_depth: int = 8) -> Tensor:
    """Return frames in [0, 1] as integers of 8 to 16 bits; not-a-number becomes 0."""
    scaled = scale_to_samples(drawn.float().nan_to_num(0.0), bit_depth)
    # Through int32: conversions of floats to uint16 are missing on some devices.
    return scaled.to(torch.uint8) if bit_depth == 8 else scaled.int().to(torch.uint16)


def conv_1x1(layer: nn.Conv2d, x: Tensor) -> Tensor:
    """Return layer(x) for a 1x1 convolution, as one matrix product.

    The library has only a slow gradient for a batch of one frame on a CPU.
    """
    y = F.linear(x.permute(0, 2, 3, 1), layer.weight.flatten(1), layer.bias)
    return y.permute(0, 3, 1, 2)


def shuffle_weights(conv: nn.Conv2d, stride: int) -> tuple[Tensor, Tensor]:
    """Return weight and bias, their outputs in the order (stride, stride, C) of `shuffle`."""
    assert conv.bias is not None
    weight = conv.weight.view(-1, stride**2, *conv.weight.shape[1:]).transpose(0, 1).flatten(0, 1)
    bias = conv.bias.view(-1, stride**2).T.flatten()
    return weight.contiguous(memory_format=torch.channels_last), bias


def conv_for_shuffle(conv: nn.Conv2d, x: Tensor, stride: int) -> Tensor:
    """Return conv(x) for `shuffle`."""
    weight, bias = shuffle_weights(conv, stride)
    return F.conv2d(x, weight, bias, padding=conv.padding)


def shuffle(x: Tensor, stride: int) -> Tensor:
    """Return PixelShuffle of channels in the order (stride, stride, C), in channels_last layout.

    Both ways stride C values lie together; the library's own operation copies them one by one.
    """
    b, _, height, width = x.shape
    cells = x.permute(0, 2, 3, 1).reshape(b, height, width, stride, stride, -1)
    picture = cells.transpose(2, 3).reshape(b, height * stride, width * stride, -1)
    return picture.permute(0, 3, 1, 2)


class BatchNorm(nn.Module):
    """Batch normalisation while training; then the affine map that it has become.

    The file carries `scale` and `shift` alone: `freeze` folds the running statistics into them.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels))
        self.shift = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Normalise (B, C, ...) over all axes but C."""
        if self.training:
            return F.batch_norm(
                x, self.mean, self.variance, self.scale, self.shift, True, 0.1, _EPSILON
            )
        shape = (1, -1) + (1,) * (x.ndim - 2)
        return x * self.scale.view(shape) + self.shift.view(shape)

    @torch.no_grad()
    def freeze(self) -> None:
        """Fold the running mean and variance into scale and shift, once."""
        if not self.training:
            return
        self.scale.div_(torch.sqrt(self.variance + _EPSILON))
        self.shift.sub_(self.mean * self.scale)


class InstanceNorm(nn.Module):
    """Zero mean and unit variance of every channel of every frame; no parameters."""

    def forward(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Normalise (B, C, ...) over the axes after C; then multiply and add those (B, C)."""
        frames = [_normalize(frame, scale, shift, i) for i, frame in enumerate(torch.split(x, 1))]
        return frames[0] if len(frames) == 1 else torch.cat(frames)


def _normalize(frame: Tensor, scale: Tensor | None, shift: Tensor | None, i: int) -> Tensor:
    """Return one frame normalised: to the library a batch, for which all is one fast operation."""
    dtype = torch.promote_types(frame.dtype, torch.float32)
    weight, bias = (None if v is None else v[i].to(dtype) for v in (scale, shift))
    # Not F.batch_norm, which refuses maps of a single pixel.
    return torch.batch_norm(
        frame, weight, bias, None, None, True, 0.0, _EPSILON, torch.backends.cudnn.enabled
    )


def make_norm(kind: int, channels: int) -> nn.Module:
    """Return the normalisation of NORM_NAMES[kind]."""
    if NORM_NAMES[kind] == "bn":
        return BatchNorm(channels)
    return InstanceNorm() if NORM_NAMES[kind] == "in" else nn.Identity()


class UpBlock(nn.Module):
    """Upsampling by `stride`, normalisation and activation: act(norm(up(x))) (NeRV block).

    "pshuffle" is a convolution to c_out stride^2 channels and PixelShuffle; "deconv" a transposed
    convolution cropped to stride times its input; "bilinear" an interpolation and a convolution.
    Kernels may be even for the last two, for "deconv" with stride > 1 only: their padding is
    (k - 1) // 2 before and the rest after.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        stride: int,
        kernel: int,
        upsampling: int = 0,
        norm: int = 0,
        activation: int = 0,
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        self.kind = UPSAMPLING_NAMES[upsampling]
        self.stride = stride
        self.c_out = c_out
        self.activation = activation
        self.align_corners = align_corners
        self.conv: nn.Conv2d | nn.ConvTranspose2d
        if self.kind == "pshuffle":
            self.conv = nn.Conv2d(c_in, c_out * stride**2, kernel, padding=kernel // 2)
        elif self.kind == "deconv":
            overlap = max(kernel - stride, 0)
            cropped = (overlap + 1) // 2
            extra = 2 * cropped + stride - kernel
            self.conv = nn.ConvTranspose2d(
                c_in, c_out, kernel, stride, padding=cropped, output_padding=extra
            )
        else:
            self.conv = nn.Conv2d(c_in, c_out, kernel, padding=(kernel - 1) // 2)
        self.norm = make_norm(norm, c_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, c_in, h, w) to (B, c_out, h stride, w stride)."""
        if self.kind == "bilinear":
            x = F.interpolate(
                x, scale_factor=self.stride, mode="bilinear", align_corners=self.align_corners
            )
            if self.conv.kernel_size[0] % 2 == 0:
                x = F.pad(x, (0, 1, 0, 1))
        shuffles = self.kind == "pshuffle"
        # Before the shuffle the same values come without a second pass in another layout.
        early = shuffles and isinstance(self.norm, nn.Identity)
        if self.kind != "deconv" and winograd.pays(x, self.conv.weight):
            assert self.conv.bias is not None
            stride = self.stride if shuffles else 1
            gelu = early and ACTIVATION_NAMES[self.activation] == "gelu"
            x = winograd.up_conv(x, self.conv.weight, self.conv.bias, stride=stride, gelu=gelu)
            return x if gelu else activate(self.activation, self.norm(x))
        if not shuffles or self.stride == 1:
            return activate(self.activation, self.norm(self.conv(x)))
        assert isinstance(self.conv, nn.Conv2d)
        x = conv_for_shuffle(self.conv, x, self.stride)
        if early:
            return shuffle(activate(self.activation, x), self.stride)
        return activate(self.activation, self.norm(shuffle(x, self.stride)))

    def macs(self, n_pixels: int) -> int:
        """Return the multiply-accumulates for an input of n_pixels, interpolation not counted."""
        scale = self.stride**2 if self.kind == "bilinear" else 1
        return n_pixels * scale * self.conv.weight.numel()

    def peak(self, n_pixels: int) -> int:
        """Return the values of the largest feature map for an input of n_pixels."""
        channels = self.c_out
        if self.kind == "bilinear":
            channels = max(channels, self.conv.in_channels)
        return n_pixels * self.stride**2 * channels


class Mlp(nn.ModuleList):
    """Linear layers of these widths, each followed by the activation, the last one too."""

    def __init__(self, widths: Sequence[int], activation: int) -> None:
        super().__init__(nn.Linear(n_in, n_out) for n_in, n_out in pairwise(widths))
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., widths[0]) to (..., widths[-1])."""
        for layer in self:
            x = activate(self.activation, layer(x))
        return x

    def macs(self) -> int:
        """Return the multiply-accumulates for one vector."""
        return sum(p.numel() for p in self.parameters() if p.ndim == 2)


def interpolate_over_time(grid: Tensor, index: Tensor, n_frames: int) -> Tensor:
    """Return what a grid (T, ...), spread over n_frames frames, holds at these frames, linearly.

    Shapes: index (B,), whole or fractional -> (B, ...). Entry k stands for the middle of the k-th
    of T equal parts of the video; before the first middle and after the last one nothing changes.
    """
    n = len(grid)
    t = ((index.double() + 0.5) * (n / n_frames) - 0.5).clamp(0, n - 1)
    before = t.floor().long()
    after = (before + 1).clamp_max(n - 1)
    share = (t - before).to(grid.dtype).view(-1, *[1] * (grid.ndim - 1))
    return grid[before] * (1 - share) + grid[after] * share


def encoding_size(n_levels: int) -> int:
    """Return the values that a positional encoding makes of one number."""
    return 2 * n_levels or 1


def check_encoding(base_percent: int, n_levels: int) -> None:
    """Raise ValueError when the highest frequency is above MAX_FREQUENCY."""
    k = max(0, n_levels - 1)
    if base_percent**k > MAX_FREQUENCY * 100**k:
        raise ValueError(
            f"positional encoding of base {base_percent / 100} with {n_levels} levels goes beyond "
            f"the frequency {MAX_FREQUENCY}"
        )


def max_levels(base_percent: int) -> int:
    """Return the most levels of a positional encoding, at most 255, within MAX_FREQUENCY."""
    n_levels = 1
    while n_levels < 255 and base_percent**n_levels <= MAX_FREQUENCY * 100**n_levels:
        n_levels += 1
    return n_levels


def positional_encoding(t: Tensor, base: float, n_levels: int) -> Tensor:
    """Return [sin(base^k pi t), cos(base^k pi t)] for k = 0..n_levels-1, interleaved (NeRV, eq. 2).

    Shapes: t (...) -> (..., 2 n_levels); n_levels 0 returns t itself, (..., 1). Computed in float64
    and rounded once, since base^k pi t can be large.
    """
    if n_levels == 0:
        return t[..., None].float()
    k = torch.arange(n_levels, dtype=torch.float64, device=t.device)
    angle = t.double()[..., None] * (torch.pow(base, k) * math.pi)
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(-2).float()
