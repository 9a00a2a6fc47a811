"""Playing in the window of another program, which reads Y4M or Matroska from a pipe."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import suppress
from typing import IO

from nvcodec.codec.decoder import VideoFile
from nvcodec.codec.selection import Selection
from nvcodec.ending import nobody_reads
from nvcodec.errors import ResourceError
from nvcodec.events import Listener, Log, ignore
from nvcodec.player.upright import upright, upright_info
from nvcodec.video.sinks import ContainerSink, Sink, Y4mSink
from nvcodec.video.writer import VideoWriter

PLAYERS = {
    "ffplay": ("-hide_banner", "-loglevel", "error", "-autoexit", "-i", "pipe:0"),
    "mpv": ("--msg-level=all=error", "-"),
}
"""Programs by preference, and their arguments."""
_PATIENCE_S = 5


def find_player(name: str | None = None) -> list[str]:
    """Return the command of a player; raise ResourceError where none is installed."""
    for known, arguments in PLAYERS.items():
        path = shutil.which(known) if name in (None, known) else None
        if path is not None:
            return [path, *arguments]
    wanted = " or ".join(PLAYERS) if name is None else name
    raise ResourceError(
        f"{wanted} is needed to play and was not found; install it (ffplay comes with FFmpeg), "
        "or hand the frames to another player: nvcodec decode FILE -o - | PLAYER -"
    )


def play(
    video: VideoFile, picked: Selection, command: list[str], listener: Listener = ignore
) -> int:
    """Show frames in the window of a player until it is closed; return how many it took.

    Ctrl-C ends the player too. Raises ResourceError where the player fails.
    """
    with tempfile.TemporaryFile() as said:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=said) as player:
            assert player.stdin is not None
            try:
                n_frames = _feed(video, picked, player.stdin, listener, player)
                with suppress(OSError):
                    player.stdin.close()
                code = player.wait()
            except BaseException:
                _stop(player)
                raise
        if code:
            said.seek(0)
            lines = said.read(1 << 16).decode("utf-8", "replace").split("\n")
            last = next(
                (line.strip() for line in reversed(lines) if line.strip()), "it said nothing"
            )
            raise ResourceError(f"{command[0]} ended with exit code {code}: {last}")
    return n_frames


def _feed(
    video: VideoFile,
    picked: Selection,
    pipe: IO[bytes],
    listener: Listener,
    player: subprocess.Popen[bytes],
) -> int:
    info = upright_info(picked.info)
    extras = picked.extras
    n_frames = 0
    try:
        # FFV1 in Matroska carries sound, exact times and light, which Y4M cannot, and costs more.
        sink: Sink = (
            ContainerSink(pipe, info, extras) if extras.tracks else Y4mSink(pipe, info, extras)
        )
        with VideoWriter(sink, info) as writer:
            video.bit_depth = writer.bit_depth
            for warning in writer.warnings:
                listener(Log(level="warning", message=warning))
            try:
                for frame in video.frames(picked.numbers):
                    writer.write(upright(frame, picked.info.display))
                    n_frames += 1
            except BaseException as error:
                if not nobody_reads(error):
                    # First, for the rest in the pipe's buffer would wait for a paused player.
                    _stop(player)
                raise
    except ResourceError as error:
        if not nobody_reads(error):
            raise
    return n_frames


def _stop(player: subprocess.Popen[bytes]) -> None:
    player.terminate()
    try:
        player.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        player.kill()
