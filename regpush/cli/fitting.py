"""Text that must fit into columns of a terminal. Pure."""

from __future__ import annotations

import re
import unicodedata

from regpush.errors import printable

_CONTAINERS = ("site-packages/", "node_modules/", "vendor/")
"""Folders that say nothing about what is in them, but that it is somebody else's."""

_LABEL = re.compile(r"(\S+)((?: and [0-9]+ more)?(?: \([^()]*\))?)")

_ENDING = 7
"""Characters of a file's name that tell what it is: `….min.js`, `…gnu.so`."""


def columns(text: str) -> int:
    """Columns of a terminal that `text` takes: East Asian characters have two."""
    if text.isascii():
        return len(text)
    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    return len(text) + wide - sum(map(bool, map(unicodedata.combining, text)))


def cut(text: str, width: int) -> str:
    """The beginning of `text` in at most `width` columns, on one line."""
    text = printable(text)
    if columns(text) <= width:
        return text
    while text and columns(text) > width - 1:
        text = text[:-1]
    return f"{text}…"


def cut_label(text: str, width: int) -> str:
    """A layer's label in at most `width` columns: of a path, what tells it from others.

    That is the package, and the beginning and the ending of the file's name.
    """
    text = printable(text)
    if columns(text) <= width:
        return text
    found = _LABEL.fullmatch(text)
    if not found or "/" not in found[1]:
        return cut(text, width)
    path = _cut_path(found[1], max(width - columns(found[2]), 2 * _ENDING))
    return cut(path + found[2], width)


def _cut_path(text: str, width: int) -> str:
    for container in _CONTAINERS:
        text = text.rpartition(container)[2] or text
    parts = text.split("/")
    if columns(text) <= width:
        return text
    shorter = [*(f"…/{'/'.join(parts[at:])}" for at in range(1, len(parts) - 1))]
    fitting = [one for one in shorter if columns(one) <= width]
    if fitting:
        return fitting[0]
    last = "/".join(parts[-2:])
    return cut(last, width - _ENDING) + last[-_ENDING:]
