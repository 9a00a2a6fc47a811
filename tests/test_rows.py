"""Layers drawn a few rows at a time give what the library's layers give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from nvcodec.models import row_gradients, rows
from nvcodec.models.canvas import Block
from nvcodec.models.layers import OUTPUT_NAMES, squash, to_samples


@pytest.fixture(params=[300, 2_000_000], autouse=True)
def chunk_values(request, monkeypatch):
    """Chunks that divide a picture unevenly, and one for all of it."""
    monkeypatch.setattr(rows, "_CHUNK_VALUES", request.param)
    monkeypatch.setattr(row_gradients, "_CHUNK_VALUES", request.param)


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


@pytest.mark.parametrize("chunk_values", [30, 1_000_000])
@pytest.mark.parametrize("channels", [1, 3])
def test_gradients_of_a_block(channels, chunk_values, monkeypatch):
    monkeypatch.setattr(row_gradients, "_CHUNK_VALUES", chunk_values)
    block = Block(channels, 3, 2).double()
    x = picture(1, channels, 4, 4).double().requires_grad_()

    def apply(x: Tensor, *values: Tensor) -> Tensor:
        named = dict(zip(dict(block.named_parameters()), values, strict=True))
        return functional_call(block, named, (x,))

    assert torch.autograd.gradcheck(apply, (x, *block.parameters()))


def test_blocks_of_few_and_of_many_channels_are_alike(monkeypatch):
    block, x = Block(6, 3, 2), picture(2, 6, 9, 7).requires_grad_()
    results = []
    for most in (6, 5):
        monkeypatch.setattr(row_gradients, "MAX_CHANNELS", most)
        drawn = block(x)
        gradients = torch.autograd.grad(drawn.square().sum(), [x, *block.parameters()])
        results.append((drawn.detach(), *gradients))
    for by_hand, of_library in zip(*results, strict=True):
        assert torch.allclose(by_hand, of_library, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("chunk_values", [60, 1_000_000])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("output", range(len(OUTPUT_NAMES)))
@pytest.mark.parametrize("n_details", [1, 2])
def test_gradients_of_a_picture_with_detail(n_details, output, stride, chunk_values, monkeypatch):
    monkeypatch.setattr(row_gradients, "_CHUNK_VALUES", chunk_values)
    cells = torch.randn(2, 3, 2, stride, stride, 3 + n_details).double().requires_grad_()
    seen = picture(2, n_details, 3 * stride, 2 * stride).double().contiguous().requires_grad_()
    weights = torch.randn(3, n_details).double().requires_grad_()

    def apply(*values: Tensor) -> Tensor:
        return row_gradients.blend(*values, output)

    assert torch.autograd.gradcheck(apply, (cells, seen, weights))


@pytest.mark.parametrize("asks_for_gradients", [False, True])
def test_bfloat16_around_is_no_difference_of_kind(asks_for_gradients):
    conv = nn.Conv2d(4, 16, 3, padding=1)
    x, seen, mix = picture(1, 4, 6, 5), picture(1, 1, 12, 10), picture(3, 1, 1, 1)
    with torch.set_grad_enabled(asks_for_gradients):
        exact = rows.draw(x, conv, 2, 1, detail=(seen, mix))
        with torch.autocast("cpu", torch.bfloat16):
            drawn = rows.draw(x, conv, 2, 1, detail=(seen, mix))
            block = Block(4, 3, 2)(x)
    assert drawn.dtype == torch.float32
    assert torch.allclose(drawn, exact, atol=0.02)
    assert block.isfinite().all()
