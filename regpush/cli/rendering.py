"""Make output harmless for terminals and CI runners. Every line of text output passes through here.

Output contains texts from registries, images, files and other programs. A terminal would obey
control characters in them, and a CI runner would obey its commands: GitHub's runner `::command::`
at the beginning of a line, and `##[command]` anywhere in it (actions/runner, ActionCommand.cs);
Azure's agent `##vso[command]` anywhere (microsoft/azure-pipelines-agent, Command.cs). This module
escapes all of these.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Self, TextIO, TypeAlias

from msgspec import Struct

from regpush.cli.colour import Style, wanted
from regpush.errors import printable

LONGEST = 1900
"""Maximum characters of a line on stderr, which fill a screen of 80 by 24."""

LONGEST_RESULT = 1 << 16
"""Maximum characters of a line on stdout. The labels of some images have thousands."""

_ANYWHERE = re.compile(r"##(vso)?\[", re.IGNORECASE | re.ASCII)
_AT_THE_BEGINNING = re.compile(r"( *):(?=:)")
_IN_JSON = re.compile(rf"{_ANYWHERE.pattern}|\x7f", _ANYWHERE.flags)
"""Commands of CI runners, and the character DEL: json.dumps does not escape these."""


class Span(NamedTuple):
    """A piece of a line, and the style in which a terminal shows it."""

    text: str
    style: Style


Line: TypeAlias = str | tuple[str | Span, ...]
"""One line of output: a text, or pieces of text, some with a style."""


class Renderer(Struct, frozen=True, kw_only=True, eq=False):
    """Renders lines for one stream: harmless, with or without colours, cut to a maximum length."""

    coloured: bool = False
    longest: int = LONGEST

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str], *, longest: int = LONGEST) -> Self:
        """Return the renderer for `stream`, which colours text if `stream` and `environ` permit."""
        return cls(coloured=wanted(environ, terminal=stream.isatty()), longest=longest)

    def __call__(self, line: Line) -> str:
        """Return the text of `line` for the stream, without a newline."""
        pieces = (line,) if isinstance(line, str) else line
        plain = "".join(printable(_text(piece)) for piece in pieces)
        text = disarmed(shortened(plain, self.longest))
        # Text that had to be escaped is most likely hostile: it gets no colours.
        if text != plain or not self.coloured:
            return text
        return "".join(_painted(piece) for piece in pieces)


def shortened(text: str, longest: int) -> str:
    """Return `text`; if it has more than `longest` characters, with `…` in place of its middle."""
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def disarmed(text: str) -> str:
    """Return the line `text`, which must be printable, with commands of CI runners escaped."""
    text = _ANYWHERE.sub(lambda found: f"{found[0][:-1]}\\x5b", text)
    found = _AT_THE_BEGINNING.match(text)
    return f"{found[1]}\\x3a{text[found.end() :]}" if found else text


def json_text(value: Any, *, indent: int | None = None) -> str:
    """Return `value` as JSON in which commands of CI runners are escaped.

    A JSON parser reads the unescaped value.
    """
    return _disarmed_json(json.dumps(value, indent=indent))


def document(data: bytes) -> str:
    """Return the text `data` from a registry with control characters and runner commands escaped.

    It ends with a newline. In JSON, only characters inside strings are escaped, so that a parser
    reads the original value.
    """
    text = data.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        renderer = Renderer(longest=LONGEST_RESULT)
        return "".join(f"{renderer(line)}\n" for line in text.expandtabs().splitlines())
    # Outside of strings, JSON has no control characters but CR, LF and tab (RFC 8259, section 2).
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ").split("\n")
    return "\n".join(map(_printable_json, lines)).rstrip("\n") + "\n"


def _printable_json(line: str) -> str:
    if not line.isprintable():
        escaped = (one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
        line = "".join(escaped)
    return _disarmed_json(line)


def _disarmed_json(text: str) -> str:
    # In JSON, `#` and DEL occur only inside strings.
    return _IN_JSON.sub(lambda found: f"{found[0][:-1]}\\u{ord(found[0][-1]):04x}", text)


def _text(piece: str | Span) -> str:
    return piece if isinstance(piece, str) else piece.text


def _painted(piece: str | Span) -> str:
    if isinstance(piece, str):
        return printable(piece)
    text = printable(piece.text)
    return f"\x1b[{piece.style.value}m{text}\x1b[0m" if text else text


def pieces(line: Line) -> Iterator[str | Span]:
    """Yield the pieces of `line`, so that they can be combined with other pieces in a line."""
    yield from (line,) if isinstance(line, str) else line
