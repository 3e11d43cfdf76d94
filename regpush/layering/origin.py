"""`origin`: what one source package gave shares a layer; the largest such groups lie alone.

The rule of apko's `strategy: origin`: groupAPKByOrigin and applyBudget in its
pkg/build/layers.go. Groups are sorted by size, ties by the greatest name among their
packages; where there are more than the budget, the budget less one stay and the others
become one. What belongs to no package lies in a layer above. (apko also joins packages
that replace each other, which stores and directories do not have.)
"""

from __future__ import annotations

from regpush.closure import Closure, Item
from regpush.layering.plan import Plan, PlanContext, base_name
from regpush.layering.stack import stack


def origin(closure: Closure, context: PlanContext) -> Plan:
    """At most `context.max_layers` layers, the largest group at the bottom."""
    return stack(closure, context.max_layers, _by_origin)


def _by_origin(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
    origins: dict[str, list[Item]] = {}
    for item in items:
        origins.setdefault(item.origin, []).append(item)

    def rank(group: list[Item]) -> tuple[int, str, str]:
        name, path = max((base_name(item), item.path) for item in group)
        return -sum(item.size for item in group), name, path

    groups = [tuple(group) for group in sorted(origins.values(), key=rank)]
    if len(groups) <= room:
        return groups
    rest = tuple(item for group in groups[room - 1 :] for item in group)
    return [*groups[: room - 1], rest]
