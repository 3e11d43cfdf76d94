"""Find the store item that a path is in, and the databases that may describe its store."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from regpush.files.filesystem import working_directory
from regpush.settings import StoreLocation
from regpush.sources.store_path import is_base

if TYPE_CHECKING:
    from regpush.sources.database import Database

_MAX_LINKS = 40
"""Links followed before giving up, as Linux does (path_resolution(7))."""

# Paths of databases relative to their stores: /nix/store and /nix/var, /gnu/store and /var.
_BESIDE = ("../var/nix/db/db.sqlite", "../../var/guix/db/db.sqlite")


@dataclass(frozen=True, slots=True)
class StoreItem:
    """A store item: `base` (hash and name) in the directory `store`.

    `store` is the path by which the target led there; its logical path (`/nix/store`) may be
    another.
    """

    store: str
    base: str

    def __str__(self) -> str:
        return posixpath.join(self.store, self.base)


def find(target: str, stores: tuple[StoreLocation, ...]) -> StoreItem | None:
    """Find the store item that `target` is, is inside of, or links to; else None.

    A chain of links is followed. The item need not be valid, nor exist on this machine. Raises
    UsageError for a relative target in a current directory that was deleted.
    """
    done = "/"
    start = "/" if os.path.isabs(target) else working_directory()
    pending = os.path.join(start, target).split("/")[::-1]
    links = 0
    while pending:
        name = pending.pop()
        if name in ("", "."):
            continue
        if name == "..":
            done = posixpath.dirname(done)
            continue
        if is_base(name) and is_store(done, name, stores):
            return StoreItem(done, name)
        try:
            link = os.readlink(posixpath.join(done, name))
        except (OSError, ValueError):  # no link, no such file, or a name that no file can have
            done = posixpath.join(done, name)
            continue
        links += 1
        if links > _MAX_LINKS:
            return None
        if link.startswith("/"):
            done = "/"
        pending += link.split("/")[::-1]
    return None


def is_whole_store(directory: str, stores: tuple[StoreLocation, ...]) -> bool:
    """Whether `directory` is a store itself, rather than an item in one."""
    directory = os.path.realpath(directory)
    return any(is_at(directory, location) for location in stores) or _has_database(directory)


def is_store(directory: str, base: str, stores: tuple[StoreLocation, ...]) -> bool:
    """Whether `directory` is a store, by its name, a database beside it, or `base` in one."""
    if any(is_at(directory, location) for location in stores):
        return True
    # All stores have this name. Without a database it is refused later, not pushed as an app.
    if posixpath.basename(directory) == "store" or _has_database(directory):
        return True
    return any(
        (root := database.logical_root()) and database.is_valid(posixpath.join(root, base))
        for database in databases(directory, stores)
    )


def databases(directory: str, stores: tuple[StoreLocation, ...]) -> Iterator[Database]:
    """List the existing databases that may describe the store at `directory`, likeliest first."""
    from regpush.sources.database import Database  # a directory does without stores

    named = [location.database for location in stores if is_at(directory, location)]
    others = [location.database for location in stores]
    for path in dict.fromkeys([*named, *_beside(directory), *others]):
        if os.path.exists(path):
            yield Database(path)


def is_at(directory: str, location: StoreLocation) -> bool:
    """Whether `directory` is the store at `location`, or its physical path."""
    return directory in (location.logical, os.path.realpath(location.logical))


def _has_database(directory: str) -> bool:
    return any(os.path.exists(path) for path in _beside(directory))


def _beside(directory: str) -> Iterator[str]:
    for relative in _BESIDE:
        yield posixpath.normpath(posixpath.join(directory, relative))
