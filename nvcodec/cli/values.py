"""Values of options as people write them: 200k, 10m, 0.2,0.5."""

from __future__ import annotations

import re
from fractions import Fraction

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


def moment(ctx: click.Context, param: click.Parameter, value: str | None) -> Fraction | None:
    """Return the seconds of a time such as 2.5, 01:02.5 or 00:01:02.5, exactly."""
    if value is None:
        return None
    number = r"(\d{1,9}(?:\.\d{0,9})?|\.\d{1,9})"
    match = re.fullmatch(rf"(-?)(?:(?:(\d{{1,5}}):)?([0-5]?\d):(?=[0-5]?\d(?!\d)))?{number}", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a time such as 2.5 or 00:00:02.5")
    hours, minutes = (int(part or 0) for part in match.group(2, 3))
    return (-1 if match[1] else 1) * (3600 * hours + 60 * minutes + Fraction(match[4]))


def frame_numbers(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, ...] | None:
    """Return the numbers of a text such as 5,90,17; the file judges them."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,10}(,\d{1,10})*", value) is None:
        raise click.BadParameter(f"{value!r} is not a list of frames such as 5,90,17")
    return tuple(map(int, value.split(",")))


def shares(ctx: click.Context, param: click.Parameter, value: str) -> tuple[float, ...]:
    """Return the numbers of a text such as 0.2,0.5; their range is the encoder's business."""
    if re.fullmatch(r"\d*\.?\d+(,\d*\.?\d+)*", value) is None:
        raise click.BadParameter(f"{value!r} is not a list of shares such as 0.2,0.5")
    return tuple(float(part) for part in value.split(","))


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


def size(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Return the width and height that a text such as 1280x720 means."""
    if value is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a size such as 1280x720")
    return int(match[1]), int(match[2])


def size_or_side(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[int, int] | int | None:
    """Return the width and height of a text such as 1280x720, or the number of one such as 480."""
    if value is not None and re.fullmatch(r"[1-9]\d{0,4}", value):
        return int(value)
    return size(ctx, param, value)


def part(ctx: click.Context, param: click.Parameter, value: str) -> tuple[int, int]:
    """Return how many of how many frames a text such as 6/10 means; 2 means 1/2."""
    match = re.fullmatch(r"(?:(\d{1,10})/)?(\d{1,10})", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a distance such as 2 or a part such as 6/10")
    return int(match[1] or 1), int(match[2])


def rate(ctx: click.Context, param: click.Parameter, value: str | None) -> Fraction | None:
    """Return the frames per second that a text such as 25, 23.976 or 30000/1001 means."""
    if value is None:
        return None
    match = re.fullmatch(r"\d{1,9}(\.\d{1,6}|/[1-9]\d{0,8})?", value)
    if match is None or not Fraction(value):
        raise click.BadParameter(f"{value!r} is not a rate such as 25, 23.976 or 30000/1001")
    return Fraction(value)


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
