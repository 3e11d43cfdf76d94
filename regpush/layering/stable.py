"""`stable`: groups and an order that rarely change, planned from this closure alone.

The graph tells what changes together: with Nix and Guix an item is new whenever anything in its
closure is. Items of one source package stay together, because they are released together. Large
ones lie alone; the others share tiers of similar volatility, in bins drawn by source package, so
that a new version of one package changes one bin. Parts of a directory's own code are drawn in the
same way. No floating-point number decides anything: two machines agree. The constants were measured
on version histories.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cache, reduce
from itertools import accumulate, repeat
from operator import or_
from typing import TypeAlias

from regpush.closure import Closure, Item
from regpush.layering.own_code import apart
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.reach import closures, package
from regpush.layering.rendezvous import rendezvous
from regpush.layering.stack import stack

_SMALL = 256 << 10  # bytes below which a unit shares a layer even where each could have one
# The most items in the closure of a member of the first tier, the second, and so on; the
# coarser ladder is for those who have fewer layers than the first has steps.
_LADDERS = ((3, 6, 12, 24, 48), (4, 16))
_LIKE = 3  # the largest closure of a unit's items may be so many times the smallest
_ALONE = (3, 5)  # the share of the layers that hold one unit each, where not all can
_UNIT = 1 << 64  # fixed-point one
_OWN_CHANGES = 20  # an item's own chance of a change equals that of so many dependencies

_Unit: TypeAlias = tuple[Item, ...]
"""Items that are expected to change together: of one package, with closures of similar size."""


def stable(closure: Closure, context: PlanContext) -> Plan:
    """Plan layers of items that change together, those that change least per byte lowest.

    At most `context.max_layers` layers. The top one holds the roots (profiles and apps).
    """
    reach = closures(closure)

    def grouped(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
        return ordered(groups(items, room, reach), reach)

    return stack(closure, context.max_layers, grouped, top=user_roots(closure, reach), own=apart)


def ordered(groups: Sequence[tuple[Item, ...]], reach: Mapping[str, int]) -> list[tuple[Item, ...]]:
    """Sort `groups` by rising chance of a change per byte, so that large, lasting ones are lowest.

    The chance assumes that an item stays unchanged in one push with a probability of .99. `reach`:
    the result of `closures`.
    """
    steps = repeat(99, len(reach) + _OWN_CHANGES)
    unchanged = tuple(accumulate(steps, lambda keep, percent: keep * percent // 100, initial=_UNIT))

    def volatility(group: tuple[Item, ...]) -> tuple[int, str, str]:
        # A group changes with any of its members: on 20 layers, the greatest closure alone
        # re-unpacked up to a sixth more; on 64 and 100 the two hardly differ.
        union = reduce(or_, (reach[item.path] for item in group))
        change = _UNIT - unchanged[union.bit_count() + _OWN_CHANGES]
        size = max(_size(group), 1)
        first = min(group, key=lambda item: (item.name, item.path))
        return change * _UNIT // size, first.name, first.path

    return sorted(groups, key=volatility)


def user_roots(closure: Closure, reach: Mapping[str, int]) -> tuple[str, ...]:
    """Return the roots whose closures are nearly as large as the largest: profiles and apps.

    A far smaller root is a package that was listed too. It changes as often as other packages, and
    in the top layer it would be sent with every change of the app.
    """
    counts = {root: reach[root].bit_count() for root in closure.roots}
    most = max(counts.values(), default=0)
    return tuple(root for root, count in counts.items() if 4 * count >= 3 * most)


def groups(items: Sequence[Item], room: int, reach: Mapping[str, int]) -> list[tuple[Item, ...]]:
    """Divide `items` into at most `room` groups, unordered; `room` >= 1 if there are items.

    `reach`: the result of `closures`.
    """
    units = sorted(
        _units(items, reach), key=lambda unit: (-_size(unit), unit[0].name, unit[0].path)
    )
    large = sum(_size(unit) >= _SMALL for unit in units)
    alone = large
    if large + len(_tiers(units[large:], reach, room - large)) > room:
        share, of = _ALONE
        alone = min(large, room * share // of)
    tiers = _tiers(units[alone:], reach, room - alone)
    # Without this limit, many bins would become layers of a few kilobytes.
    filled = sum(map(_size, units[alone:])) // _SMALL
    return [*units[:alone], *_bins(tiers, min(room - alone, max(filled, len(tiers))))]


def _units(items: Sequence[Item], reach: Mapping[str, int]) -> Iterator[_Unit]:
    """Divide `items` into units, each item in one unit.

    An app and its assets are two units although they have one origin.
    """
    by_package: dict[str, list[tuple[int, str, str, Item]]] = {}
    for item in items:
        entry = (reach[item.path].bit_count(), item.name, item.path, item)
        by_package.setdefault(package(item), []).append(entry)
    for members in by_package.values():
        members.sort(key=lambda entry: entry[:3])
        unit: list[Item] = []
        least = 0
        for count, *_, item in members:
            if unit and count > _LIKE * least:
                yield tuple(unit)
                unit = []
            least = count if not unit else least
            unit.append(item)
        yield tuple(unit)


def _size(unit: _Unit) -> int:
    return sum(item.size for item in unit)


def _tiers(units: Sequence[_Unit], reach: Mapping[str, int], bins: int) -> list[tuple[_Unit, ...]]:
    """Group `units` by how many items each needs, in at most `bins` groups.

    Uses the finest ladder that gives so few groups; one group where none does. Empty for no units.
    """
    counts = [max(reach[item.path].bit_count() for item in unit) for unit in units]
    for ladder in _LADDERS:
        tiers: list[list[_Unit]] = [[] for _ in range(len(ladder) + 1)]
        for unit, count in zip(units, counts, strict=True):
            tiers[sum(count > limit for limit in ladder)].append(unit)
        found = [tuple(tier) for tier in tiers if tier]
        if len(found) <= bins:
            return found
    return [tuple(units)] if units else []


def _bins(tiers: list[tuple[_Unit, ...]], bins: int) -> list[tuple[Item, ...]]:
    """Distribute the units of all tiers over at most `bins` groups, at least one for each tier."""
    found: list[tuple[Item, ...]] = []
    draw = cache(rendezvous)
    for tier, share in zip(tiers, _shares([len(tier) for tier in tiers], bins), strict=True):
        drawn: list[list[Item]] = [[] for _ in range(share)]
        for unit in tier:
            drawn[draw(unit[0].origin, share)] += unit
        found += [tuple(group) for group in drawn if group]
    return found


def _shares(weights: list[int], bins: int) -> list[int]:
    """Return how many of `bins` each weight gets: one each, and the rest in proportion.

    The largest-remainder method rounds the shares; of equal remainders the first wins.
    """
    total, spare = sum(weights), bins - len(weights)
    shares = [1 + spare * weight // total for weight in weights]
    by_remainder = sorted(range(len(weights)), key=lambda i: (-(spare * weights[i] % total), i))
    for index in by_remainder[: bins - sum(shares)]:
        shares[index] += 1
    return shares
