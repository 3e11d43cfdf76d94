"""A file that lists a closure: what a build without access to its store's database has.

Text: `exportReferencesGraph` and the `registration` of nixpkgs' closureInfo (which
`nix-store --load-db` reads). JSON: the same graph in a derivation with structured attributes,
and `nix path-info --json` in all its forms (Nix manual, "Advanced Attributes", "JSON
formats: store object info").
"""

from __future__ import annotations

import functools
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from regpush.closure import Closure
from regpush.digest import Digest
from regpush.errors import SourceError, UsageError, printable
from regpush.filesystem import unreadable
from regpush.settings import StoreLocation
from regpush.sources import hashes
from regpush.sources.database import Database
from regpush.sources.nar import nar_hash
from regpush.sources.path_info import PathInfo, to_item
from regpush.sources.store import databases, physical_store
from regpush.sources.store_path import is_path

_HEAD = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A store path as a file lists it: the hash and size of its NAR may be missing."""

    path: str
    nar_hash: Digest | None
    nar_size: int | None
    deriver: str
    references: tuple[str, ...]


def looks_like_one(path: str) -> bool:
    """Whether the file at `path` begins as closure files do. Raises SourceError."""
    try:
        with open(path, "rb") as file:
            head = file.read(_HEAD).lstrip()
    except OSError as error:
        raise unreadable(path, error) from error
    if head.startswith((b"{", b"[")):
        return True
    return is_path(head.partition(b"\n")[0].decode("ascii", "replace"))


def resolve(path: str, stores: tuple[StoreLocation, ...], check: Callable[[], None]) -> Closure:
    """The closure that the file at `path` lists; its roots are what nobody else refers to.

    A path whose NAR hash the file does not tell has it looked up in the store's database,
    else computed from its files. `check` is called meanwhile and may raise. Raises
    UsageError, naming the file and the place in it, for what is malformed or incomplete,
    SourceError for what cannot be read or is not valid.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise unreadable(path, error) from error
    try:
        listed = {item.path: item for item in _parse(data)}
        _check_complete(listed)
    except ValueError as error:
        raise UsageError(f"{printable(path)}: not a closure file: {error}") from error
    referred = {reference for item in listed.values() for reference in item.references}
    database_of = functools.cache(functools.partial(_database, stores))
    items = []
    for item in listed.values():
        check()
        store, base = posixpath.split(item.path)
        database = database_of(store)
        if database:
            store = physical_store(store, store, base, database)
        physical = posixpath.join(store, base)
        items.append(to_item(_complete(item, database, physical, check), physical))
    return Closure.build(tuple(sorted(set(listed) - referred)), tuple(items))


def _database(stores: tuple[StoreLocation, ...], store: str) -> Database | None:
    """The database of the logical `store`, if this machine has it."""
    found = (database for database in databases(store, stores) if database.logical_root() == store)
    return next(found, None)


def _complete(
    item: _Listed, database: Database | None, physical: str, check: Callable[[], None]
) -> PathInfo:
    """`item` with the hash and size of its NAR."""
    digest, size = item.nar_hash, item.nar_size
    if digest is None:
        known = database.path_info(item.path) if database else None
        digest, size = (known.nar_hash, known.nar_size) if known else nar_hash(physical, check)
    return PathInfo(
        path=item.path,
        nar_hash=digest,
        nar_size=size or 0,
        deriver=item.deriver,
        references=item.references,
    )


def _check_complete(listed: Mapping[str, _Listed]) -> None:
    if not listed:
        raise ValueError("it lists nothing")
    for item in listed.values():
        for reference in item.references:
            if reference not in listed:
                raise ValueError(
                    f"{printable(item.path)} refers to {printable(reference)}, which it does "
                    "not list; list the whole closure (nix path-info --recursive --json)"
                )


def _parse(data: bytes) -> Iterable[_Listed]:
    """Raises ValueError naming the line or field that is wrong."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    if not text.lstrip().startswith(("{", "[")):
        return list(_from_lines(text.split("\n")))
    try:
        return list(_from_json(json.loads(text)))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _from_lines(lines: list[str]) -> Iterator[_Listed]:
    """Records of lines: path, [hash, size,] deriver or nothing, count, and so many references."""
    if lines and not lines[-1]:
        lines = lines[:-1]
    at = 0

    def take(what: str) -> str:
        nonlocal at
        if at >= len(lines):
            raise ValueError(f"line {at + 1}: it ends where {what} should be")
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
        yield _listed(path, digest, size, deriver, references)


def _from_json(value: Any) -> Iterator[_Listed]:
    store_dir = ""
    if isinstance(value, dict) and "info" in value:
        store_dir = _field(value, "storeDir", str, "the file", "")
        value = _field(value, "info", dict, "the file")
    if isinstance(value, dict):
        graphs = [part for part in value.values() if _is_graph(part)]
        if len(graphs) > 1:
            raise ValueError("it holds several graphs; write one of them to a file")
        if graphs:
            (value,) = graphs
    if isinstance(value, dict):
        for key, info in value.items():
            yield _from_info(key, info, store_dir)
    elif isinstance(value, list):
        for position, info in enumerate(value):
            if not isinstance(info, dict):
                raise ValueError(f"member {position} of the list is not an object")
            path = _field(info, "path", str, f"member {position} of the list")
            yield _from_info(path, info, store_dir)


def _is_graph(value: object) -> bool:
    """Whether `value` is a graph among the attributes of a derivation."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(isinstance(info, dict) and "path" in info for info in value)
    )


def _from_info(key: str, info: Any, store_dir: str) -> _Listed:
    if info is None or (isinstance(info, dict) and info.get("valid") is False):
        raise SourceError(f"{printable(key)} is not a valid store path; build it first")
    where = printable(key)
    if not isinstance(info, dict):
        raise ValueError(f"{where}: not an object")
    store_dir = _field(info, "storeDir", str, where, store_dir)

    def absolute(path: str) -> str:
        full = posixpath.join(store_dir, path)
        if not is_path(full):
            raise ValueError(f"{where}: '{printable(path[:200])}' is not a store path")
        return full

    references = _field(info, "references", list, where)
    if not all(isinstance(reference, str) for reference in references):
        raise ValueError(f"{where}: references are not all strings")
    digest = None
    if info.get("narHash") is not None:
        try:
            digest = hashes.parse(info["narHash"])
        except ValueError as error:
            raise ValueError(f"{where}: narHash: {error}") from error
    size = _field(info, "narSize", int, where, None)
    if size is not None and size < 0:
        raise ValueError(f"{where}: no valid narSize")
    deriver = _field(info, "deriver", str, where, "")
    return _listed(absolute(key), digest, size, deriver, map(absolute, references))


_REQUIRED = object()


def _field(
    value: dict[str, Any], key: str, kind: type, where: str, default: Any = _REQUIRED
) -> Any:
    """`value[key]`, which must be of `kind`; absent or null it is `default`, if there is one."""
    found = value.get(key)
    if found is None and default is not _REQUIRED:
        return default
    if not isinstance(found, kind) or isinstance(found, bool):
        raise ValueError(f"{where}: no valid {key}")
    return found


def _listed(
    path: str, digest: Digest | None, size: int | None, deriver: str, references: Iterable[str]
) -> _Listed:
    return _Listed(
        path=path,
        nar_hash=digest,
        nar_size=size,
        deriver=deriver if deriver != "unknown-deriver" else "",
        references=tuple(sorted(set(references) - {path})),
    )
