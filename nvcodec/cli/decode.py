"""nvcodec decode."""

from __future__ import annotations

import time
from dataclasses import asdict
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nvcodec.cli.base import check_stdout, main
from nvcodec.cli.options import (
    CODECS,
    MAX_FRAME,
    audio_option,
    device_option,
    frames_option,
    json_option,
    overwrite_option,
    quiet_option,
    start_option,
    subtitles_option,
    time_option,
    verbose_option,
)
from nvcodec.cli.values import frame_numbers
from nvcodec.errors import CorruptError, UsageError
from nvcodec.events import Log, Progress, Result

if TYPE_CHECKING:
    from nvcodec.bitstream.salvage import Damage

_MAX_WARNINGS = 20


@main.command()
@click.argument("file")
@click.option(
    "-o", "--output", required=True,
    help="A .mp4, .mov, .mkv, .webm or .y4m file, frames/%06d.png or .npy, a folder/, - for Y4M.",
)  # fmt: skip
@start_option
@frames_option
@click.option(
    "--frames-list", callback=frame_numbers, metavar="N,N,...",
    help="These frames only, in this order, such as 5,90,17.",
)  # fmt: skip
@click.option(
    "--evenly", type=click.IntRange(1, MAX_FRAME), metavar="N", help="N frames, evenly spaced."
)
@time_option
@click.option("-c:v", "--codec", type=click.Choice(CODECS), help="Encoder, or the source's codec.")
@click.option("--crf", type=float, help="Quality of lossy encoders; 0 is the best.  [default: 12]")
@click.option("--pix-fmt", help="Such as yuv420p10le; rgb48be for 16-bit PNG and .npy.")
@device_option
@audio_option
@subtitles_option
@click.option("--batch", type=int, help="Frames drawn at once.  [default: one a core, at most 4]")
@click.option(
    "--lenient", is_flag=True,
    help="Draw the whole segments of a damaged file; others repeat the last frame. Exit code 4.",
)  # fmt: skip
@click.option("--no-limits", is_flag=True, help="Draw what other files may not ask for.")
@overwrite_option
@json_option
@quiet_option
@verbose_option
def decode(
    file: str, output: str, start: int, frames: int | None, frames_list: tuple[int, ...] | None,
    evenly: int | None, time_s: Fraction | None, codec: str | None, crf: float | None,
    pix_fmt: str | None, device: str, batch: int | None, audio: str, subtitles: str, lenient: bool,
    no_limits: bool, overwrite: bool, json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Decode an .nrv file, or any part of it, into a video or pictures.

    FILE may be - for standard input.
    """
    if output == "-":
        check_stdout(json)
    single = [choice is not None for choice in (frames_list, evenly, time_s)]
    if (start > 0 or frames is not None) + sum(single) > 1:
        raise UsageError(
            "--start and --frames, --frames-list, --evenly and --time exclude each other"
        )
    from nvcodec import storage
    from nvcodec.codec.decoder import VideoFile
    from nvcodec.codec.selection import evenly_spaced, select_frames, select_part, select_time
    from nvcodec.console import make_listener
    from nvcodec.limits import DEFAULT, UNLIMITED
    from nvcodec.media import AUDIO, SUBTITLES
    from nvcodec.video.coding import Wish
    from nvcodec.video.writer import open_writer

    began = time.perf_counter()
    limits = UNLIMITED if no_limits else DEFAULT
    wish = Wish(codec=codec, crf=crf, pixel_format=pix_fmt)
    with make_listener(json=json, quiet=quiet) as listen:
        if Path(output).is_file():
            storage.check_output(Path(output), overwrite=overwrite, source=Path(file))
        with VideoFile(file, device=device, batch=batch, limits=limits, lenient=lenient) as video:
            if frames_list is not None:
                picked = select_frames(video, frames_list)
            elif evenly is not None:
                picked = select_frames(video, evenly_spaced(len(video), evenly))
            elif time_s is not None:
                picked = select_time(video, time_s)
            else:
                picked = select_part(video, start, frames)
            total = len(picked.numbers)
            for item in video.damage[:_MAX_WARNINGS]:
                listen(Log(level="warning", message=_sentence(item)))
            if frames is not None and total < frames:
                message = f"{frames} frames were asked for, but only {total} are there"
                listen(Log(level="warning", message=message))
            left_out = [AUDIO] if audio == "none" else []
            left_out += [SUBTITLES] if subtitles == "none" else []
            extras = picked.extras.without(*left_out)
            given = video.stream.extras.without(*left_out)
            if given.tracks and any(single):
                message = "sound and subtitles are left out: single frames have no place in time"
                listen(Log(level="warning", message=message))
            with open_writer(
                output, picked.info, extras, wish=wish, overwrite=overwrite,
                max_bytes=limits.max_output_bytes,
            ) as writer:  # fmt: skip
                video.bit_depth = writer.bit_depth
                for warning in writer.warnings:
                    listen(Log(level="warning", message=warning))
                depth, numbers = writer.plane_depth, picked.numbers
                frames_of = video.frames(numbers) if depth is None else video.drawn(numbers, depth)
                for done, frame in enumerate(frames_of, 1):
                    writer.write(frame)
                    per_s = done / (time.perf_counter() - began)
                    eta_s = (total - done) / per_s
                    listen(
                        Progress(
                            stage="decode", done=done, total=total, unit="frame",
                            per_s=per_s, eta_s=eta_s,
                        )
                    )  # fmt: skip
        elapsed_s = time.perf_counter() - began
        values = {
            "file": output,
            "description": writer.description,
            **{
                key: writer.coding and getattr(writer.coding, key)
                for key in ("codec", "crf", "loss", "pixel_format")
            },
            "start": picked.numbers[0],
            "frames": total,
            "width": video.info.width,
            "height": video.info.height,
            "decode_s": video.network_s,
            "decode_fps": total / max(video.network_s, 1e-9),
            "end_to_end_s": elapsed_s,
            "end_to_end_fps": total / elapsed_s,
            "device": str(video.device),
            "batch": video.batch,
            "damage": [asdict(item) for item in video.damage],
        }
        listen(Result(kind="decode", values=values))
        if video.damage:
            lost = sum(item.n_frames for item in video.damage)
            raise CorruptError(
                f"{file} is damaged: {lost} of its {len(video)} frames are lost, and show the "
                f"nearest whole one instead; {output} holds what could be drawn"
            )


def _sentence(damage: Damage) -> str:
    if not damage.n_frames:
        return f"a part beside the frames is lost: {damage.reason}"
    last = damage.first_frame + damage.n_frames - 1
    return f"frames {damage.first_frame} to {last} are lost: {damage.reason}"
