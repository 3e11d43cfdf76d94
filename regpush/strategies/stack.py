"""The rules all strategies share: what lies on top, and what never shares a layer.

A directory's own code (Role.OWN) and generated items (Role.GENERATED) make the top layer.
Where nothing is OWN, as in a store's closure, the strategy says which ordinary items lie
beside the generated ones. It groups the items below. A single layer holds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from regpush.closure import Closure, Item, Role
from regpush.strategies.plan import Plan

Grouping: TypeAlias = Callable[[tuple[Item, ...], int], Iterable[Collection[Item]]]
"""Puts items, dependencies first, into at most so many groups (>= 1), bottom first."""


def stack(
    closure: Closure, max_layers: int, grouping: Grouping, *, top: Collection[str] = ()
) -> Plan:
    """At most `max_layers` layers: those of `grouping`, and above them the top layer.

    `top`: paths of ordinary items for the top layer; without effect where an item is OWN.
    With the default that layer holds generated items alone, the customisation layer of
    guix pack and nixpkgs.
    """
    if max_layers == 1:
        return Plan.of([closure.items])
    own = any(item.role is Role.OWN for item in closure.items)
    lifted = frozenset() if own else frozenset(top)
    above: list[Item] = []
    below: list[Item] = []
    for item in closure.items:
        on_top = item.role is not Role.ORDINARY or item.path in lifted
        (above if on_top else below).append(item)
    room = max_layers - 1 if above else max_layers
    return Plan.of([*grouping(tuple(below), room), above])
