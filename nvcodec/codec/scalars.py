"""Curves of a training run for TensorBoard."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from nvcodec.errors import UsageError
from nvcodec.events import Event, Progress

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class TensorBoard:
    """A listener that writes loss, PSNR, bpp and learning rate over the training steps.

    "psnr_db" is a running mean over batches, "psnr_all_db" that of an evaluation on all frames.
    """

    def __init__(self, folder: str | Path) -> None:
        """Log into `folder`; raise UsageError where the package is not installed."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise UsageError(
                "--tensorboard needs the package tensorboard; pip install 'nvcodec[tensorboard]'"
            ) from error
        self._open = partial(SummaryWriter, str(folder))
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        """Take in the progress of training."""
        if not isinstance(event, Progress) or event.unit != "step":
            return
        # Opened late: what fails before training leaves no files behind.
        self._writer = self._writer or self._open()
        if event.stage == "evaluate":
            self._writer.add_scalar("psnr_all_db", event.psnr_db, event.done)
            return
        for name in ("loss", "psnr_db", "bpp", "lr"):
            value = getattr(event, name)
            if value is not None:
                self._writer.add_scalar(name, value, event.done)

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()
