"""Optimisers for short overfitting runs: Muon or SOAP for dense matrices, Adam for all else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nvcodec.codec.soap import Soap

_NS_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix: Tensor, n_steps: int = 5) -> Tensor:
    """Return about U V^T of matrix = U S V^T by quintic Newton-Schulz steps (Jordan, 2024)."""
    a, b, c = _NS_COEFFICIENTS
    tall = matrix.shape[0] > matrix.shape[1]
    x = (matrix.T if tall else matrix) / (matrix.norm() + 1e-7)
    for _ in range(n_steps):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    result: Tensor = x.T if tall else x
    return result


class Muon(torch.optim.Optimizer):
    """Momentum whose direction is orthogonalised; tensors are seen as (shape[0], rest) matrices.

    torch.optim.Muon takes 2-D parameters only; convolution kernels need the reshape.
    """

    def __init__(self, params: Iterable[Tensor], lr: float, momentum: float = 0.95) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step; parameters without a gradient are left alone."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(p)
                buffer = state["momentum_buffer"]
                buffer.mul_(group["momentum"]).add_(p.grad)
                direction = p.grad.add(buffer, alpha=group["momentum"]).reshape(p.shape[0], -1)
                scale = max(1.0, direction.shape[0] / direction.shape[1]) ** 0.5
                update = orthogonalize(direction).reshape(p.shape)
                p.add_(update, alpha=-group["lr"] * scale)


def is_weight(name: str, parameter: Tensor, excluded: tuple[str, ...]) -> bool:
    """Tell whether this is a kernel or a matrix: neither a bias nor what `excluded` begins."""
    return parameter.ndim > 1 and not name.startswith(excluded)


def is_matrix(name: str, parameter: Tensor, excluded: tuple[str, ...]) -> bool:
    """Tell whether Muon or SOAP should train this: dense weights, not depthwise ones."""
    return is_weight(name, parameter, excluded) and min(parameter.shape[:2]) > 1


def make_optimizers(
    module: nn.Module,
    excluded: tuple[str, ...],
    *,
    kind: str,
    lr_matrix: float,
    lr: float,
    betas: tuple[float, float],
) -> list[torch.optim.Optimizer]:
    """Return the optimisers of `module`: "muon" or "soap" with Adam, or "adam" with lr for all.

    What `excluded` begins, latents and pictures, is always Adam's.
    """
    named = list(module.named_parameters())
    matrices = [p for name, p in named if kind != "adam" and is_matrix(name, p, excluded)]
    chosen = {id(p) for p in matrices}
    rest = [p for _, p in named if id(p) not in chosen]
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append((Soap if kind == "soap" else Muon)(matrices, lr=lr_matrix))
    # Adam's usual beta2 of 0.999 never forgets the first gradients in a few thousand steps.
    optimizers.append(torch.optim.Adam(rest, lr=lr, betas=betas, eps=1e-15, fused=True))
    return optimizers
