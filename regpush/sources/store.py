"""Find the closure of a Nix or Guix store path.

References and hashes come from the store's database or from binary caches. No file of an item is
opened, and the store directory is never listed.
"""

from __future__ import annotations

import functools
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from regpush.closure import Closure, Item, no_search_paths
from regpush.errors import SourceError, UsageError, printable
from regpush.events import Warned
from regpush.settings import GUIX_STORE, NIX_STORE, StoreLocation
from regpush.sources.database import Database
from regpush.sources.etc_profile import search_paths
from regpush.sources.gc_root import keep
from regpush.sources.nix.cache import Cached, Caches, Downloads
from regpush.sources.path_info import PathInfo, to_item
from regpush.sources.store_item import StoreItem, databases, is_at
from regpush.sources.store_part import StorePart
from regpush.sources.store_path import full_name, item_name
from regpush.sources.tools import Workshop

_STATE = {NIX_STORE: "/nix/var/nix/db/db.sqlite", GUIX_STORE: "/var/guix/db/db.sqlite"}
_SYSTEM = re.compile(rb'\],"([a-z0-9_]+-[a-z0-9_]+)","')
_DERIVATION_HEAD = 1 << 20


class NotValidError(SourceError):
    """No store on this machine, and no binary cache that was asked, has a store path."""


def main_first(parts: Sequence[StorePart]) -> list[StorePart]:
    """Return `parts` with the main output of each derivation before its other outputs.

    `nix build` and `guix build` print the outputs of a package sorted by path. The main output's
    path has the package's name alone, the others have `-OUTPUT` after it (Nix manual,
    "Derivations"; Guix's `derivation->output-path`).
    """

    def is_output(part: StorePart) -> bool:
        name = full_name(part.root)
        return any(
            other.deriver == part.deriver and name.startswith(f"{full_name(other.root)}-")
            for other in parts
            if part.deriver and other is not part
        )

    first = {part.deriver: number for number, part in reversed(list(enumerate(parts)))}
    places = [first[part.deriver] if part.deriver else at for at, part in enumerate(parts)]
    order = sorted(range(len(parts)), key=lambda at: (places[at], is_output(parts[at]), at))
    return [parts[at] for at in order]


def no_caches() -> None:
    """Return None; the default of `caches` in `locate`, for callers that ask no binary cache."""


def locate(
    item: StoreItem,
    stores: tuple[StoreLocation, ...],
    caches: Callable[[], Caches | None] = no_caches,
) -> StorePart:
    """Find the closure of `item` in a store on this machine, else in binary caches.

    `caches`: returns the binary caches to ask; called only if no store has the item. Items from
    caches are downloaded when they are opened. Raises UsageError for a derivation, NotValidError
    for an item that no store and no cache has, SourceError, CancelledError.
    """
    if item.base.endswith(".drv"):
        raise _derivation(item)
    found = list(databases(item.store, stores))
    for database in found:
        root = database.logical_root()
        infos = database.closure(posixpath.join(root, item.base)) if root else ()
        if root and infos:
            return _here(posixpath.join(root, item.base), infos, item, database)
    theirs = any(is_at(item.store, one) for one in stores) or any(one.is_nix() for one in found)
    asked = caches() if theirs else None
    if asked and (part := _cached(item, found, asked)):
        return part
    if asked:
        raise NotValidError(
            f"{printable(str(item))} is in no store on this machine, and no binary cache has it "
            "with a trusted signature; build it first"
        )
    if not found:
        raise NotValidError(
            f"the store of {printable(str(item))} has no database that regpush finds; set "
            "NIX_STATE_DIR or GUIX_STATE_DIRECTORY to the folder that contains it, or push a plain "
            "directory as dir:PATH"
        )
    raise NotValidError(
        f"{printable(str(item))} is not a valid store path according to the database "
        f"{printable(found[0].path)}; build it first"
    )


def closure_of(parts: Sequence[StorePart], workshop: Workshop) -> tuple[str, Closure]:
    """Make one closure of `parts`.

    Returns a phrase that describes the parts in messages, such as `Nix store item`, and the
    closure. Items on this machine are protected from the garbage collector until the push ends, as
    far as permissions allow. Raises SourceError, CancelledError.
    """
    for part in parts:
        if part.database:
            keep(part.local, part.database, workshop)
    systems = {part.system for part in parts}
    closure = Closure.build(
        tuple(dict.fromkeys(part.root for part in parts)),
        tuple({item.path: item for part in parts for item in part.items}.values()),
        system=systems.pop() if len(systems) == 1 else None,
    )
    profiles = [closure[part.root] for part in parts if part.is_profile]
    paths = functools.partial(search_paths, profiles) if profiles else no_search_paths
    kinds = dict.fromkeys(part.kind for part in parts)
    return ", ".join(kinds), replace(closure, search_paths=paths)


def _here(path: str, infos: tuple[PathInfo, ...], item: StoreItem, database: Database) -> StorePart:
    place = physical_store(item.store, posixpath.dirname(path), item.base, database)

    def physical(logical: str) -> str:
        return posixpath.join(place, posixpath.basename(logical))

    deriver = next(info.deriver for info in infos if info.path == path)
    is_nix = database.is_nix()
    is_profile = item_name(path) == "profile"
    return StorePart(
        root=path,
        items=tuple(to_item(info, physical(info.path)) for info in infos),
        local=infos,
        database=database,
        kind=f"{'Nix' if is_nix else 'Guix'} {'profile' if is_profile else 'store item'}",
        system=_system(physical(deriver)) if deriver else None,
        is_profile=is_profile and not is_nix,
        deriver=deriver,
    )


def _cached(item: StoreItem, found: Sequence[Database], caches: Caches) -> StorePart | None:
    """Find the closure of `item` in binary caches; take paths that the local store has from there.

    `found`: databases of the item's store on this machine. None where a path of the closure is
    neither in a cache nor in that store, with a warning if a cache has `item` itself.
    """
    database = next((one for one in found if one.logical_root() and one.is_nix()), None)
    store = (database.logical_root() if database else None) or item.store
    path = posixpath.join(store, item.base)
    known = functools.cache(database.is_valid) if database else lambda _: False
    offered, missing = caches.find([path], known)
    infos = [one.info for one in offered]
    if missing:
        if path not in missing:
            message = (
                f"{printable(path)} is in a binary cache, but {printable(missing[0])}, to which it "
                "refers, is in none; the path must be built"
            )
            caches.workshop.notify(Warned(message=message))
        return None
    items = {one.info.path: _to_fetch(one, caches.downloads) for one in offered}
    local: dict[str, PathInfo] = {}
    for reference in sorted({ref for info in infos for ref in info.references} - items.keys()):
        if database and reference not in local:
            local |= {info.path: info for info in database.closure(reference)}
    place = posixpath.dirname(path)
    if local and database:
        place = physical_store(item.store, place, posixpath.basename(min(local)), database)
    for info in local.values():
        physical = posixpath.join(place, posixpath.basename(info.path))
        items[info.path] = to_item(info, physical)
    deriver = next(info.deriver for info in infos if info.path == path)
    return StorePart(
        root=path,
        items=tuple(items.values()),
        local=tuple(local.values()),
        database=database,
        kind=f"Nix store item, {len(infos)} of {len(items)} paths in binary caches",
        system=_system(posixpath.join(place, posixpath.basename(deriver))) if deriver else None,
        deriver=deriver,
    )


def _to_fetch(one: Cached, downloads: Downloads) -> Item:
    # The hash is compared after the download; `recorded` None keeps packing from comparing again.
    return replace(
        to_item(one.info, one.info.path),
        entries=functools.partial(downloads.entries, one),
        ahead=functools.partial(downloads.begin, one),
        recorded=None,
    )


def _derivation(item: StoreItem) -> UsageError:
    path = printable(str(item))
    tool = "guix build" if item.store == GUIX_STORE else "nix-store --realise"
    return UsageError(
        f"{path} is a derivation, that is, only the instructions to build a package; build it and "
        f"push its output: regpush $({tool} {path})"
    )


def physical_store(directory: str, logical: str, base: str, database: Database) -> str:
    """Return the directory on this machine that contains the files of the store `logical`.

    It is the first of these that contains the item `base`: `directory`; the logical path itself;
    the store in the same file tree as the database. Where none does, it is `directory`.
    """
    places = [directory, logical]
    state = _STATE.get(logical, "")
    if state and database.path.endswith(state):
        places.append(database.path.removesuffix(state) + logical)
    for place in places:
        if os.path.lexists(posixpath.join(place, base)):
            return place
    return directory


def _system(derivation: str) -> str | None:
    """Return the system (`x86_64-linux`) for which the derivation at a path was made.

    None where the file cannot be read. It is the third field of the derivation (Nix manual,
    "ATerm"); the names and paths before it cannot contain the sequence that is searched for.
    """
    try:
        with open(derivation, "rb") as file:
            match = _SYSTEM.search(file.read(_DERIVATION_HEAD))
    except OSError:
        return None  # derivations are often garbage-collected
    return match[1].decode() if match else None
