"""Look up files in a closure of store items, as far as the items are on this machine."""

from __future__ import annotations

import posixpath
from functools import cache

from regpush.closure import Closure, Inside, Item, Present
from regpush.entry import HEAD, Entry, Kind, OnDisk, as_text, image_path
from regpush.errors import SourceError
from regpush.files.filesystem import read_start
from regpush.sources.links import PATH

_MAX_LINKS = 40
"""Maximum symbolic links that are followed for one path, as in Linux (path_resolution(7))."""

_UNKNOWN = Present(kind=Kind.FILE, mode=0o755, link="", start=b"")
"""The answer for a path in an item that is not on this machine: an executable file is assumed."""


def inside_store(closure: Closure) -> Inside:
    """Return functions that answer questions about the files of `closure`.

    Items that would have to be downloaded are not opened.
    """
    homes = {item.path: item for item in closure.items}

    @cache
    def entries(path: str) -> dict[bytes, Entry] | None:
        item = homes[path]
        if item.ahead is not None:
            return None
        try:
            return {entry.path: entry for entry in item.entries()}
        except SourceError:
            return None

    def find(path: str) -> Present | None:
        wanted = posixpath.normpath(path)
        for _ in range(_MAX_LINKS):
            item = _item_of(wanted, homes)
            if item is None:
                return None
            held = entries(item.path)
            if held is None:
                return _UNKNOWN
            link = _first_link(wanted, held)
            if link is None:
                return _present(held.get(image_path(wanted)))
            at, rest = link
            target = as_text(held[image_path(at)].link)
            wanted = posixpath.normpath(posixpath.join(posixpath.dirname(at), target, rest))
        return None

    return Inside(place="\0", find=find, natives=tuple, guess=None)


def _item_of(path: str, homes: dict[str, Item]) -> Item | None:
    """Return the item that contains the image path `path`.

    For a path in no item, it is the generated item, which has links in many folders, or None.
    """
    above = path
    while above != "/":
        if above in homes:
            return homes[above]
        above = posixpath.dirname(above)
    return homes.get(PATH)


def _first_link(path: str, held: dict[bytes, Entry]) -> tuple[str, str] | None:
    """Return the shortest prefix of `path` that is a symbolic link, and the rest; None for none."""
    end = 0
    while end >= 0:
        end = path.find("/", end + 1)
        part = path if end < 0 else path[:end]
        entry = held.get(image_path(part))
        if entry and entry.kind is Kind.SYMLINK:
            return part, path[len(part) + 1 :]
    return None


def _present(entry: Entry | None) -> Present | None:
    if entry is None:
        return None
    start = b""
    if isinstance(entry.content, OnDisk):
        start = read_start(entry.content.root, entry.content.path, HEAD)
    return Present(kind=entry.kind, mode=entry.mode, link="", start=start)
