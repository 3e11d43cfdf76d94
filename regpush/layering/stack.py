"""The rules that all strategies share: what lies on top, and what never shares a layer.

A directory's own code (Role.OWN) makes the upper layers: one, or several where a strategy groups
its parts; its large files (Role.ASSET) and files that installers write anew each time (Role.RECORD)
then have layers of their own. Generated items (Role.GENERATED) share the top layer with the part
that the user asked for, and with nothing else. Where nothing is OWN, as in a store's closure, the
strategy names the ordinary items that share a layer with the generated ones. It groups the items
below; groups of locked packages that a registry may refuse are cut. A plan of one layer holds
everything.

The sizes of locked packages are estimated from their files. So what is too large is cut into layers
that are half as large as they may be.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import TypeAlias

from regpush.closure import Closure, Item, Role
from regpush.layering.own_code import share, together
from regpush.layering.plan import Plan
from regpush.quantities import LAYER_LIMIT

Grouping: TypeAlias = Callable[[tuple[Item, ...], int], Iterable[Collection[Item]]]
"""Puts items, dependencies first, into at most the given number (>= 1) of groups, lowest first."""


def stack(
    closure: Closure,
    max_layers: int,
    grouping: Grouping,
    *,
    top: Collection[str] = (),
    own: Grouping | None = None,
) -> Plan:
    """Plan at most `max_layers` layers: the groups of `grouping`, with own code and links above.

    `top`: paths of ordinary items for the top layer; ignored where an item is OWN. By default the
    top layer holds generated items alone, like the customisation layer of guix pack and nixpkgs.
    `own` groups the parts of a directory's own code; by default they stay together.
    """
    if max_layers == 1:
        return Plan.of([closure.items])
    roles = _by_role(closure)
    code, below = roles[Role.OWN], roles[Role.ORDINARY]
    if not code:
        lifted = [item for item in below if item.path in top]
        above = [*lifted, *roles[Role.GENERATED]]
        room = max_layers - 1 if above else max_layers
        rest = tuple(item for item in below if item.path not in top)
        return Plan.of([*within_limit(grouping(rest, room), room), above])
    upper = _together(closure, max_layers) if own is None else _upper(closure, max_layers, own)
    *lower, highest = upper
    room = max_layers - len(upper)
    groups = within_limit(grouping(tuple(below), room), room) if below else ()
    return Plan.of([*groups, *lower, [*highest, *roles[Role.GENERATED]]])


def _by_role(closure: Closure) -> dict[Role, list[Item]]:
    roles: dict[Role, list[Item]] = {role: [] for role in Role}
    for item in closure.items:
        roles[item.role].append(item)
    return roles


def _together(closure: Closure, max_layers: int) -> list[Collection[Item]]:
    """Put all items of own code into as few layers as possible; the roots are in the last layer."""
    roles = _by_role(closure)
    room = max_layers - 1 if roles[Role.ORDINARY] else max_layers
    parts = [*roles[Role.RECORD], *roles[Role.ASSET], *roles[Role.OWN]]
    groups: list[Collection[Item]] = [*together(parts, room)]
    return sorted(groups, key=lambda group: any(item.path in closure.roots for item in group))


def _upper(closure: Closure, max_layers: int, own: Grouping) -> list[Collection[Item]]:
    """Group the items above the ordinary ones into layers, lowest first; roots are in the highest.

    Source, assets and records do not share a layer, as far as the number of layers allows.
    """
    roles = _by_role(closure)
    highest = [item for item in roles[Role.OWN] if item.path in closure.roots]
    source = [item for item in roles[Role.OWN] if item.path not in closure.roots]
    assets, records = roles[Role.ASSET], roles[Role.RECORD]
    room = _room(source or assets, closure, max_layers) - 1
    apart = [lot for lot in (assets, source, records) if lot]
    for lot in apart[room:]:
        highest += lot
    groups: list[Collection[Item]] = []
    if records in (placed := apart[:room]):
        groups.append(records)
        room -= 1
    if assets in placed and source in placed:
        for_source = share(_size(source), _size(assets), room)
        groups += [*own(tuple(assets), room - for_source), *own(tuple(source), for_source)]
    else:
        for lot in (assets, source):
            groups += own(tuple(lot), room) if lot in placed else ()
    return [*groups, highest]


def _room(parts: Sequence[Item], closure: Closure, max_layers: int) -> int:
    """Return the number of layers for items that are not ordinary.

    `parts`: own code or assets; where there are none, items that are not ordinary get one layer.
    """
    roles = _by_role(closure)
    below = roles.pop(Role.ORDINARY)
    if not below:
        return max_layers
    if not parts:
        return max_layers - 1
    above = sum(_size(items) for items in roles.values())
    return share(above, _size(below), max_layers)


def _size(items: Iterable[Item]) -> int:
    return sum(item.size for item in items)


def too_large(group: Collection[Item]) -> bool:
    """Whether a layer of `group` may be too large for a registry, and should be cut.

    True for two items or more, with packages of a lock file, above `LAYER_LIMIT` bytes.
    """
    locked = any(item.locked for item in group)
    return locked and len(group) > 1 and sum(item.size for item in group) > LAYER_LIMIT


def within_limit(groups: Iterable[Collection[Item]], room: int) -> list[Collection[Item]]:
    """Return `groups` in their order, with each group that is too large cut into smaller ones.

    At most `room` (>= 1) groups. Where `room` is too small for that, all groups are filled anew up
    to LAYER_LIMIT, and the last group takes every item that is left.
    """
    given = list(groups)
    if not any(map(too_large, given)):
        return given
    cut = [
        piece
        for group in given
        for piece in (_filled(group, LAYER_LIMIT // 2) if too_large(group) else (group,))
    ]
    if len(cut) <= room:
        return cut
    filled = list(_filled([item for group in given for item in group], LAYER_LIMIT))
    last = [item for group in filled[room - 1 :] for item in group]
    return [*filled[: room - 1], last]


def _filled(items: Iterable[Item], most: int) -> Iterator[Collection[Item]]:
    """Yield groups of neighbouring items: at most `most` bytes each, or one larger item alone."""
    group: list[Item] = []
    size = 0
    for item in items:
        if group and size + item.size > most:
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size
    if group:
        yield group
