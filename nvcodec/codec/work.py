"""The stages of one encode that its drivers share: plan, fit, round, pack."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, replace
from functools import cached_property

import numpy as np
import torch

from nvcodec import __version__
from nvcodec.bitstream.extras import (
    pack_display,
    pack_extras,
    pack_hdr,
    pack_timing,
    pack_tracks,
)
from nvcodec.bitstream.header import (
    N_WORDS_BYTES,
    unpack_stream,
)
from nvcodec.bitstream.tensors import QTensor, pack_smallest, tensor_bits
from nvcodec.codec.assemble import join_segments, make_file
from nvcodec.codec.checkpoint import Checkpoint
from nvcodec.codec.choose import check_color, choose_arch
from nvcodec.codec.device import bf16_pays, flushed_denormals
from nvcodec.codec.evaluate import mean_psnr_db
from nvcodec.codec.find_corrections import find_corrections
from nvcodec.codec.fit import Fit
from nvcodec.codec.initial import Initial
from nvcodec.codec.options import EncodeOptions, Target
from nvcodec.codec.plan import Plan, make_plan, may_correct, smallest_bytes
from nvcodec.codec.plane_loss import PlaneLoss
from nvcodec.codec.quantize import load_tensors
from nvcodec.codec.rate import TOLERANCE, fit_size
from nvcodec.codec.scenes import split_scenes
from nvcodec.codec.source import Keep, Source
from nvcodec.codec.team import ALONE, Team
from nvcodec.depth import peak
from nvcodec.errors import Interrupted, ResourceError, UsageError
from nvcodec.events import Listener, Log, Progress
from nvcodec.media import NO_HDR, PLAIN
from nvcodec.models import ARCHITECTURES
from nvcodec.models.base import VideoModel
from nvcodec.video.masks import Hidden, fill_hidden

CHECKPOINT_INTERVAL_S = 60.0
_PROGRESS_INTERVAL_S = 0.2
_TRIAL_STEPS = 4
_PATIENCE_S = 2.0
_PREPARATION_SHARE = 0.2
"""Share of a time limit that may pass before the first step."""
_EMPTY_FILE_BYTES = 140
_ROOM = 1.1
"""How many times the smallest file a scene must have bytes for, to have a network of its own."""


class EncodeWork:
    """The state shared by the stages of one encode."""

    def __init__(
        self,
        source: Source,
        options: EncodeOptions,
        *,
        device: torch.device,
        keep: Keep,
        listener: Listener,
        stop: Callable[[], bool],
        initial: Initial | None = None,
        hidden: Hidden | None = None,
        team: Team = ALONE,
    ) -> None:
        """Prepare to encode; where hidden (N, H, W) is true, the source's pixels do not count."""
        if initial is not None:
            if options.analysis not in (None, "none"):
                raise UsageError(
                    f"the encoder network {options.analysis} would replace the embeddings of "
                    f"{initial.path}; give --analysis none"
                )
            options = replace(options, analysis="none")
        check_color(options, source.info)
        self.source = source
        self.hidden = hidden
        self.initial = initial
        self.device = device
        self.listener = listener
        self.stop = stop
        self.team = team
        self.words = replace(source.extras, tracks=())
        self.track_bytes = sum(map(len, pack_tracks(source.extras.tracks)))
        """What the copied tracks add to the file."""
        self.metadata = b""
        n_frames, height, width, _ = source.frames.shape
        self.options = choose_arch(
            options,
            n_frames=n_frames,
            height=height,
            width=width,
            frame_rate=source.info.frame_rate,
            overhead_bytes=self.overhead_bytes(),
        )
        if keep.metadata:
            text = f"nvcodec {__version__} {self.options.arch} {options.preset}"
            self.metadata = f"{text} {source.info.codec}".encode()
        # Measured, and all processes must compute alike.
        self.bf16 = team.any(bf16_pays(device))
        if options.color == "yuv" and source.planes is None:
            raise UsageError("color is yuv, but the video in memory comes without its planes")
        self.sha256 = source.sha256
        """Names what is learned: the frames and what is hidden of them."""
        self.n_steps_before, self.frames_after = 0, 0
        """Training steps and frames of the scenes before and after this one."""
        if hidden is not None:
            self.sha256 += hashlib.sha256(np.packbits(hidden).tobytes()).hexdigest()

    @cached_property
    def frames(self) -> torch.Tensor:
        """What is learned: (N, 3, H, W) on the device, made when it is first asked for."""
        known = self.source.frames
        if self.hidden is not None:
            # The encoder network sees frames, so nothing that is hidden may be in them.
            known = fill_hidden(known, self.hidden)
        return torch.from_numpy(known).permute(0, 3, 1, 2).to(self.device)

    @cached_property
    def mask(self) -> torch.Tensor | None:
        """Which pixels count (N, 1, H, W); None for all."""
        if self.hidden is None:
            return None
        return torch.from_numpy(~self.hidden)[:, None].to(self.device)

    @cached_property
    def planes(self) -> PlaneLoss | None:
        """The planes that are learned in place of the frames; None for these."""
        if self.options.color != "yuv" or self.source.planes is None:
            return None
        return PlaneLoss(self.source.planes, self.source.info, self.device)

    def scenes(self) -> list[range]:
        """Return the frames of each scene that has a network of its own; all of them are one where
        the options speak of a single network.
        """
        options = self.options
        whole = range(len(self.source.frames))
        one = options.scenes == "none" or options.coding != "rd" or self.initial is not None
        if one or options.n_params is not None:
            return [whole]
        n_bytes = None
        if options.target.psnr is None:
            n_bytes = self.max_bytes() - self.bytes_beside()

        def suits(n_frames: int) -> bool:
            least = self._smallest_bytes(n_frames, _EMPTY_FILE_BYTES)
            return n_bytes is None or n_bytes * n_frames >= _ROOM * least * len(whole)

        return split_scenes(self.source.frames, peak(self.source.info.bit_depth), suits)

    def part(self, scene: range, options: EncodeOptions) -> EncodeWork:
        """Return the work on one scene."""
        return EncodeWork(
            self.source.part(scene),
            options,
            device=self.device,
            keep=Keep(metadata=False),
            listener=self.listener,
            stop=self.stop,
            hidden=None if self.hidden is None else self.hidden[scene.start : scene.stop],
            team=self.team,
        )

    def join(self, files: Sequence[bytes]) -> bytes:
        """Return the file of all scenes from those of each."""
        segments = [segment for data in files for segment in unpack_stream(data).segments]
        return join_segments(segments, self.source.info, self.metadata, self.words)

    def max_bytes(self) -> int:
        """Return the most bytes that the file may have without the copied tracks."""
        n_frames, height, width, _ = self.source.frames.shape
        target, rate = self.options.target, self.source.info.frame_rate
        if target.size is not None and self.track_bytes:
            return self._video_bytes(target.size)
        return target.max_bytes(n_frames, height, width, rate)

    def plan(self, target: Target | None = None) -> Plan:
        """Plan for the user's target, or for another one."""
        n_frames, height, width, _ = self.source.frames.shape
        if target is None and self.options.target.size is not None:
            target = Target(size=self.max_bytes())
        options = self.options if target is None else replace(self.options, target=target)
        return make_plan(
            options,
            n_frames=n_frames,
            height=height,
            width=width,
            frame_rate=self.source.info.frame_rate,
            bit_depth=self.source.info.bit_depth,
            overhead_bytes=self.overhead_bytes(),
            bf16=self.bf16 and (self.frames.is_cuda or ARCHITECTURES[options.arch][1].bf16_on_cpu),
            n_processes=self.team.size,
        )

    def _video_bytes(self, size: int) -> int:
        """Return what a size of the whole file leaves beside the copied tracks."""
        least = self.smallest_bytes()
        if size - self.track_bytes < least:
            raise UsageError(
                f"the target of {size} bytes is too small: sound and subtitles are copied and "
                f"have {self.track_bytes} bytes, so that the smallest file has about "
                f"{least + self.track_bytes}; --audio none and --subtitles none leave them out"
            )
        return size - self.track_bytes

    def overhead_bytes(self) -> int:
        """Return about what a file without tensors weighs: signature, chunks, headers, config."""
        return _EMPTY_FILE_BYTES + self.bytes_beside()

    def bytes_beside(self) -> int:
        """Return the bytes of what describes the video, without the copied tracks."""
        words = sum(map(len, pack_extras(self.words)))
        timing = self.source.info.timing
        if timing is not None and not timing.is_constant(self.source.info.frame_rate):
            words += len(pack_timing(timing))
        if self.source.info.display != PLAIN:
            words += len(pack_display(self.source.info.display))
        if self.source.info.hdr != NO_HDR:
            words += len(pack_hdr(self.source.info.hdr))
        return len(self.metadata) + words

    def smallest_bytes(self) -> int:
        """Return about the fewest bytes that a file of this architecture can have."""
        return self._smallest_bytes(len(self.source.frames), self.overhead_bytes())

    def _smallest_bytes(self, n_frames: int, overhead_bytes: int) -> int:
        _, height, width, _ = self.source.frames.shape
        options = self.options
        return smallest_bytes(
            options.arch, n_frames, height, width, overhead_bytes, **options.model
        )

    def file(self, plan: Plan, tensors: list[QTensor], corrections: bytes = b"") -> bytes:
        """Return the file that holds these tensors, without the copied tracks."""
        return make_file(plan, self.source.info, tensors, self.metadata, self.words, corrections)

    def make_fit(self, plan: Plan, *, prepare: bool = True) -> Fit:
        """Return a new run from the plan's seed; prepare sets starting values from the frames."""

        beyond: list[float] = []

        def measure_bits(tensors: list[QTensor]) -> float:
            # Coding pictures takes half a second, and this is asked often.
            ideal = sum(sum(astuple(tensor_bits(q, predicts=True))) for q in tensors)
            if not beyond:
                # The rest of the file; ideal lengths are those of the words within 0.1 %.
                beyond.append(8 * (len(self.file(plan, tensors)) - len(pack_smallest(tensors)[0])))
            return ideal + beyond[0]

        torch.manual_seed(plan.fit.seed)
        model = plan.model()
        if prepare:
            self._prepare(model, plan.fit.max_time_s)
        if self.initial is not None:
            load_tensors(model, self.initial.tensors(plan))
        settings = plan.fit
        return Fit(model, self.frames, settings, measure_bits, self.mask, self.planes, self.team)

    def _prepare(self, model: VideoModel, max_time_s: float | None) -> None:
        """Set starting values from the frames, in at most a share of the time there is."""
        began = time.perf_counter()
        limit_s = math.inf if max_time_s is None else _PREPARATION_SHARE * max_time_s

        def go_on(done: int, total: int) -> bool:
            passed_s = time.perf_counter() - began
            # What ends soon anyway is followed by a state that can be resumed.
            if passed_s > _PATIENCE_S and self.stop():
                raise Interrupted("stopped before the first step; nothing was kept")
            eta_s = (total - done) * passed_s / done
            self.listener(Progress(stage="prepare", done=done, total=total, eta_s=eta_s))
            return passed_s < limit_s

        model.prepare(self.frames, peak(self.source.info.bit_depth), go_on)

    def seconds_per_step(self, plan: Plan) -> float:
        """Measure a few training steps of throw-away networks in the first and the last phase."""
        settings = replace(plan.fit, max_time_s=None)
        last = replace(settings, analysis_share=0.0, float_share=0.0, prune_at=(0.0,))
        best = []
        for phase in (settings, last):
            fit = self.make_fit(replace(plan, fit=phase), prepare=False)
            seconds = math.inf
            for _ in range(_TRIAL_STEPS):
                started = time.perf_counter()
                with flushed_denormals():
                    fit.advance()
                seconds = min(seconds, time.perf_counter() - started)
            best.append(seconds)
        share = settings.analysis_share
        return share * best[0] + (1 - share) * best[1]

    def run(self, fit: Fit, checkpoint: Checkpoint | None = None) -> None:
        """Train to the end of the schedule; asked to stop, save the state and raise Interrupted."""
        saved_s = shown_s = time.perf_counter()
        while not fit.done:
            together = not fit.batch_loss.one_by_one
            try:
                with flushed_denormals():
                    fit.advance()
            except ResourceError as error:
                if checkpoint is None or fit.step == 0:
                    raise
                checkpoint.save(fit)
                raise ResourceError(
                    f"{error}; the last good state is in {checkpoint.path}, "
                    "from where --resume goes on at a lower rate"
                ) from error
            if together and fit.batch_loss.one_by_one:
                message = "memory does not suffice for a batch; its clips are drawn one by one now"
                self.listener(Log(level="warning", message=message))
            if fit.evaluates:
                self._show_evaluation(fit, fit.evaluate())
            now = time.perf_counter()
            if checkpoint is not None and now - saved_s > CHECKPOINT_INTERVAL_S:
                try:
                    checkpoint.save(fit)
                except ResourceError as error:
                    self.listener(Log(level="warning", message=f"the state is not saved: {error}"))
                saved_s = now
            if now - shown_s > _PROGRESS_INTERVAL_S or fit.done:
                self._show(fit)
                shown_s = now
            if not fit.done and self.team.any(self.stop()):
                if checkpoint is None:
                    raise Interrupted(f"stopped at step {fit.step}; nothing was kept")
                checkpoint.save(fit)
                raise Interrupted(f"stopped at step {fit.step}; the state is in {checkpoint.path}")

    def _show(self, fit: Fit) -> None:
        bits = None if fit.bits is None else fit.bits + fit.rate.overhead_bits
        left = fit.steps_left()
        # Of the scenes that follow it is only known how long they are.
        left += round((fit.step + left) * self.frames_after / len(self.source.frames))
        done = self.n_steps_before + fit.step
        self.listener(
            Progress(
                stage=fit.stage,
                done=done,
                total=done + left,
                per_s=1 / fit.step_s,
                eta_s=left * fit.step_s,
                psnr_db=fit.psnr_db,
                loss=fit.loss,
                lr=fit.lr,
                bpp=None if bits is None else bits / self.source.n_pixels,
            )
        )

    def _show_evaluation(self, fit: Fit, psnr_db: float) -> None:
        total = fit.step + fit.steps_left()
        self.listener(Progress(stage="evaluate", done=fit.step, total=total, psnr_db=psnr_db))
        message = f"step {fit.step}: {psnr_db:.2f} dB over all frames"
        if psnr_db < fit.best.psnr_db:
            kept = "kept" if fit.done else "still the best"
            message += f"; {fit.best.psnr_db:.2f} dB is {kept}"
        self.listener(Log(level="info", message=message))

    def finish(self, plan: Plan, fit: Fit) -> bytes:
        """Return the bytes of the trained network at the target size."""
        fit.check_finite()
        if plan.max_bytes is None:
            return self.file(plan, fit.quantized())
        data = self.corrected(plan, fit, plan.max_bytes) if fit.corrections else None
        if data is None:
            data = self._exact(plan, fit, plan.max_bytes)
            short = len(data) < (1 - TOLERANCE) * plan.max_bytes
            if short and not fit.corrections and may_correct(self.options):
                data = self.corrected(plan, fit, plan.max_bytes) or data
        if len(data) < (1 - TOLERANCE) * plan.max_bytes:
            message = (
                f"the file has {len(data):,} bytes, {len(data) / plan.max_bytes:.0%} of the target:"
                f" a network of {plan.n_params:,} parameters gains nothing from more; "
                "--params gives it more of them, a slower --preset more time"
            )
            self.listener(Log(level="warning", message=message))
        return data

    def _exact(self, plan: Plan, fit: Fit, max_bytes: int) -> bytes:
        """Return the file of the network alone, rounded so that it fits."""
        tensors = fit_size(
            fit.quantized,
            lambda tensors: len(self.file(plan, tensors)),
            max_bytes,
            lambda tensors: self._psnr_db(fit, tensors),
        )
        if tensors is None:
            raise ResourceError(
                f"the network could not be coded in {max_bytes} bytes; ask for a larger target"
            )
        return self.file(plan, tensors)

    def corrected(self, plan: Plan, fit: Fit, max_bytes: int) -> bytes | None:
        """Return the file of the network as trained and of corrections that fill the rest.

        None where nothing is left for them, or nothing to correct.
        """
        tensors = fit.quantized()
        left = max_bytes - len(self.file(plan, tensors)) - N_WORDS_BYTES
        if left < 0:
            return None
        depth = self.source.info.bit_depth
        model = fit.network(tensors)
        words = find_corrections(
            lambda index: model.draw_samples(index, depth),
            self.frames,
            self.mask,
            depth,
            fit.motion,
            left,
            self.listener,
        )
        return self.file(plan, tensors, words) if words else None

    @torch.inference_mode()
    def _psnr_db(self, fit: Fit, tensors: list[QTensor]) -> float:
        """Return the PSNR of all frames that a network of these tensors draws."""
        model = fit.network(tensors)
        depth = self.source.info.bit_depth
        return mean_psnr_db(model, self.frames, self.mask, self.planes, depth)
