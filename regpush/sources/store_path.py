"""The parts of a store path: `/gnu/store/<hash>-<name>-<version>`.

Nix manual, "Store Path"; Guix follows it.
"""

from __future__ import annotations

import posixpath
import re

_BASE = re.compile(r"[0-9a-df-np-sv-z]{32}-[0-9A-Za-z+\-._?=]+", re.ASCII)
_VERSION = re.compile(r"-[^A-Za-z]", re.ASCII)


def is_base(name: str) -> bool:
    """Whether `name`, one path component, is that of a store item: hash, dash, name."""
    return _BASE.fullmatch(name) is not None


def is_path(path: str) -> bool:
    """Whether `path` is absolute, normalised, and ends in the name of a store item."""
    return (
        path.startswith("/")
        and posixpath.normpath(path) == path
        and is_base(posixpath.basename(path))
    )


def full_name(path: str) -> str:
    """Return the name and version in a store path, without the hash."""
    return posixpath.basename(path)[33:]


def item_name(path: str) -> str:
    """Return the name in a store path, without hash, version, and a derivation's `.drv`.

    The version begins at the first dash that no letter follows (Nix manual,
    `builtins.parseDrvName`); where that leaves nothing, the name stays whole.
    """
    name = full_name(path).removesuffix(".drv")
    version = _VERSION.search(name)
    return name[: version.start()] or name if version else name
