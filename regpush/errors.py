"""The errors that regpush raises, each with the exit code of the command line.

    RegpushError              1  a bug of ours, when nothing below fits
    ├── UsageError            2  the command line, a reference, or other input is wrong
    ├── AuthError             3  the registry wants credentials, or others than it was given
    ├── RefusedError          4  the registry said no, and will say no again
    ├── TransientError        5  the network or the registry failed; a rerun is safe
    ├── TagConflictError      6  a tag holds something this push may not replace
    ├── BudgetExceededError   7  the push would send more than it was allowed
    ├── VerificationError     8  what the registry holds is not what was pushed
    ├── SourceError           9  the source failed: unreadable, changing, invalid
    └── CancelledError      130  the user pressed Ctrl-C (143 after SIGTERM)

Every message is one line: what was wrong, where, and what to do. None carries a secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar


class RegpushError(Exception):
    """Base of every error regpush raises on purpose; `str()` is the line for the user."""

    exit_code: ClassVar[int] = 1


class UsageError(RegpushError):
    """The command line, a reference, an option or another input is wrong."""

    exit_code = 2


class AuthError(RegpushError):
    """The registry wants credentials, or rejected the credentials it was given."""

    exit_code = 3


class RefusedError(RegpushError):
    """The registry refused for good: forbidden, over quota, unknown repository."""

    exit_code = 4


class TransientError(RegpushError):
    """The network or the registry failed even after retries; running again is safe."""

    exit_code = 5


class TagConflictError(RegpushError):
    """A tag holds something that this push may not replace."""

    exit_code = 6


class BudgetExceededError(RegpushError):
    """The push would send more bytes than it was allowed to."""

    exit_code = 7


class VerificationError(RegpushError):
    """A registry's content is not what was pushed, or not what its digest or its format demands."""

    exit_code = 8


class SourceError(RegpushError):
    """The source failed: unreadable, changed while read, not valid, or not packable."""

    exit_code = 9


class CancelledError(RegpushError):
    """The push was cancelled before it finished; the message says which tags were moved."""

    exit_code = 130


def printable(name: str | bytes) -> str:
    """Return `name` as one line without terminal control characters, for a message."""
    text = name.decode("utf-8", "backslashreplace") if isinstance(name, bytes) else name
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def plural(count: int, noun: str) -> str:
    """Return `count` with `noun`, which gets an `s` unless `count` is 1, such as `2 layers`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def similar(word: str, words: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the one of `words` that is most similar to `word`; empty where none is similar.

    `cutoff`: the similarity that is enough, by `difflib.SequenceMatcher.ratio`, 1 for equal words.
    """
    from difflib import get_close_matches  # 5 ms, for a word that was mistyped

    return next(iter(get_close_matches(word, list(words), 1, cutoff)), "")
