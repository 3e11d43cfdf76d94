"""`origin`: items of one source package share a layer; the largest packages lie alone.

The rule of apko's `strategy: origin` (groupAPKByOrigin and applyBudget in its pkg/build/layers.go).
Groups are sorted by size, ties by the greatest name among their packages. Where there are more
groups than the budget allows, the budget less one remain and all others form one layer. Items of no
package lie in a layer above. (apko also joins packages that replace each other; stores and
directories have none.)
"""

from __future__ import annotations

from regpush.closure import Closure, Item
from regpush.layering.plan import Plan, PlanContext, base_name
from regpush.layering.stack import stack


def origin(closure: Closure, context: PlanContext) -> Plan:
    """Plan a layer for each of the largest source packages, and one layer for all others.

    At most `context.max_layers` layers, with the largest package lowest; `stack` puts own code and
    generated items above.
    """
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
