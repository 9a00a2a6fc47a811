"""What ffprobe says of a file; what a kind of file leaves unsaid is filled in as players do."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from fractions import Fraction
from pathlib import Path

FFPROBE = shutil.which("ffprobe")
MASTERING = (
    "red_x", "red_y", "green_x", "green_y", "blue_x", "blue_y", "white_point_x", "white_point_y",
    "min_luminance", "max_luminance",
)  # fmt: skip
LIGHT = ("max_content", "max_average")


def probe(path: Path, *options: str) -> dict:
    """Return all of a file; `options` describe raw video."""
    shown = ("-show_streams", "-show_format", "-show_chapters", "-show_packets", "-show_frames")
    name = str(path / "%d.png") if path.is_dir() else str(path)
    command = [FFPROBE, "-v", "error", *shown, *options, "-of", "json", name]
    done = subprocess.run(command, capture_output=True, timeout=120, check=True)
    assert not done.stderr, done.stderr
    return json.loads(done.stdout)


def streams(found: dict, kind: str) -> list[dict]:
    return [stream for stream in found["streams"] if stream["codec_type"] == kind]


def disposition(stream: dict) -> list[str]:
    return [name for name, on in stream["disposition"].items() if on]


def times(found: dict, stream: dict) -> list[Fraction | None]:
    """Return when the packets of a stream are presented, in seconds; None where it is not said."""
    return [
        Fraction(item["pts_time"]) if "pts_time" in item else None
        for item in found["packets_and_frames"]
        if item["type"] == "packet" and item["stream_index"] == stream["index"]
    ]


def video_fields(found: dict) -> dict:
    """Return what is said of the pictures, apart from their times."""
    (stream,) = streams(found, "video")
    name = stream["pix_fmt"]
    is_full = re.search("rgb|bgr|gbr|gray|yuvj", name)
    frames = [f for f in found["packets_and_frames"] if f.get("media_type") == "video"]
    sides = [
        side
        for item in (stream, next(f for f in frames if f["type"] == "frame"))
        for side in item.get("side_data_list", ())
    ]
    rate = stream["r_frame_rate"]
    mean = stream["avg_frame_rate"]
    return {
        "pix_fmt": name,
        "size": (stream["width"], stream["height"]),
        "aspect": stream.get("sample_aspect_ratio", "1:1"),
        "field_order": stream.get("field_order", "progressive"),
        "range": stream.get("color_range") or ("pc" if is_full else "tv"),
        "matrix": stream.get("color_space"),
        "primaries": stream.get("color_primaries"),
        "transfer": stream.get("color_transfer"),
        "siting": stream.get("chroma_location", "left") if "420" in name else None,
        "rate": rate,
        "mean_rate": rate if mean == "0/0" else mean,
        "n_frames": sum(frame["type"] == "frame" for frame in frames),
        "rotation": next((side["rotation"] for side in sides if "rotation" in side), 0),
        "mastering": _numbers(sides, MASTERING),
        "light": _numbers(sides, LIGHT),
        "disposition": disposition(stream),
    }


def _numbers(sides: list[dict], keys: tuple[str, ...]) -> list[float] | None:
    side = next((side for side in sides if keys[0] in side), None)
    return side and [round(float(Fraction(side[key])), 4) for key in keys]


def track_fields(stream: dict) -> dict:
    """Return what is said of a sound or subtitle track, apart from its times."""
    keys = ("codec_name", "profile", "sample_rate", "channels", "channel_layout")
    tags = stream.get("tags", {})
    return {key: stream.get(key) for key in keys} | {
        "language": tags.get("language", "und"),
        "title": tags.get("title"),
        "disposition": disposition(stream),
    }


def words(found: dict) -> tuple[dict, list]:
    """Return the tags about the work, and start, end and title of the chapters."""
    tags = {key.lower(): value for key, value in found["format"].get("tags", {}).items()}
    chapters = [
        (Fraction(chapter["start_time"]), Fraction(chapter["end_time"]), chapter["tags"]["title"])
        for chapter in found["chapters"]
    ]
    return {key: tags[key] for key in ("title", "artist", "comment") if key in tags}, chapters
