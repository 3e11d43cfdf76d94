"""`stable`: groups and an order that rarely change, from this closure alone.

What changes is guessed from the graph: with Nix and Guix an item is new whenever anything
in its closure is. Large items lie alone; the others meet in tiers of like volatility, in
bins drawn by source package, so that a new version of one disturbs one bin. The parts of a
directory's own code are drawn alike. No floats decide: two machines agree. What the constants
are was measured on version histories.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, reduce
from itertools import accumulate, repeat
from operator import or_

from regpush.closure import Closure, Item
from regpush.strategies.own_code import apart
from regpush.strategies.plan import Plan, PlanContext
from regpush.strategies.reach import closures
from regpush.strategies.rendezvous import rendezvous
from regpush.strategies.stack import stack

_SMALL = 256 << 10  # bytes below which an item shares a layer even where each could have one
_TIERS = (4, 16)  # the most items in the closure of a member of the first and second tier
_UNIT = 1 << 64  # fixed-point one
_OWN_CHANGES = 20  # an item's own chance of changing, in dependencies that would give the same


def stable(closure: Closure, context: PlanContext) -> Plan:
    """At most `context.max_layers` layers; the top one holds what was asked for."""
    reach = closures(closure)
    steps = repeat(99, len(closure.items) + _OWN_CHANGES)
    unchanged = tuple(accumulate(steps, lambda keep, percent: keep * percent // 100, initial=_UNIT))

    def volatility(group: tuple[Item, ...]) -> tuple[int, str, str]:
        """Chance of a change per byte: .99 is an item's chance to stay as it is in one push."""
        # A group changes with any of its members: on 20 layers, the greatest closure alone
        # re-unpacked up to a sixth more; on 64 and 100 the two hardly differ.
        union = reduce(or_, (reach[item.path] for item in group))
        change = _UNIT - unchanged[union.bit_count() + _OWN_CHANGES]
        size = max(sum(item.size for item in group), 1)
        first = min(group, key=lambda item: (item.name, item.path))
        return change * _UNIT // size, first.name, first.path

    def grouped(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
        return sorted(_groups(items, room, reach), key=volatility)

    return stack(closure, context.max_layers, grouped, top=_user_roots(closure, reach), own=apart)


def _user_roots(closure: Closure, reach: Mapping[str, int]) -> tuple[str, ...]:
    """The roots that hold nearly as much together as the greatest: profiles, apps.

    A root far smaller is a package that was listed as well. It changes as its like do, and
    on top it would be sent with every change of the app.
    """
    counts = {root: reach[root].bit_count() for root in closure.roots}
    most = max(counts.values(), default=0)
    return tuple(root for root, count in counts.items() if 4 * count >= 3 * most)


def _groups(items: tuple[Item, ...], room: int, reach: Mapping[str, int]) -> list[tuple[Item, ...]]:
    ordered = sorted(items, key=lambda item: (-item.size, item.name, item.path))
    large = [item for item in ordered if item.size >= _SMALL]
    pools = _tiers(ordered[len(large) :], reach)
    if len(large) + len(pools) <= room:
        return [*((item,) for item in large), *pools]
    alone, rest = ordered[: room * 3 // 4], ordered[room * 3 // 4 :]
    return [*((item,) for item in alone), *_bins(_tiers(rest, reach), room - len(alone))]


def _tiers(items: list[Item], reach: Mapping[str, int]) -> list[tuple[Item, ...]]:
    """The tiers that have members, by the items in their closures."""
    tiers: list[list[Item]] = [[] for _ in range(len(_TIERS) + 1)]
    for item in items:
        count = reach[item.path].bit_count()
        tiers[sum(count > limit for limit in _TIERS)].append(item)
    return [tuple(tier) for tier in tiers if tier]


def _bins(tiers: list[tuple[Item, ...]], bins: int) -> list[tuple[Item, ...]]:
    """Distribute over at most `bins` (>= 1) groups; tiers mix only where they outnumber them."""
    if bins < len(tiers):
        tiers = [tuple(item for tier in tiers for item in tier)]
    groups: list[tuple[Item, ...]] = []
    draw = cache(rendezvous)
    for tier, share in zip(tiers, _shares([len(tier) for tier in tiers], bins), strict=True):
        drawn: list[list[Item]] = [[] for _ in range(share)]
        for item in tier:
            drawn[draw(item.origin, share)].append(item)
        groups += [tuple(group) for group in drawn if group]
    return groups


def _shares(weights: list[int], bins: int) -> list[int]:
    """One bin for each weight, the others in proportion, by largest remainder."""
    total, spare = sum(weights), bins - len(weights)
    shares = [1 + spare * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(spare * weights[i] % total), i))
    for index in by_remainder[: bins - sum(shares)]:
        shares[index] += 1
    return shares
