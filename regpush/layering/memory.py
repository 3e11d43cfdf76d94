"""The records of its layers that an image carries for the plan of the next image.

A key identifies an item, a name identifies what stays of it when its version changes. Both are
short digests, because every image carries them. `history.layout` defines how they are serialised.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TypeAlias

from msgspec import Struct, field

from regpush.closure import Item
from regpush.digest import Digest

LAYOUTS = 4
"""Layouts that an image records at most, its own included. With its own alone, two branches pushed
in turn under one tag send a third more; with two or more, next to nothing more."""

WINDOW = 32
"""The number of latest pushes that a `Habit` covers."""

KEY_BYTES = 12
NAME_BYTES = 5

Key: TypeAlias = bytes
"""A digest of `KEY_BYTES` bytes over an item's path and identity: equal content at two paths has
two keys."""

Name: TypeAlias = bytes
"""A digest of `NAME_BYTES` bytes over an item's name, which stays from version to version."""


class Habit(Struct, frozen=True):
    """How often an item changed: bit i of `changes` is set if it changed i pushes ago.

    `pushes`: the number of pushes recorded, at most the last `WINDOW`. A push that changed nothing
    in the image does not count.
    """

    changes: int = 0
    pushes: int = 0

    def after(self, changed: bool) -> Habit:
        """Return the habit after one more push; `changed`: whether the item changed in it."""
        changes = (self.changes << 1 | changed) & ((1 << WINDOW) - 1)
        return Habit(changes, min(self.pushes + 1, WINDOW))


class Laid(Struct, frozen=True):
    """A layer of an earlier image: the keys of its items, and the digest of its blob if known."""

    keys: frozenset[Key]
    blob: Digest | None = None

    def is_among(self, available: frozenset[Digest] | None) -> bool:
        """Whether `available` lists the blob of this layer; True where either is unknown."""
        return available is None or self.blob is None or self.blob in available


class Layout(Struct, frozen=True, kw_only=True):
    """The layers of one image, lowest first; `serial`: how many changed images came before it."""

    serial: int
    layers: tuple[Laid, ...]

    def keys(self) -> Iterator[Key]:
        """Return an iterator over the keys of all items, each once."""
        return chain.from_iterable(layer.keys for layer in self.layers)

    def alike(self, other: Layout) -> bool:
        """Whether the layout `other` has equal layers; digests of blobs are not compared."""
        return [one.keys for one in self.layers] == [one.keys for one in other.layers]


class Memory(Struct, frozen=True, kw_only=True):
    """The records that an image carries about its own layers and those of earlier images.

    `layouts`: which items are in which layer, of the image itself first, then of earlier images.
    `habits`: how often the items of the image itself changed, by name. `read`: digests of the
    manifests of earlier images that the plan of the layers used. `manifest`: digest of the manifest
    that the records were read from, None for an image that is being made.
    """

    layouts: tuple[Layout, ...]
    habits: Mapping[Name, Habit] = field(default_factory=dict)
    read: tuple[Digest, ...] = ()
    manifest: Digest | None = None

    @property
    def own(self) -> Layout:
        """The layout of the image itself, which is the first."""
        return self.layouts[0]


def keys_of(items: Iterable[Item]) -> dict[str, Key] | None:
    """Return the key of each item by its path; None if any identity is still unknown."""
    keys: dict[str, Key] = {}
    for item in items:
        if item.identity is None:
            return None
        said = f"{item.path}\0{item.identity}".encode("utf-8", "surrogatepass")
        keys[item.path] = hashlib.sha256(said).digest()[:KEY_BYTES]
    return keys


def names_of(items: Iterable[Item]) -> dict[str, Name]:
    """Return the name of each item by its path.

    Items of a closure with equal names are told apart by numbers, in the order of their paths.
    """
    seen: dict[str, int] = {}
    names: dict[str, Name] = {}
    for item in sorted(items, key=lambda item: (item.name, item.path)):
        ordinal = seen.get(item.name, 0)
        seen[item.name] = ordinal + 1
        said = f"{item.name}\0{ordinal}".encode("utf-8", "surrogatepass")
        names[item.path] = hashlib.sha256(said).digest()[:NAME_BYTES]
    return names


def first(groups: Sequence[Sequence[Item]]) -> Memory | None:
    """Return the records for an image without earlier images; None if an identity is unknown.

    `groups`: the items of each layer, lowest first.
    """
    items = [item for group in groups for item in group]
    keys = keys_of(items)
    if keys is None:
        return None
    layers = tuple(Laid(frozenset(keys[item.path] for item in group)) for group in groups)
    habits = {name: Habit() for name in names_of(items).values()}
    return Memory(layouts=(Layout(serial=0, layers=layers),), habits=habits)


def joined(memories: Sequence[Memory]) -> Memory:
    """Join the records of several images, at least one: each layout once, the newest first.

    Habits are taken from the newest image; of equally new images, from the first in `memories`.
    """
    newest = max(memories, key=lambda memory: memory.own.serial)
    layouts: list[Layout] = []
    for layout in sorted(
        chain(newest.layouts, *(memory.layouts for memory in memories)),
        key=lambda layout: -layout.serial,
    ):
        if not any(layout.alike(other) for other in layouts):
            layouts.append(layout)
    read = tuple(memory.manifest for memory in memories if memory.manifest)
    return Memory(layouts=tuple(layouts), habits=newest.habits, read=read)
