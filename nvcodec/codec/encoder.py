"""encode(): read, plan, fit, quantise, pack, prove by decoding, write."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from nvcodec import storage
from nvcodec.bitstream.extras import track_bytes
from nvcodec.bitstream.header import add_tracks
from nvcodec.codec.by_scene import encode_to_quality, encode_to_size, plan_scenes
from nvcodec.codec.checkpoint import checkpoint_path
from nvcodec.codec.device import pick_device
from nvcodec.codec.initial import Initial
from nvcodec.codec.options import EncodeOptions
from nvcodec.codec.plan import Plan
from nvcodec.codec.proof import measure_float, prove
from nvcodec.codec.source import Keep, Source, read_source
from nvcodec.codec.team import ALONE, join
from nvcodec.codec.work import EncodeWork
from nvcodec.errors import UsageError
from nvcodec.events import Listener, ignore
from nvcodec.video.frames import InputFormat
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.masks import Hidden
from nvcodec.video.reader import OWN_FORMAT


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodeResult:
    """Figures of a finished encode, all of the file as decoded."""

    n_bytes: int
    bpp: float
    """Of the file without the copied tracks."""
    target_bytes: int | None
    """Most bytes of the file without the copied tracks; None where only a network was asked for."""
    audio_bytes: int
    """Bytes of the file that hold copied sound."""
    subtitle_bytes: int
    """Bytes of the file that hold copied subtitles."""
    psnr_db: float
    """Mean over frames, RGB of 8 bits."""
    psnr_y_db: float | None
    """Mean over frames of the source's luma at its own depth; None for an RGB source."""
    psnr_yuv_db: float | None
    """Mean over frames of (6 Y + U + V) / 8, likewise."""
    ms_ssim: float | None
    psnr_per_frame_db: list[float]
    float_psnr_db: float | None
    """PSNR of the network before quantisation, of a run that quantises after training."""
    float_ms_ssim: float | None
    arch: str
    color: str
    """What the network draws, "rgb" or "yuv"."""
    n_params: int
    n_steps: int
    encode_s: float
    """Wall-clock seconds from opening the source to the written file, interruptions excluded."""
    decode_fps: float
    """Frames per second of network and conversion during the proof."""
    device: str
    framing: Framing
    """What was changed of the source before it counted as the truth."""
    scenes: list[int]
    """First frame of each scene that has a network of its own."""


def describe_plans(plans: Sequence[Plan], device: torch.device, seconds: float) -> dict[str, Any]:
    """Return the plans of all scenes as plain values for printing: the longest one's, and sums."""
    plan = max(plans, key=lambda plan: plan.n_frames)
    n_frames = sum(plan.n_frames for plan in plans)
    expected_bytes = sum(plan.expected_bytes for plan in plans)
    firsts = accumulate((plan.n_frames for plan in plans[:-1]), initial=0)
    return {
        "arch": plan.arch,
        "color": plan.fit.color,
        "config": asdict(plan.config),
        "frames": n_frames,
        "scenes": list(firsts),
        "width": plan.width,
        "height": plan.height,
        "parameters": sum(plan.n_params for plan in plans),
        "encoder_parameters": plan.encoder_params(),
        "mac_per_pixel": plan.macs_per_pixel,
        "expected_bytes": expected_bytes,
        "expected_bpp": 8 * expected_bytes / (n_frames * plan.height * plan.width),
        "steps": sum(plan.fit.n_steps for plan in plans),
        "batch": plan.fit.batch,
        "precision": "bfloat16" if plan.fit.bf16 else "float32",
        "device": str(device),
        "predicted_s": round(seconds, 1),
    }


def dry_run(
    source: str | Path,
    options: EncodeOptions | None = None,
    *,
    device: str = "auto",
    start: int = 0,
    frames: int | None = None,
    audio: bool = True,
    subtitles: bool = True,
    framing: Framing = AS_IS,
    init: str | Path | None = None,
    metadata: bool = True,
    form: InputFormat = OWN_FORMAT,
    listener: Listener = ignore,
) -> dict[str, Any]:
    """Return the plan of an encode, with the time predicted from a few measured steps."""
    picked = pick_device(device)
    keep = Keep(audio=audio, subtitles=subtitles, metadata=metadata)
    initial = None if init is None else Initial(init)
    video = read_source(
        source, start=start, count=frames, keep=keep, form=form, framing=framing, listener=listener
    )
    work = EncodeWork(
        video,
        options or EncodeOptions(),
        device=picked,
        keep=keep,
        listener=listener,
        stop=lambda: False,
        initial=initial,
    )
    planned = plan_scenes(work)
    longest, plan = max(planned, key=lambda pair: pair[1].n_frames)
    n_steps = sum(plan.fit.n_steps for _, plan in planned)
    seconds = min(longest.seconds_per_step(plan) * n_steps, work.options.max_time_s or math.inf)
    audio_bytes, subtitle_bytes = track_bytes(video.extras.tracks)
    return describe_plans([plan for _, plan in planned], picked, seconds) | {
        "audio_bytes": audio_bytes,
        "subtitle_bytes": subtitle_bytes,
        "framing": asdict(framing),
        "bit_depth": video.info.bit_depth,
        "memory_bytes": video.memory_bytes,
    }


def encode(
    source: str | Path | Source,
    output: str | Path | None = None,
    options: EncodeOptions | None = None,
    *,
    device: str = "auto",
    start: int = 0,
    frames: int | None = None,
    framing: Framing = AS_IS,
    init: str | Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    audio: bool = True,
    subtitles: bool = True,
    metadata: bool = True,
    form: InputFormat = OWN_FORMAT,
    hidden: Hidden | None = None,
    distributed: bool = False,
    listener: Listener = ignore,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[bytes, EncodeResult]:
    """Encode a video into one .nrv file; return its bytes and figures.

    Args:
        source: a video file, a y4m file, a folder of PNGs, "-" for y4m on standard input, or a
            video in memory, of which `start` and `frames` then cut nothing.
        output: where to write; None only returns the bytes (and keeps no checkpoint).
        options: what to aim at and how; the defaults suit a first try.
        device: "auto", "cpu" or "cuda".
        start: first frame.
        frames: number of frames; None takes all.
        framing: changes to the source before it counts as the truth.
        init: an .nrv file with a network of the same shape whose weights to start from.
        overwrite: replace an existing output.
        resume: continue an interrupted encode of the same video to the same output.
        audio: copy the sound into the file.
        subtitles: copy the subtitles into the file.
        metadata: store program version, preset, the source's codec, chapters and tags.
        form: what raw video and PNG files do not say of themselves.
        hidden: (N, H, W), true where the source's pixels must not be learned.
        distributed: share the batches with the other processes of `torchrun` or `srun`, which call
            this with the same arguments; all return the bytes, and the one of rank 0 writes them.
        listener: receives `nvcodec.events`.
        stop: polled between steps; when true, the state is saved and Interrupted raised.

    Raises:
        NvcodecError: InputError, UsageError, ResourceError, VerificationError or Interrupted.
    """
    began = time.perf_counter()
    options = options or EncodeOptions()
    if options.target.psnr is not None and (resume or init or options.max_time_s is not None):
        raise UsageError("--psnr makes several runs: it takes no --resume, --init or --max-time")
    if options.target.psnr is not None and hidden is not None:
        raise UsageError("--psnr needs all pixels of the source; with a mask give --bpp or --size")
    if distributed and (options.target.psnr is not None or options.max_time_s is not None):
        raise UsageError("--distributed needs a run of fixed length: no --psnr and no --max-time")
    path = None if output is None else Path(output)
    picked = pick_device(device)
    keep = Keep(audio=audio, subtitles=subtitles, metadata=metadata)
    with ExitStack() as stack:
        team = stack.enter_context(join(picked)) if distributed else ALONE
        if path is not None and team.leads:
            local = None if isinstance(source, Source) or str(source) == "-" else Path(source)
            storage.check_output(path, overwrite=overwrite, source=local)
            stack.enter_context(storage.claim(path, checkpoint_path(path)))
            # Another process may have finished it in between.
            storage.check_output(path, overwrite=overwrite)
        initial = None if init is None else Initial(init)
        if isinstance(source, Source):
            video = source
        else:
            video = read_source(
                source,
                start=start,
                count=frames,
                keep=keep,
                form=form,
                framing=framing,
                listener=listener,
            )
        if hidden is not None and hidden.shape != video.frames.shape[:3]:
            raise UsageError(f"hidden is {hidden.shape}, but the video is {video.frames.shape[:3]}")
        work = EncodeWork(
            video,
            options,
            device=picked,
            keep=keep,
            listener=listener,
            stop=stop,
            initial=initial,
            hidden=hidden,
            team=team,
        )
        return _encode(work, path, resume=resume, framing=framing, began=began)


def _encode(
    work: EncodeWork, path: Path | None, *, resume: bool, framing: Framing, began: float
) -> tuple[bytes, EncodeResult]:
    """Fit, pack, prove and write what has been read and planned."""
    video, options = work.source, work.options
    checkpoint = None if path is None else checkpoint_path(path)
    if options.target.psnr is not None:
        trained = encode_to_quality(work, options.target.psnr)
    else:
        trained = encode_to_size(work, checkpoint, resume, began)
    plan = trained.plan
    data = add_tracks(trained.data, video.extras.tracks)
    meter, decode_fps = prove(
        data, video, device=work.device, listener=work.listener, with_tracks=True
    )
    audio_bytes, subtitle_bytes = track_bytes(video.extras.tracks)
    unrounded = measure_float(trained.fit, video) if options.coding == "ptq" else None
    if path is not None and work.team.leads:
        storage.write_atomic(path, data)
    if checkpoint is not None and work.team.leads:
        checkpoint.unlink(missing_ok=True)
    return data, EncodeResult(
        n_bytes=len(data),
        bpp=8 * (len(data) - audio_bytes - subtitle_bytes) / video.n_pixels,
        target_bytes=trained.target_bytes,
        audio_bytes=audio_bytes,
        subtitle_bytes=subtitle_bytes,
        psnr_db=meter.psnr_db,
        psnr_y_db=meter.psnr_y_db,
        psnr_yuv_db=meter.psnr_yuv_db,
        ms_ssim=meter.ms_ssim,
        psnr_per_frame_db=meter.psnr_per_frame_db,
        float_psnr_db=None if unrounded is None else unrounded.psnr_db,
        float_ms_ssim=None if unrounded is None else unrounded.ms_ssim,
        arch=plan.arch,
        color=plan.fit.color,
        n_params=trained.n_params,
        n_steps=trained.n_steps,
        encode_s=time.perf_counter() - began,
        decode_fps=decode_fps,
        device=str(work.device),
        framing=framing,
        scenes=[scene.start for scene in trained.scenes],
    )
