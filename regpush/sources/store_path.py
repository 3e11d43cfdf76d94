"""Take a store path, `/gnu/store/<hash>-<name>-<version>`, apart.

Nix manual, "Store Path"; Guix has the same form.
"""

from __future__ import annotations

import posixpath
import re

_BASE = re.compile(r"[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+\-._?=]+", re.ASCII)
_VERSION = re.compile(r"-[^A-Za-z]", re.ASCII)


def is_base(name: str) -> bool:
    """Whether `name` has the form of a store item's file name: hash, dash, name."""
    return _BASE.fullmatch(name) is not None


def is_path(path: str) -> bool:
    """Whether `path` has the form of a store path: absolute, normalised, ends in an item's name."""
    return (
        path.startswith("/")
        and posixpath.normpath(path) == path
        and is_base(posixpath.basename(path))
    )


def full_name(path: str) -> str:
    """Return name and version of a store path, without directory and hash: `hello-2.12`."""
    return posixpath.basename(path)[33:]


def item_name(path: str) -> str:
    """Return the name of a store path, without hash, version and `.drv`: `hello`.

    The version begins at the first dash that no letter follows (Nix manual,
    `builtins.parseDrvName`). Where nothing is before that dash, name and version are returned.
    """
    name = full_name(path).removesuffix(".drv")
    version = _VERSION.search(name)
    return name[: version.start()] or name if version else name
