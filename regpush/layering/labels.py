"""Labels of layers for people, made of the items in them: for pushes, reports and old images."""

from __future__ import annotations

import re
from collections.abc import Sequence

from regpush.errors import printable

LABEL_LENGTH = 100

_STORE_NAME = re.compile(r"[0-9a-z]{32}-(.+)", re.DOTALL)
"""Base name of a store item of Nix and Guix: 32 digits of base 32, a dash, the name."""


def store_name(path: str) -> str | None:
    """The name and version of the store item at `path`; None where it is no store item."""
    match = _STORE_NAME.fullmatch(path.rpartition("/")[2])
    return match[1] if match else None


def short_name(path: str) -> str:
    """The last component of a path, without the hash of a store item, or `.dist-info`.

    A file called `__init__.py` is shown with its folder.
    """
    folder, _, name = path.rpartition("/")
    if name.startswith("__"):
        return f"{folder.rpartition('/')[2]}/{name}"
    return store_name(path) or name.removesuffix(".dist-info") or path


def label(name: str, count: int) -> str:
    """The label of a layer of `count` items that is named after one of them.

    One printable line of at most `LABEL_LENGTH` characters.
    """
    rest = f" and {count - 1} more" if count > 1 else ""
    name, room = printable(name), LABEL_LENGTH - len(rest)
    if len(name) > room:
        # Paths differ at their ends.
        name = "…" + name[1 - room :] if "/" in name else name[: room - 1] + "…"
    return name + rest


def label_of_paths(paths: Sequence[str]) -> str:
    """The label of a layer, by the paths of its items alone.

    Sizes are unknown here, so the label names the first package in it rather than a folder that
    holds packages.
    """
    folders = {path[: path.rfind("/")] for path in paths}
    named = next((path for path in paths if path not in folders), next(iter(paths), ""))
    return label(short_name(named), len(paths)) if named else "(contents unknown)"
