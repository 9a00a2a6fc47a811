"""Options that several commands share, and what they mean to the encoder.

The choices are literal so that nothing heavy is imported; a test compares them with the tables that
they repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nvcodec.cli.values import (
    amount,
    assignments,
    moment,
    part,
    rate,
    seconds,
    shares,
    size,
    size_or_side,
)

if TYPE_CHECKING:
    from nvcodec.codec.options import EncodeOptions
    from nvcodec.video.frames import InputFormat
    from nvcodec.video.framing import Framing

ARCHITECTURES = ("auto", "hnerv", "nerv", "enerv", "3dnerv", "canvas", "hinerv")
PRESETS = ("fast", "medium", "slow")
COPY = ("copy", "none")
DEVICES = ("auto", "cpu", "cuda")
CODECS = ("libx264", "libx265", "ffv1", "libvpx-vp9", "source")
PLAYERS = ("ffplay", "mpv")
OPTIMIZERS = ("muon", "soap", "adam")
CODINGS = ("rd", "ptq")
COLORS = ("auto", "rgb", "yuv")
SCENES = ("auto", "none")
SCHEDULES = ("cosine", "const", "step", "hybrid", "onecycle")
QUANT_AXES = ("best", "tensor", "0", "1")
PRUNE_SCOPES = ("global", "layer")
LOSSES = (
    "log-mse", "log-l1", "l2", "l1", "ssim", "fusion1", "fusion2", "fusion3", "fusion4", "fusion5",
    "fusion6", "fusion7", "fusion8", "fusion9", "fusion10", "fusion11", "fusion12",
)  # fmt: skip
MAX_FRAME = 2**32 - 1

F = TypeVar("F", bound=Callable[..., Any])

json_option = click.option("--json", is_flag=True, help="Print one JSON object per line on stdout.")
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="Show where an error comes from."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print errors only.")
overwrite_option = click.option(
    "-y", "--overwrite", is_flag=True, help="Replace an existing output."
)
device_option = click.option(
    "--device", type=click.Choice(DEVICES), default="auto", help="Where to compute."
)
start_option = click.option(
    "--start", type=click.IntRange(0, MAX_FRAME), default=0, help="First frame, counted from 0."
)
frames_option = click.option(
    "--frames", type=click.IntRange(1, MAX_FRAME), help="Number of frames.  [default: all]"
)
time_option = click.option(
    "--time", "time_s", callback=moment, metavar="TIME",
    help="The frame shown at this time, such as 2.5 or 00:00:02.5.",
)  # fmt: skip
audio_option = click.option(
    "--audio", type=click.Choice(COPY), default="copy", help="Copy the sound, or leave it out."
)
subtitles_option = click.option(
    "--subtitles", type=click.Choice(COPY), default="copy", help="The same for subtitles."
)
arch_option = click.option(
    "--arch", type=click.Choice(ARCHITECTURES), default="auto", help="Architecture."
)


def _all(options: Sequence[Callable[[F], F]]) -> Callable[[F], F]:
    """Return one decorator that adds these options in this order."""

    def decorate(command: F) -> F:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


data_options = _all(
    (
        click.option("--crop", callback=size, metavar="WxH", help="Change the truth: its centre."),
        click.option(
            "--resize",
            callback=size_or_side,
            metavar="WxH",
            help="Change the truth: bicubic, after --crop; N is the shorter side.",
        ),
        click.option("--crop-last", is_flag=True, help="Crop after --resize."),
        click.option(
            "--every",
            callback=part,
            default="1",
            metavar="N",
            help="Change the truth: every N-th frame; 6/10 is the first 6 of every 10.",
        ),
    )
)


def rate_options(default_bpp: float) -> Callable[[F], F]:
    """Return a decorator that adds the targets that are a size."""
    return _all(
        (
            click.option(
                "--bpp",
                type=float,
                help=f"Target: bits per pixel, sound not counted.  [default: {default_bpp}]",
            ),
            click.option(
                "--bitrate", callback=amount, help="Target: bits per second, such as 200k or 1.5M."
            ),
            click.option(
                "--size",
                callback=amount,
                help="Target: bytes of the whole file, such as 1M.",
            ),
        )
    )


target_options = _all(
    (
        rate_options(0.05),
        click.option(
            "--psnr", type=float, help="Target: mean RGB PSNR in dB, in the smallest file."
        ),
    )
)
training_options = _all(
    (
        click.option(
            "--preset", type=click.Choice(PRESETS), default="medium", help="Time to spend."
        ),
        click.option("--max-time", callback=seconds, help="Time limit, such as 90s, 10m or 1h30m."),
        start_option,
        frames_option,
        device_option,
        click.option(
            "--threads", type=click.IntRange(1, 1024), help="CPU threads.  [default: all cores]"
        ),
        click.option("--passes", type=int, help="Passes over all frames, instead of the preset's."),
        click.option(
            "--batch", type=int, help="Frames of a step.  [default: 2, or a clip for each process]"
        ),
        click.option(
            "--loss",
            type=click.Choice(LOSSES),
            default="log-mse",
            metavar="NAME",
            help="What to minimise: log-mse, log-l1, l2, l1, ssim or fusion1 to fusion12.",
        ),
        click.option(
            "--color",
            type=click.Choice(COLORS),
            default="auto",
            help="What the network draws: rgb, or the source's own planes, yuv, weighted 6:1:1.",
        ),
        click.option(
            "--scenes",
            type=click.Choice(SCENES),
            default="auto",
            help="auto: a network for each scene between cuts; none: one for all.",
        ),
        click.option(
            "--side-weight", type=float, default=0.0, help="Weight of lower-resolution heads."
        ),
        click.option("--optimizer", type=click.Choice(OPTIMIZERS), default="muon", help="How to."),
        click.option("--lr", type=float, help="Learning rate.  [default: the optimizer's]"),
        click.option("--beta1", type=float, default=0.9, help="Adam's first decay."),
        click.option("--beta2", type=float, default=0.99, help="Adam's second; papers use 0.999."),
        click.option(
            "--lr-schedule", type=click.Choice(SCHEDULES), default="cosine", help="Course of --lr."
        ),
        click.option(
            "--warmup", type=float, help="Share of the run that warms up.  [default: 30 steps]"
        ),
        click.option("--lr-floor", type=float, default=0.02, help="Share of --lr left at the end."),
        click.option("--lr-start", type=float, default=0.1, help="Share of --lr at its beginning."),
        click.option(
            "--lr-powers", callback=shares, default="1,2", help="Of the climb and hybrid's fall."
        ),
        click.option(
            "--lr-steps", callback=shares, default="0.5,0.8", help="Shares of the run of step."
        ),
        click.option(
            "--coding",
            type=click.Choice(CODINGS),
            default="rd",
            help="rd: rate in the loss; ptq: float, then min-max quantisation.",
        ),
        click.option(
            "--corrections",
            type=float,
            help="Share of the file for what is drawn wrong.  [default: canvas finds it, else 0]",
        ),
        click.option(
            "--group",
            type=int,
            default=8,
            help="Most frames to draw for any one; 1: no frame needs another.",
        ),
        click.option("--weight-bits", type=int, default=16, help="Most bits of a weight."),
        click.option("--embed-bits", type=int, default=16, help="Most bits of an embedding value."),
        click.option(
            "--quant-axis", type=click.Choice(QUANT_AXES), default="best", help="Of --coding ptq."
        ),
        click.option("--prune", type=float, default=0.0, help="Share of the weights to remove."),
        click.option(
            "--prune-at", callback=shares, default="0.2", help="Shares of the run at which to."
        ),
        click.option(
            "--prune-scope", type=click.Choice(PRUNE_SCOPES), default="global", help="What to rank."
        ),
        click.option(
            "--eval-every", type=int, help="Passes between evaluations; keeps the best (ptq only)."
        ),
        click.option(
            "--params",
            callback=amount,
            help="Parameters of the network, such as 1.5M; DCT coefficients count less.",
        ),
        click.option(
            "-m",
            "--model",
            multiple=True,
            callback=assignments,
            metavar="NAME=VALUE",
            help="Option of the architecture, such as strides=5,4,2,2; may be repeated.",
        ),
        click.option("--analysis", metavar="KIND", help="Encoder network of the embeddings."),
        click.option("--analysis-width", type=int, default=64, help="Channels of its stages."),
        click.option("--analysis-blocks", type=int, default=1, help="Blocks of its stages."),
        click.option(
            "--analysis-share", type=float, default=0.1, help="Share of the run that uses it."
        ),
        click.option("--seed", type=int, default=0, help="Seed of everything random."),
    )
)


format_options = _all(
    (
        click.option("--video-size", callback=size, help="Of raw video, such as 1280x720."),
        click.option("--pixel-format", help="Of raw video, such as yuv420p; FFmpeg's name."),
        click.option(
            "--framerate", callback=rate, help="Of raw video and PNG files.  [default: 25]"
        ),
    )
)


def input_format(given: dict[str, Any]) -> InputFormat:
    """Return what is said of a source that does not say it itself."""
    from nvcodec.video.frames import InputFormat

    return InputFormat(
        size=given["video_size"],
        pixel_format=given["pixel_format"],
        frame_rate=given["framerate"],
    )


def framing_of(given: dict[str, Any]) -> Framing:
    """Return what --crop, --resize, --crop-last and --every make of the source."""
    from nvcodec.video.framing import Framing

    kept, every = given["every"]
    changes = {name: given[name] for name in ("crop", "resize", "crop_last")}
    return Framing(every=every, kept=kept, **changes)


def set_threads(count: int | None) -> None:
    """Let PyTorch use this many CPU threads; None leaves its choice."""
    if count:
        import torch

        torch.set_num_threads(count)


def encode_options(given: dict[str, Any]) -> EncodeOptions:
    """Return the options of an encode from those of the command line."""
    from nvcodec.codec.options import EncodeOptions, Target

    size = given["size"]
    target = Target(
        bpp=given["bpp"],
        bitrate=given["bitrate"],
        size=None if size is None else int(size),
        psnr=given.get("psnr"),
    )
    names = ["arch", "preset", "seed", "passes", "batch", "coding", "loss", "color", "corrections"]
    names += ["group", "scenes", "side_weight"]
    names += ["optimizer", "lr", "beta1", "beta2", "lr_schedule", "warmup", "lr_floor"]
    names += ["lr_start", "lr_powers", "lr_steps"]
    names += ["analysis", "analysis_width", "analysis_blocks", "analysis_share"]
    names += ["weight_bits", "embed_bits", "quant_axis"]
    names += ["prune", "prune_at", "prune_scope", "eval_every", "model"]
    return EncodeOptions(
        target=target,
        max_time_s=given["max_time"],
        n_params=given["params"],
        **{name: given[name] for name in names},
    )
