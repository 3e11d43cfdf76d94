"""Plans: which items share a layer, and in which order the layers lie."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from regpush.closure import Closure, Identity, Item, Role, Scheme
from regpush.digest import Digest
from regpush.errors import printable

LABEL_LENGTH = 60

# Nix and Guix: 32 digits of base 32, a dash, the name.
_STORE_NAME = re.compile(r"[0-9a-z]{32}-(.+)", re.DOTALL)

Layout: TypeAlias = tuple[tuple[Identity, ...], ...]
"""What an image's layers held, bottom first: the identities of each layer's items."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """Items that will share a layer, sorted by path, and what a person calls them.

    `label` is one printable line of at most `LABEL_LENGTH` characters. Built by
    `PlannedLayer.of`.
    """

    items: tuple[Item, ...]
    label: str

    @classmethod
    def of(cls, items: Collection[Item]) -> PlannedLayer:
        """The layer of `items`, at least one; labelled by the largest, ties by path."""
        ordered = tuple(sorted(items, key=lambda item: item.path))
        return cls(items=ordered, label=_label(ordered))


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The layers of an image, bottom first; every item of the closure in exactly one."""

    layers: tuple[PlannedLayer, ...]

    @classmethod
    def of(cls, groups: Iterable[Collection[Item]]) -> Plan:
        """A layer for each group, bottom first; none for a group without items."""
        return cls(layers=tuple(PlannedLayer.of(group) for group in groups if group))


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanContext:
    """What a strategy may look at besides the closure.

    `max_layers`: the most layers the plan may have, 1 to 127. `previous`: layouts of this
    image's earlier versions, newest first. `available`: digests of the blobs the registry
    is known to hold, None where nobody asked. A strategy without history ignores both.
    """

    max_layers: int = 64
    previous: tuple[Layout, ...] = ()
    available: frozenset[Digest] | None = None


Strategy: TypeAlias = Callable[[Closure, PlanContext], Plan]
"""Pure: the same closure and context give the same plan, on every machine."""


def base_name(item: Item) -> str:
    """The item's name; of a store item its path's, without the hash: `hello-2.12.1`."""
    if item.identity.scheme is not Scheme.NAR:
        return item.name
    last = item.path.rstrip("/").rpartition("/")[2]
    match = _STORE_NAME.fullmatch(last)
    return match[1] if match else last or item.name


def _label(items: tuple[Item, ...]) -> str:
    # What regpush adds to every top layer is no news.
    items = tuple(item for item in items if item.role is not Role.GENERATED) or items
    largest = max(items, key=lambda item: item.size)
    rest = f" and {len(items) - 1} more" if len(items) > 1 else ""
    name, room = printable(base_name(largest)), LABEL_LENGTH - len(rest)
    if len(name) > room:
        name = name[: room - 1] + "…"
    return name + rest
