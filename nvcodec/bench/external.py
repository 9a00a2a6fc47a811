"""Encoders and decoders outside, run as programs: VTM, VVenC, and any by a command template.

A command is a list of arguments, never a line for a shell. In it stand {input} and {output} (see
`Template`), {q}, and {width}, {height}, {frames}, {fps} (rounded) and {threads} where a program
must be told.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvcodec.bench.codecs import Codec, Scale, not_run
from nvcodec.bench.datasets import RawVideo, frame_bytes
from nvcodec.bench.results import CodecResult
from nvcodec.bench.source import Planes, planes_420
from nvcodec.errors import InputError, ResourceError, UsageError
from nvcodec.video.frames import DEFAULT_RATE

_VVC_SCALE = Scale(low=1, high=63, start=32, slope=0.13)
_KEY_FRAME_INTERVAL = 256
"""As near to that of the anchors in process as groups of 32 pictures allow."""
VTM_CONFIGS = {
    "ra": "encoder_randomaccess_vtm.cfg",
    "ld": "encoder_lowdelay_vtm.cfg",
    "ldp": "encoder_lowdelay_P_vtm.cfg",
}
VVENC_PRESETS = ("faster", "fast", "medium", "slow", "slower")
_VERSION_TIMEOUT_S = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """An encoder and a decoder of the user's."""

    name: str
    encode: str
    """Command that reads {input}, a .y4m file, and writes {output}, the stream."""
    decode: str
    """Command that reads {input}, the stream, and writes {output}, raw 8-bit 4:2:0 planes; empty
    where FFmpeg in PyAV decodes the stream."""
    qs: tuple[float, ...]
    """Quality parameters to run, in place of {q}."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where programs lie; None means that they are looked for on the PATH."""

    vtm: str | None = None
    vtm_config: str | None = None
    vvenc: str | None = None
    ffmpeg: str | None = None


def find_program(given: str | None, *names: str) -> str | None:
    """Return the path of a program: the given one, or the first of these names on the PATH.

    Raises:
        UsageError: the given one cannot be run.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise UsageError(f"{given} is not a program that can be run")
        return found
    return next((found for name in names if (found := shutil.which(name))), None)


def template_codec(template: Template) -> Codec:
    """Return the codec of a command template; raise UsageError where a part is missing."""
    encode, decode = shlex.split(template.encode), shlex.split(template.decode)
    for words, what in ((encode, "encode"), (decode, "decode")):
        for part in ("{input}", "{output}") if words else ():
            if not any(part in word for word in words):
                raise UsageError(f"the {what} command of {template.name} has no {part}")
    if not any("{q}" in word for word in encode):
        raise UsageError(f"the encode command of {template.name} has no {{q}}")
    if find_program(encode[0]) is None or (decode and find_program(decode[0]) is None):
        raise UsageError(f"a program of {template.name} cannot be run")
    output = next(word for word in encode if "{output}" in word)
    suffix = output.partition("{output}")[2]
    # The name of the stream that a worker is told has its suffix already.
    encode = [word.replace(f"{{output}}{suffix}", "{output}") for word in encode]
    return Codec(
        name=template.name,
        kind="external",
        parameters=_line("", encode, decode or None),
        suffix=suffix or ".bin",
        job=_job(encode, decode or None, reads="y4m", library=""),
        fixed=template.qs,
    )


def parse_external(text: str, programs: Programs, *, threads: int) -> Codec | CodecResult:
    """Return the codec that "vtm", "vtm:ld", "vvenc" or "vvenc:slow" means, or why it cannot run.

    Raises:
        UsageError: the configuration or the preset is unknown, or a given path is wrong.
    """
    name, _, variant = text.partition(":")
    if name == "vtm":
        return _vtm(variant or "ra", programs)
    return _vvenc(variant or "medium", programs, threads)


EXTERNALS = ("vtm", "vvenc")


def _vtm(variant: str, programs: Programs) -> Codec | CodecResult:
    if variant not in VTM_CONFIGS:
        raise UsageError(f"configuration of vtm is {variant}, allowed are {', '.join(VTM_CONFIGS)}")
    title = f"vtm {variant}"
    encoder = find_program(programs.vtm, "EncoderAppStatic", "EncoderApp")
    if encoder is None:
        return not_run(
            title,
            "external",
            "EncoderAppStatic of VTM was not found; give its path with --vtm or "
            "NVCODEC_BENCH_VTM, or figures measured elsewhere with --import",
        )
    config = _vtm_config(encoder, variant, programs.vtm_config)
    if config is None:
        return not_run(
            title,
            "external",
            f"{VTM_CONFIGS[variant]} was not found beside {encoder}; give it with --vtm-config or "
            f"NVCODEC_BENCH_VTM_CONFIG",
        )
    encode = [encoder, "-c", str(config), "-i", "{input}", "-wdt", "{width}", "-hgt", "{height}"]
    encode += ["-fr", "{fps}", "-f", "{frames}", "--InputChromaFormat=420", "--InputBitDepth=8"]
    encode += ["--OutputBitDepth=8", "--InternalBitDepth=10", "-q", "{q}"]
    if variant == "ra":
        encode.append(f"--IntraPeriod={_KEY_FRAME_INTERVAL}")
    # An empty name keeps it from writing rec.yuv into the current folder.
    encode += ["--ReconFile=", "-b", "{output}"]
    beside = Path(encoder).with_name(Path(encoder).name.replace("Encoder", "Decoder"))
    decoder = find_program(str(beside)) if beside.is_file() else None
    decode = [decoder, "-b", "{input}", "-o", "{output}", "-d", "8"] if decoder else None
    version = _version([encoder, "--help"])
    return Codec(
        name=title,
        kind="external",
        parameters=_line(version, encode, decode),
        suffix=".266",
        job=_job(encode, decode, reads="yuv", library=version)
        | {"config_sha256": hashlib.sha256(config.read_bytes()).hexdigest()},
        scale=_VVC_SCALE,
    )


def _vtm_config(encoder: str, variant: str, given: str | None) -> Path | None:
    """Return the configuration file: the given one, or that of VTM's own folders."""
    if given is not None:
        if not Path(given).is_file():
            raise UsageError(f"configuration {given} of VTM is not a file")
        return Path(given)
    folders = Path(encoder).resolve().parents
    places = [folder / "cfg" / VTM_CONFIGS[variant] for folder in folders[:6]]
    return next((place for place in places if place.is_file()), None)


def _vvenc(preset: str, programs: Programs, threads: int) -> Codec | CodecResult:
    preset, _, tune = preset.partition(":")
    if preset not in VVENC_PRESETS or tune not in ("", "psnr"):
        allowed = ", ".join(VVENC_PRESETS)
        raise UsageError(
            f"anchor is vvenc:{preset}{':' + tune if tune else ''}; allowed are the presets "
            f"{allowed}, alone or with :psnr"
        )
    title = " ".join(filter(None, ("vvenc", preset, tune)))
    encoder = find_program(programs.vvenc, "vvencapp")
    if encoder is None:
        return not_run(
            title,
            "external",
            "vvencapp was not found; give its path with --vvenc or NVCODEC_BENCH_VVENC",
        )
    encode = [encoder, "-i", "{input}", "--preset", preset, "-q", "{q}", "-t", str(threads)]
    encode += ["-ip", str(_KEY_FRAME_INTERVAL), "--qpa", "0" if tune else "1", "-o", "{output}"]
    version = _version([encoder, "--version"])
    return Codec(
        name=title,
        kind="external",
        parameters=_line(version, encode, None),
        suffix=".266",
        job=_job(encode, None, reads="y4m", library=version),
        scale=_VVC_SCALE,
    )


def _job(
    encode: Sequence[str], decode: Sequence[str] | None, *, reads: str, library: str
) -> dict[str, Any]:
    return {
        "encoder": "command",
        "decoder": "av" if decode is None else "command",
        "encode": list(encode),
        "decode": None if decode is None else list(decode),
        "reads": reads,
        "library": library,
    }


def _line(version: str, encode: Sequence[str], decode: Sequence[str] | None) -> str:
    """Return the commands for people: programs and files by name alone."""
    commands = [shlex.join([_bare(word) for word in words]) for words in (encode, decode) if words]
    text = " ; ".join(commands).replace("'", "")
    return f"{version}: {text}" if version else text


def _bare(word: str) -> str:
    return Path(word).name if os.path.isabs(word) else word


def _version(command: Sequence[str]) -> str:
    """Return the words of a program's first line that name its version; empty if there are none."""
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_VERSION_TIMEOUT_S, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return ""
    text = done.stdout.decode("utf-8", "replace")
    match = re.search(r"^[^\n]*?(\w[\w :,./-]*?[Vv]ersion [\w.-]+)", text, re.MULTILINE)
    return " ".join(match[1].split()) if match else ""


def fill(command: Sequence[str], values: dict[str, Any]) -> list[str]:
    """Return a command with {name} replaced by its value in each word."""
    words = list(command)
    for name, value in values.items():
        words = [word.replace(f"{{{name}}}", str(value)) for word in words]
    return words


def run_command(command: Sequence[str], output: Path) -> float:
    """Run a program that must write `output`; return the seconds that it took.

    Raises:
        ResourceError: it cannot be run, fails, or writes nothing.
    """
    name = Path(command[0]).name
    output.unlink(missing_ok=True)
    began = time.perf_counter()
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            check=False,
        )  # fmt: skip
    except OSError as error:
        raise ResourceError(f"{name} cannot be run: {error.strerror}") from error
    elapsed_s = time.perf_counter() - began
    if done.returncode != 0:
        lines = done.stdout.decode("utf-8", "replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        raise ResourceError(f"{name} ended with exit code {done.returncode}: {last}")
    if not output.is_file() or output.stat().st_size == 0:
        raise ResourceError(f"{name} wrote nothing to {output.name}")
    return elapsed_s


def read_raw(path: Path, width: int, height: int, n_frames: int) -> Iterator[Planes]:
    """Yield the frames of raw 8-bit 4:2:0 planes; raise InputError if they are more or fewer."""
    n_bytes, needed = path.stat().st_size, n_frames * frame_bytes(width, height)
    if n_bytes != needed:
        raise InputError(
            f"the decoder wrote {n_bytes} bytes; {n_frames} frames of {width}x{height} in 8-bit "
            f"4:2:0 have {needed}"
        )
    yield from map(planes_420, RawVideo(path, width, height, DEFAULT_RATE).pictures())
