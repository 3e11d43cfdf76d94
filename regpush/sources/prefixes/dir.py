"""`dir:PATH`: a plain directory, even where PATH is in a Nix or Guix store."""

from __future__ import annotations

import stat
from collections.abc import Callable
from functools import partial

from regpush.errors import UsageError, printable
from regpush.sources import directory
from regpush.sources.path import mode_of
from regpush.sources.source import Asked, Found, Whole


def understand(rest: str, asked: Asked) -> Whole:
    """Interpret `rest`, the text after `dir:`, as the path of a directory."""
    return Whole(rest, partial(_closure, rest))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text with the directory's path replaced by `move(rest)`."""
    return move(rest)


def _closure(path: str, asked: Asked) -> Found:
    if not stat.S_ISDIR(mode_of(path)):
        raise UsageError(f"dir:{printable(path)}: this is not a directory")
    notify, cancel = asked.workshop.notify, asked.workshop.cancel
    return "directory", directory.resolve(path, asked.options, notify=notify, cancel=cancel)
