"""The PSNR of every frame against a source, measured while the page is already there."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

from nvcodec.codec.decoder import VideoFile
from nvcodec.depth import change_depth
from nvcodec.ending import failure
from nvcodec.errors import VerificationError
from nvcodec.metrics import PSNR_OF_EQUAL_DB, psnr_db
from nvcodec.video.frames import InputFormat
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.reader import OWN_FORMAT, open_video


class Comparison:
    """RGB PSNR of 8-bit frames in dB; equal frames count as 100."""

    def __init__(
        self,
        video: VideoFile,
        source: str | Path,
        *,
        start: int = 0,
        form: InputFormat = OWN_FORMAT,
        framing: Framing = AS_IS,
    ) -> None:
        """Open the source; raise InputError, or VerificationError where frames differ in size."""
        self._video = video
        self._source = str(source)
        self._start = start
        self._reader = open_video(source, start=start, count=len(video), form=form, framing=framing)
        size, needed = ((i.width, i.height) for i in (self._reader.info, video.info))
        if size != needed:
            self._reader.close()
            raise VerificationError(
                f"{source} has frames of {size[0]}x{size[1]}, the file has {needed[0]}x{needed[1]}"
            )
        self._values: list[float] = []
        self._error: str | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin to measure."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and wait for it."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join()
        self._reader.close()

    def state(self) -> dict[str, Any]:
        """Return the values so far, whether all are there, and what went wrong."""
        values = list(self._values)
        done = len(values) == len(self._video) or self._error is not None
        return {"psnr_db": values, "done": done, "error": self._error}

    def _run(self) -> None:
        try:
            for original, decoded in zip(self._reader, self._video, strict=False):
                if self._stop.is_set():
                    return
                value = psnr_db(decoded, change_depth(original, self._reader.info.bit_depth, 8))
                self._values.append(round(min(value, PSNR_OF_EQUAL_DB), 3))
            if len(self._values) < len(self._video):
                self._error = (
                    f"{self._source} has {len(self._values)} frames from frame {self._start} on, "
                    f"the file has {len(self._video)}"
                )
        except Exception as error:
            self._error = failure(error)[1]
