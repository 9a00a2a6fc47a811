"""Layers drawn a few rows at a time give what the library's layers give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nvcodec.models import rows
from nvcodec.models.canvas import Block


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


def test_gradients_are_those_of_the_library():
    block, x = Block(3, 3, 2).double(), picture(1, 3, 4, 4).double().requires_grad_()
    assert torch.autograd.gradcheck(block, (x,))
