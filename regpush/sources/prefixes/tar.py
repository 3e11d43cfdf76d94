"""`tar:FILE`: a tar archive of a root file system; `-` is standard input."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from regpush.sources.archive import source
from regpush.sources.source import Asked, Found, Whole
from regpush.sources.surroundings import MOST_LAYERS, refused


def understand(rest: str, asked: Asked) -> Whole:
    """Interpret `rest`, the text after `tar:`: the path of an archive; `-` is standard input."""
    return Whole(rest, partial(_closure, rest))


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text with the archive's path replaced by `move(rest)`; `-` is no path."""
    return rest if rest == "-" else move(rest)


def _closure(path: str, asked: Asked) -> Found:
    around = asked.surroundings
    most, ship = (around.most_layers, around.ship) if around else (MOST_LAYERS, refused)
    return source.resolve(path, asked.options, most, ship, asked.workshop.cancel)
