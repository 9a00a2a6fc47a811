"""Values of options as people write them: 200k, 10m, 0.2,0.5."""

from __future__ import annotations

import re

import click

_UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9}


def amount(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the number that a text such as 200k or 1.5M means; k is 1000."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,18}\.?\d*|\.\d+)([kmg]?)", value.lower())
    if match is None:
        raise click.BadParameter(f"{value!r} is not an amount such as 800, 200k or 1.5M")
    return float(match[1]) * _UNITS[match[2]]


def seconds(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
    """Return the seconds that a text such as 90, 90s, 10m or 1h30m means."""
    if value is None:
        return None
    number = r"(\d{1,9}(?:\.\d+)?)"
    match = re.fullmatch(rf"(?:{number}h)?(?:{number}m)?(?:{number}s?)?", value.lower())
    if match is None or not any(match.groups()):
        raise click.BadParameter(f"{value!r} is not a time such as 90s, 10m or 1h30m")
    parts = (float(part or 0) for part in match.groups())
    return sum(unit * part for unit, part in zip((3600, 60, 1), parts, strict=True))


def shares(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """Return the numbers of a text such as 0.2,0.5; their range is the encoder's business."""
    if re.fullmatch(r"\d*\.?\d+(,\d*\.?\d+)*", value) is None:
        raise click.BadParameter(f"{value!r} is not a list of shares such as 0.2,0.5")
    return tuple(float(part) for part in value.split(","))


def frame_size(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | None:
    """Return the width and height that a text such as 640x360 means."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size such as 640x360")
    return int(match[1]), int(match[2])


def assignments(
    ctx: click.Context, param: click.Parameter, value: tuple[str, ...]
) -> dict[str, str]:
    """Return the names and values of texts such as strides=5,4,2,2."""
    pairs = {}
    for text in value:
        name, equals, meaning = text.partition("=")
        if not (name and equals and meaning):
            raise click.BadParameter(f"{text!r} is not an option such as strides=5,4,2,2")
        pairs[name.replace("-", "_")] = meaning
    return pairs
