"""The rules all strategies share: what lies on top, and what never shares a layer.

A directory's own code (Role.OWN) makes the upper layers: one, or more where a strategy says
how its parts are grouped. With the part that was asked for, in the top layer, lie generated
items (Role.GENERATED). Where nothing is OWN, as in a store's closure, the strategy says which
ordinary items lie beside the generated ones. It groups the items below. A single layer holds
everything.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TypeAlias

from regpush.closure import Closure, Item, Role
from regpush.layering.own_code import share, together
from regpush.layering.plan import Plan

Grouping: TypeAlias = Callable[[tuple[Item, ...], int], Iterable[Collection[Item]]]
"""Puts items, dependencies first, into at most so many groups (>= 1), bottom first."""


def stack(
    closure: Closure,
    max_layers: int,
    grouping: Grouping,
    *,
    top: Collection[str] = (),
    own: Grouping | None = None,
) -> Plan:
    """At most `max_layers` layers: those of `grouping`, and above them the others.

    `top`: paths of ordinary items for the top layer; without effect where an item is OWN.
    With the default that layer holds generated items alone, the customisation layer of
    guix pack and nixpkgs. `own` groups the parts of a directory's own code; by default they
    stay together.
    """
    if max_layers == 1:
        return Plan.of([closure.items])
    code = tuple(item for item in closure.items if item.role is Role.OWN)
    lifted = frozenset() if code else frozenset(top)
    above: list[Item] = []
    below: list[Item] = []
    for item in closure.items:
        if item.role is Role.GENERATED or item.path in lifted:
            above.append(item)
        elif item.role is Role.ORDINARY:
            below.append(item)
    if not code:
        room = max_layers - 1 if above else max_layers
        return Plan.of([*grouping(tuple(below), room), above])
    if own is None or len(code) == 1:
        groups: list[Collection[Item]] = [*together(code, max_layers - 1 if below else max_layers)]
        room = max_layers - len(groups)
    else:
        room = _left(code, below, max_layers)
        groups = [*own(code, max_layers - room)]
    groups.sort(key=lambda group: any(item.path in closure.roots for item in group))
    return Plan.of([*grouping(tuple(below), room), *groups[:-1], [*groups[-1], *above]])


def _left(code: Collection[Item], below: Collection[Item], max_layers: int) -> int:
    """The layers left for the items `below`."""
    if not below:
        return 0
    own, others = (sum(item.size for item in items) for items in (code, below))
    return max_layers - share(own, others, max_layers)
