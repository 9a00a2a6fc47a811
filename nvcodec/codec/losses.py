"""Distortion measures by name: the 15 of the NeRV family, and the logarithms of MSE and L1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from pytorch_msssim import ms_ssim
from torch import Tensor
from torch.autograd.function import once_differentiable

from nvcodec.codec import ssim
from nvcodec.errors import UsageError

# Weights of (L2, L1, 1 - SSIM, 1 - MS-SSIM); NeRV train_nerv.py, the same set in HNeRV and 3DNeRV.
_MIXES = {
    "l2": (1.0, 0.0, 0.0, 0.0),
    "l1": (0.0, 1.0, 0.0, 0.0),
    "ssim": (0.0, 0.0, 1.0, 0.0),
    "fusion1": (0.3, 0.0, 0.7, 0.0),
    "fusion2": (0.0, 0.3, 0.7, 0.0),
    "fusion3": (0.5, 0.0, 0.5, 0.0),
    "fusion4": (0.0, 0.5, 0.5, 0.0),
    "fusion5": (0.7, 0.0, 0.3, 0.0),
    "fusion6": (0.0, 0.7, 0.3, 0.0),
    "fusion7": (0.7, 0.3, 0.0, 0.0),
    "fusion8": (0.5, 0.5, 0.0, 0.0),
    "fusion9": (0.0, 0.9, 0.1, 0.0),
    "fusion10": (0.0, 0.7, 0.0, 0.3),
    "fusion11": (0.0, 0.9, 0.0, 0.1),
    "fusion12": (0.0, 0.8, 0.0, 0.2),
}
LOSSES = ("log-mse", "log-l1", *_MIXES)
_MS_SSIM_MIN_SIDE = 161


def min_side(name: str) -> int:
    """Return the pixels that the shorter side of a frame needs for this loss."""
    _, _, by_ssim, by_ms_ssim = _MIXES.get(name, (0.0, 0.0, 0.0, 0.0))
    return _MS_SSIM_MIN_SIDE if by_ms_ssim else ssim.SIDE if by_ssim else 1


def check_loss(name: str, height: int, width: int, what: str = "frames") -> None:
    """Raise UsageError for an unknown loss or one that needs larger frames."""
    if name not in LOSSES:
        raise UsageError(f"loss is {name}, allowed are {', '.join(LOSSES)}")
    if min(height, width) < min_side(name):
        kind = "SSIM" if min_side(name) == ssim.SIDE else "MS-SSIM"
        raise UsageError(
            f"loss {name} uses {kind}, which needs sides of at least {min_side(name)} pixels, "
            f"but the {what} are {width}x{height}"
        )


def _mean_squares(x: Tensor) -> Tensor:
    """Return the means (B,) of the squares of x (B, ...)."""
    means: Tensor = _MeanSquares.apply(x)  # type: ignore[no-untyped-call]
    return means


class _MeanSquares(torch.autograd.Function):
    """By hand: the library goes over all pixels four times for what takes one pass each way."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        flat = x.flatten(1)
        means: Tensor = torch.linalg.vecdot(flat, flat) / flat.shape[1]
        return means

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        x: Tensor = ctx.saved_tensors[0]
        weights = gradients[0] * (2 / x[0].numel())
        return x * weights.view(-1, *[1] * (x.ndim - 1))


class _MendedSquares(torch.autograd.Function):
    """Means (B,) of f(e) over blocks, where e is a block's mean square of x (B, C, H, W).

    f(e) = e up to `limit`, limit (1 + ln(e / limit)) beyond: what corrections take over costs the
    logarithm of its error in bits, as by the rate-distortion function of a Gaussian source.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, limit: float, side: int) -> Tensor:
        squares = x.square().mean(1, keepdim=True)
        blocks = F.avg_pool2d(squares, side, ceil_mode=True, count_include_pad=False)
        weights = (limit / blocks.clamp_min(limit)).repeat_interleave(side, 2)
        weights = weights.repeat_interleave(side, 3)[:, :, : x.shape[2], : x.shape[3]]
        ctx.save_for_backward(x, weights)
        return (weights * squares - limit * weights.log()).mean((1, 2, 3))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        x, weights = ctx.saved_tensors
        scale = gradients[0] * (2 / x[0].numel())
        return x * (weights * scale.view(-1, 1, 1, 1)), None, None


@dataclass(frozen=True, slots=True)
class Mended:
    """What corrections take over: of blocks of `side` pixels the error beyond `limit`."""

    limit: float
    side: int


def distortion(
    name: str,
    drawn: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    mended: Mended | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of frames (B, 3, H, W) in [0, 1], lower is better, and their MSEs (B,).

    Where mask (B, 1, H, W) is 0 the pixels do not count; they are equal for SSIM. Of blocks that
    are mended, squared errors count by their logarithm.

    "log-mse" is the mean over frames of ln(MSE): the exact objective for a mean of per-frame PSNRs.
    "log-l1" is the mean of 2 ln(L1), on the same scale; a few pixels that are far off hardly move
    it, as they hardly move a median.
    """
    known = torch.ones(())
    if mask is not None:
        drawn, target = drawn * mask, target * mask
        known = mask.mean((1, 2, 3)).clamp_min(1e-6)
    difference = drawn - target
    l2, l1, by_ssim, by_ms_ssim = _MIXES.get(name, (0.0, 0.0, 0.0, 0.0))
    # A term without weight would still be differentiated.
    squared = difference if l2 or name == "log-mse" else difference.detach()
    mse = _mean_squares(squared) / known
    counted = mse
    if mended is not None and squared.requires_grad:
        found: Tensor = _MendedSquares.apply(squared, mended.limit, mended.side)  # type: ignore[no-untyped-call]
        counted = found / known
    if name == "log-mse":
        return torch.log(counted + 1e-7).mean(), mse.detach()
    loss = l2 * counted.mean()
    if l1 or name == "log-l1":
        absolute = difference.abs().mean((1, 2, 3)) / known
        if name == "log-l1":
            return 2 * torch.log(absolute + 3e-4).mean(), mse.detach()
        loss = loss + l1 * absolute.mean()
    if by_ssim:
        loss = loss + by_ssim * (1 - ssim.ssim(drawn, target))
    if by_ms_ssim:
        loss = loss + by_ms_ssim * (1 - ms_ssim(drawn, target, data_range=1.0))
    return loss, mse.detach()
