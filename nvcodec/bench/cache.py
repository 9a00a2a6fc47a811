"""Points that were measured before: JSON by content of the frames and full setting.

Beside each NAME.json lie the stream and the middle frame as PNG, under the same name.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

from nvcodec import storage
from nvcodec.bench.codecs import Codec
from nvcodec.bench.results import Point


@dataclass(frozen=True, slots=True)
class Entry:
    """Where one point of one codec is kept."""

    folder: Path
    name: str
    """Codec, quality parameter and the first digits of the key, for people to find it."""
    suffix: str

    @property
    def stream(self) -> Path:
        """The coded file."""
        return self.folder / f"{self.name}{self.suffix}"

    @property
    def sample(self) -> Path:
        """The middle frame."""
        return self.folder / f"{self.name}.png"

    @property
    def record(self) -> Path:
        """The figures."""
        return self.folder / f"{self.name}.json"

    def load(self) -> Point | None:
        """Return the figures; None where there are none that can be read."""
        try:
            return Point.from_dict(json.loads(self.record.read_text(encoding="utf-8"))["point"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def store(self, point: Point, codec: Codec) -> None:
        """Write the figures, with the setting for people."""
        values = {"codec": codec.name, "parameters": codec.parameters, "point": asdict(point)}
        storage.write_atomic(self.record, json.dumps(values, indent=1).encode())


def entry(folder: Path, frames_sha256: str, codec: Codec, q: float) -> Entry:
    """Return the place of a point; any other frames or setting have another one."""
    key = json.dumps([frames_sha256, codec.job, float(q)], sort_keys=True)
    digest = hashlib.sha256(key.encode()).hexdigest()
    return Entry(folder, f"{codec.slug}_{q:g}_{digest[:12]}", codec.suffix)
