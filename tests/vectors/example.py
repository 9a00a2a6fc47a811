"""The worked example of bitstream_spec.md: all bytes of a small file, and what they become."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap

from reference_decoder import Video, decode
from reference_decoder.coder import RangeDecoder, laplace_table, read_tensor
from reference_decoder.container import (
    FORMATS,
    SEGMENT_HEADER,
    STREAM_HEADER,
    Chunk,
    read_segment,
)

FILE = Path(__file__).parent / "common" / "smallest.nrv"
N_CALLS, N_SYMBOLS, N_WEIGHTS, N_PIXELS = 16, 8, 4, 4
WORDS_IN_ROW = 4

Row = tuple[bytes, str]


def field_rows(table, values) -> list[Row]:
    """Return the bytes and the name of each field of a record."""
    rows = []
    for name, kind, _, _ in table:
        form = FORMATS[kind.split("*")[0]]
        value = values[name]
        if "*" in kind:
            data = bytes([len(value)]) + b"".join(struct.pack(form, v) for v in value)
        else:
            data = struct.pack(form, value)
        rows.append((data, f"{name} = {value}"))
    return rows


def segment_rows(video: Video) -> list[Row]:
    (segment,) = video.segments
    payload = next(chunk.payload for chunk in video.chunks if chunk.type == "SEGM")
    rows = field_rows(SEGMENT_HEADER, segment.header)
    config = field_rows(segment.network.fields, segment.config)
    n_bytes = sum(len(data) for data, _ in config)
    rows += [(struct.pack("<H", n_bytes), f"bytes of the config = {n_bytes}"), *config]
    words = payload[sum(len(data) for data, _ in rows) :]
    for at in range(0, len(words), 4 * WORDS_IN_ROW):
        part = words[at : at + 4 * WORDS_IN_ROW]
        first, last = at // 4, (at + len(part)) // 4 - 1
        rows.append((part, f"words {first} to {last}" if last > first else f"word {first}"))
    return rows


def chunk_rows(video: Video, chunk: Chunk, data: bytes) -> list[Row]:
    inner = {
        "VHDR": lambda: field_rows(STREAM_HEADER, video.header),
        "SEGM": lambda: segment_rows(video),
        "END ": list,
    }[chunk.type]()
    n_bytes = len(chunk.payload)
    crc = data[chunk.at + 8 + n_bytes : chunk.at + 12 + n_bytes]
    head = [
        (data[chunk.at : chunk.at + 4], f"length = {n_bytes}"),
        (data[chunk.at + 4 : chunk.at + 8], f'type = "{chunk.type}"'),
    ]
    return [*head, *inner, (crc, "crc")]


def dump(video: Video, data: bytes) -> list[str]:
    rows = [(data[:8], "signature")]
    for chunk in video.chunks:
        rows += chunk_rows(video, chunk, data)
    if b"".join(part for part, _ in rows) != data:
        raise ValueError("the rows do not make up the file")
    lines, at = [], 0
    for part, meaning in rows:
        lines.append(f"{at:04x}  {part.hex(' '):<47}  {meaning}")
        at += len(part)
    return lines


class Trace(RangeDecoder):
    """A range decoder that writes down its first calls of `symbol`."""

    def __init__(self, words: bytes) -> None:
        self.rows: list[str] = []
        self.call = ""
        super().__init__(words)

    def uniform(self, n: int) -> int:
        self.call = f"uniform({n})"
        return super().uniform(n)

    def laplace(self, count: int, k: int) -> list[int]:
        self.call = f"laplace({count}, {k})"
        return super().laplace(count, k)

    def symbol(self, left: list[int]) -> int:
        quantile = ((self.point - self.lower) % (1 << 64)) // (self.range >> 24)
        symbol = super().symbol(left)
        state = f"{self.lower:016x}", f"{self.range:016x}"
        self.rows.append(row(self.call, quantile, symbol, *state))
        return symbol


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def trace(video: Video) -> list[str]:
    """Return the first calls of `symbol`: the side information and symbols of the first tensor."""
    (segment,) = video.segments
    payload = next(chunk.payload for chunk in video.chunks if chunk.type == "SEGM")
    decoder = Trace(read_segment(payload)[2])
    read_tensor(decoder, segment.network.shapes[0][1], True)
    return decoder.rows[:N_CALLS]


def tensor_rows(video: Video) -> list[str]:
    (segment,) = video.segments
    rows = []
    for name, _, _ in segment.network.shapes:
        tensor = segment.tensors[name]
        weights = segment.weights[name].ravel()[:N_WEIGHTS]
        rows.append(
            row(
                name,
                "none" if tensor.row_axis is None else tensor.row_axis,
                listed(tensor.steps),
                listed(tensor.scales),
                listed(tensor.symbols[:N_SYMBOLS]),
                ", ".join(f"{w:.9g}" for w in weights),
            )
        )
    return rows


def pixel_rows(video: Video) -> list[str]:
    values, frame = video.values(0), video.frame(0)
    return [
        row(f"0, {j}", ", ".join(f"{v:.6f}" for v in values[:, 0, j]), listed(frame[0, j]))
        for j in range(N_PIXELS)
    ]


def listed(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def section() -> str:
    """Return the section of bitstream_spec.md."""
    data = FILE.read_bytes()
    video = decode(data)
    (segment,) = video.segments
    k = segment.tensors["head.weight"].scales[0]
    table = laplace_table(k)
    zero = len(table) // 2 - 1
    return TEXT.format(
        n_bytes=len(data),
        dump="\n".join(dump(video, data)),
        trace="\n".join(trace(video)),
        k=k,
        zero=table[zero],
        side="\n".join(wrap(listed(table[zero + 1 : -1]), 96)),
        escape=table[-1],
        tensors="\n".join(tensor_rows(video)),
        sha256=segment.sha256,
        pixels="\n".join(pixel_rows(video)),
    )


TEXT = """\
## 16 Example of a whole file

The file common/smallest.nrv of the test vectors has {n_bytes} bytes: one frame of 16x16, drawn by
an HNeRV of 7 tensors. Offsets and bytes are hexadecimal.

```file
{dump}
```

The first calls of `symbol` (section 7.1) read the tensor embeddings of shape (1, 2, 4, 4): its row
axis, its mode, the step index of its first row, then for the other row the scale index of the
difference and the difference; likewise the scale indices, without a call for differences that are
all 0; then the symbols. The state is that after the call, in hexadecimal.

| read by | q | j | lower | range |
|---|---|---|---|---|
{trace}

The table of scale index {k}, that of head.weight, has {zero} for the value 0, {escape} for ESC, and
for the values 1, 2, 3...

```side
{side}
```

Tensors, with the symbols and weights that come first in C order:

| tensor | row axis | step indices | scale indices | first symbols | first weights |
|---|---|---|---|---|---|
{tensors}

The SHA-256 over all of them, whose first 8 bytes are `tensors_sha256`, is
`{sha256}`.

The first pixels of row 0, as red, green, blue:

| row, column | y | samples |
|---|---|---|
{pixels}
"""
