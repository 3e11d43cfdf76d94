"""Shorten texts to a number of terminal columns. Pure."""

from __future__ import annotations

import re
import unicodedata
from itertools import accumulate, takewhile

from regpush.errors import printable

_CONTAINERS = ("site-packages/", "node_modules/", "vendor/")
"""Folders that hold dependencies. A shortened label leaves out these folders."""

_LABEL = r"(\S+)((?: and [0-9]+ more)?(?: \([^()]*\))?)"

_ENDING = 7
"""Characters at the end of a file's name that a cut label keeps: `….min.js`, `…gnu.so`."""

_LOOKED_AT = 4096
"""Maximum characters of a text that are read: PATH_MAX of Linux, more than a terminal shows."""


def columns(text: str) -> int:
    """Return how many terminal columns `text` fills: an East Asian wide character fills two."""
    if text.isascii():
        return len(text)
    return sum(map(_columns_of, text))


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, width: int) -> str:
    """Return `text` as one printable line of at most `width` columns, cut with `…` at the end."""
    beginning = printable(text[:_LOOKED_AT])
    if len(text) <= _LOOKED_AT and columns(beginning) <= width:
        return beginning
    ends = accumulate(map(_columns_of, beginning))
    kept = sum(1 for _ in takewhile(lambda end: end < width, ends))
    return f"{beginning[:kept]}…"


def cut_label(text: str, width: int) -> str:
    """Return the label `text` of a layer, shortened to at most `width` terminal columns.

    A path loses its first folders, then the middle of the file's name.
    """
    if len(text) > _LOOKED_AT and "/" in text:
        text = f"…{text[-_LOOKED_AT + 1 :]}"  # the end of a path identifies it best
    text = printable(text[:_LOOKED_AT])
    if columns(text) <= width:
        return text
    found = re.fullmatch(_LABEL, text)
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
    # Each name fills at least one column, so more names than columns do not fit.
    for at in range(max(1, len(parts) - width), len(parts) - 1):
        shorter = f"…/{'/'.join(parts[at:])}"
        if columns(shorter) <= width:
            return shorter
    last = "/".join(parts[-2:])
    return cut(last, width - _ENDING) + last[-_ENDING:]
