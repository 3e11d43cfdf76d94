"""Read and write history files: past pushes, with which `regpush simulate` scores strategies. Pure.

A file is a JSON object of the format `regpush-history/1`. Each element of `items` is one version of
an item, `{name, hash, size, refs, origin}`: `hash`, 32 hex digits, identifies the content; `size`
is in bytes; `refs` are the names of the items that it refers to, in the same closure. `pushes`, in
time order, are `{app, date, roots, add, remove}`; the last three are lists of indexes into `items`.
The closure of a push is the closure of the app's previous push, without `remove` and with `add`.
Names are unique in a closure. `semantics` is `rehash` if a change of an item changes the hashes of
all items that refer to it, like in Nix and Guix, else `plain`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, Self

from msgspec import Struct

from regpush.closure import Closure, Identity, Item
from regpush.digest import Digest
from regpush.entry import Entry
from regpush.errors import RegpushError, UsageError, VerificationError, printable

FORMAT = "regpush-history/1"

HASH_DIGITS = 32


class Version(Struct, frozen=True, kw_only=True):
    """One version of an item. `size` in bytes; `refs`: names of the items that it refers to."""

    name: str
    hash: str
    size: int
    refs: tuple[str, ...]
    origin: str


class Push(Struct, frozen=True, kw_only=True):
    """One push of the app `app`; `roots`, `add` and `remove` are indexes into `History.items`."""

    app: str
    date: str
    roots: tuple[int, ...]
    add: tuple[int, ...]
    remove: tuple[int, ...]


class History(Struct, frozen=True, kw_only=True):
    """The content of a history file: versions of items, and pushes in time order."""

    name: str
    semantics: str
    items: tuple[Version, ...]
    pushes: tuple[Push, ...]

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Parse the content of a history file. Raises UsageError if it is malformed."""
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise UsageError("the history file is not JSON; regpush history writes one") from error
        if not isinstance(value, dict) or value.get("format") != FORMAT:
            _bad(f"its format is not {FORMAT}")
        items = tuple(_version(entry) for entry in _list(value, "items"))
        pushes = tuple(_push(entry, len(items)) for entry in _list(value, "pushes"))
        return cls(
            name=str(value.get("name", "")),
            semantics=str(value.get("semantics", "")),
            items=items,
            pushes=pushes,
        )

    def to_json(self) -> Mapping[str, Any]:
        """Return the content of a history file."""
        return {
            "format": FORMAT,
            "name": self.name,
            "semantics": self.semantics,
            "items": [
                {
                    "name": one.name,
                    "hash": one.hash,
                    "size": one.size,
                    "refs": list(one.refs),
                    "origin": one.origin,
                }
                for one in self.items
            ],
            "pushes": [
                {
                    "app": one.app,
                    "date": one.date,
                    "roots": list(one.roots),
                    "add": list(one.add),
                    "remove": list(one.remove),
                }
                for one in self.pushes
            ],
        }

    def closures(self) -> Iterator[tuple[str, Closure]]:
        """Yield the app's name and the closure of each push, in time order.

        Raises UsageError if an item refers to an item that its closure lacks, or a name is used
        twice in a closure.
        """
        current: dict[str, frozenset[int]] = {}
        for number, push in enumerate(self.pushes, 1):
            before = current.get(push.app, frozenset())
            current[push.app] = before - frozenset(push.remove) | frozenset(push.add)
            versions = [self.items[index] for index in sorted(current[push.app])]
            try:
                yield push.app, self._closure(versions, push)
            except (RegpushError, KeyError) as error:
                missing = f"an item refers to {error}, which the closure lacks"
                reason = missing if isinstance(error, KeyError) else str(error)
                raise UsageError(f"the history is damaged: push {number}: {reason}") from error

    def _closure(self, versions: Sequence[Version], push: Push) -> Closure:
        path_of: dict[str, str] = {}
        for version in versions:
            if version.name in path_of:
                raise UsageError(f"two items are named {printable(version.name)}")
            path_of[version.name] = _path(version)
        items = tuple(
            Item(
                path=_path(version),
                name=version.name,
                origin=version.origin,
                identity=Identity.nar(Digest("sha256", version.hash * 2)),
                size=version.size,
                references=tuple(path_of[name] for name in version.refs if name != version.name),
                entries=_no_entries,
            )
            for version in versions
        )
        return Closure.build(tuple(_path(self.items[index]) for index in push.roots), items)


def hash_of(item: Item) -> str:
    """Return the 32 hex digits that identify the content of an item from `History.closures`."""
    if item.identity is None:
        raise VerificationError(f"{printable(item.path)} has no identity yet")
    return item.identity.digest.hex[:HASH_DIGITS]


def _no_entries() -> Iterator[Entry]:
    return iter(())


def _path(version: Version) -> str:
    return f"/gnu/store/{version.hash}-{version.name}"


def _version(entry: object) -> Version:
    if not isinstance(entry, dict):
        _bad("an item is not a JSON object")
    name, digest, size = entry.get("name"), entry.get("hash"), entry.get("size")
    refs, origin = _list(entry, "refs"), entry.get("origin") or name
    if not isinstance(name, str) or not isinstance(origin, str) or not name or "/" in name:
        _bad("an item has no name or no origin, or its name contains a slash")
    if not isinstance(digest, str) or len(digest) != HASH_DIGITS or not _is_hex(digest):
        _bad(f"the hash of {printable(name)} is not {HASH_DIGITS} hex digits")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        _bad(f"the size of {printable(name)} is not a number of bytes")
    if not all(isinstance(one, str) for one in refs):
        _bad(f"the refs of {printable(name)} are not names")
    return Version(name=name, hash=digest, size=size, refs=tuple(refs), origin=origin)


def _push(entry: object, items: int) -> Push:
    if not isinstance(entry, dict) or not isinstance(entry.get("app"), str):
        _bad("a push does not name its app")

    def indexes(key: str) -> tuple[int, ...]:
        found = _list(entry, key)
        if not all(type(index) is int and 0 <= index < items for index in found):
            _bad(f"'{key}' of a push is not a list of item indexes")
        return tuple(found)

    return Push(
        app=entry["app"],
        date=str(entry.get("date", "")),
        roots=indexes("roots"),
        add=indexes("add"),
        remove=indexes("remove"),
    )


def _is_hex(text: str) -> bool:
    return all(digit in "0123456789abcdef" for digit in text)


def _list(value: Mapping[str, Any], key: str) -> list[Any]:
    found = value.get(key)
    if not isinstance(found, list):
        _bad(f"'{key}' is not a list")
    return found


def _bad(why: str) -> NoReturn:
    raise UsageError(f"the history is damaged: {why}")
