"""`popularity`: what most reference paths lead to lies alone, at the bottom.

nixpkgs' dockerTools: pkgs/build-support/references-by-popularity/closure-graph.py. It
unfolds the graph into a tree and, merging upwards, adds `pop[sub] + 1` at every level. So
an item's popularity is the number of walks, from the items that nobody references, that
end at the item or at anything that needs it. (nix2container's closure/popularity.go
counts walks from anywhere that end at the item alone; this follows nixpkgs.)
"""

from __future__ import annotations

from itertools import compress

from regpush.closure import Closure, Item
from regpush.strategies.plan import Plan, PlanContext, base_name
from regpush.strategies.reach import closures
from regpush.strategies.stack import stack

_BITS = bytes.maketrans(b"01", b"\0\1")


def popularity(closure: Closure, context: PlanContext) -> Plan:
    """At most `context.max_layers` layers; ties by name, then by hash, as in nixpkgs."""
    popular = popularities(closure)

    def by_popularity(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
        ordered = sorted(
            items, key=lambda item: (-popular[item.path], f"{base_name(item)}-{item.path}")
        )
        alone, rest = ordered[: room - 1], ordered[room - 1 :]
        return [*((item,) for item in alone), tuple(rest)]

    return stack(closure, context.max_layers, by_popularity)


def popularities(closure: Closure) -> dict[str, int]:
    """The popularity of each path: counts that grow exponentially, by work that does not."""
    paths = tuple(item.path for item in closure.items)
    walks = _walks(closure)
    total = dict.fromkeys(paths, 0)
    for path, reached in closures(closure).items():
        ending_here = walks[path]
        bits = f"{reached:b}"[::-1].encode().translate(_BITS)
        for below in compress(paths, bits):
            total[below] += ending_here
    return total


def _walks(closure: Closure) -> dict[str, int]:
    """How many walks along references lead from the unreferenced items to each path."""
    walks = {item.path: 0 for item in closure.items}
    for item in reversed(closure.items):
        # Dependents come first in this direction: a 0 says that nobody references the item.
        walks[item.path] = walks[item.path] or 1
        for reference in item.references:
            walks[reference] += walks[item.path]
    return walks
