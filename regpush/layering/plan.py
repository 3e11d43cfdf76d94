"""Plans of an image's layers: which items share a layer, and the order of the layers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from msgspec import Struct

from regpush.closure import Closure, Item, Role
from regpush.digest import Digest
from regpush.errors import RegpushError, printable
from regpush.layering.labels import label_of_paths, store_name
from regpush.layering.memory import Layout, Memory

LOCKED = r"(?s)(.*)/([^/]+?)(?:-(?=[0-9][^/-]*\.dist-info$)|@)([^/@]+?)(?:\.dist-info)?"
"""Matches the path of a locked package's item, of Python or Node; the groups are folder, name and
version."""


class PlannedLayer(Struct, frozen=True, kw_only=True):
    """Items that will share a layer, sorted by path, with a label for people.

    `label` is one printable line of at most 100 characters. Built by `PlannedLayer.of`.
    """

    items: tuple[Item, ...]
    label: str

    @classmethod
    def of(cls, items: Collection[Item]) -> PlannedLayer:
        """Make the planned layer of `items`, at least one."""
        ordered = tuple(sorted(items, key=lambda item: item.path))
        return cls(items=ordered, label=_label(ordered))


class Plan(Struct, frozen=True, kw_only=True):
    """The layers of an image, lowest first; every item of the closure is in exactly one.

    `memory`: the records that the image carries for the next plan, None from a strategy that does
    not learn. `steps`: sentences for people about the data that a strategy that learns used or
    lacked.
    """

    layers: tuple[PlannedLayer, ...]
    memory: Memory | None = None
    steps: tuple[str, ...] = ()

    @classmethod
    def of(cls, groups: Iterable[Collection[Item]]) -> Plan:
        """Make a plan with a layer for each group, lowest first; empty groups get no layer."""
        return cls(layers=tuple(PlannedLayer.of(group) for group in groups if group))

    def check(self, closure: Closure) -> None:
        """Check that each item of `closure` occurs exactly once.

        Raises RegpushError where one does not, which is a bug in a strategy.
        """
        placed = Counter(item.path for layer in self.layers for item in layer.items)
        if wrong := sorted(placed.keys() ^ {item.path for item in closure.items}):
            where = "is in a layer but not in the closure" if wrong[0] in placed else "has no layer"
            raise RegpushError(f"{printable(wrong[0])} {where}: report this bug")
        if twice := sorted(path for path, count in placed.items() if count > 1):
            raise RegpushError(f"{printable(twice[0])} is in two layers: report this bug")


class PlanContext(Struct, frozen=True, kw_only=True, eq=False):
    """The facts that a strategy may use besides the closure.

    `max_layers`: layers that the plan may have, 1 to 127. `past`: the records of earlier images of
    the repository, those at the most similar tags first. `others`: layouts of images in other
    repositories whose layers can be mounted. `available`: digests of the blobs that the registry is
    known to hold, None if it was not asked. Strategies that do not learn ignore the last three.
    """

    max_layers: int = 64
    past: tuple[Memory, ...] = ()
    others: tuple[Layout, ...] = ()
    available: frozenset[Digest] | None = None


Strategy: TypeAlias = Callable[[Closure, PlanContext], Plan]
"""Makes a plan. A pure function: equal closures and contexts give equal plans on every machine."""


def base_name(item: Item) -> str:
    """Return the name by which people know the item, with its version if that is known."""
    if item.locked and item.locked.version:
        return f"{item.name}-{item.locked.version}"
    return store_name(item.path) or item.name


def _label(items: tuple[Item, ...]) -> str:
    # Items that regpush adds to the top layer of every image are not part of its label.
    paths = [item.path for item in items if item.role is not Role.GENERATED]
    return label_of_paths(paths or [item.path for item in items])
