"""The quality of what was encoded: of the file as a fresh decoder draws it, of a float network."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from itertools import islice

import torch

from nvcodec.codec.decoder import VideoFile, to_numpy
from nvcodec.codec.fit import Fit
from nvcodec.codec.source import Source
from nvcodec.codec.ycbcr import to_frames
from nvcodec.errors import VerificationError
from nvcodec.events import Listener, Progress
from nvcodec.metrics import QualityMeter
from nvcodec.models.layers import to_samples
from nvcodec.video.forms import Frame, both_forms
from nvcodec.workers import spread


def prove(
    data: bytes,
    source: Source,
    *,
    device: torch.device,
    listener: Listener,
    with_ms_ssim: bool = True,
    with_tracks: bool = False,
) -> tuple[QualityMeter, float]:
    """Decode the bytes in a fresh decoder; return their quality and the decoding speed.

    Raises VerificationError where they do not hold as many frames, or with_tracks other tracks.
    """
    depth = source.info.bit_depth
    meter = QualityMeter(depth)

    def measured(numbered: tuple[int, Frame]) -> QualityMeter:
        of_one = QualityMeter(depth, with_ms_ssim=with_ms_ssim)
        _compare(of_one, source, numbered[1], numbered[0])
        return of_one

    with VideoFile(data, device=device.type, batch=None, bit_depth=depth) as video:
        drawn = enumerate(video.drawn(range(len(video))))
        while together := list(islice(drawn, video.batch)):
            for of_one in spread(measured, together, torch.get_num_threads()):
                meter.join(of_one)
            done = len(meter.psnr_per_frame_db)
            listener(Progress(stage="verify", done=done, total=len(video), unit="frame"))
        if len(meter.psnr_per_frame_db) != len(source.frames):
            raise VerificationError("the file decodes to another number of frames")
        tracks = [(t.header, list(t.packets)) for t in video.stream.extras.tracks]
        if with_tracks and tracks != [(t.header, list(t.packets)) for t in source.extras.tracks]:
            raise VerificationError("the file holds other sound or subtitles than the source")
        return meter, len(video) / max(video.network_s, 1e-9)


@torch.inference_mode()
def measure_float(fit: Fit, source: Source) -> QualityMeter:
    """Return the quality of the trained network before it is rounded."""
    meter = QualityMeter(source.info.bit_depth)
    model = deepcopy(fit.model)
    for name, value in fit.parameters().items():
        model.get_parameter(name).copy_(value)
    n_frames, n = len(source.frames), model.clip_frames
    for first in range(0, n_frames, n):
        index = torch.arange(first, min(first + n, n_frames), device=fit.device)
        frames = _finish(model(index), source, draws_yuv=fit.planes is not None)
        for i, frame in enumerate(frames, first):
            _compare(meter, source, frame, i)
    return meter


def _finish(drawn: torch.Tensor, source: Source, *, draws_yuv: bool) -> Sequence[Frame]:
    """Return what the network drew as the file will give it."""
    depth = source.info.bit_depth
    if draws_yuv:
        return to_frames(drawn.float(), source.info, depth)
    return list(to_numpy(to_samples(drawn, depth)))


def _compare(meter: QualityMeter, source: Source, frame: Frame, index: int) -> None:
    """Compare a frame with the source's, in both forms."""
    rgb, planes = both_forms(frame, source.info)
    meter.add(rgb, source.frames[index])
    if planes is not None and source.planes is not None:
        meter.add_planes(planes, source.planes_of(index), source.info.bit_depth)
