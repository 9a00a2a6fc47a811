"""Faster forms of layers against the library's plain ones, values and gradients."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.models.layers import InstanceNorm, conv_for_shuffle, shuffle


def picture(*shape: int) -> Tensor:
    torch.manual_seed(1)
    x = torch.randn(shape, dtype=torch.float64)
    return x.contiguous(memory_format=torch.channels_last).requires_grad_()


def compare(ours: Tensor, exact: Tensor, inputs: list[Tensor]) -> None:
    assert ours.shape == exact.shape
    upstream = torch.randn_like(exact)
    pairs = [(ours, exact)]
    pairs += zip(
        torch.autograd.grad(ours, inputs, upstream),
        torch.autograd.grad(exact, inputs, upstream),
        strict=True,
    )
    for a, b in pairs:
        assert torch.allclose(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 2), (5, 3)])
def test_a_convolution_that_is_shuffled(kernel, stride):
    conv = nn.Conv2d(4, 3 * stride**2, kernel, padding=kernel // 2).double()
    x = picture(2, 4, 6, 5)
    ours = shuffle(conv_for_shuffle(conv, x, stride), stride)
    assert ours.is_contiguous(memory_format=torch.channels_last)
    compare(ours, F.pixel_shuffle(conv(x), stride), [x, *conv.parameters()])


@pytest.mark.parametrize("n_frames", [1, 3])
@pytest.mark.parametrize("styled", [False, True])
def test_instance_norm(n_frames, styled):
    x = picture(n_frames, 4, 6, 5)
    y = (x - x.mean((2, 3), keepdim=True)) / (x.var((2, 3), False, keepdim=True) + 1e-5).sqrt()
    if not styled:
        compare(InstanceNorm()(x), y, [x])
        return
    scale, shift = (torch.randn(n_frames, 4).double().requires_grad_() for _ in range(2))
    exact = y * scale[:, :, None, None] + shift[:, :, None, None]
    compare(InstanceNorm()(x, scale, shift), exact, [x, scale, shift])


def test_instance_norm_of_a_single_pixel_is_nothing():
    assert torch.equal(InstanceNorm()(torch.ones(2, 3, 1, 1)), torch.zeros(2, 3, 1, 1))
