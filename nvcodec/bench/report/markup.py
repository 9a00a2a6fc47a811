"""HTML and SVG elements whose text is always escaped: what a file says can never become markup."""

from __future__ import annotations

import html
import re

_VOID = {"br", "img", "input", "link", "meta", "col"}
# XML 1.0 has no form, not even an escaped one, for these.
_FORBIDDEN = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is markup already; any other string is escaped where it is put."""

    __slots__ = ()


Child = str | None
"""What an element holds: markup, plain text, or nothing."""


def escape(text: str) -> Markup:
    """Return plain text as markup, for content and for quoted attributes."""
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_FORBIDDEN.sub("\ufffd", text)))


def join(*children: Child, between: str = "") -> Markup:
    """Return children one after another, the plain ones escaped."""
    pieces = [escape(child) for child in children if child is not None]
    return Markup(escape(between).join(pieces))


def element(name: str, /, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """Return one element.

    An attribute that is None or False is left out, True has no value; `class_` is class, and `_`
    within a name is `-`.
    """
    parts = [name]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        parts.append(key if value is True else f'{key}="{escape(_text(value))}"')
    start = f"<{' '.join(parts)}>"
    return Markup(start if name in _VOID else f"{start}{join(*children)}</{name}>")


def _text(value: str | float) -> str:
    """Return a number with at most two decimals, as pixels need no more."""
    return value if isinstance(value, str) else f"{value:.2f}".rstrip("0").rstrip(".")
