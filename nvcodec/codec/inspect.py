"""What is in an .nrv file, whether it is sound, and what this machine offers; plain values."""

from __future__ import annotations

import math
import os
import platform
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import av
import av.codec
import numpy as np
import torch
from numpy.typing import NDArray

from nvcodec import __version__, fields
from nvcodec.bitstream.container import VERSION_MAJOR
from nvcodec.bitstream.extras import (
    pack_display,
    pack_extras,
    pack_hdr,
    pack_timing,
    track_bytes,
)
from nvcodec.bitstream.header import N_WORDS_BYTES, Segment, StreamHeader, unpack_stream
from nvcodec.bitstream.tensors import tensor_bits
from nvcodec.codec.contents import (
    architecture_of,
    check_structure,
    read_file,
    read_tensors,
    video_info,
)
from nvcodec.codec.decoder import VideoFile
from nvcodec.codec.device import bf16_pays
from nvcodec.codec.ycbcr import to_frames
from nvcodec.depth import RGB
from nvcodec.errors import UsageError, VerificationError
from nvcodec.events import Listener, Progress, ignore
from nvcodec.media import (
    CHROMATICITY_UNIT,
    KINDS,
    LUMINANCE_UNIT,
    NO_HDR,
    PLAIN,
    Chapter,
    Hdr,
    Track,
)
from nvcodec.metrics import QualityMeter
from nvcodec.models.base import count_params
from nvcodec.video.forms import Frame, Planes, both_forms, same_planes
from nvcodec.video.frames import InputFormat
from nvcodec.video.framing import AS_IS, Framing
from nvcodec.video.pairs import PairImages, Pairs, PairVideo
from nvcodec.video.reader import OWN_FORMAT, open_video

_LEAST_EQUAL = 0.999
"""Share of the samples that C2 wants to be those of a decoder in float64."""

_CODECS = {
    "encoders": ("libx264", "libx265", "libsvtav1", "libvpx-vp9", "ffv1", "png"),
    "decoders": ("h264", "hevc", "libdav1d", "vp9", "ffv1", "png", "vvc"),
}


def describe_file(path: str | Path) -> dict[str, Any]:
    """Return all that a file says, and where its bytes are; raise InputError or BitstreamError."""
    data = read_file(path)
    stream = unpack_stream(data)
    header = stream.header
    segments = [describe_segment(segment, header) for segment in stream.segments]
    header_bytes = len(fields.pack(header)) + sum(s["header_bytes"] for s in segments)
    side, symbols = (
        sum(tensor[key] for segment in segments for tensor in segment["tensors"]) / 8
        for key in ("side_bits", "symbol_bits")
    )
    payload = sum(len(segment.payload) for segment in stream.segments)
    # With the number of words of the tensors before them.
    corrections = sum(
        len(s.corrections) + N_WORDS_BYTES for s in stream.segments if s.header.corrects
    )
    audio, subtitles = track_bytes(stream.extras.tracks)
    video_bytes = len(data) - audio - subtitles
    words = sum(map(len, pack_extras(stream.extras)))
    times = 0 if stream.timing is None else len(pack_timing(stream.timing))
    if stream.display != PLAIN:
        words += len(pack_display(stream.display))
    if stream.hdr != NO_HDR:
        words += len(pack_hdr(stream.hdr))
    timing = video_info(stream).timing
    assert timing is not None
    duration_s = float(timing.seconds(header.n_frames) - timing.seconds(0))
    return {
        "file": str(path),
        "bytes": len(data),
        "bpp": 8 * video_bytes / (header.n_frames * header.height * header.width),
        "bits_per_s": 8 * video_bytes / duration_s,
        "audio_bytes": audio,
        "subtitle_bytes": subtitles,
        "start_s": float(timing.seconds(0)),
        "duration_s": duration_s,
        "constant_rate": not timing.varies(),
        "header": asdict(header),
        "display": {
            "pixel_aspect": [stream.display.sar_num, stream.display.sar_den],
            "rotation": stream.display.rotation,
            "matrix": list(stream.display.matrix),
            "fields": ("progressive", "top first", "bottom first")[stream.display.field_order],
        },
        "hdr": None if stream.hdr == NO_HDR else describe_hdr(stream.hdr),
        "metadata": stream.metadata.decode("utf-8"),
        "tags": {tag.key: tag.value for tag in stream.extras.tags},
        "chapters": [describe_chapter(chapter) for chapter in stream.extras.chapters],
        "tracks": [describe_track(track) for track in stream.extras.tracks],
        "parts": {
            # The signature, lengths, types and checksums of chunks, and chunks of unknown type.
            "container": video_bytes
            - header_bytes
            - len(stream.metadata)
            - words
            - times
            - payload
            - corrections,
            "headers": header_bytes,
            "metadata": len(stream.metadata) + words,
            "times": times,
            "audio": audio,
            "subtitles": subtitles,
            "side_information": side,
            "symbols": symbols,
            "coder": payload - side - symbols,
            "corrections": corrections,
        },
        "segments": segments,
    }


def describe_track(track: Track) -> dict[str, Any]:
    """Return what is known of a copied track."""
    header = track.header
    times = [(packet.time, packet.time + packet.duration) for packet in track.packets]
    start, end = (times[0][0], times[-1][1]) if times else (0, 0)
    return {
        "kind": KINDS[header.kind],
        "codec": header.codec,
        "language": header.language,
        "title": header.title,
        "disposition": header.disposition,
        "sample_rate": header.sample_rate,
        "channels": header.channels,
        "packets": len(track.packets),
        "bytes": sum(track_bytes([track])),
        "start_s": float(start * header.time_base),
        "duration_s": float((end - start) * header.time_base),
    }


def describe_hdr(hdr: Hdr) -> dict[str, Any]:
    """Return the light of display and video; None where it is unknown."""
    x_y = [float(value * CHROMATICITY_UNIT) for value in hdr.primaries]
    names = ("red", "green", "blue", "white")
    pairs = {name: x_y[2 * i : 2 * i + 2] if any(x_y) else None for i, name in enumerate(names)}
    return pairs | {
        "max_luminance": float(hdr.max_luminance * LUMINANCE_UNIT) or None,
        "min_luminance": float(hdr.min_luminance * LUMINANCE_UNIT) if hdr.max_luminance else None,
        "max_cll": hdr.max_cll or None,
        "max_fall": hdr.max_fall or None,
    }


def describe_chapter(chapter: Chapter) -> dict[str, Any]:
    """Return a chapter's times and title."""
    return {
        "start_s": float(chapter.start * chapter.time_base),
        "end_s": float(chapter.end * chapter.time_base),
        "title": chapter.title,
    }


def describe_segment(segment: Segment, header: StreamHeader) -> dict[str, Any]:
    """Return the network of a segment, tensor by tensor; bits are ideal code lengths."""
    model, tensors = read_tensors(segment, header)
    rows = []
    for q in tensors:
        bits = tensor_bits(q, predicts=segment.header.predicts)
        rows.append(
            {
                "name": q.spec.name,
                "shape": list(q.spec.shape),
                "parameters": q.spec.size,
                "symbol_bits": bits.symbols,
                "side_bits": bits.side,
                "bits_per_weight": (bits.symbols + bits.side) / q.spec.size,
                "bytes": (bits.symbols + bits.side) / 8,
                "sparsity": float((q.symbols == 0).mean()),
            }
        )
    return {
        "first_frame": segment.header.first_frame,
        "frames": segment.header.n_frames,
        "arch": architecture_of(segment.header.plain_arch_id)[0],
        "color": "yuv" if segment.header.draws_yuv else "rgb",
        "config": asdict(model.config),
        "parameters": count_params(model),
        "mac_per_pixel": model.macs_per_frame() // (header.height * header.width),
        # 2 bytes hold the length of the configuration.
        "header_bytes": len(fields.pack(segment.header)) + 2 + len(segment.config),
        "payload_bytes": len(segment.payload),
        "correction_bytes": len(segment.corrections),
        "tensors": rows,
    }


def verify_file(
    path: str | Path,
    source: str | Path | None = None,
    *,
    start: int = 0,
    framing: Framing = AS_IS,
    dump: str | Path | None = None,
    dump_video: str | Path | None = None,
    overwrite: bool = False,
    device: str = "auto",
    form: InputFormat = OWN_FORMAT,
    reference: bool = False,
    listener: Listener = ignore,
) -> dict[str, Any]:
    """Check a file's structure, checksums and tensor hashes, and with a source its quality.

    That is conformance C1 of bitstream_spec.md; with `reference` all frames are drawn a second time
    in float64 and compared (C2); VerificationError where they differ by more than it allows.

    The file is compared with the frames of the source from `start` on, changed as `framing` says;
    `dump` is a folder for PNG files and `dump_video` a .mkv file of both side by side. Raises
    BitstreamError for a damaged file, VerificationError when the source's frames are others in size
    or fewer, and UsageError when a dump has no source or exists.
    """
    if source is None and (dump or dump_video):
        raise UsageError("--dump and --dump-video compare with a source; give --source")
    data = read_file(path)
    n_segments = check_structure(data)
    with VideoFile(data, device=device) as video:
        header = video.stream.header
        audio, subtitles = track_bytes(video.stream.extras.tracks)
        values: dict[str, Any] = {
            "file": str(path),
            "bytes": len(data),
            "bpp": 8
            * (len(data) - audio - subtitles)
            / (len(video) * header.height * header.width),
            "audio_bytes": audio,
            "subtitle_bytes": subtitles,
            "segments": n_segments,
            "frames": len(video),
            "width": header.width,
            "height": header.height,
            "conformance": "C1",
        }
        if reference:
            drawn = compare_with_reference(video, data, listener)
            values |= {"conformance": "C1, C2", "reference": drawn, "device": str(video.device)}
        if source is None:
            return values
        with ExitStack() as stack:
            pairs: list[Pairs] = []
            if dump is not None:
                pairs.append(PairImages(Path(dump), video.info, overwrite=overwrite))
                stack.enter_context(pairs[-1])
            if dump_video is not None:
                pairs.append(PairVideo(Path(dump_video), video.info, overwrite=overwrite))
                stack.enter_context(pairs[-1])
            meter = compare(
                video,
                source,
                start=start,
                form=form,
                framing=framing,
                pairs=pairs,
                listener=listener,
            )
    return values | {
        "source": str(source),
        "start": start,
        "framing": asdict(framing),
        "dump": None if dump is None else str(dump),
        "dump_video": None if dump_video is None else str(dump_video),
        "psnr_db": meter.psnr_db,
        "psnr_y_db": meter.psnr_y_db,
        "psnr_yuv_db": meter.psnr_yuv_db,
        "ms_ssim": meter.ms_ssim,
        "psnr_per_frame_db": meter.psnr_per_frame_db,
        "device": str(video.device),
    }


@torch.inference_mode()
def compare_with_reference(
    video: VideoFile, data: bytes, listener: Listener = ignore
) -> dict[str, Any]:
    """Compare all samples with those of a decoder in float64; raise VerificationError beyond C2."""
    n_samples = n_equal = n_done = worst = 0
    squares = 0.0
    with VideoFile(data, device="cpu", limits=video.limits) as exact:
        for number, segment in enumerate(exact.stream.segments):
            model = exact.load(number).double()
            model.settle()
            first, n_frames = segment.header.first_frame, segment.header.n_frames
            before = None
            for start in range(0, n_frames, model.clip_frames):
                index = torch.arange(start, min(start + model.clip_frames, n_frames))
                drawn = model(index)
                if exact.draws_yuv(number):
                    truth = _flat(to_frames(drawn, exact.info, 8))
                else:
                    samples = drawn.nan_to_num(0.0).clamp(0, 1).mul(255).round()
                    samples = exact.correct(samples, index, number, before)
                    truth, before = _flat(samples.permute(0, 2, 3, 1).numpy()), samples[-1]
                seen = _flat(video.drawn([first + i for i in index.tolist()], 8))
                difference = np.abs(seen - truth)
                n_samples += difference.size
                n_equal += int((difference == 0).sum())
                worst = max(worst, int(difference.max()))
                squares += float(np.square(difference).sum())
                n_done += len(index)
                progress = Progress(stage="verify", done=n_done, total=len(video), unit="frame")
                listener(progress)
    share = n_equal / n_samples
    between_db = 10 * math.log10(255**2 * n_samples / squares) if squares else math.inf
    if share < _LEAST_EQUAL or worst > 1:
        raise VerificationError(
            f"{video.device} does not draw as C2 asks: {share:.4%} of the samples equal those of "
            f"float64, needed are {_LEAST_EQUAL:.1%}; they differ by up to {worst}, allowed is 1 "
            f"({between_db:.1f} dB between both)"
        )
    return {"samples": n_samples, "equal": share, "max_difference": worst, "psnr_db": between_db}


def _flat(frames: Iterable[Frame]) -> NDArray[np.float64]:
    """Return all samples of some frames."""
    parts = [part for frame in frames for part in (frame if isinstance(frame, tuple) else (frame,))]
    return np.concatenate([part.ravel() for part in parts]).astype(np.float64)


def compare(
    video: VideoFile,
    source: str | Path,
    *,
    start: int,
    form: InputFormat = OWN_FORMAT,
    framing: Framing = AS_IS,
    pairs: Sequence[Pairs] = (),
    listener: Listener = ignore,
) -> QualityMeter:
    """Return the quality of all frames at the source's depth; raise VerificationError."""
    total = len(video)
    with open_video(source, start=start, count=total, form=form, framing=framing) as reader:
        size, needed = ((i.width, i.height) for i in (reader.info, video.info))
        if size != needed:
            raise VerificationError(
                f"{source} has frames of {size[0]}x{size[1]}, the file has {needed[0]}x{needed[1]}"
            )
        video.bit_depth = reader.info.bit_depth
        meter = QualityMeter(video.bit_depth)
        comparable = same_planes(reader.info, video.info.color, video.info.chroma)
        comparable = comparable and video.bit_depth == video.info.bit_depth
        forms: Iterable[tuple[RGB, Planes | None]] = ((frame, None) for frame in video)
        if comparable:
            forms = (both_forms(frame, video.info) for frame in video.drawn(range(total)))
        for done, ((original, truth), (decoded, planes)) in enumerate(
            zip(reader.with_planes(), forms, strict=False), 1
        ):
            meter.add(decoded, original)
            if truth is not None and planes is not None:
                meter.add_planes(planes, truth, video.info.bit_depth)
            for pair in pairs:
                pair.write(original, decoded, meter.psnr_per_frame_db[-1])
            listener(Progress(stage="compare", done=done, total=total, unit="frame"))
    done = len(meter.psnr_per_frame_db)
    if done < total:
        raise VerificationError(
            f"{source} has {done} frames from frame {start} on, the file has {total}"
        )
    return meter


def describe_machine() -> dict[str, Any]:
    """Return versions, devices and codecs, for `nvcodec doctor` and bug reports."""
    return {
        "versions": {
            "nvcodec": __version__,
            "format": VERSION_MAJOR,
            "python": platform.python_version(),
            "platform": platform.platform(),
            **{name: _version(name) for name in ("torch", "numpy", "av", "constriction")},
            "ffmpeg": av.ffmpeg_version_info,
            **{name: ".".join(map(str, v)) for name, v in av.library_versions.items()},
        },
        "cpu": {"count": os.cpu_count(), "threads": torch.get_num_threads()},
        "devices": _devices(),
        **{
            kind: {name: _has_codec(name, kind) for name in names}
            for kind, names in _CODECS.items()
        },
    }


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "unknown"


def _devices() -> list[dict[str, Any]]:
    cpu = torch.device("cpu")
    devices: list[dict[str, Any]] = [
        {"device": "cpu", "name": platform.processor() or platform.machine(), "memory_bytes": None}
        | {"bf16_pays": bf16_pays(cpu)}
    ]
    for i in range(torch.cuda.device_count()):
        device = torch.device("cuda", i)
        properties = torch.cuda.get_device_properties(device)
        devices.append(
            {"device": f"cuda:{i}", "name": properties.name}
            | {"memory_bytes": properties.total_memory, "bf16_pays": bf16_pays(device)}
        )
    return devices


def _has_codec(name: str, kind: str) -> bool:
    try:
        av.codec.Codec(name, "w" if kind == "encoders" else "r")
    except av.codec.codec.UnknownCodecError:
        return False
    return True
