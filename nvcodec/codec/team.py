"""Processes that train one network together: each draws its share of every batch.

All of them hold the video, the network and the optimisers; the mean of their gradients, the same
numbers everywhere, moves all networks alike (data parallel training). What a process finds by a
clock is not the same everywhere, so nothing that decides on the result may depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from nvcodec.codec.launch import VARIABLES, team_variables
from nvcodec.errors import ResourceError, UsageError

_TIMEOUT = timedelta(minutes=10)


@dataclass(frozen=True, slots=True, kw_only=True)
class Team:
    """This process among `size` ones."""

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """Return which of n clips this process draws."""
        return slice(self.rank * n // self.size, (self.rank + 1) * n // self.size)

    def any(self, flag: bool) -> bool:
        """Tell whether the flag is set in any process."""
        if self.size == 1:
            return flag
        flags = torch.tensor([int(flag)], device=self.device)
        self._reduce(flags, dist.ReduceOp.MAX)
        return bool(flags)

    def average(
        self, parameters: Sequence[Tensor], loss: float, mse: Tensor
    ) -> tuple[float, Tensor]:
        """Replace the gradients by their means over the processes; return the mean loss and MSE.

        Shapes: mse (n,), of the frames that this process drew -> (), or (n,) for a team of one.
        """
        if self.size == 1:
            return loss, mse
        present = torch.tensor([int(p.grad is not None) for p in parameters], device=self.device)
        self._reduce(present, dist.ReduceOp.MAX)
        chosen = [p for p, here in zip(parameters, present.tolist(), strict=True) if here]
        for p in chosen:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        figures = torch.tensor([loss, float(mse.sum()), len(mse)], device=self.device)
        gradients = [p.grad for p in chosen if p.grad is not None]
        *means, of_figures = self.mean([*gradients, figures])
        for gradient, mean in zip(gradients, means, strict=True):
            gradient.copy_(mean)
        loss_mean, mse_mean, n_mean = of_figures
        return float(loss_mean), mse_mean / n_mean

    def mean(self, tensors: Sequence[Tensor]) -> list[Tensor]:
        """Return means over the processes (float32), equal in all: devices round differently."""
        if self.size == 1:
            return list(tensors)
        flat = torch.cat([tensor.flatten().float() for tensor in tensors])
        self._reduce(flat, dist.ReduceOp.SUM)
        pieces = torch.split(flat / self.size, [tensor.numel() for tensor in tensors])
        return [piece.view(t.shape) for piece, t in zip(pieces, tensors, strict=True)]

    def _reduce(self, values: Tensor, operation: dist.ReduceOp.RedOpType) -> None:
        try:
            dist.all_reduce(values, operation)
        except RuntimeError as error:
            raise ResourceError("another process of this encode ended; see its message") from error


ALONE = Team(rank=0, size=1, device=torch.device("cpu"))


@contextmanager
def join(device: torch.device) -> Iterator[Team]:
    """Meet the other processes by `team_variables`; part from them at the end.

    Raises UsageError where they are not set, ResourceError where the others do not come.
    """
    variables = team_variables()
    missing = [name for name in VARIABLES if name not in variables]
    if missing:
        raise UsageError(
            f"--distributed needs the variable {missing[0]}; start it with torchrun, such as "
            "torchrun --nproc-per-node 2 -m nvcodec encode ... --distributed, or with srun -n 2"
        )
    # There PyTorch looks for them.
    os.environ.update(variables)
    if device.type == "cuda":
        # srun may show each process its own GPU alone.
        torch.cuda.set_device(int(variables["LOCAL_RANK"]) % torch.cuda.device_count())
    try:
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_TIMEOUT)
    except (RuntimeError, ValueError) as error:
        raise ResourceError(f"the processes of this encode did not meet: {error}") from error
    try:
        yield Team(rank=dist.get_rank(), size=dist.get_world_size(), device=device)
    finally:
        dist.destroy_process_group()
