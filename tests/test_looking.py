"""Where pixels look at a canvas."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nvcodec.models.looking import look, where

SIZE = (18, 32)


def maps_and_flow(n=2, cells=(3, 4)):
    rng = torch.Generator().manual_seed(1)
    maps = torch.eye(2, 3) + 0.1 * torch.randn(n, 2, 3, generator=rng)
    flow = 0.1 * torch.randn(n, 2, *cells, generator=rng)
    return maps, flow


def by_the_library(maps, flow, size):
    places = F.affine_grid(maps, [len(maps), 1, *size], align_corners=False)
    if flow is None:
        return places
    moved = F.interpolate(flow, size=size, mode="bilinear", align_corners=False)
    return places + moved.permute(0, 2, 3, 1)


@pytest.mark.parametrize("cells", [None, (1, 1), (3, 4), (18, 32), (20, 40)])
@pytest.mark.parametrize("size", [SIZE, (1, 1), (7, 1)])
def test_places_are_those_of_the_library(cells, size):
    maps, flow = maps_and_flow(cells=cells or (1, 1))
    flow = None if cells is None else flow
    found = where(maps, flow, size)
    assert found.shape == (2, *size, 2)
    torch.testing.assert_close(found, by_the_library(maps, flow, size), atol=1e-6, rtol=0)
    maps, flow = maps.double(), None if flow is None else flow.double()
    exact = by_the_library(maps, flow, size)
    torch.testing.assert_close(where(maps, flow, size), exact, atol=1e-14, rtol=0)


def test_gradients_are_those_of_the_library():
    weights = torch.randn(2, *SIZE, 2)
    gradients = []
    for function in (where, by_the_library):
        values = [v.requires_grad_() for v in maps_and_flow()]
        (function(*values, SIZE) * weights).sum().backward()
        gradients.append([v.grad for v in values])
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-5)


def test_places_keep_their_precision_under_autocast():
    maps, flow = maps_and_flow()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = where(maps, flow, SIZE)
    assert torch.equal(found, where(maps, flow, SIZE))


def test_training_goes_on_after_decoding():
    with torch.inference_mode():
        where(*maps_and_flow(cells=(5, 6)), (11, 13))
    values = [v.requires_grad_() for v in maps_and_flow(cells=(5, 6))]
    where(*values, (11, 13)).sum().backward()
    assert all(v.grad is not None for v in values)


def test_a_canvas_is_looked_at():
    canvas = torch.arange(12.0).view(1, 3, 4)
    still = torch.eye(2, 3)[None]
    seen = look(canvas, where(still, None, (3, 4)))
    torch.testing.assert_close(seen, canvas[None], atol=1e-6, rtol=0)
    aside = still.clone()
    aside[0, 0, 2] = 0.5  # a quarter of the width: one pixel
    torch.testing.assert_close(
        look(canvas, where(aside, None, (3, 4)))[0, 0], canvas[0][:, [1, 2, 3, 3]]
    )
