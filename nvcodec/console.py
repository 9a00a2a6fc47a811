"""Shows events: a live line on a terminal, sparse log lines elsewhere, NDJSON for programs.

Text for people goes to standard error, what a command was asked for to standard output. Any text
that comes from a file or a file name passes `printable`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar
from rich.table import Table

from nvcodec.events import Event, Listener, Log, Progress, Result

_JSON_INTERVAL_S = 0.5
_FIRST_LINE_S = 2.0
_MOST_SHOWN = 12
_PLAIN_WIDTH = 200
"""Columns where the output is no terminal: wide enough that no table is cut."""


def printable(text: str) -> str:
    r"""Return text with control and other unprintable characters as \xNN."""
    return "".join(c if c.isprintable() else _escape(c) for c in text)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def make_console(*, stderr: bool) -> Console:
    """Return a console that takes text literally, without markup."""
    console = Console(stderr=stderr, markup=False, emoji=False, highlight=False)
    if not console.is_terminal:
        console.width = _PLAIN_WIDTH
    return console


def print_json(values: dict[str, Any]) -> None:
    """Print one NDJSON line; numbers that JSON lacks (infinity, not-a-number) become null."""
    print(json.dumps(finite(values), allow_nan=False), flush=True)


def finite(value: Any) -> Any:
    """Return plain values with None for infinity and not-a-number."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_error(message: str, notes: list[str]) -> None:
    """Print the one line of a failure, and what can be done about it."""
    print(f"nvcodec: error: {printable(message)}", file=sys.stderr)
    for note in notes:
        print(printable(note), file=sys.stderr)


@contextmanager
def make_listener(*, json: bool, quiet: bool) -> Iterator[Listener]:
    """Yield the listener of one command; with `json`, its success ends with a "done" line."""
    if json:
        yield _JsonLines()
        print_json({"type": "done"})
        return
    human = _Human(quiet)
    try:
        yield human
    finally:
        human.close()


class _JsonLines:
    """Prints every event but most of the progress."""

    def __init__(self) -> None:
        self._shown_s = -math.inf
        self._stage = ""

    def __call__(self, event: Event) -> None:
        if isinstance(event, Result):
            print_json({"type": "result", "kind": event.kind, **event.values})
        elif isinstance(event, Log):
            print_json({"type": "log", **asdict(event)})
        else:
            now = time.monotonic()
            if event.stage != self._stage or now - self._shown_s >= _JSON_INTERVAL_S:
                self._stage, self._shown_s = event.stage, now
                print_json({"type": "progress", **asdict(event)})


class _Human:
    """Shows progress as one live line or in a log line after 2, 4, 8, 16... seconds."""

    def __init__(self, quiet: bool) -> None:
        self._quiet = quiet
        self._console = make_console(stderr=True)
        self._bar: Bar | None = None
        self._started_s = time.monotonic()
        self._next_line_s = _FIRST_LINE_S

    def __call__(self, event: Event) -> None:
        if isinstance(event, Result):
            self.close()
            show, on_stdout = _RESULTS[event.kind]
            if on_stdout or not self._quiet:
                show(make_console(stderr=not on_stdout), event.values)
        elif self._quiet:
            return
        elif isinstance(event, Log):
            kind = "warning: " if event.level == "warning" else ""
            self._print(f"nvcodec: {kind}{printable(event.message)}")
        elif self._console.is_interactive:
            self._show_bar(event)
        else:
            self._show_line(event)

    def close(self) -> None:
        """Remove the live line."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)

    def _show_bar(self, event: Progress) -> None:
        if self._bar is None:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[figures]}", markup=False),
            )
            # Frames on standard output must not pass through rich.
            self._bar = Bar(
                *columns, console=self._console, transient=True,
                redirect_stdout=False, redirect_stderr=False,
            )  # fmt: skip
            self._bar.add_task("", figures="")
            self._bar.start()
        self._bar.update(
            self._bar.task_ids[0],
            description=event.stage,
            total=event.total or None,
            completed=event.done,
            figures=figures(event),
        )

    def _show_line(self, event: Progress) -> None:
        elapsed_s = time.monotonic() - self._started_s
        if elapsed_s >= self._next_line_s:
            while self._next_line_s <= elapsed_s:
                self._next_line_s *= 2
            self._print(f"nvcodec: {event.stage} {figures(event)}")


def figures(event: Progress) -> str:
    """Return the numbers of a progress event, those that are known."""
    total = f"/{event.total:,}" if event.total else ""
    parts = [f"{event.done:,}{total} {event.unit}s"]
    if event.per_s:
        parts.append(f"{event.per_s:.1f} {'it' if event.unit == 'step' else event.unit + 's'}/s")
    if event.psnr_db is not None:
        parts.append(f"{event.psnr_db:.2f} dB")
    if event.bpp is not None:
        parts.append(f"{event.bpp:.4f} bpp")
    if event.eta_s is not None:
        parts.append(f"{duration(event.eta_s)} left")
    return "  ".join(parts)


def duration(seconds: float) -> str:
    """Return seconds for people: 4.2 s, 3 min 20 s, 1 h 02 min."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def _size(n_bytes: float) -> str:
    return f"{n_bytes:,.0f} bytes"


def _copied(values: dict[str, Any], word: str = "of it ") -> str:
    """Return how many of the bytes are copied sound and subtitles, if any."""
    parts = [
        f"{_size(values[key])} {word}{what}"
        for key, what in (("audio_bytes", "sound"), ("subtitle_bytes", "subtitles"))
        if values[key]
    ]
    return "".join(f", {part}" for part in parts)


def _video_only(copied_bytes: int) -> str:
    return ", video only" if copied_bytes else ""


def _quality(values: dict[str, Any]) -> list[tuple[str, str]]:
    ms_ssim = values["ms_ssim"]
    return [
        ("PSNR", f"{values['psnr_db']:.2f} dB (RGB, mean of frames){_in_yuv(values)}"),
        ("MS-SSIM", "not defined for frames this small" if ms_ssim is None else f"{ms_ssim:.5f}"),
    ]


def _in_yuv(values: dict[str, Any]) -> str:
    """Return the figures in Y'CbCr, where there are any."""
    if values.get("psnr_yuv_db") is None:
        return ""
    return f", {values['psnr_yuv_db']:.2f} dB (YUV 6:1:1), {values['psnr_y_db']:.2f} dB (Y)"


def _pairs(console: Console, rows: list[tuple[str, str]]) -> None:
    """Print names and texts in two columns."""
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        console.print(f"{name:<{width}}  {printable(text)}", soft_wrap=True)


def _network(v: dict[str, Any]) -> str:
    return f"{v['arch']}, {v['parameters']:,} parameters, {v['mac_per_pixel']:,} MAC/pixel"


def _config(v: dict[str, Any]) -> str:
    return ", ".join(f"{key} {value}" for key, value in v["config"].items())


def _encoder(v: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row about the encoder network, if there is one."""
    n_params = v["encoder_parameters"]
    return [("encoder", f"{n_params:,} parameters, not in the file")] if n_params else []


def _show_plan(console: Console, v: dict[str, Any]) -> None:
    copied = v["audio_bytes"] + v["subtitle_bytes"]
    _pairs(console, [
        ("video", f"{v['frames']} frames of {v['width']}x{v['height']}, {v['bit_depth']} bit, "
                  f"{_size(v['memory_bytes'])} in memory"),
        *_framing(v),
        ("network", _network(v)),
        ("", _config(v)),
        *_scenes(v),
        *_encoder(v),
        ("file", f"at most {_size(v['expected_bytes'])}, {v['expected_bpp']:.4f} bpp"
                 f"{_video_only(copied)}{_copied(v, 'of ')}"),
        ("training", f"{v['steps']:,} steps of {v['batch']} frames, {v['precision']}"),
        ("device", v["device"]),
        ("time", f"about {duration(v['predicted_s'])}"),
    ])  # fmt: skip


def _framing(v: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row that says what was changed of the source, if anything was."""
    framing = v["framing"]
    kept, every = framing["kept"], framing["every"]
    words = [f"{kept} frame{'s' * (kept > 1)} of {every}"] if every > kept else []
    steps = [("crop", "cropped to"), ("resize", "resized to")]
    for name, done in reversed(steps) if framing["crop_last"] else steps:
        if isinstance(framing[name], int):
            words.append(f"{done} a shorter side of {framing[name]}")
        elif framing[name] is not None:
            words.append(f"{done} {framing[name][0]}x{framing[name][1]}")
    return [("truth", f"the source changed: {', '.join(words)}")] if words else []


def _scenes(v: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row of the scenes that have networks of their own, if there are several."""
    firsts = v["scenes"]
    if len(firsts) == 1:
        return []
    shown = ", ".join(map(str, firsts[:_MOST_SHOWN])) + ", ..." * (len(firsts) > _MOST_SHOWN)
    return [("scenes", f"{len(firsts)}, from frames {shown}")]


def _before_rounding(v: dict[str, Any]) -> list[tuple[str, str]]:
    if v["float_psnr_db"] is None:
        return []
    ms_ssim = v["float_ms_ssim"]
    more = "" if ms_ssim is None else f", MS-SSIM {ms_ssim:.5f}"
    return [("as float", f"{v['float_psnr_db']:.2f} dB{more} before quantisation")]


def _show_encode(console: Console, v: dict[str, Any]) -> None:
    copied = v["audio_bytes"] + v["subtitle_bytes"]
    target = "size of the network"
    if v["target_bytes"] is not None:
        target = f"target {v['bpp'] * v['target_bytes'] / (v['n_bytes'] - copied):.4f}"
    _pairs(console, [
        ("file", f"{v['file']}, {_size(v['n_bytes'])}{_copied(v)}"),
        *_framing(v),
        ("rate", f"{v['bpp']:.4f} bpp ({target}){_video_only(copied)}"),
        *_quality(v),
        *_before_rounding(v),
        *_scenes(v),
        ("network", f"{v['arch']}, {v['n_params']:,} parameters, {v['n_steps']:,} steps"),
        ("encoded in", duration(v["encode_s"])),
        ("decodes at", f"{v['decode_fps']:.1f} frames/s ({v['device']})"),
    ])  # fmt: skip


def _show_decode(console: Console, v: dict[str, Any]) -> None:
    _pairs(console, [
        ("file", f"{v['file']}, {v['description']}, {v['frames']} frames"),
        *_coding(v),
        ("decode only", f"{v['decode_fps']:.1f} frames/s ({v['device']}, batch {v['batch']})"),
        ("end to end", f"{v['end_to_end_fps']:.1f} frames/s"),
    ])  # fmt: skip


def _coding(v: dict[str, Any]) -> list[tuple[str, str]]:
    """Return a row on the output's own loss, where it has a codec."""
    if v["codec"] is None:
        return []
    crf = "" if v["crf"] is None else f"crf {v['crf']:g}, "
    return [("written by", f"{v['codec']}, {crf}{v['loss']}, {v['pixel_format']}")]


def _hdr(hdr: dict[str, Any] | None) -> list[tuple[str, str]]:
    """Return a row on the light of display and video, if anything is known of it."""
    if hdr is None:
        return []
    parts = []
    if hdr["red"] is not None:
        points = (f"{name} {hdr[name][0]:g}, {hdr[name][1]:g}" for name in _PRIMARIES)
        parts.append(f"display {'; '.join(points)}")
    if hdr["max_luminance"] is not None:
        parts.append(f"{hdr['min_luminance']:g} to {hdr['max_luminance']:g} cd/m2")
    if hdr["max_cll"] or hdr["max_fall"]:
        levels = (f"{name} {hdr[key] or 'unknown'}" for name, key in _LEVELS)
        parts.append(f"{', '.join(levels)} cd/m2")
    return [("HDR", "; ".join(parts))]


_PRIMARIES = ("red", "green", "blue", "white")
_LEVELS = (("MaxCLL", "max_cll"), ("MaxFALL", "max_fall"))


def _display(display: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is said of how frames are shown, where it is unusual."""
    top, bottom = display["pixel_aspect"]
    parts = [f"pixels {top}:{bottom}"] if top != bottom else []
    if display["matrix"] != _PLAIN_MATRIX:
        parts.append(f"turned {display['rotation']} degrees, matrix {display['matrix']}")
    if display["fields"] != "progressive":
        parts.append(f"fields, {display['fields']}")
    return [("shown as", ", ".join(parts))] if parts else []


def _rate(v: dict[str, Any], rate: float) -> str:
    start = f" from {v['start_s']:.3f} s" if v["start_s"] else ""
    return f"{rate:.5g} frames/s{'' if v['constant_rate'] else ' (it varies)'}{start}"


def _track(track: dict[str, Any]) -> str:
    parts = [track["codec"]]
    if track["sample_rate"]:
        parts.append(f"{track['sample_rate']} Hz, {track['channels']} channels")
    parts += [text for text in (track["language"], track["title"]) if text]
    parts.append(f"{track['packets']:,} packets, {_size(track['bytes'])}")
    return ", ".join(parts)


def _show_inpaint(console: Console, v: dict[str, Any]) -> None:
    hidden, rest = v["hidden_psnr_db"], _quality(v)
    _pairs(console, [
        _written(v),
        *_framing(v["encoded"]),
        ("hidden", f"{100 * v['hidden_share']:.1f} % of the pixels"),
        ("PSNR there", f"{hidden:.2f} dB against what the source has under the mask"),
        *((name, f"{text}, known pixels included") for name, text in rest),
        *_restorer(v["encoded"], v["keep"]),
    ])  # fmt: skip


def _show_denoise(console: Console, v: dict[str, Any]) -> None:
    _pairs(console, [
        _written(v),
        *_framing(v["encoded"]),
        ("removed", f"the rest is at {v['psnr_db']:.2f} dB of the input (RGB, mean of frames)"),
        *_restorer(v["encoded"], v["keep"]),
    ])  # fmt: skip


def _show_interpolate(console: Console, v: dict[str, Any]) -> None:
    _pairs(console, [
        _written(v),
        ("rate", f"{v['frame_rate']:.5g} frames/s, {v['factor']} times that of the file"),
        ("done in", f"{duration(v['end_to_end_s'])} ({v['device']})"),
    ])  # fmt: skip


def _show_thumbnail(console: Console, v: dict[str, Any]) -> None:
    _pairs(console, [("file", f"{v['file']}, frame {v['frame']}, {v['width']}x{v['height']}")])


def _show_play(console: Console, v: dict[str, Any]) -> None:
    shown = "" if v["frames"] is None else f", {v['frames']} frames"
    _pairs(console, [("played", f"{v['file']} in {v['player']}{shown}")])


def _show_serve(console: Console, v: dict[str, Any]) -> None:
    console.print(printable(v["url"]), soft_wrap=True)


def _written(v: dict[str, Any]) -> tuple[str, str]:
    return "file", f"{v['file']}, {v['description']}, {v['frames']} frames"


def _restorer(v: dict[str, Any], keep: str | None) -> list[tuple[str, str]]:
    """Return the rows on the network that drew an output."""
    where = "not kept (--keep)" if keep is None else keep
    return [
        ("network", f"{v['arch']}, {v['n_params']:,} parameters, {v['n_steps']:,} steps"),
        ("as .nrv", f"{_size(v['n_bytes'])}, {v['bpp']:.4f} bpp, {where}"),
        ("fitted in", f"{duration(v['encode_s'])} ({v['device']})"),
    ]


def _show_info(console: Console, v: dict[str, Any]) -> None:
    header = v["header"]
    rate = header["rate_num"] / header["rate_den"]
    size = f"{header['n_frames']} frames of {header['width']}x{header['height']}"
    color = (
        f"matrix {header['matrix']}, primaries {header['primaries']}, "
        f"transfer {header['transfer']}, {'full' if header['full_range'] else 'limited'} range, "
        f"siting {header['siting']}{'' if header['color_specified'] else ' (assumed)'}"
    )
    _pairs(console, [
        ("file", f"{v['file']}, {_size(v['bytes'])}{_copied(v)}"),
        ("format", f"version {header['version_major']}.{header['version_minor']}"),
        ("video", f"{size}, {_rate(v, rate)}, {duration(v['duration_s'])}"),
        ("source", f"{header['bit_depth']} bit, {_CHROMA.get(header['chroma'], header['chroma'])}"),
        ("color", f"{color} (H.273)"),
        *_display(v["display"]),
        *_hdr(v["hdr"]),
        ("rate", f"{v['bpp']:.4f} bpp, {v['bits_per_s'] / 1000:,.1f} kbit/s"
                 f"{_video_only(v['audio_bytes'] + v['subtitle_bytes'])}"),
        ("metadata", v["metadata"] or "none"),
        *((track["kind"], _track(track)) for track in v["tracks"]),
        *(("chapter", f"{c['start_s']:.3f} to {c['end_s']:.3f} s {c['title']}")
          for c in v["chapters"]),
        *((printable(key), value) for key, value in v["tags"].items()),
    ])  # fmt: skip
    for number, segment in enumerate(v["segments"]):
        _show_segment(console, number, segment)
    parts = Table(
        "bytes of the file", "", "", box=None, padding=(0, 2), pad_edge=False, title_justify="left"
    )
    parts.columns[1].justify = parts.columns[2].justify = "right"
    for name, n_bytes in v["parts"].items():
        share = f"{100 * n_bytes / v['bytes']:.1f} %"
        parts.add_row(name.replace("_", " "), f"{n_bytes:,.1f}", share)
    console.print()
    console.print(parts)


_PLAIN_MATRIX = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30]
_CHROMA = {0: "RGB", 400: "gray", 420: "4:2:0", 422: "4:2:2", 444: "4:4:4"}


def _show_segment(console: Console, number: int, segment: dict[str, Any]) -> None:
    last = segment["first_frame"] + segment["frames"] - 1
    console.print(
        f"\nsegment {number}: frames {segment['first_frame']} to {last}, {_network(segment)}\n"
        f"{_config(segment)}"
    )
    names = ("tensor", "shape", "parameters", "bits/weight", "bytes", "zeros")
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "tensor" else "right", no_wrap=True)
    for row in segment["tensors"]:
        table.add_row(
            row["name"],
            "x".join(map(str, row["shape"])),
            f"{row['parameters']:,}",
            f"{row['bits_per_weight']:.2f}",
            f"{row['bytes']:,.1f}",
            f"{100 * row['sparsity']:.1f} %",
        )
    console.print(table)


def _show_verify(console: Console, v: dict[str, Any]) -> None:
    size = f"{v['frames']} frames of {v['width']}x{v['height']}"
    rows = [
        ("file", f"{v['file']}, {_size(v['bytes'])}{_copied(v)}, {v['bpp']:.4f} bpp, {size}"),
        ("checks", "structure, checksums and tensor hashes are right (conformance C1)"),
    ]
    if "reference" in v:
        drawn = v["reference"]
        between = "all are equal" if not drawn["max_difference"] else f"{drawn['psnr_db']:.1f} dB"
        rows.append(
            (
                "float64",
                f"{100 * drawn['equal']:.4f} % of the samples are equal on {v['device']}, the "
                f"others off by {drawn['max_difference']} at most, {between} (conformance C2)",
            )
        )
    if "source" in v:
        source = ("source", f"{v['source']}, from frame {v['start']}")
        rows += [source, *_framing(v), *_quality(v)]
        rows += [("written", v[name]) for name in ("dump", "dump_video") if v[name] is not None]
    _pairs(console, rows)


def _show_bench(console: Console, v: dict[str, Any]) -> None:
    source = v["source"]
    size = f"{source['n_frames']} frames of {source['width']}x{source['height']}"
    console.print(f"{printable(source['file'])}, {size}", soft_wrap=True)
    names = ("codec", "q", "bpp", "PSNR", "PSNR YUV", "MS-SSIM", "encode s", "decode fps")
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in names:
        table.add_column(name, justify="left" if name == "codec" else "right", no_wrap=True)
    for codec in v["codecs"]:
        if codec["kind"] == "published":
            continue
        for point in codec["points"]:
            figures = [
                f"{point['q']:g}", _fixed(point["bpp"], 4), _fixed(point["psnr_rgb_db"], 2),
                _fixed(point["psnr_yuv_db"], 2), _fixed(point["ms_ssim"], 4),
                _fixed(point["encode_s"], 1), _fixed(point["decode_fps"], 1),
            ]  # fmt: skip
            failed = [figures[0], "failed", *[""] * 5]
            table.add_row(printable(codec["name"]), *(failed if point["reason"] else figures))
        if codec["status"] == "not run":
            table.add_row(printable(codec["name"]), "not run", *[""] * 6)
    console.print(table)
    _show_bd(console, v["bd"])
    for path in v["files"]:
        if path.endswith((".json", ".html")):
            console.print(printable(path), soft_wrap=True)


def _show_bench_mean(console: Console, v: dict[str, Any]) -> None:
    console.print(f"mean of {len(v['sequences'])} sequences")
    _show_bd(console, v["bd"])


def _show_bd(console: Console, rows: list[dict[str, Any]]) -> None:
    """Print one line for each pair: the first metric that both have."""
    shown = set()
    for bd in rows:
        pair = (bd["codec"], bd["anchor"])
        if pair not in shown:
            shown.add(pair)
            figure = f"{bd['rate_percent']:+.1f} %" if bd["error"] is None else bd["error"]
            metric = _METRICS.get(bd["metric"], bd["metric"])
            text = f"BD-rate of {pair[0]} against {pair[1]} ({metric}, {bd['method']}): {figure}"
            console.print(printable(text), soft_wrap=True)


_METRICS = {
    "psnr_rgb_db": "PSNR", "psnr_yuv_db": "PSNR YUV", "psnr_y_db": "PSNR Y", "ms_ssim": "MS-SSIM",
    "vmaf": "VMAF", "xpsnr_db": "XPSNR",
}  # fmt: skip


def _show_compare(console: Console, v: dict[str, Any]) -> None:
    for note in v["notes"]:
        console.print(printable(note), soft_wrap=True)
    table = Table(box=None, padding=(0, 2), pad_edge=False)
    for name in ("codec", "q", "state", "bpp", "PSNR dB", "encode s", "decode fps"):
        left = name in ("codec", "state")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for point in v["points"]:
        figures = point["figures"]
        table.add_row(
            printable(point["codec"]), f"{point['q']:g}", point["state"],
            _changed(figures.get("bpp"), 4), _changed(figures.get("psnr_rgb_db"), 2),
            _changed(figures.get("encode_s"), 1), _changed(figures.get("decode_fps"), 1),
        )  # fmt: skip
    console.print(table)
    for bd in v["bd"]:
        if bd["metric"] == "psnr_rgb_db" and bd["method"] == "pchip":
            pair = f"BD-rate of {bd['codec']} against {bd['anchor']}"
            rate = _changed(bd["rate_percent"], 1, " %") or "none"
            console.print(printable(f"{pair}, {bd['state']}: {rate}"), soft_wrap=True)


def _changed(change: dict[str, Any] | None, digits: int, unit: str = "") -> str:
    """Return a figure before and after; a dash for a side that lacks it."""
    if change is None or (change["old"] is None and change["new"] is None):
        return ""
    old, new = (
        "-" if value is None else f"{value:.{digits}f}{unit}"
        for value in (change["old"], change["new"])
    )
    return old if old == new else f"{old} -> {new}"


def _fixed(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def _show_doctor(console: Console, v: dict[str, Any]) -> None:
    rows = [(name, str(version)) for name, version in v["versions"].items()]
    rows.append(("cpu", f"{v['cpu']['count']} cores, {v['cpu']['threads']} threads in use"))
    for device in v["devices"]:
        memory = device["memory_bytes"]
        gigabytes = f", {memory / 1e9:.1f} GB" if memory else ""
        bf16 = "pays" if device["bf16_pays"] else "does not pay"
        rows.append((device["device"], f"{device['name']}{gigabytes}, bfloat16 {bf16}"))
    for kind in ("encoders", "decoders"):
        found = [name for name, there in v[kind].items() if there]
        missing = [name for name, there in v[kind].items() if not there]
        text = " ".join(found) + (f" (missing: {' '.join(missing)})" if missing else "")
        rows.append((kind, text))
    _pairs(console, rows)


_RESULTS: dict[str, tuple[Callable[[Console, dict[str, Any]], None], bool]] = {
    "plan": (_show_plan, True),
    "encode": (_show_encode, False),
    "decode": (_show_decode, False),
    "inpaint": (_show_inpaint, False),
    "denoise": (_show_denoise, False),
    "interpolate": (_show_interpolate, False),
    "thumbnail": (_show_thumbnail, False),
    "play": (_show_play, False),
    "serve": (_show_serve, True),
    "info": (_show_info, True),
    "verify": (_show_verify, True),
    "doctor": (_show_doctor, True),
    "bench": (_show_bench, True),
    "bench_mean": (_show_bench_mean, True),
    "compare": (_show_compare, True),
}
"""By kind of result: what prints it, and whether on standard output."""
