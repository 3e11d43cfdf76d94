"""What an image remembers of its own planning, for the plan of the next one.

Keys stand for items, names for what outlives their versions: both are short digests, for
they travel in every image. How they are written there is `layout`'s business.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TypeAlias

from regpush.closure import Item
from regpush.digest import Digest

LAYOUTS = 4
"""Layouts that an image remembers, its own included.

With its own alone, two branches that are pushed in turn under one tag cost a third more;
from two on, next to nothing.
"""

WINDOW = 32
"""Pushes that a habit looks back on."""

KEY_BYTES = 12
NAME_BYTES = 5

Key: TypeAlias = bytes
"""What an item is and where it lies, in `KEY_BYTES` bytes: two of equal content differ."""

Name: TypeAlias = bytes
"""What stays of an item from version to version, in `NAME_BYTES` bytes."""


@dataclass(frozen=True, slots=True)
class Habit:
    """How often an item changed: bit i of `changes` is the i-th last of `pushes` pushes.

    At most the last `WINDOW` count; those that changed nothing in the image do not.
    """

    changes: int = 0
    pushes: int = 0

    def after(self, changed: bool) -> Habit:
        """The habit one push later."""
        changes = (self.changes << 1 | changed) & ((1 << WINDOW) - 1)
        return Habit(changes, min(self.pushes + 1, WINDOW))


@dataclass(frozen=True, slots=True)
class Laid:
    """A layer that an image had: what was in it, and its blob where that is known."""

    keys: frozenset[Key]
    blob: Digest | None = None

    def is_among(self, available: frozenset[Digest] | None) -> bool:
        """Whether its blob is one of `available`, as far as anyone knows."""
        return available is None or self.blob is None or self.blob in available


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layers of one image, bottom first. `serial` counts the changes that led to it."""

    serial: int
    layers: tuple[Laid, ...]

    def keys(self) -> Iterator[Key]:
        """The keys of all its items, no key twice."""
        return chain.from_iterable(layer.keys for layer in self.layers)

    def alike(self, other: Layout) -> bool:
        """Whether both have the same layers, whatever became of their blobs."""
        return [one.keys for one in self.layers] == [one.keys for one in other.layers]


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """What one image remembers: `layouts`, its own first, then those it replaced.

    `habits` are of the items of its own layout. `read`: the manifests that its plan looked
    at. `manifest`: where this was read, None for an image yet to be made.
    """

    layouts: tuple[Layout, ...]
    habits: Mapping[Name, Habit] = field(default_factory=dict)
    read: tuple[Digest, ...] = ()
    manifest: Digest | None = None

    @property
    def own(self) -> Layout:
        """The layout of the image itself."""
        return self.layouts[0]


def keys_of(items: Iterable[Item]) -> dict[str, Key] | None:
    """The key of each path, or None where an identity is still open."""
    keys: dict[str, Key] = {}
    for item in items:
        if item.identity is None:
            return None
        said = f"{item.path}\0{item.identity}".encode("utf-8", "surrogatepass")
        keys[item.path] = hashlib.sha256(said).digest()[:KEY_BYTES]
    return keys


def names_of(items: Iterable[Item]) -> dict[str, Name]:
    """The name of each path; names that repeat in a closure are told apart by their order."""
    seen: dict[str, int] = {}
    names: dict[str, Name] = {}
    for item in sorted(items, key=lambda item: (item.name, item.path)):
        ordinal = seen.get(item.name, 0)
        seen[item.name] = ordinal + 1
        said = f"{item.name}\0{ordinal}".encode("utf-8", "surrogatepass")
        names[item.path] = hashlib.sha256(said).digest()[:NAME_BYTES]
    return names


def first(groups: Sequence[Sequence[Item]]) -> Memory | None:
    """The memory of an image without a past; None where an identity is still open."""
    items = [item for group in groups for item in group]
    keys = keys_of(items)
    if keys is None:
        return None
    layers = tuple(Laid(frozenset(keys[item.path] for item in group)) for group in groups)
    habits = {name: Habit() for name in names_of(items).values()}
    return Memory(layouts=(Layout(serial=0, layers=layers),), habits=habits)


def joined(memories: Sequence[Memory]) -> Memory:
    """All that `memories`, one at least, know: the layouts newest first, none twice.

    Habits are those of the newest image. Of equally new ones the first of `memories` is.
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
