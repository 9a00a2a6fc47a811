"""Curves of a training run for TensorBoard and Weights & Biases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvcodec.errors import UsageError
from nvcodec.events import Event, Progress

if TYPE_CHECKING:
    import wandb
    from torch.utils.tensorboard import SummaryWriter


class Curves(ABC):
    """A listener that writes loss, PSNR, bpp and learning rate over the training steps.

    "psnr_db" is a running mean over batches, "psnr_all_db" that of an evaluation on all frames.
    """

    def __call__(self, event: Event) -> None:
        """Take in the progress of training."""
        if not isinstance(event, Progress) or event.unit != "step":
            return
        if event.stage == "evaluate":
            values = {"psnr_all_db": event.psnr_db}
        else:
            values = {name: getattr(event, name) for name in ("loss", "psnr_db", "bpp", "lr")}
        known = {name: value for name, value in values.items() if value is not None}
        if known:
            self._write(known, event.done)

    @abstractmethod
    def _write(self, values: dict[str, float], step: int) -> None:
        """Write the values of a step; what fails before the first one leaves nothing behind."""

    @abstractmethod
    def close(self) -> None:
        """Write what is left."""


class TensorBoard(Curves):
    """Curves in a folder of event files."""

    def __init__(self, folder: str | Path) -> None:
        """Log into `folder`; raise UsageError where the package is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise _absent("tensorboard") from error
        self._open = partial(SummaryWriter, str(folder))
        self._writer: SummaryWriter | None = None

    def _write(self, values: dict[str, float], step: int) -> None:
        self._writer = self._writer or self._open()
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


class WandB(Curves):
    """Curves in a run of a Weights & Biases project."""

    def __init__(
        self, project: str, name: str, config: dict[str, Any], *, quiet: bool = False
    ) -> None:
        """Log into a new run; raise UsageError where the package is not installed."""
        try:
            import wandb
        except ImportError as error:
            raise _absent("wandb") from error
        # What the program prints is no part of a run. What is not set here the environment may.
        options = wandb.Settings(console="off")
        if quiet:
            options.silent = True
        self._open = partial(
            wandb.init, project=project, name=name, config=config, settings=options
        )
        self._errors = wandb.Error, ValueError
        self._run: wandb.Run | None = None

    def _write(self, values: dict[str, float], step: int) -> None:
        if self._run is None:
            try:
                self._run = self._open()
            except self._errors as error:
                raise UsageError(f"--wandb: {' '.join(str(error).split())}") from error
            # Its own count may not go back, as the steps of --psnr do.
            self._run.define_metric("*", step_metric="step")
        self._run.log(values | {"step": step})

    def close(self) -> None:
        """Send or write what is left."""
        if self._run is not None:
            self._run.finish()


def _absent(package: str) -> UsageError:
    return UsageError(f"--{package} needs the package {package}; pip install 'nvcodec[{package}]'")
