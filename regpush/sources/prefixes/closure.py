"""`closure:FILE`: a file that lists the store paths of a closure."""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import partial

from regpush.errors import UsageError, printable
from regpush.sources import closure_file
from regpush.sources.path import mode_of
from regpush.sources.source import Asked, Found, Whole


def understand(rest: str, asked: Asked) -> Whole:
    """Interpret `rest`, the text after `closure:`, as the path of a file that lists a closure."""
    return Whole(rest, partial(_closure, rest))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text with the file's path replaced by `move(rest)`."""
    return move(rest)


def _closure(path: str, asked: Asked) -> Found:
    if not stat.S_ISREG(mode_of(path)):
        raise UsageError(f"closure:{printable(path)}: this is not a file that lists a closure")
    return "closure file", closure_file.resolve(path, asked.stores, asked.workshop)
