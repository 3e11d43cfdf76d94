"""Decide whether to colour text, and define the colours as SGR codes (ECMA-48).

The library rich is not used for this: its import takes a tenth of a second.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TextIO


class Style(Enum):
    """A style of text, named by its meaning; the value is its SGR code (ECMA-48)."""

    GOOD = "32"
    BAD = "1;31"
    WARNING = "33"
    STRONG = "1"
    FAINT = "2"


def wanted(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Return whether to colour text on a stream; `terminal`: whether the stream is a terminal.

    A non-empty NO_COLOR (no-color.org) forbids colour. Otherwise FORCE_COLOR or CLICOLOR_FORCE,
    unless empty or 0, demand colour. Otherwise only a terminal gets colour, unless TERM is empty or
    `dumb`, or CLICOLOR is 0.
    """
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return terminal and environ.get("TERM", "") not in ("", "dumb") and _unless_off(environ)


def _unless_off(environ: Mapping[str, str]) -> bool:
    return environ.get("CLICOLOR") != "0"


def can_move_cursor(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Return whether `stream` is a terminal that can move its cursor, as progress bars need."""
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb")
