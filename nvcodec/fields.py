"""Declarative integer fields: one declaration packs, validates, unpacks and documents a header.

A header or a model `Config` is a frozen dataclass whose attributes are made by `u8`, `u16`, `u32`,
`u64`, by `u8_list` for a short tuple, or by `choice` for one of a few names. All integers are
little-endian. The tables of bitstream_spec.md are compared with `describe` by a test.
"""

from __future__ import annotations

import dataclasses
import struct
from dataclasses import dataclass
from typing import Any, TypeVar

from nvcodec.errors import CorruptError, TruncatedError

_FORMATS = {"u8": "<B", "u16": "<H", "u32": "<I", "u64": "<Q"}

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class IntField:
    """Width, range and meaning of one field."""

    kind: str
    lo: int
    hi: int
    doc: str
    max_items: int = 0
    """0 for a scalar; else the field is a u8 count (1..max_items) followed by that many items."""
    names: tuple[str, ...] = ()
    """What the values 0, 1, 2... mean, where they stand for names."""


def _field(
    kind: str,
    lo: int,
    hi: int,
    doc: str,
    max_items: int,
    default: Any,
    names: tuple[str, ...] = (),
) -> Any:
    spec = IntField(kind, lo, hi, doc, max_items, names)
    if default is None:
        return dataclasses.field(metadata={"spec": spec})
    return dataclasses.field(default=default, metadata={"spec": spec})


def u8(lo: int, hi: int, doc: str, default: int | None = None) -> Any:
    """Declare an unsigned 8-bit field with values lo..hi."""
    return _field("u8", lo, hi, doc, 0, default)


def u16(lo: int, hi: int, doc: str, default: int | None = None) -> Any:
    """Declare an unsigned 16-bit field with values lo..hi."""
    return _field("u16", lo, hi, doc, 0, default)


def u32(lo: int, hi: int, doc: str, default: int | None = None) -> Any:
    """Declare an unsigned 32-bit field with values lo..hi."""
    return _field("u32", lo, hi, doc, 0, default)


def u64(lo: int, hi: int, doc: str, default: int | None = None) -> Any:
    """Declare an unsigned 64-bit field with values lo..hi."""
    return _field("u64", lo, hi, doc, 0, default)


def u8_list(
    lo: int, hi: int, doc: str, max_items: int, default: tuple[int, ...] | None = None
) -> Any:
    """Declare a tuple of 1..max_items unsigned 8-bit values, stored behind a u8 count."""
    return _field("u8", lo, hi, doc, max_items, default)


def choice(names: tuple[str, ...], doc: str, default: int | None = None) -> Any:
    """Declare an unsigned 8-bit field whose values 0, 1, 2... stand for these names."""
    listed = ", ".join(f"{i} {name}" for i, name in enumerate(names))
    return _field("u8", 0, len(names) - 1, f"{doc}: {listed}", 0, default, names)


class ByteReader:
    """A cursor over bytes that never reads past the end."""

    def __init__(self, data: bytes, what: str, offset: int = 0) -> None:
        """Read `data` from `offset`; `what` names it in errors."""
        self.data = data
        self.what = what
        self.offset = offset

    @property
    def n_left(self) -> int:
        """Number of bytes not yet read."""
        return len(self.data) - self.offset

    def take(self, n_bytes: int) -> bytes:
        """Return the next n_bytes or raise TruncatedError."""
        if n_bytes > self.n_left:
            raise TruncatedError(
                f"{self.what} ends at byte {len(self.data)}, "
                f"but {n_bytes} bytes are needed at byte {self.offset}"
            )
        piece = self.data[self.offset : self.offset + n_bytes]
        self.offset += n_bytes
        return piece

    def integer(self, kind: str) -> int:
        """Read one little-endian integer of kind u8, u16, u32 or u64."""
        fmt = _FORMATS[kind]
        value: int = struct.unpack(fmt, self.take(struct.calcsize(fmt)))[0]
        return value


def _specs(cls: Any) -> list[tuple[str, IntField]]:
    return [(f.name, f.metadata["spec"]) for f in dataclasses.fields(cls)]


def _problem(owner: str, name: str, spec: IntField, value: Any) -> str | None:
    items = value if spec.max_items else (value,)
    if spec.max_items and not 1 <= len(items) <= spec.max_items:
        return f"{owner}.{name} has {len(items)} entries, allowed are 1 to {spec.max_items}"
    for item in items:
        if not isinstance(item, int) or not spec.lo <= item <= spec.hi:
            return f"{owner}.{name} is {item!r}, allowed is {spec.lo} to {spec.hi}"
    return None


def check(obj: Any) -> None:
    """Raise ValueError with one sentence when a field is out of its range."""
    for name, spec in _specs(obj):
        problem = _problem(type(obj).__qualname__, name, spec, getattr(obj, name))
        if problem:
            raise ValueError(problem)


def parse(cls: Any, name: str, value: Any) -> Any:
    """Return the value of field `name` of `cls` that a person's text or number means.

    A name of a choice gives its integer, "5,4,2" a tuple. Raises ValueError with one sentence.
    """
    spec = dict(_specs(cls))[name]
    if isinstance(value, str):
        allowed = ", ".join(spec.names)
        try:
            if spec.max_items:
                value = tuple(int(part) for part in value.split(","))
            elif value in spec.names:
                value = spec.names.index(value)
            else:
                value = int(value)
        except ValueError:
            allowed = allowed or f"{spec.lo} to {spec.hi}"
            raise ValueError(f"{name} is {value!r}, allowed is {allowed}") from None
    problem = _problem(cls.__qualname__, name, spec, value)
    if problem:
        raise ValueError(problem)
    return value


def pack(obj: Any) -> bytes:
    """Return the bytes of a dataclass declared with this module's fields; raise ValueError."""
    check(obj)
    out = bytearray()
    for name, spec in _specs(obj):
        value = getattr(obj, name)
        if spec.max_items:
            out += struct.pack("<B", len(value))
        for item in value if spec.max_items else (value,):
            out += struct.pack(_FORMATS[spec.kind], item)
    return bytes(out)


def unpack(cls: type[T], reader: ByteReader) -> T:
    """Read and validate one `cls`; raise TruncatedError or CorruptError (name and offset)."""
    values: dict[str, Any] = {}
    for name, spec in _specs(cls):
        offset = reader.offset
        if spec.max_items:
            n_items = reader.integer("u8")
            values[name] = tuple(reader.integer(spec.kind) for _ in range(n_items))
        else:
            values[name] = reader.integer(spec.kind)
        problem = _problem(cls.__qualname__, name, spec, values[name])
        if problem:
            raise CorruptError(f"{problem} (byte {offset} of {reader.what})")
    return cls(**values)


def describe(cls: Any) -> list[tuple[str, str, str, str]]:
    """Return one row (name, type, range, meaning) per field, as printed in the specification."""
    return [
        (
            name,
            f"{spec.kind}[1..{spec.max_items}]" if spec.max_items else spec.kind,
            f"{spec.lo}..{spec.hi}",
            spec.doc,
        )
        for name, spec in _specs(cls)
    ]
