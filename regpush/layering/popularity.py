"""`popularity`: items that most reference paths lead to lie alone, in the lowest layers.

nixpkgs' dockerTools: pkgs/build-support/references-by-popularity/closure-graph.py. That program
unfolds the graph into a tree and, merging upwards, adds `pop[sub] + 1` at every level. So an item's
popularity is the number of walks, from the items that nothing references, that end at the item or
at anything that needs it. (nix2container's closure/popularity.go counts walks from anywhere that
end at the item alone; this module follows nixpkgs.)
"""

from __future__ import annotations

from operator import add

from regpush.closure import Closure, Item
from regpush.layering.plan import Plan, PlanContext, base_name
from regpush.layering.stack import stack


def popularity(closure: Closure, context: PlanContext) -> Plan:
    """Plan a layer for each of the most popular items, and one layer for all other items.

    At most `context.max_layers` layers; `stack` puts own code and generated items above. Equally
    popular items are sorted by name, then by hash, as in nixpkgs.
    """
    popular = popularities(closure)

    def by_popularity(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
        ordered = sorted(
            items, key=lambda item: (-popular[item.path], f"{base_name(item)}-{item.path}")
        )
        alone, rest = ordered[: room - 1], ordered[room - 1 :]
        return [*((item,) for item in alone), tuple(rest)]

    return stack(closure, context.max_layers, by_popularity)


def popularities(closure: Closure) -> dict[str, int]:
    """Return the popularity of each item by its path.

    The numbers grow exponentially with the depth of the graph, but the time to compute them does
    not.
    """
    items = closure.items[::-1]  # dependents first
    walks, needed_by = _walks(items)
    width = (len(items) + 7) // 8
    rows = b"".join(needed_by[item.path].to_bytes(width, "little") for item in items)
    popular = [0] * len(items)
    # Eight items at a time: a byte of a row picks one of the 256 sums of their walks. None of
    # the eight needs an item before them, so the rows above are left out.
    for block in range(width):
        first = 8 * block
        sums = [0]
        for item in items[first : first + 8]:
            sums += [known + walks[item.path] for known in sums]
        column = rows[first * width + block :: width]
        popular[first:] = map(add, popular[first:], map(sums.__getitem__, column))
    return {item.path: count for item, count in zip(items, popular, strict=True)}


def _walks(items: tuple[Item, ...]) -> tuple[dict[str, int], dict[str, int]]:
    """Return, for each path, the number of walks to it and a bit set of `items` that need it.

    `items`: dependents first. A walk starts at an item that nothing references. Every item needs
    itself.
    """
    walks = dict.fromkeys((item.path for item in items), 0)
    needed_by = dict.fromkeys(walks, 0)
    for index, item in enumerate(items):
        walks[item.path] = here = walks[item.path] or 1
        needed_by[item.path] = need = needed_by[item.path] | 1 << index
        for reference in item.references:
            walks[reference] += here
            needed_by[reference] |= need
    return walks, needed_by
