"""Convolutions by minimal filtering against the library's, values and gradients."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nvcodec.models import winograd
from nvcodec.models.layers import UpBlock


def make(c_in: int, c_out: int, k: int, height: int, width: int, n: int = 2) -> list[Tensor]:
    torch.manual_seed(0)
    x = torch.randn(n, c_in, height, width).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(c_out, c_in, k, k) / (c_in * k * k) ** 0.5
    return [v.requires_grad_() for v in (x, weight, torch.randn(c_out))]


def plain(x: Tensor, weight: Tensor, bias: Tensor, stride: int, gelu: bool) -> Tensor:
    y = F.conv2d(x.double(), weight.double(), bias.double(), padding=weight.shape[-1] // 2)
    return F.pixel_shuffle(F.gelu(y) if gelu else y, stride)


@pytest.mark.parametrize("gelu", [False, True])
@pytest.mark.parametrize(
    ("c_in", "c_out", "k", "stride", "height", "width"),
    [
        (5, 12, 5, 2, 16, 24),
        (4, 18, 3, 3, 17, 21),
        (3, 7, 3, 1, 1, 1),
        (6, 8, 5, 2, 3, 700),
        (2, 16, 5, 4, 43, 5),
    ],
)
def test_same_values_and_gradients_as_the_library(
    c_in: int, c_out: int, k: int, stride: int, height: int, width: int, gelu: bool
) -> None:
    inputs = make(c_in, c_out, k, height, width)
    ours = winograd.up_conv(*inputs, stride=stride, gelu=gelu)
    theirs = plain(*inputs, stride, gelu)
    assert ours.shape == theirs.shape
    assert ours.is_contiguous(memory_format=torch.channels_last)
    upstream = torch.randn_like(ours)
    our_gradients = torch.autograd.grad(ours, inputs, upstream)
    their_gradients = torch.autograd.grad(theirs, inputs, upstream.double())
    for a, b in zip((ours, *our_gradients), (theirs, *their_gradients), strict=True):
        assert float((a - b).detach().norm()) <= 5e-5 * float(b.detach().norm())


def test_inference_equals_training() -> None:
    inputs = make(8, 32, 5, 20, 36)
    trained = winograd.up_conv(*inputs, stride=2, gelu=True)
    with torch.inference_mode():
        drawn = winograd.up_conv(*inputs, stride=2, gelu=True)
    assert torch.equal(trained, drawn)


def test_frames_do_not_depend_on_the_batch() -> None:
    inputs = make(8, 32, 3, 37, 52, n=3)
    together = winograd.up_conv(*inputs, stride=2, gelu=True)
    alone = winograd.up_conv(inputs[0][1:2], *inputs[1:], stride=2, gelu=True)
    assert torch.allclose(together[1:2], alone, atol=1e-5)


@pytest.mark.parametrize("k", winograd.KERNELS)
def test_transforms_filter_exactly(k: int) -> None:
    """On small integers, every product and sum is exact up to float32 rounding of the matrices."""
    by = winograd.transforms(k)
    side = k + 3
    tile = torch.randint(-3, 4, (side, side)).float()
    kernel = torch.randint(-3, 4, (k, k)).float()
    products = (by.kernel @ kernel.flatten()) * (by.tile @ tile.flatten())
    out = (by.output @ products).view(4, 4)
    expected = F.conv2d(tile[None, None], kernel[None, None])[0, 0]
    assert torch.allclose(out, expected, atol=1e-3)


def test_used_only_where_it_pays() -> None:
    x, weight, _ = make(32, 128, 5, 24, 40, n=1)
    assert winograd.pays(x, weight)
    assert not winograd.pays(x.double(), weight.double())
    assert not winograd.pays(x[..., :20], weight)
    assert not winograd.pays(x, weight[:16])
    assert not winograd.pays(x, torch.zeros(128, 32, 7, 7))
    with torch.autocast("cpu", torch.bfloat16):
        assert not winograd.pays(x, weight)


@pytest.mark.parametrize("kind", [0, 2])
@pytest.mark.parametrize("norm", [0, 2])
@pytest.mark.parametrize("activation", [0, 5])
def test_blocks_agree_with_float64(kind: int, norm: int, activation: int) -> None:
    torch.manual_seed(1)
    block = UpBlock(40, 40, stride=2, kernel=5, upsampling=kind, norm=norm, activation=activation)
    x = torch.randn(1, 40, 24, 32).contiguous(memory_format=torch.channels_last)
    with torch.inference_mode():
        ours = block(x)
        exact = block.double()(x.double())
    assert float((ours - exact).abs().max()) < 1e-3
