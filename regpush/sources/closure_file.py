"""Read a closure file: a list of store paths with references, made where no database is accessible.

Text forms: the output of `exportReferencesGraph` (Nix manual, "Advanced Attributes"), and the file
`registration` of nixpkgs' closureInfo, which `nix-store --load-db` reads. JSON forms: see
`path_info_json`.
"""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from regpush.closure import Closure
from regpush.errors import SourceError, UsageError, printable
from regpush.events import Warned
from regpush.files.filesystem import unreadable
from regpush.settings import StoreLocation
from regpush.sources import hashes, path_info_json
from regpush.sources.database import Database
from regpush.sources.nar import nar_hash
from regpush.sources.path_info import PathInfo, to_item
from regpush.sources.path_info_json import Listed, NotValid, listed
from regpush.sources.store import physical_store
from regpush.sources.store_item import databases
from regpush.sources.store_path import is_path
from regpush.sources.tools import Workshop

_HEAD = 4096


def looks_like_one(path: str) -> bool:
    """Whether the file at `path` begins with JSON or with a store path, as closure files do.

    Raises SourceError where it cannot be read.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD).lstrip()
    except OSError as error:
        raise unreadable(path, error) from error
    if head.startswith((b"{", b"[")):
        return True
    return is_path(head.partition(b"\n")[0].decode("ascii", "replace"))


def resolve(path: str, stores: tuple[StoreLocation, ...], workshop: Workshop) -> Closure:
    """Read the closure file at `path`. The closure's roots are the paths that no other refers to.

    A NAR hash that the file does not state is looked up in the store's database. Where the database
    has none either, the hash is computed from the path's files, with a warning, because damage to
    these files would go unnoticed. Raises UsageError where the file is malformed or incomplete;
    SourceError where a path is not valid or a file cannot be read; CancelledError.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        found = _valid(_parse(data))
        _check_complete(found)
    except ValueError as error:
        raise UsageError(f"{printable(path)} is not a valid closure file: {error}") from error
    referred = {reference for item in found.values() for reference in item.references}
    database_of = functools.cache(functools.partial(_database, stores))
    items = []
    unrecorded = []
    for item in found.values():
        workshop.cancel.check()
        store, base = posixpath.split(item.path)
        database = database_of(store)
        if database:
            store = physical_store(store, store, base, database)
        physical = posixpath.join(store, base)
        info = _recorded(item, database)
        if info is None:
            unrecorded.append(item.path)
            info = item.recorded(*nar_hash(physical, workshop.cancel.check))
            items.append(replace(to_item(info, physical), recorded=None))
        else:
            items.append(to_item(info, physical))
    if unrecorded:
        workshop.notify(
            Warned(
                message=f"{printable(path)} and the store's database state no hash of "
                f"{len(unrecorded)} of {len(found)} store paths, such as "
                f"{printable(unrecorded[0])}; damage to their files would go unnoticed"
            )
        )
    return Closure.build(tuple(sorted(set(found) - referred)), tuple(items))


def _database(stores: tuple[StoreLocation, ...], store: str) -> Database | None:
    """Return the database on this machine whose valid paths are in `store`, or None.

    `store`: a logical directory, such as `/nix/store`.
    """
    found = (database for database in databases(store, stores) if database.logical_root() == store)
    return next(found, None)


def _recorded(item: Listed, database: Database | None) -> PathInfo | None:
    """Return `item` with a NAR hash and size that were recorded, not computed; None without them.

    They are those of the closure file, else those of `database`.
    """
    if item.nar_hash:
        return item.recorded(item.nar_hash, item.nar_size or 0)
    known = database.path_info(item.path) if database else None
    return item.recorded(known.nar_hash, known.nar_size) if known else None


def _valid(parsed: Iterable[Listed | NotValid]) -> dict[str, Listed]:
    found = {}
    for item in parsed:
        if isinstance(item, NotValid):
            raise SourceError(f"{printable(item.path)} is not a valid store path; build it first")
        found[item.path] = item
    return found


def _check_complete(found: Mapping[str, Listed]) -> None:
    if not found:
        raise ValueError("it lists no store path")
    for item in found.values():
        for reference in item.references:
            if reference not in found:
                raise ValueError(
                    f"it lists {printable(item.path)}, but not {printable(reference)}, to which "
                    "that path refers; list the whole closure (nix path-info --recursive --json)"
                )


def _parse(data: bytes) -> Sequence[Listed | NotValid]:
    """Parse the bytes of a closure file. Raises ValueError that names the wrong line or field."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    if not text.lstrip().startswith(("{", "[")):
        return list(_from_lines(text.split("\n")))
    return path_info_json.parse(text)


def _from_lines(lines: list[str]) -> Iterator[Listed]:
    """Parse a closure file of text lines.

    The lines of each store path: the path; hash and size of its NAR, which may be missing; its
    deriver, or an empty line; the number of references; a line for each reference. Raises
    ValueError that names the line.
    """
    if lines and not lines[-1]:
        lines = lines[:-1]
    at = 0

    def take(what: str) -> str:
        nonlocal at
        if at >= len(lines):
            raise ValueError(f"line {at + 1}: the file ends, but {what} is expected")
        at += 1
        return lines[at - 1]

    def number(what: str) -> int:
        text = take(what)
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise ValueError(f"line {at}: '{printable(text[:80])}' is not {what}")
        return int(text)

    def store_path(what: str) -> str:
        text = take(what)
        if not is_path(text):
            raise ValueError(f"line {at}: '{printable(text[:200])}' is not a store path")
        return text

    while at < len(lines):
        path = store_path("a path")
        digest, size = None, None
        deriver = take("a deriver")
        if deriver and not deriver.startswith("/"):
            try:
                digest = hashes.parse(deriver)
            except ValueError as error:
                raise ValueError(f"line {at}: {error}") from error
            size = number("the size of a NAR")
            deriver = take("a deriver")
        count = number("a count of references")
        references = [store_path("a reference") for _ in range(min(count, len(lines) + 1))]
        yield listed(path, digest, size, deriver, references)
