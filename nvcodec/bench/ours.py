"""nvcodec itself as one of the codecs of a bench, under the same rules."""

from __future__ import annotations

import hashlib
import shlex
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nvcodec
from nvcodec import __version__, storage
from nvcodec.bench.codecs import Codec
from nvcodec.errors import Interrupted
from nvcodec.events import Event, Listener

if TYPE_CHECKING:
    from nvcodec.codec.options import EncodeOptions

_ALWAYS = ("arch", "preset", "seed")
_FLAGS = {"max_time_s": "max-time"}
_SAVE_INTERVAL_S = 10.0


def own_codec(options: EncodeOptions, *, device: str, threads: int) -> Codec:
    """Return nvcodec with these options; the target is left open.

    Args:
        options: architecture, preset and all else but the target.
        device: "cpu" or "cuda".
        threads: of PyTorch on the CPU.
    """
    values = asdict(options)
    del values["target"]
    line = f"nvcodec encode INPUT {_flags(options)} --device {device} --threads {threads}"
    return Codec(
        name=f"nvcodec {options.arch}",
        kind="nvcodec",
        parameters=f"{line} --bpp {{q}}",
        suffix=".nrv",
        job={
            "encoder": "nvcodec",
            "decoder": "nvcodec",
            "options": values,
            "device": device,
            "threads": threads,
            "library": f"nvcodec {__version__}, code {_code_sha256()[:12]}",
        },
    )


def _code_sha256() -> str:
    """Return a digest of the code that makes files: other code, other results."""
    root = Path(nvcodec.__file__).parent
    digest = hashlib.sha256((root / "fields.py").read_bytes())
    for folder in ("bitstream", "codec", "models", "video"):
        for path in sorted((root / folder).glob("*.py")):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()


def _flags(options: EncodeOptions) -> str:
    """Return the options of `nvcodec encode` that differ from their defaults."""
    words: list[str] = []
    for item in fields(options):
        value = getattr(options, item.name)
        if item.name in _ALWAYS or (item.name not in ("target", "model") and value != item.default):
            words += [f"--{_FLAGS.get(item.name, item.name.replace('_', '-'))}", f"{value}"]
    for name, value in options.model.items():
        text = ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
        words += [f"--{name.replace('_', '-')}", text]
    return shlex.join(words)


def encode_own(
    job: dict[str, Any],
    bpp: float,
    source: Path,
    start: int,
    count: int,
    output: Path,
    *,
    listener: Listener,
    stop: Callable[[], bool],
) -> float:
    """Encode frames of a source into a file, going on where an interrupted run stopped.

    Returns the seconds that it took, those of interrupted runs included. Raises NvcodecError.
    """
    import torch

    from nvcodec.codec.checkpoint import checkpoint_path
    from nvcodec.codec.encoder import encode
    from nvcodec.codec.options import EncodeOptions, Target

    torch.set_num_threads(job["threads"])
    model = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in job["options"]["model"].items()
    }
    options = EncodeOptions(**job["options"] | {"model": model, "target": Target(bpp=bpp)})
    resume = checkpoint_path(output).exists()
    watch = _StopWatch(output.with_suffix(".seconds"), resume)

    def listen(event: Event) -> None:
        watch.note()
        listener(event)

    try:
        _, result = encode(
            source, output, options, device=job["device"], start=start, frames=count,
            overwrite=True, resume=resume, listener=listen, stop=stop,
        )  # fmt: skip
    except Interrupted:
        watch.save()
        raise
    watch.path.unlink(missing_ok=True)
    return watch.before_s + result.encode_s


class _StopWatch:
    """Seconds of an encode over its interruptions, in a file beside its checkpoint."""

    def __init__(self, path: Path, resume: bool) -> None:
        self.path = path
        self.before_s = float(path.read_text()) if resume and path.exists() else 0.0
        self._began = self._saved = time.perf_counter()

    def note(self) -> None:
        """Save now and then, for runs that are killed."""
        if time.perf_counter() - self._saved > _SAVE_INTERVAL_S:
            self.save()

    def save(self) -> None:
        """Write the seconds so far."""
        self._saved = time.perf_counter()
        storage.write_atomic(self.path, f"{self.before_s + self._saved - self._began}".encode())


def describe_own(path: Path) -> dict[str, Any]:
    """Return n_params and mac_per_pixel of an .nrv file, as fields of a Point."""
    from nvcodec.codec.inspect import describe_file

    values = describe_file(path)
    header, segments = values["header"], values["segments"]
    n_pixels = header["n_frames"]
    macs = sum(segment["mac_per_pixel"] * segment["frames"] for segment in segments) / n_pixels
    return {
        "n_params": sum(segment["parameters"] for segment in segments),
        "mac_per_pixel": macs,
    }


def decode_own(path: Path, *, device: str, threads: int) -> Iterator[Any]:
    """Yield the frames of an .nrv file as it draws them: 8-bit RGB (H, W, 3), or planes.

    Each core draws a frame of its own, as with `nvcodec decode`.
    """
    import torch

    from nvcodec.codec.decoder import VideoFile

    torch.set_num_threads(threads)
    with VideoFile(path, device=device, batch=None) as video:
        yield from video.drawn(range(len(video)), 8)
