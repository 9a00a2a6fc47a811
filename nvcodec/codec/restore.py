"""Inpainting and denoising: a network fitted to what is known of a video draws all of it.

A network with far fewer parameters than the video has pixels learns what recurs in space and time:
it continues pictures into holes, and has no bits to spare for noise (NeRV, denoising; HNeRV,
inpainting). Both go through `encode`: what is drawn is what an .nrv file decodes to.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nvcodec import storage
from nvcodec.codec.decoder import VideoFile
from nvcodec.codec.encoder import EncodeResult, encode
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.source import read_source
from nvcodec.depth import change_depth
from nvcodec.errors import UsageError
from nvcodec.events import Listener, Progress, ignore
from nvcodec.metrics import QualityMeter
from nvcodec.video.frames import InputFormat
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.masks import read_mask
from nvcodec.video.reader import OWN_FORMAT
from nvcodec.video.writer import open_writer

INPAINT = EncodeOptions(arch="hnerv", target=Target(bpp=0.4), preset="fast")
DENOISE = EncodeOptions(arch="hnerv", target=Target(bpp=0.8), preset="fast", loss="log-l1")
"""What suits the tasks (benchmarks/NOTES.md); 0.8 bpp is about NeRV's network for this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreResult:
    """What was written, and the network that drew it."""

    description: str
    frames: int
    width: int
    height: int
    hidden_share: float
    """Share of the pixels that the mask hides; 0 without a mask."""
    hidden_psnr_db: float | None
    """PSNR of what was drawn there against the source's own pixels, mean over frames."""
    psnr_db: float
    """PSNR of the output against the source, mean over frames."""
    ms_ssim: float | None
    encoded: EncodeResult
    """The network; its quality is that of the frames as it draws them, all over."""


def restore(
    source: str | Path,
    output: str | Path,
    options: EncodeOptions | None = None,
    *,
    mask: str | Path | None = None,
    keep: str | Path | None = None,
    device: str = "auto",
    start: int = 0,
    frames: int | None = None,
    framing: Framing = AS_IS,
    form: InputFormat = OWN_FORMAT,
    overwrite: bool = False,
    resume: bool = False,
    listener: Listener = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> RestoreResult:
    """Fit a network to the known pixels of a video and write what it draws.

    With a mask (inpainting) only hidden pixels are drawn; the others are the source's. Without one
    (denoising) all of them are drawn.

    Args:
        source: as for `encode`.
        output: as for `open_writer`.
        options: of the network; None takes INPAINT or DENOISE, and so does its missing target.
        mask: "boxes:N", "polygons:N", a picture or a video, as for `read_mask`.
        keep: where to write the network as an .nrv file.
        device: "auto", "cpu" or "cuda".
        start: first frame.
        frames: number of frames; None takes all.
        framing: changes to the source, and to a mask, before they count as the truth.
        form: what raw video and PNG files do not say of themselves.
        overwrite: replace existing outputs.
        resume: continue an interrupted run with the same `keep`.
        listener: receives `nvcodec.events`.
        stop: polled between steps; when true, Interrupted is raised.

    Raises:
        NvcodecError: as `encode`, `read_mask` and `open_writer`.
    """
    suited = DENOISE if mask is None else INPAINT
    options = options or suited
    if options.target.psnr is not None:
        raise UsageError("the source is not what is aimed at: give --bpp or --size, not --psnr")
    if not options.target.given and options.n_params is None:
        options = replace(options, target=suited.target)
    local = None if str(source) == "-" else Path(source)
    for path in (output, keep):
        if path is not None and (path == keep or Path(path).is_file()):
            storage.check_output(Path(path), overwrite=overwrite, source=local)
    video = read_source(
        source, start=start, count=frames, form=form, framing=framing, listener=listener
    )
    n_frames, height, width, _ = video.frames.shape
    hidden = None
    if mask is not None:
        hidden = read_mask(
            mask,
            n_frames,
            height,
            width,
            start=start,
            count=frames,
            framing=framing,
            seed=options.seed,
        )
    bit_depth = video.info.bit_depth
    under, whole = QualityMeter(bit_depth, with_ms_ssim=False), QualityMeter(bit_depth)
    with open_writer(output, video.info, overwrite=overwrite) as writer:
        data, encoded = encode(
            video,
            keep,
            options,
            device=device,
            framing=framing,
            overwrite=overwrite,
            resume=resume,
            hidden=hidden,
            listener=listener,
            stop=stop,
        )
        with VideoFile(data, device=device, bit_depth=bit_depth) as network:
            for i, drawn in enumerate(network):
                truth = video.frames[i]
                if hidden is not None:
                    if hidden[i].any():
                        under.add(drawn[hidden[i]], truth[hidden[i]])
                    drawn = np.where(hidden[i][..., None], drawn, truth)
                whole.add(drawn, truth)
                writer.write(change_depth(drawn, bit_depth, writer.bit_depth))
                listener(Progress(stage="write", done=i + 1, total=n_frames, unit="frame"))
    return RestoreResult(
        description=writer.description,
        frames=n_frames,
        width=width,
        height=height,
        hidden_share=0.0 if hidden is None else float(hidden.mean()),
        hidden_psnr_db=None if hidden is None else under.psnr_db,
        psnr_db=whole.psnr_db,
        ms_ssim=whole.ms_ssim,
        encoded=encoded,
    )
