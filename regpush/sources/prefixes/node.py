"""`node:DIR`: a Node.js project with a lock file; each package's tarball becomes an item."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from regpush.sources.source import Asked, Found, Whole


def understand(rest: str, asked: Asked) -> Whole:
    """Interpret `rest`: the directory of a project, or the path of its lock file."""
    path = rest or "."
    return Whole(path, partial(_closure, path))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the path of the project, moved by `move`."""
    return move(rest or ".")


def _closure(path: str, asked: Asked) -> Found:
    from regpush.sources.node import source  # few pushes are of it

    surroundings = asked.network(path)
    return source.resolve(path, asked.options, asked.platform, asked.workshop, surroundings)
