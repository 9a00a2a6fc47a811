"""nvcodec thumbnail, play and serve."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from nvcodec.cli.base import main
from nvcodec.cli.options import (
    MAX_FRAME,
    PLAYERS,
    audio_option,
    data_options,
    device_option,
    format_options,
    frames_option,
    framing_of,
    input_format,
    json_option,
    overwrite_option,
    quiet_option,
    start_option,
    subtitles_option,
    time_option,
    verbose_option,
)
from nvcodec.errors import UsageError
from nvcodec.events import Log, Result


@main.command()
@click.argument("file")
@click.option("-o", "--output", required=True, help="A .png file.")
@time_option
@click.option(
    "--frame", type=click.IntRange(0, MAX_FRAME),
    help="Frame, counted from 0.  [default: the middle one]",
)  # fmt: skip
@click.option(
    "--size", type=click.IntRange(1, 32768), default=320,
    help="Pixels of the longer side; never enlarged.",
)  # fmt: skip
@device_option
@overwrite_option
@json_option
@quiet_option
@verbose_option
def thumbnail(
    file: str, output: str, time_s: Fraction | None, frame: int | None, size: int, device: str,
    overwrite: bool, json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Write one frame as a small picture, upright and in square pixels."""
    if time_s is not None and frame is not None:
        raise UsageError("--time and --frame exclude each other")
    if Path(output).suffix.lower() != ".png":
        raise UsageError(f"output {output} has another suffix than .png")
    from nvcodec import storage
    from nvcodec.codec.decoder import VideoFile
    from nvcodec.codec.selection import select_frames, select_time
    from nvcodec.console import make_listener
    from nvcodec.player.upright import thumbnail as shrink
    from nvcodec.video.sinks import PngEncoder

    with make_listener(json=json, quiet=quiet) as listen:
        storage.check_output(Path(output), overwrite=overwrite, source=Path(file))
        with VideoFile(file, device=device) as video:
            if time_s is None:
                picked = select_frames(video, [len(video) // 2 if frame is None else frame])
            else:
                picked = select_time(video, time_s)
            (number,) = picked.numbers
            picture = shrink(video[number], video.info, size)
        height, width, _ = picture.shape
        with storage.claim(Path(output)):
            storage.write_atomic(Path(output), PngEncoder(width, height).encode(picture))
        values = {"file": output, "frame": number, "width": width, "height": height}
        listen(Result(kind="thumbnail", values=values))


@main.command()
@click.argument("file")
@click.option(
    "--player", type=click.Choice(PLAYERS), help="Program to show it.  [default: what is there]"
)
@start_option
@frames_option
@device_option
@audio_option
@subtitles_option
@json_option
@quiet_option
@verbose_option
def play(
    file: str, player: str | None, start: int, frames: int | None, device: str,
    audio: str, subtitles: str, json: bool, quiet: bool, verbose: bool,
) -> None:  # fmt: skip
    """Play an .nrv file with its sound in the window of ffplay or mpv."""
    from dataclasses import replace

    from nvcodec.codec.decoder import VideoFile
    from nvcodec.codec.selection import select_part
    from nvcodec.console import make_listener
    from nvcodec.media import AUDIO, SUBTITLES
    from nvcodec.player import window

    with make_listener(json=json, quiet=quiet) as listen:
        command = window.find_player(player)
        with VideoFile(file, device=device) as video:
            picked = select_part(video, start, frames)
            left_out = [AUDIO] if audio == "none" else []
            left_out += [SUBTITLES] if subtitles == "none" else []
            picked = replace(picked, extras=picked.extras.without(*left_out))
            n_frames: int | None = None
            try:
                n_frames = window.play(video, picked, command, listen)
            except KeyboardInterrupt:
                listen(Log(level="info", message="stopped"))
        values = {"file": file, "player": command[0], "frames": n_frames}
        listen(Result(kind="play", values=values))


@main.command()
@click.argument("file")
@click.option("--host", default="127.0.0.1", help="Address; others than this machine's are open.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="0 takes a free one.")
@click.option("--source", help="The original video, to show the PSNR of each frame.")
@click.option(
    "--start", type=click.IntRange(0, MAX_FRAME), default=0,
    help="Frame of the source at which the file begins.",
)  # fmt: skip
@format_options
@data_options
@device_option
@json_option
@quiet_option
@verbose_option
def serve(
    file: str, host: str, port: int, source: str | None, start: int, device: str, json: bool,
    quiet: bool, verbose: bool, **given: Any,
) -> None:  # fmt: skip
    """Show an .nrv file on a web page of this machine, without sound, until Ctrl-C."""
    from nvcodec.codec.decoder import VideoFile
    from nvcodec.console import make_listener
    from nvcodec.player.comparison import Comparison
    from nvcodec.player.frames import FrameStore
    from nvcodec.player.server import PlayerServer, describe_page, is_loopback

    with make_listener(json=json, quiet=quiet) as listen, VideoFile(file, device=device) as video:
        store = FrameStore(video)
        facts = describe_page(file, store)
        comparison = None
        if source is not None:
            form, framing = input_format(given), framing_of(given)
            comparison = Comparison(video, source, start=start, form=form, framing=framing)
        try:
            with PlayerServer(host, port, store, facts, comparison) as server:
                if not is_loopback(host):
                    message = f"everyone who reaches {host} can watch this file"
                    listen(Log(level="warning", message=message))
                values = {
                    "file": file, "url": server.url, "host": host, "port": server.server_port,
                }  # fmt: skip
                listen(Result(kind="serve", values=values))
                if comparison is not None:
                    comparison.start()
                server.serve_forever()
        except KeyboardInterrupt:
            listen(Log(level="info", message="stopped"))
        finally:
            if comparison is not None:
                comparison.close()
