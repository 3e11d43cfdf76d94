"""Lines as people see them: the one place through which every line of text output passes.

Names and words come from registries, images, files and other programs. A terminal obeys control
characters in them, and the runners of CI services obey lines of their own: GitHub's takes
`::command::` at the beginning of a line after blanks, and `##[command]` anywhere in it
(actions/runner, ActionCommand.cs); Azure's agent takes `##vso[command]` anywhere
(microsoft/azure-pipelines-agent, Command.cs). Nothing of that leaves this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Self, TextIO, TypeAlias

from regpush.cli.colour import Style, wanted
from regpush.errors import printable

LONGEST = 1900
"""Characters of a line on stderr at most: a screen of 80 by 24."""

LONGEST_RESULT = 1 << 16
"""Characters of a line on stdout at most: the labels of some images take thousands."""

_ANYWHERE = re.compile(r"##(vso)?\[", re.IGNORECASE | re.ASCII)
_AT_THE_BEGINNING = re.compile(r"( *):(?=:)")
_IN_JSON = re.compile(rf"{_ANYWHERE.pattern}|\x7f", _ANYWHERE.flags)
"""JSON writes no other control character as it is."""


class Span(NamedTuple):
    """A piece of a line with what it means."""

    text: str
    style: Style


Line: TypeAlias = str | tuple[str | Span, ...]
"""One line, in pieces where some of these have a style."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Renderer:
    """How lines look on one stream: in colours or not, and with how many characters at most."""

    coloured: bool = False
    longest: int = LONGEST

    @classmethod
    def of(cls, stream: TextIO, environ: Mapping[str, str], *, longest: int = LONGEST) -> Self:
        """The renderer for `stream`."""
        return cls(coloured=wanted(environ, terminal=stream.isatty()), longest=longest)

    def __call__(self, line: Line) -> str:
        """The text of `line` on that stream, without its end."""
        pieces = (line,) if isinstance(line, str) else line
        plain = "".join(printable(_text(piece)) for piece in pieces)
        text = disarmed(shortened(plain, self.longest))
        # What had to be changed is somebody's trick: it needs no colours.
        if text != plain or not self.coloured:
            return text
        return "".join(_painted(piece) for piece in pieces)


def shortened(text: str, longest: int) -> str:
    """`text`, or where it has more than `longest` characters its beginning and its end."""
    if len(text) <= longest:
        return text
    head = longest * 2 // 3
    return f"{text[:head]}…{text[len(text) - (longest - head - 1) :]}"


def disarmed(text: str) -> str:
    """`text`, one printable line, with an escape where a runner would read a command."""
    text = _ANYWHERE.sub(lambda found: f"{found[0][:-1]}\\x5b", text)
    found = _AT_THE_BEGINNING.match(text)
    return f"{found[1]}\\x3a{text[found.end() :]}" if found else text


def json_text(value: Any, *, indent: int | None = None) -> str:
    """JSON of `value` in which no runner finds a command; readers of JSON see `value`."""
    return _disarmed_json(json.dumps(value, indent=indent))


def document(data: bytes) -> str:
    """A text of several lines that others wrote, printable, with an end of its last line.

    JSON stays JSON of the same value, and stays as it is where nothing in it is obeyed.
    """
    text = data.decode("utf-8", "replace")
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        renderer = Renderer(longest=LONGEST_RESULT)
        return "".join(f"{renderer(line)}\n" for line in text.expandtabs().splitlines())
    # Outside of strings JSON has no blanks but these four (RFC 8259, section 2).
    lines = text.replace("\r\n", "\n").replace("\r", "\n").replace("\t", " ").split("\n")
    return "\n".join(map(_printable_json, lines)).rstrip("\n") + "\n"


def _printable_json(line: str) -> str:
    if not line.isprintable():
        escaped = (one if one.isprintable() else json.dumps(one)[1:-1] for one in line)
        line = "".join(escaped)
    return _disarmed_json(line)


def _disarmed_json(text: str) -> str:
    # `#` and DEL occur in strings alone.
    return _IN_JSON.sub(lambda found: f"{found[0][:-1]}\\u{ord(found[0][-1]):04x}", text)


def _text(piece: str | Span) -> str:
    return piece if isinstance(piece, str) else piece.text


def _painted(piece: str | Span) -> str:
    if isinstance(piece, str):
        return printable(piece)
    text = printable(piece.text)
    return f"\x1b[{piece.style.value}m{text}\x1b[0m" if text else text


def pieces(line: Line) -> Iterator[str | Span]:
    """The pieces of `line`, to put it behind others."""
    yield from (line,) if isinstance(line, str) else line
