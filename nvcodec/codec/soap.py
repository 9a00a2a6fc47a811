"""SOAP: Adam in the eigenbasis of Shampoo's preconditioners (Vyas et al., arXiv 2409.11321)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

_MAX_SIDE = 1024
"""Longest side of a matrix that is rotated; a basis has its square of values."""
_SIDES = ("rows", "columns")


class Soap(torch.optim.Optimizer):
    """Adam on rotated gradients; tensors are seen as (shape[0], rest) matrices.

    For gradients G, U and V are the eigenvectors of the running means of G G^T and G^T G. Adam
    turns U^T G V into a step, which is rotated back. One power iteration every `interval` steps
    lets U and V follow the means.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        decay: float = 0.95,
        interval: int = 10,
    ) -> None:
        """Prepare; `decay` is that of the squares and of the means that give the bases."""
        values = {"lr": lr, "momentum": momentum, "decay": decay, "interval": interval}
        super().__init__(params, values | {"eps": 1e-8})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Make one step; a parameter's first gradient only gives its bases."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                gradient = p.grad.reshape(p.shape[0], -1)
                state = self.state[p]
                if state:
                    p.sub_(self._update(state, gradient, group).reshape(p.shape))
                else:
                    _start(state, gradient)

    def _update(self, state: dict[str, Any], gradient: Tensor, group: dict[str, Any]) -> Tensor:
        """Take in a gradient and return what is to be subtracted."""
        decay = group["decay"]
        state["step"] += 1
        n_steps = float(state["step"])
        state["mean"].lerp_(gradient, 1 - group["momentum"])
        rotated = _rotate(state, gradient)
        state["square"].lerp_(rotated.square_(), 1 - decay)
        deviation = (state["square"] / (1 - decay**n_steps)).sqrt_().add_(group["eps"])
        direction = _rotate(state, state["mean"]).div_(deviation)
        update = _rotate_back(state, direction)
        for side in _SIDES:
            if f"{side}_basis" in state:
                state[f"{side}_gram"].lerp_(_gram(gradient, side), 1 - decay)
                if n_steps % group["interval"] == 0:
                    basis = state[f"{side}_basis"]
                    # In place, so that it lies in memory as one read from a checkpoint does.
                    basis.copy_(torch.linalg.qr(state[f"{side}_gram"] @ basis).Q)
        # The mean begins at zero and is left so: the first steps, of poor bases, are short ones.
        return update.mul_(group["lr"])


def _start(state: dict[str, Any], gradient: Tensor) -> None:
    state["step"] = torch.tensor(0.0)
    state["mean"] = gradient.new_zeros(gradient.shape)
    state["square"] = gradient.new_zeros(gradient.shape)
    for side, length in zip(_SIDES, gradient.shape, strict=True):
        if length <= _MAX_SIDE:
            # Their squares must not overflow here, as eigenvalues of infinity are an error.
            gram = _gram(gradient.double(), side)
            # Largest first, as power iterations order them.
            basis = torch.linalg.eigh(gram).eigenvectors.flip(1)
            state[f"{side}_gram"] = gram.to(gradient.dtype)
            state[f"{side}_basis"] = basis.to(gradient.dtype).contiguous()


def _gram(gradient: Tensor, side: str) -> Tensor:
    return gradient @ gradient.T if side == "rows" else gradient.T @ gradient


def _rotate(state: dict[str, Any], matrix: Tensor) -> Tensor:
    """Return U^T M V, where a side without a basis is left as it is."""
    left, right = state.get("rows_basis"), state.get("columns_basis")
    rotated = matrix.clone() if left is None else left.T @ matrix
    return rotated if right is None else rotated @ right


def _rotate_back(state: dict[str, Any], rotated: Tensor) -> Tensor:
    """Return U M V^T."""
    left, right = state.get("rows_basis"), state.get("columns_basis")
    matrix = rotated if left is None else left @ rotated
    return matrix if right is None else matrix @ right.T
