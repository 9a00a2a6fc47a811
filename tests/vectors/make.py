"""Make the files of this folder: `python tests/vectors/make.py [NAME ...]`.

Without names only files that are missing are made: a vector stays as it is for ever, since a
decoder of tomorrow must read the files of today. Afterwards README.md here and the list in
bitstream_spec.md are brought up to date.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent
sys.path[:0] = [str(ROOT), str(FOLDER), str(FOLDER.parent)]

import example  # noqa: E402
from damaged import FAULTY, Fault  # noqa: E402
from reference_decoder import decode  # noqa: E402
from valid import COMMON, UNCOMMON  # noqa: E402

from nvcodec.codec.inspect import describe_file  # noqa: E402

SPEC = ROOT / "bitstream_spec.md"
LIST_HEAD = """\
## 17 Test vectors

The folder tests/vectors holds small files that show whether a decoder works. Beside each is a JSON
record of what to expect, with whole hashes of the tensors and of the frames; README.md there says
what each one tests. Files in common and uncommon MUST be decoded, those in faulty rejected. None is
ever changed or removed.

| file | SHA-256 |
|---|---|
"""
MAX_BYTES = 20_000
INFO_KEYS = (
    "bytes", "audio_bytes", "subtitle_bytes", "start_s", "duration_s", "constant_rate", "header",
    "display", "metadata", "tags", "chapters", "tracks",
)  # fmt: skip
SEGMENT_KEYS = (
    "first_frame", "frames", "arch", "config", "parameters", "header_bytes", "payload_bytes",
)  # fmt: skip
TITLES = {
    "common": "Files as the encoder writes them. Every decoder must read them.",
    "uncommon": "Options and values that are rare. Every decoder must read them too.",
    "faulty": "Files that every decoder must reject.",
}

README_HEAD = """\
# Test vectors

Small .nrv files, each with a JSON record of what a decoder must make of it: the SHA-256 of the
file, of the tensors of each segment (clause C1 of bitstream_spec.md) and of each frame as a decoder
with 64-bit arithmetic draws it (clause C2: at least 99.9 % of the samples of a file are equal, none
is off by more than 1), and what `nvcodec info --json` says; or the error of a faulty file. A faulty
one that is `valid` only asks for more work than nvcodec takes on.

`python tests/vectors/make.py` makes the files that are missing, this list and the last two sections
of bitstream_spec.md. Files are never changed or removed: those of old versions must stay readable.
networks.py, valid.py and damaged.py hold the recipes, example.py the worked example."""


def key_info(path: Path) -> dict[str, Any]:
    """Return what `nvcodec info --json` says that must not change."""
    info = describe_file(path)
    picked = {key: info[key] for key in INFO_KEYS}
    if info["hdr"] is not None:
        picked["hdr"] = info["hdr"]
    segments = [{key: segment[key] for key in SEGMENT_KEYS} for segment in info["segments"]]
    # Tuples become lists, as they are read back.
    return json.loads(json.dumps(picked | {"segments": segments}))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def describe_valid(path: Path, what: str) -> dict[str, Any]:
    """Return the record of a valid file; its frames are those of the reference decoder."""
    data = path.read_bytes()
    video = decode(data)
    return {
        "what": what,
        "sha256": sha256(data),
        "tensors_sha256": [segment.sha256 for segment in video.segments],
        "frames_sha256": [sha256(frame.tobytes()) for frame in video.frames()],
        "info": key_info(path),
    }


def describe_fault(path: Path, fault: Fault) -> dict[str, Any]:
    """Return the record of a file that must be rejected."""
    return {
        "what": fault.what,
        "sha256": sha256(path.read_bytes()),
        "error": fault.error.__name__,
        "exit_code": fault.error.exit_code,
        "message": fault.message,
        "valid": fault.valid,
    }


def make(names: set[str]) -> None:
    """Write the files with these names, or those that are missing."""
    recipes: list[tuple[Path, Any]] = []
    for folder, known in (("common", COMMON), ("uncommon", UNCOMMON), ("faulty", FAULTY)):
        recipes += [(FOLDER / folder / f"{name}.nrv", recipe) for name, recipe in known.items()]
    unknown = names - {path.stem for path, _ in recipes}
    if unknown:
        raise SystemExit(f"there is no recipe for {', '.join(sorted(unknown))}")
    for path, recipe in recipes:
        if path.stem not in names and (names or path.exists()):
            continue
        data = recipe.build() if isinstance(recipe, Fault) else recipe[1]()
        if len(data) > MAX_BYTES:
            raise SystemExit(f"{path} has {len(data)} bytes, allowed are {MAX_BYTES}")
        path.write_bytes(data)
        if isinstance(recipe, Fault):
            record = describe_fault(path, recipe)
        else:
            record = describe_valid(path, recipe[0])
        text = json.dumps(record, indent=1, ensure_ascii=False)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")


def vectors(folder: str) -> list[tuple[str, dict[str, Any]]]:
    """Return name and record of all files of a folder."""
    paths = sorted((FOLDER / folder).glob("*.nrv"))
    return [(p.name, json.loads(p.with_suffix(".json").read_text("utf-8"))) for p in paths]


def readme() -> str:
    """Return the text of README.md."""
    lines = [README_HEAD]
    for folder, title in TITLES.items():
        lines += ["", f"## {folder}", "", title, "", "| file | what it tests |", "|---|---|"]
        for name, record in vectors(folder):
            error = f" ({record['error']})" if folder == "faulty" else ""
            lines.append(f"| {name} | {record['what']}{error} |")
    return "\n".join(lines) + "\n"


def spec_sections() -> str:
    """Return the last two sections of bitstream_spec.md."""
    rows = [
        f"| {folder}/{name} | `{record['sha256']}` |\n"
        for folder in TITLES
        for name, record in vectors(folder)
    ]
    return example.section() + "\n" + LIST_HEAD + "".join(rows)


def update_documents() -> None:
    """Write README.md and the last two sections of bitstream_spec.md."""
    (FOLDER / "README.md").write_text(readme(), encoding="utf-8")
    spec = SPEC.read_text("utf-8")
    before = spec[: spec.index(spec_sections().splitlines()[0])]
    SPEC.write_text(before + spec_sections(), encoding="utf-8")


if __name__ == "__main__":
    make(set(sys.argv[1:]))
    update_documents()
