"""`node:DIR`: a Node.js project with a lock file; each package becomes an item."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from regpush.sources.source import Asked, Found, Whole


def understand(rest: str, asked: Asked) -> Whole:
    """Interpret `rest`, the text after `node:`: the path of a project or of its lock file.

    An empty text means the working directory.
    """
    path = rest or "."
    return Whole(path, partial(_closure, path))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text with the project's path (`.` if empty) replaced by `move(path)`."""
    return move(rest or ".")


def _closure(path: str, asked: Asked) -> Found:
    from regpush.sources.node import source  # a slow import, which other targets do not need

    surroundings = asked.network(path)
    return source.resolve(path, asked.options, asked.platform, asked.workshop, surroundings)
