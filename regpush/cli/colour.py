"""Whether to colour text, and with which codes.

Plain SGR codes: without a terminal for its progress, a push does not import rich.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TextIO


class Style(Enum):
    """The meaning of a piece of text; the value is its SGR code (ECMA-48)."""

    GOOD = "32"
    BAD = "1;31"
    WARNING = "33"
    STRONG = "1"
    FAINT = "2"


def wanted(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether text may be coloured; `terminal`: whether the stream is a terminal.

    A non-empty NO_COLOR (no-color.org) forbids colour. Else FORCE_COLOR or CLICOLOR_FORCE demand
    it, unless empty or 0. Else only a terminal gets colour, unless TERM is empty or `dumb`, or
    CLICOLOR is 0.
    """
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return terminal and environ.get("TERM", "") not in ("", "dumb") and _unless_off(environ)


def _unless_off(environ: Mapping[str, str]) -> bool:
    return environ.get("CLICOLOR") != "0"


def moves(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether `stream` is a terminal that lets written lines be overwritten, in colour or not."""
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb")
