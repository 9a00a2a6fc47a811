"""Train what a video needs, scene by scene: each has a network of its own, one file holds all.

Every scene gets bits by its length: where an error falls with a power of the bits, equal bits a
frame make the mean of per-frame PSNRs the largest.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nvcodec.bitstream.header import unpack_stream
from nvcodec.codec.checkpoint import (
    Checkpoint,
    check_key,
    finished_files,
    holds_fit,
    plan_key,
    read_checkpoint,
)
from nvcodec.codec.fit import Fit
from nvcodec.codec.fit_state import load_state_tensors
from nvcodec.codec.options import Target
from nvcodec.codec.plan import Plan
from nvcodec.codec.quality import encode_to_psnr
from nvcodec.codec.work import EncodeWork
from nvcodec.errors import BitstreamError, Interrupted, UsageError
from nvcodec.events import Log

_FINISH_RESERVE = 0.9
"""Share of a time limit that is left for training after the measured cost of the final proof."""


@dataclass(frozen=True, slots=True)
class Trained:
    """The networks of a video and the file that holds them, without the copied tracks."""

    data: bytes
    target_bytes: int | None
    """Most bytes of it; None where only a network was asked for."""
    scenes: list[range]
    n_params: int
    n_steps: int
    plan: Plan
    """Of the last scene, and so its fit."""
    fit: Fit


@dataclass(frozen=True, slots=True)
class _Done:
    """What is known of the scenes that are finished."""

    files: tuple[bytes, ...] = ()
    n_params: int = 0
    n_steps: int = 0
    elapsed_s: float = 0.0

    @property
    def n_bytes(self) -> int:
        return sum(map(len, self.files))

    def numbers(self) -> dict[str, Any]:
        """Return what a checkpoint keeps beside the files."""
        return {
            "done_params": self.n_params,
            "done_steps": self.n_steps,
            "done_s": self.elapsed_s,
        }

    def add(self, data: bytes, plan: Plan, fit: Fit, elapsed_s: float) -> _Done:
        return _Done(
            (*self.files, data),
            self.n_params + plan.n_params,
            self.n_steps + fit.step,
            self.elapsed_s + elapsed_s,
        )


def _read_done(
    path: Path, saved: dict[str, Any], tensors: dict[str, Tensor], scenes: list[range]
) -> _Done:
    """Return the finished scenes of a checkpoint; raise UsageError where it is damaged."""
    files = finished_files(tensors)
    if not files:
        return _Done()
    try:
        n_frames = [unpack_stream(data).header.n_frames for data in files]
        n_params, n_steps, elapsed_s = (float(saved[name]) for name in _Done().numbers())
        done = _Done(files, int(n_params), int(n_steps), elapsed_s)
    except (BitstreamError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"checkpoint {path} is damaged; delete it and start again") from error
    if len(files) >= len(scenes) or n_frames != [len(scene) for scene in scenes[: len(files)]]:
        raise UsageError(f"checkpoint {path} was made with other scenes; start without --resume")
    return done


def plan_scenes(work: EncodeWork) -> list[tuple[EncodeWork, Plan]]:
    """Return the work and the plan of every scene, as if files met their targets exactly."""
    planned: list[tuple[EncodeWork, Plan]] = []
    n_bytes = 0
    for scene in work.scenes():
        part = _part(work, scene, n_bytes, 0.0)
        planned.append((part, part.plan()))
        n_bytes += planned[-1][1].expected_bytes
    return planned


def encode_to_quality(work: EncodeWork, psnr_db: float) -> Trained:
    """Let every scene reach this PSNR in the smallest file; raise ResourceError if one does not."""
    scenes = work.scenes()
    done = _Done()
    for number, scene in enumerate(scenes):
        part = _part(work, scene, 0, 0.0)
        _announce(work, scenes, number)
        plan, fit, data = encode_to_psnr(part, psnr_db)
        done = done.add(data, plan, fit, 0.0)
    return _trained(work, scenes, done, plan, fit)


def encode_to_size(work: EncodeWork, path: Path | None, resume: bool, began: float) -> Trained:
    """Train all scenes for the target; the state is kept at `path`, from which `resume` goes on.

    began is when the whole encode began. Raises UsageError for a checkpoint of another run.
    """
    scenes = work.scenes()
    saved: dict[str, Any] | None = None
    state: dict[str, Tensor] = {}
    if resume:
        if path is None:
            raise UsageError("--resume needs an output file")
        saved, state = read_checkpoint(path)
    elif path is not None and path.exists():
        message = f"{path} holds an interrupted run, which starts anew without --resume"
        work.listener(Log(level="warning", message=message))
    done = _Done()
    if path is not None and saved is not None:
        done = _read_done(path, saved, state, scenes)
    for number in range(len(done.files), len(scenes)):
        # Processes of a team round differently, but must plan alike.
        n_bytes = torch.tensor([done.n_bytes], dtype=torch.float64, device=work.device)
        agreed = int(work.team.mean([n_bytes])[0])
        part = _part(work, scenes[number], agreed, done.elapsed_s)
        part.n_steps_before = done.n_steps
        _announce(work, scenes, number)
        plan = part.plan()
        if saved is not None:
            # Measured, not chosen: a machine that is busier now must not refuse its checkpoint.
            bf16 = bool(saved.get("fit", {}).get("bf16"))
            plan = replace(plan, fit=replace(plan.fit, bf16=bf16))
        key = plan_key(plan, work.sha256) | done.numbers()
        key["first_frame"] = scenes[number].start
        key["init_sha256"] = None if work.initial is None else work.initial.sha256
        key["n_processes"] = work.team.size
        if path is not None and saved is not None:
            check_key(path, saved, key)
        checkpoint = None
        if path is not None and work.team.leads:
            checkpoint = Checkpoint(path, key, done.files)
            if done.files and not holds_fit(state):
                checkpoint.save(None)
        try:
            fit = _start(part, plan, state if holds_fit(state) else None, began)
        except Interrupted as error:
            if checkpoint is None or not done.files:
                raise
            message = f"stopped before the first step of a scene; those before are in {path}"
            raise Interrupted(message) from error
        before_s = fit.elapsed_s
        part.run(fit, checkpoint)
        data = part.finish(plan, fit)
        done = done.add(data, plan, fit, before_s + time.perf_counter() - began)
        began = time.perf_counter()
        saved, state = None, {}
    return _trained(work, scenes, done, plan, fit)


def _start(work: EncodeWork, plan: Plan, state: dict[str, Tensor] | None, began: float) -> Fit:
    """Return a run that is new or goes on from a state, limited in time if the plan says so."""
    # The proof draws every frame once, which costs about a third of a training step of each.
    step_s = 0.0 if plan.fit.max_time_s is None else work.seconds_per_step(plan)
    proof_s = step_s * plan.n_frames / plan.fit.batch / 2
    fit = work.make_fit(plan, prepare=state is None)
    if plan.fit.max_time_s is not None:
        left_s = plan.fit.max_time_s - (time.perf_counter() - began) - proof_s
        fit.limit_time(max(0.1, _FINISH_RESERVE * left_s))
    if state is not None:
        load_state_tensors(fit, state)
        work.listener(Log(level="info", message=f"resumed at step {fit.step}"))
    return fit


def _part(work: EncodeWork, scene: range, n_bytes: int, elapsed_s: float) -> EncodeWork:
    """Return the work on a scene, after others that took so many bytes and seconds.

    That on all of the video is `work` itself.
    """
    n_frames = len(work.source.frames)
    if len(scene) == n_frames:
        return work
    share = len(scene) / (n_frames - scene.start)
    options = work.options
    if options.target.psnr is None:
        left = work.max_bytes() - work.bytes_beside() - n_bytes
        options = replace(options, target=Target(size=int(share * left)))
    if options.max_time_s is not None:
        left_s = share * (options.max_time_s - elapsed_s)
        options = replace(options, max_time_s=max(1.0, left_s))
    part = work.part(scene, options)
    part.frames_after = n_frames - scene.stop
    return part


def _announce(work: EncodeWork, scenes: list[range], number: int) -> None:
    if len(scenes) > 1:
        first, last = scenes[number].start, scenes[number].stop - 1
        message = f"scene {number + 1} of {len(scenes)}: frames {first} to {last}"
        work.listener(Log(level="info", message=message))


def _trained(work: EncodeWork, scenes: list[range], done: _Done, plan: Plan, fit: Fit) -> Trained:
    several = len(scenes) > 1
    data = work.join(done.files) if several else done.files[0]
    target_bytes = plan.max_bytes
    if several and target_bytes is not None:
        by_psnr = work.options.target.psnr is not None
        target_bytes = len(data) if by_psnr else work.max_bytes()
    return Trained(data, target_bytes, scenes, done.n_params, done.n_steps, plan, fit)
