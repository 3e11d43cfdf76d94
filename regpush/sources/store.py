"""A path in a store, or a link into one, becomes a closure; Nix and Guix alike.

The facts come from the store's database alone: no file of an item is opened, and the
store directory itself is never listed.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass

from regpush.closure import Closure
from regpush.errors import SourceError, UsageError, printable
from regpush.settings import GUIX_STORE, NIX_STORE, StoreLocation
from regpush.sources.database import Database
from regpush.sources.path_info import PathInfo, to_item
from regpush.sources.store_path import is_base, item_name

_MAX_LINKS = 40
"""Links followed before giving up, as Linux does (path_resolution(7))."""

# Where a database is, seen from its store: /nix/store and /nix/var, /gnu/store and /var.
_BESIDE = ("../var/nix/db/db.sqlite", "../../var/guix/db/db.sqlite")
_STATE = {NIX_STORE: "/nix/var/nix/db/db.sqlite", GUIX_STORE: "/var/guix/db/db.sqlite"}
_SYSTEM = re.compile(rb'\],"([a-z0-9_]+-[a-z0-9_]+)","')
_DERIVATION_HEAD = 1 << 20


@dataclass(frozen=True, slots=True)
class StoreItem:
    """Where a target led: `base` (hash and name) in the directory `store`, as it was met."""

    store: str
    base: str

    def __str__(self) -> str:
        return posixpath.join(self.store, self.base)


def find(target: str, stores: tuple[StoreLocation, ...]) -> StoreItem | None:
    """The store item that `target` is, lies in, or is a chain of links to; else None.

    It need not be valid, nor exist on this machine.
    """
    done = "/"
    pending = os.path.join(os.getcwd(), target).split("/")[::-1]
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
        except (OSError, ValueError):  # no link, not there, or a name no file can have
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
    return any(_same(directory, location) for location in stores) or _has_database(directory)


def is_store(directory: str, base: str, stores: tuple[StoreLocation, ...]) -> bool:
    """Whether `directory` is a store: by its name, by a database beside it, or by `base` in one."""
    if any(_same(directory, location) for location in stores):
        return True
    # All stores are called that; one without a database is better refused than misunderstood.
    if posixpath.basename(directory) == "store" or _has_database(directory):
        return True
    return any(
        (root := database.logical_root()) and database.is_valid(posixpath.join(root, base))
        for database in databases(directory, stores)
    )


def databases(directory: str, stores: tuple[StoreLocation, ...]) -> Iterator[Database]:
    """The databases there are that may describe the store at `directory`, likeliest first."""
    named = [location.database for location in stores if _same(directory, location)]
    others = [location.database for location in stores]
    for path in dict.fromkeys([*named, *_beside(directory), *others]):
        if os.path.exists(path):
            yield Database(path)


def resolve(item: StoreItem, stores: tuple[StoreLocation, ...]) -> tuple[str, Closure]:
    """What kind of thing `item` is, for people, and its closure.

    Raises UsageError for a derivation, SourceError where no database knows the item.
    """
    if item.base.endswith(".drv"):
        raise UsageError(
            f"{printable(str(item))} is a derivation, not what it builds; "
            "build it and push its output"
        )
    found = list(databases(item.store, stores))
    for database in found:
        root = database.logical_root()
        infos = database.closure(posixpath.join(root, item.base)) if root else ()
        if root and infos:
            path = posixpath.join(root, item.base)
            return _kind(path, database), _closure(path, infos, item, database)
    if not found:
        raise SourceError(
            f"no database describes the store of {printable(str(item))}; NIX_STATE_DIR or "
            "GUIX_STATE_DIRECTORY says where it is, dir: takes it for a plain directory"
        )
    raise SourceError(
        f"{printable(str(item))} is not a valid store path, says "
        f"{printable(found[0].path)}; build it first"
    )


def physical_store(directory: str, logical: str, base: str, database: Database) -> str:
    """Where the files of the store `logical` are: where `base` was met, else at home."""
    places = [directory, logical]
    state = _STATE.get(logical, "")
    if state and database.path.endswith(state):
        places.append(database.path.removesuffix(state) + logical)
    for place in places:
        if os.path.lexists(posixpath.join(place, base)):
            return place
    return directory


def _closure(
    path: str, infos: tuple[PathInfo, ...], item: StoreItem, database: Database
) -> Closure:
    store = physical_store(item.store, posixpath.dirname(path), item.base, database)

    def physical(logical: str) -> str:
        return posixpath.join(store, posixpath.basename(logical))

    deriver = next(info.deriver for info in infos if info.path == path)
    return Closure.build(
        (path,),
        tuple(to_item(info, physical(info.path)) for info in infos),
        system=_system(physical(deriver)) if deriver else None,
    )


def _system(derivation: str) -> str | None:
    """The system a derivation is built for (Nix manual, "ATerm": the third field), if it says so.

    Only names and paths precede it, none of which hold the quoted sequence.
    """
    try:
        with open(derivation, "rb") as file:
            match = _SYSTEM.search(file.read(_DERIVATION_HEAD))
    except OSError:
        return None  # collected, as derivations often are
    return match[1].decode() if match else None


def _kind(path: str, database: Database) -> str:
    store = "Nix" if database.is_nix() else "Guix"
    return f"{store} profile" if item_name(path) == "profile" else f"{store} store item"


def _same(directory: str, location: StoreLocation) -> bool:
    return directory in (location.logical, os.path.realpath(location.logical))


def _has_database(directory: str) -> bool:
    return any(os.path.exists(path) for path in _beside(directory))


def _beside(directory: str) -> Iterator[str]:
    for relative in _BESIDE:
        yield posixpath.normpath(posixpath.join(directory, relative))
