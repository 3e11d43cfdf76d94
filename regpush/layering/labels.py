"""Labels by which people know a layer, made from the items in it."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence

from regpush.errors import printable

LABEL_LENGTH = 100

_STORE_NAME = re.compile(r"[0-9a-z]{32}-(.+)", re.DOTALL)
"""Matches the base name of a store item of Nix and Guix: 32 digits of base 32, a dash, the name."""

_CONTAINER = re.compile(r".*/(?:node_modules|(?:site|dist)-packages)/", re.DOTALL)
"""Matches the folder that holds packages of Node or Python, up to a package's name."""


def store_name(path: str) -> str | None:
    """Return the name and version of the store item at `path`; None for other paths."""
    match = _STORE_NAME.fullmatch(path.rpartition("/")[2])
    return match[1] if match else None


def called(path: str) -> str:
    """Return the name by which people know the item at `path`.

    A package of a store or of a lock file is called by its name and version, a package below
    `node_modules` or `site-packages` by its name, every other item by its whole path. A generated
    item has a name in parentheses instead of a path.
    """
    if name := store_name(path):
        return name
    if path.endswith(".dist-info"):
        return path.rpartition("/")[2].removesuffix(".dist-info")
    if path.startswith("("):
        return path.strip("()")  # a generated item, which has no path
    if ".dist-info/" in path:
        return "records"  # of what pip has installed; see sources/records
    inside = _CONTAINER.split(path)[-1]
    if inside == path:
        return path.strip("/") or path
    return inside or path.strip("/")


def label(name: str, count: int, more: str = "") -> str:
    """Return the label of a layer of `count` items that is named after the item `name`.

    `more` replaces the ending " and N more". One printable line of at most `LABEL_LENGTH`
    characters.
    """
    rest = more or (f" and {count - 1} more" if count > 1 else "")
    name, room = printable(name), LABEL_LENGTH - len(rest)
    if len(name) > room:
        # A path is cut at its start, because paths differ at their ends.
        name = "…" + name[1 - room :] if "/" in name else name[: room - 1] + "…"
    return name + rest


def label_of_paths(paths: Sequence[str]) -> str:
    """Return the label of a layer, made from the paths of its items.

    An image records no more than the paths, so `push` and `inspect` give a layer the same label. A
    layer with packages is called by one of them: of the outputs of one store package, by the main
    output, which has the shortest name. A layer of files is called by the folder that holds all, or
    most, of them.
    """
    folders = {path[: path.rfind("/")] for path in paths}
    named = [path for path in paths if path not in folders] or list(paths)
    if not named:
        return "(contents unknown)"
    packages = [name for path in named if (name := called(path)) != path.strip("/")]
    if packages:
        return label(min(packages, key=lambda name: (len(name), name)), len(paths))
    if len(named) == 1:
        return label(called(named[0]), len(paths))
    shared = posixpath.commonpath(named).strip("/") if named[0].startswith("/") else ""
    if "/" in shared:
        return label(shared, 1, f" ({len(paths)} parts)")
    ((folder, count),) = Counter(map(posixpath.dirname, sorted(named))).most_common(1)
    if count == 1:
        return label(called(min(named)), len(paths))
    return label(called(folder), len(paths) - count + 1)
