"""Layers drawn a few rows at a time give what the library's layers give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.models import rows
from nvcodec.models.canvas import Block
from nvcodec.models.layers import OUTPUT_NAMES, squash, to_samples


@pytest.fixture(params=[300, 2_000_000], autouse=True)
def chunk_values(request, monkeypatch):
    """Chunks that divide a picture unevenly, and one for all of it."""
    monkeypatch.setattr(rows, "_CHUNK_VALUES", request.param)


def picture(*shape: int) -> Tensor:
    torch.manual_seed(1)
    return torch.randn(shape).contiguous(memory_format=torch.channels_last)


def compare(drawn: Tensor, exact: Tensor) -> None:
    assert drawn.dtype == torch.float32
    assert drawn.shape == exact.shape
    assert torch.allclose(drawn.double(), exact, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("expansion", [1, 3])
@pytest.mark.parametrize("kernel", [1, 5])
def test_a_block(channels, expansion, kernel):
    block = Block(channels, kernel, expansion)
    x = 3 * picture(2, channels, 9, 7) + 5
    before = x.clone()
    with torch.no_grad():
        drawn = block(x)
    assert torch.equal(x, before)
    compare(drawn, block.double()(x.double()).detach())


@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("with_added", [False, True])
def test_upsampling(stride, with_added):
    conv = nn.Conv2d(5, 2 * stride**2, 1)
    x = picture(2, 5, 6, 7)
    added = picture(2, 2, 6 * stride, 7 * stride) if with_added else None
    exact = F.pixel_shuffle(conv.double()(x.double()), stride)
    exact = F.gelu(exact if added is None else exact + added).detach()
    with torch.no_grad():
        compare(rows.upsample(x, conv.float(), stride, added), exact)


@pytest.mark.parametrize("stride", [1, 3])
@pytest.mark.parametrize("output", range(len(OUTPUT_NAMES)))
@pytest.mark.parametrize("n_details", [0, 1, 2])
@pytest.mark.parametrize("chunk_values", [1, 2_000_000])
def test_a_convolution_that_is_shuffled(stride, output, n_details, chunk_values, monkeypatch):
    monkeypatch.setattr(rows, "_CHUNK_VALUES", chunk_values)
    conv = nn.Conv2d(4, (3 + n_details) * stride**2, 3, padding=1)
    x, detail = picture(2, 4, 6, 5), None
    exact = F.pixel_shuffle(conv.double()(x.double()), stride).detach()
    if n_details:
        detail = picture(2, n_details, 6 * stride, 5 * stride), picture(3, n_details, 1, 1)
        seen, mix = (values.double() for values in detail)
        exact = exact[:, :3] + torch.einsum("bchw,kc->bkhw", exact[:, 3:] * seen, mix[:, :, 0, 0])
    exact = squash(output, exact)
    conv = conv.float()
    with torch.no_grad():
        compare(rows.draw(x, conv, stride, output, detail=detail), exact)
        for bit_depth in (8, 12):
            samples = rows.draw(x, conv, stride, output, detail=detail, bit_depth=bit_depth)
            wanted = to_samples(exact, bit_depth)
            assert samples.dtype == wanted.dtype
            assert samples.shape == wanted.shape
            # A value at the edge between two integers may become either.
            assert (samples.int() - wanted.int()).abs().max() <= 1
            assert (samples.int() == wanted.int()).double().mean() > 0.99
    compare(rows.draw(x, conv, stride, output, detail=detail).detach(), exact)


@pytest.mark.parametrize("bit_depth", [8, 10])
def test_samples_of_what_is_no_number(bit_depth):
    conv = nn.Conv2d(1, 3, 1)
    values = torch.tensor([torch.nan, torch.inf, -torch.inf])
    with torch.no_grad():
        conv.weight.fill_(0)
        conv.bias.copy_(values)
        samples = rows.draw(picture(1, 1, 2, 2), conv, 1, 1, bit_depth=bit_depth)
    white = 2**bit_depth - 1
    assert samples[0, :, 0, 0].tolist() == [0, white, 0]


def test_gradients_are_those_of_the_library():
    block, x = Block(3, 3, 2).double(), picture(1, 3, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(block, (x,))
