"""Muon and SOAP as optimisers of their own."""

import math
from fractions import Fraction

import pytest
import torch

from nvcodec.codec.optim import Muon, make_optimizers, orthogonalize
from nvcodec.codec.options import OPTIMIZERS, EncodeOptions
from nvcodec.codec.plan import MATRIX_LR, make_plan
from nvcodec.codec.soap import Soap


def rotation(n, generator):
    return torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64)).Q


def skewed(n, generator, condition=300.0):
    """Return a matrix whose axes are no coordinates."""
    scales = torch.logspace(0, -math.log10(condition), n, dtype=torch.float64)
    left, right = rotation(n, generator), rotation(n, generator)
    return left @ (scales[:, None] * right)


def descend(make_optimizer, n_steps=200):
    """Return the loss after some steps on an ill-conditioned quadratic, at a falling rate."""
    generator = torch.Generator().manual_seed(0)
    left, right = skewed(12, generator).float(), skewed(20, generator).float()
    wanted = torch.randn(12, 20, generator=generator)
    matrix = torch.nn.Parameter(torch.zeros(12, 20))
    optimizer = make_optimizer([matrix])
    (group,) = optimizer.param_groups
    peak = group["lr"]
    for step in range(n_steps):
        optimizer.zero_grad()
        (left @ (matrix - wanted) @ right).square().sum().backward()
        group["lr"] = peak * (1 - step / n_steps)
        optimizer.step()
    return float((left @ (matrix.detach() - wanted) @ right).square().sum())


def test_soap_bears_ill_conditioned_losses_better_than_adam():
    rates = (0.01, 0.03, 0.1, 0.3)
    adam = min(descend(lambda p, lr=lr: torch.optim.Adam(p, lr)) for lr in rates)
    soap = min(descend(lambda p, lr=lr: Soap(p, lr)) for lr in rates)
    assert soap < 0.1 * adam


def test_soap_sees_no_axes():
    """Where the problem is turned, so are all of its steps."""
    generator = torch.Generator().manual_seed(1)
    shear = skewed(6, generator, condition=4.0)
    wanted = torch.randn(6, 6, generator=generator).double()
    left, right = rotation(6, generator), rotation(6, generator)
    plain = torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
    turned = torch.nn.Parameter(torch.zeros(6, 6, dtype=torch.float64))
    first, second = Soap([plain], 0.1, interval=3), Soap([turned], 0.1, interval=3)
    for _ in range(20):
        for parameter, matrix in (plain, plain), (turned, left.T @ turned @ right.T):
            parameter.grad = None
            (shear @ (matrix - wanted)).square().sum().backward()
        first.step()
        second.step()
    torch.testing.assert_close(turned, left @ plain @ right, rtol=1e-5, atol=1e-6)
    assert plain.abs().max() > 0.1


@pytest.mark.parametrize(
    "shape", [(1, 9), (9, 1), (3, 70), (70, 3), (2, 1500), (1500, 2), (1030, 1030), (6, 5, 3, 3)]
)
@pytest.mark.parametrize("kind", [Muon, Soap])
def test_all_shapes_of_matrices(kind, shape):
    generator = torch.Generator().manual_seed(2)
    wanted = torch.randn(shape, generator=generator)
    matrix = torch.nn.Parameter(torch.zeros(shape))
    optimizer = kind([matrix], lr=0.05)
    for _ in range(2 if matrix.numel() > 10**6 else 12):
        optimizer.zero_grad()
        (matrix - wanted).square().sum().backward()
        optimizer.step()
    assert (matrix - wanted).square().sum() < wanted.square().sum()


def test_a_zero_gradient_is_no_error():
    matrix = torch.nn.Parameter(torch.ones(4, 3))
    optimizer = Soap([matrix], lr=0.1, interval=1)
    for scale in (0.0, 0.0, 0.0, 1.0, 1.0):
        optimizer.zero_grad()
        (scale * matrix.square()).sum().backward()
        optimizer.step()
    assert torch.isfinite(matrix).all()


def test_who_trains_what():
    module = torch.nn.ModuleDict(
        {"dense": torch.nn.Conv2d(4, 6, 3), "depthwise": torch.nn.Conv2d(4, 4, 3, groups=4)}
    )
    module.register_parameter("field", torch.nn.Parameter(torch.zeros(5, 5)))
    for kind, first in ("muon", Muon), ("soap", Soap):
        matrices, rest = make_optimizers(
            module, ("field",), kind=kind, lr_matrix=0.1, lr=0.2, betas=(0.9, 0.99)
        )
        assert isinstance(matrices, first)
        assert matrices.param_groups[0]["params"] == [module["dense"].weight]
        assert len(rest.param_groups[0]["params"]) == 4
    (adam,) = make_optimizers(
        module, ("field",), kind="adam", lr_matrix=0.1, lr=0.2, betas=(0.9, 0.99)
    )
    assert len(adam.param_groups[0]["params"]) == 5


@pytest.mark.parametrize("shape", [(8, 8), (5, 30), (30, 5)])
def test_muon_steps_along_near_orthogonal_matrices(shape):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    values = torch.linalg.svdvals(orthogonalize(matrix))
    assert 0.5 < values.min() <= values.max() < 1.3


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_a_given_rate_is_that_of_matrices_too(kind):
    def planned(**changes):
        options = EncodeOptions(arch="canvas", optimizer=kind, **changes)
        shape = {"n_frames": 132, "height": 180, "width": 320}
        return make_plan(options, **shape, frame_rate=Fraction(25), overhead_bytes=150).fit

    assert planned().lr_matrix == MATRIX_LR[kind]
    assert (planned(lr=0.1).lr, planned(lr=0.1).lr_matrix) == (0.1, 0.1)
