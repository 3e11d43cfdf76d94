"""Groups of items that become layers, and the cost of joining two of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import IntEnum

from msgspec import Struct

from regpush.closure import Item
from regpush.layering.auto.odds import UNIT, Odds
from regpush.layering.memory import Habit, Name

_LAYER_COST = 16 << 10  # lambda: bytes that one layer less is worth in every push
_HORIZON = 10  # H: pushes that a decision is made for


class GroupKind(IntEnum):
    """The kind of a group's items; items of two kinds never share a layer.

    The order is that of the layers, lowest first.
    """

    ORDINARY = 0
    RECORD = 1
    ASSET = 2
    OWN = 3


class ItemGroup(Struct, frozen=True):
    """Items that will share a layer; `size` in bytes, `odds` of a change in units of `odds.UNIT`.

    `held`: whether the registry holds exactly this layer. `changes`, `pushes` and `origins`: the
    arguments of `Odds.of`. `first`: the least name and path among the items, which orders otherwise
    equal groups.
    """

    items: tuple[Item, ...]
    kind: GroupKind
    held: bool
    size: int
    changes: int
    pushes: int
    origins: int
    odds: int
    first: tuple[str, str]


class Groups(Struct, frozen=True):
    """Makes groups of the items of one closure.

    `habits`: how often each item changed, by its name. `names`: names of items by path. `origins`:
    for each path, a bit set of the source packages in that item's closure (`reach.origins`).
    """

    habits: Mapping[Name, Habit]
    names: Mapping[str, Name]
    origins: Mapping[str, int]
    odds: Odds

    def of(self, items: Collection[Item], kind: GroupKind, *, held: bool) -> ItemGroup:
        """Make the group of `items`, at least one."""
        changes = pushes = origins = 0
        for item in items:
            habit = self.habits[self.names[item.path]]
            changes |= habit.changes
            pushes = max(pushes, habit.pushes)
            origins |= self.origins[item.path]
        return ItemGroup(
            items=tuple(items),
            kind=kind,
            held=held,
            size=sum(item.size for item in items),
            changes=changes,
            pushes=pushes,
            origins=origins,
            odds=self.odds.of(changes, pushes, origins),
            first=min((item.name, item.path) for item in items),
        )

    def join(self, one: ItemGroup, other: ItemGroup) -> ItemGroup:
        """Make one group of the items of two groups; the registry does not hold it as a layer."""
        changes = one.changes | other.changes
        pushes = max(one.pushes, other.pushes)
        origins = one.origins | other.origins
        return ItemGroup(
            items=one.items + other.items,
            kind=one.kind,
            held=False,
            size=one.size + other.size,
            changes=changes,
            pushes=pushes,
            origins=origins,
            odds=self.odds.of(changes, pushes, origins),
            first=min(one.first, other.first),
        )

    def cost(self, one: ItemGroup) -> Callable[[ItemGroup], int]:
        """Return a function that gives the cost of joining `one` with another group.

        The cost is in bytes times `odds.UNIT`; joining pays where it is below 0. It is the sum of
        what both groups cost more together than apart over the next pushes, and of the bytes that
        the registry holds and that would be sent again now. Two groups that changed in the same
        pushes so far need not do so again: their joint odds lean towards those of independent
        groups.
        """
        together_of = self.odds.together
        size, changes, pushes, origins = one.size, one.changes, one.pushes, one.origins
        own, apart = one.odds, one.size * one.odds + _LAYER_COST * UNIT
        again = size * UNIT if one.held else 0

        def with_other(other: ItemGroup) -> int:
            seen = max(pushes, other.pushes)
            union = origins | other.origins
            if origins == other.origins:
                together = self.odds.of(changes | other.changes, seen, union)
            else:
                together = together_of(changes | other.changes, seen, union, own, other.odds)
            more = (size + other.size) * together - apart - other.size * other.odds
            sent = again + other.size * UNIT if other.held else again
            return _HORIZON * more + sent

        return with_other
