"""Find the store item to which a path leads, and the databases that may describe its store."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from typing import TYPE_CHECKING

from msgspec import Struct

from regpush.files.filesystem import working_directory
from regpush.settings import StoreLocation
from regpush.sources.store_path import is_base

if TYPE_CHECKING:
    from regpush.sources.database import Database

_MAX_LINKS = 40
"""Maximum symbolic links that are followed for one path, as in Linux (path_resolution(7))."""

# Paths of databases relative to their stores: /nix/store and /nix/var, /gnu/store and /var.
_BESIDE = ("../var/nix/db/db.sqlite", "../../var/guix/db/db.sqlite")


class StoreItem(Struct, frozen=True):
    """A store item on this machine: `base` (`HASH-NAME`) in the directory `store`.

    `store` is the path by which the target led there. It may differ from the logical path
    (`/nix/store`), for instance for a store in a chroot.
    """

    store: str
    base: str

    def __str__(self) -> str:
        return posixpath.join(self.store, self.base)


def find(target: str, stores: tuple[StoreLocation, ...]) -> StoreItem | None:
    """Return the store item that contains `target`, with symbolic links followed; None without one.

    The item need not be valid, nor exist on this machine. Raises UsageError for a relative target
    where the working directory was deleted.
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
    """Whether `directory` is a whole store, such as `/nix/store`."""
    directory = os.path.realpath(directory)
    return any(is_at(directory, location) for location in stores) or _has_database(directory)


def is_store(directory: str, base: str, stores: tuple[StoreLocation, ...]) -> bool:
    """Whether `directory` is a store; `base`: the name of a possible item in it.

    It is a store if it is one of `stores`, if its name is `store`, if a database is beside it, or
    if a database says that `base` is a valid item.
    """
    if any(is_at(directory, location) for location in stores):
        return True
    # All stores have this name. `locate` then refuses a store without a database, so that it is not
    # pushed as an app.
    if posixpath.basename(directory) == "store" or _has_database(directory):
        return True
    return any(
        (root := database.logical_root()) and database.is_valid(posixpath.join(root, base))
        for database in databases(directory, stores)
    )


def databases(directory: str, stores: tuple[StoreLocation, ...]) -> Iterator[Database]:
    """Yield the existing databases that may describe the store at `directory`, likeliest first."""
    from regpush.sources.database import Database  # imports sqlite3; a directory needs no store

    named = [location.database for location in stores if is_at(directory, location)]
    others = [location.database for location in stores]
    for path in dict.fromkeys([*named, *_beside(directory), *others]):
        if os.path.exists(path):
            yield Database(path)


def is_at(directory: str, location: StoreLocation) -> bool:
    """Whether `directory` is the store of `location`, by its logical or its resolved path."""
    return directory in (location.logical, os.path.realpath(location.logical))


def _has_database(directory: str) -> bool:
    return any(os.path.exists(path) for path in _beside(directory))


def _beside(directory: str) -> Iterator[str]:
    for relative in _BESIDE:
        yield posixpath.normpath(posixpath.join(directory, relative))
