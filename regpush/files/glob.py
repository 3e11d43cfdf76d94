"""Parses a pattern of git's wildmatch into tokens; a token matches one byte, or is a `Mark`.

Sources are git's `wildmatch.c` and gitignore(5). Everything is bytes, because names on disk are,
and upper and lower case always differ.
"""

from __future__ import annotations

import string
from enum import Enum
from typing import TypeAlias

_BACKSLASH, _SLASH, _STAR, _DASH = b"\\/*-"
_ANY_BYTE = frozenset(range(1, 256)) - {_SLASH}
_BYTES = [frozenset({byte}) for byte in range(256)]


class Mark(Enum):
    """A token that does not match exactly one byte of a name.

    SLASH ends a name. STAR matches any bytes within a name, or none. ANY_FOLDERS is `**/`, which
    matches any number of whole names with their slashes, or none. REST is `**` at the end of a
    pattern or before an escaped slash: at least one whole name, or the rest of one that has begun.
    """

    SLASH = "/"
    STAR = "*"
    ANY_FOLDERS = "**/"
    REST = "**"


Token: TypeAlias = frozenset[int] | Mark


class NeverMatchesError(ValueError):
    """A pattern that git accepts, but that can match no path. The message says why."""


def literal(text: bytes) -> list[Token]:
    """Convert `text` into tokens in which every byte but the slash stands for itself."""
    return [Mark.SLASH if byte == _SLASH else _BYTES[byte] for byte in text]


def tokens(pattern: bytes) -> list[Token]:
    """Parse `pattern` like wildmatch with WM_PATHNAME. Raises NeverMatchesError.

    `**` is special only between slashes, or at an end of `pattern`; elsewhere it is `*`.
    """
    found: list[Token] = []
    at, end = 0, len(pattern)
    while at < end:
        byte = pattern[at]
        if byte == _STAR:
            token, at = _stars(pattern, at)
            if not (token is Mark.ANY_FOLDERS and found and found[-1] is token):
                found.append(token)
        elif byte == _BACKSLASH:
            if at + 1 == end:
                raise NeverMatchesError("nothing follows its last backslash")
            found += literal(pattern[at + 1 : at + 2])
            at += 2
        elif byte == ord("["):
            chosen, at = _bracket(pattern, at + 1)
            found.append(chosen)
        else:
            found += [_ANY_BYTE] if byte == ord("?") else literal(pattern[at : at + 1])
            at += 1
    return found


def _stars(pattern: bytes, start: int) -> tuple[Mark, int]:
    """Read the asterisks at `start`; returns their token and the position after them."""
    end = start
    while pattern[end : end + 1] == b"*":
        end += 1
    begins_name = start == 0 or pattern[start - 1] == _SLASH
    if end - start > 1 and begins_name:
        if pattern[end : end + 1] == b"/":
            return Mark.ANY_FOLDERS, end + 1
        if end == len(pattern) or pattern.startswith(b"\\/", end):
            return Mark.REST, end
    return Mark.STAR, end


def _ascii(characters: str) -> frozenset[int]:
    return frozenset(characters.encode("ascii"))


# From git's own ctype tables, in any locale: no byte above 127 is in a class.
_CLASSES = {
    b"alnum": _ascii(string.ascii_letters + string.digits),
    b"alpha": _ascii(string.ascii_letters),
    b"blank": _ascii(" \t"),
    b"cntrl": frozenset({*range(1, 32), 127}),
    b"digit": _ascii(string.digits),
    b"graph": frozenset(range(33, 127)),
    b"lower": _ascii(string.ascii_lowercase),
    b"print": frozenset(range(32, 127)),
    b"punct": _ascii(string.punctuation),
    b"space": _ascii(" \t\n\r"),
    b"upper": _ascii(string.ascii_uppercase),
    b"xdigit": _ascii(string.hexdigits),
}


def _bracket(pattern: bytes, at: int) -> tuple[frozenset[int], int]:
    """Read a bracket expression; `at` is after its `[`.

    Returns the bytes that it matches, and the position after it.
    """
    negated = pattern[at : at + 1] in (b"!", b"^")
    at += negated
    chosen: set[int] = set()
    previous: int | None = None  # where a range may begin
    first = True
    while first or pattern[at : at + 1] != b"]":
        first = False
        byte = _byte(pattern, at)
        if byte == _DASH and previous is not None and _ends_range(pattern, at + 1):
            last, at = _escaped(pattern, at + 1)
            chosen.update(range(previous, last + 1))
            previous = None
            continue
        if named := _named_class(pattern, at):
            name, at = named
            if name not in _CLASSES:
                raise NeverMatchesError("its brackets name a class that does not exist")
            chosen |= _CLASSES[name]
            previous = None
            continue
        previous, at = _escaped(pattern, at)
        chosen.add(previous)
    kept = _ANY_BYTE - chosen if negated else _ANY_BYTE & chosen
    if not kept:
        raise NeverMatchesError("its bracket holds no byte that a name may have")
    return frozenset(kept), at + 1


def _byte(pattern: bytes, at: int) -> int:
    if at >= len(pattern):
        raise NeverMatchesError("its bracket is not closed")
    return pattern[at]


def _escaped(pattern: bytes, at: int) -> tuple[int, int]:
    """Read the byte at `at`; if that is a backslash, the byte after it.

    Returns the byte and the position after it.
    """
    if _byte(pattern, at) == _BACKSLASH:
        return _byte(pattern, at + 1), at + 2
    return pattern[at], at + 1


def _ends_range(pattern: bytes, at: int) -> bool:
    return pattern[at : at + 1] not in (b"", b"]")


def _named_class(pattern: bytes, at: int) -> tuple[bytes, int] | None:
    """Read the name in `[:name:]` at `at`, and the position after it; None for no class."""
    if not pattern.startswith(b"[:", at):
        return None
    end = pattern.find(b"]", at + 2)
    if end < 0:
        raise NeverMatchesError("its bracket is not closed")
    if end == at + 2 or pattern[end - 1 : end] != b":":
        return None
    return pattern[at + 2 : end - 1], end + 1
