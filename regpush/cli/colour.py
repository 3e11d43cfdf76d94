"""Whether to colour, and with what. Plain SGR codes: a push off a terminal imports no rich."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from enum import Enum
from typing import TextIO


class Style(Enum):
    """What a piece of text means; the value is its SGR code (ECMA-48)."""

    GOOD = "32"
    BAD = "1;31"
    WARNING = "33"
    STRONG = "1"
    FAINT = "2"


def wanted(environ: Mapping[str, str], *, terminal: bool) -> bool:
    """Whether text may be coloured; `terminal`: where it goes is one.

    NO_COLOR (no-color.org) wins; FORCE_COLOR and CLICOLOR_FORCE, unless 0, colour logs too.
    """
    if environ.get("NO_COLOR"):
        return False
    if any(environ.get(name, "0") not in ("", "0") for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    return terminal and environ.get("TERM", "") not in ("", "dumb") and _unless_off(environ)


def _unless_off(environ: Mapping[str, str]) -> bool:
    return environ.get("CLICOLOR") != "0"


def moves(environ: Mapping[str, str], stream: TextIO) -> bool:
    """Whether `stream` is a terminal on which lines can be drawn over, coloured or not."""
    return stream.isatty() and environ.get("TERM", "") not in ("", "dumb")


class Paint:
    """Colours for one stream, or none."""

    def __init__(self, stream: TextIO, environ: Mapping[str, str]) -> None:
        self.coloured = wanted(environ, terminal=stream.isatty())

    def __call__(self, text: str, style: Style) -> str:
        """`text` in `style`, where there are colours."""
        return f"\x1b[{style.value}m{text}\x1b[0m" if self.coloured and text else text


def on_stderr() -> Paint:
    """The colours of stderr."""
    return Paint(sys.stderr, os.environ)


def on_stdout() -> Paint:
    """The colours of stdout."""
    return Paint(sys.stdout, os.environ)
