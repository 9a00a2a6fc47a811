"""Values of options as people write them: 200k, 10m, 5,4,2."""

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


def factors(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return the factors of a text such as 5,4,2,2; their range is the architecture's business."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,3}(,\d{1,3})*", value) is None:
        raise click.BadParameter(f"{value!r} is not a list of factors such as 5,4,2,2")
    return tuple(int(part) for part in value.split(","))


def words(
    ctx: click.Context | None, param: click.Parameter | None, value: str | None
) -> tuple[str, ...]:
    """Return the parts of a text such as hnerv,enerv; the command judges them."""
    return tuple(part for part in (value or "").split(",") if part)


def numbers(
    ctx: click.Context | None, param: click.Parameter | None, value: str | None
) -> tuple[float, ...]:
    """Return the numbers of a text such as 0.02,0.05."""
    parts = words(ctx, param, value)
    if not parts or not all(re.fullmatch(r"\d{1,9}\.?\d*|\.\d+", part) for part in parts):
        raise click.BadParameter(f"{value!r} is not a list of numbers such as 0.02,0.05")
    return tuple(map(float, parts))
