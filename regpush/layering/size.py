"""`size`: the largest items alone, all smaller ones together.

The rule of `guix pack --max-layers`: `size-sorted-store-items` in Guix's guix/docker.scm. With N
layers it puts the N-2 largest items alone, the largest lowest, then all other items in one layer,
then a layer with everything that is not a store item. Where no such last layer is needed here, one
more item lies alone.
"""

from __future__ import annotations

from regpush.closure import Closure, Item
from regpush.layering.plan import Plan, PlanContext, base_name
from regpush.layering.stack import stack


def size(closure: Closure, context: PlanContext) -> Plan:
    """Plan a layer for each of the largest items, and one layer for all other items.

    At most `context.max_layers` layers; `stack` puts own code and generated items above. Items of
    one size are sorted by name, then by path.
    """
    return stack(closure, context.max_layers, _by_size, own=_by_size)


def _by_size(items: tuple[Item, ...], room: int) -> list[tuple[Item, ...]]:
    ordered = sorted(items, key=lambda item: (-item.size, base_name(item), item.path))
    alone, tail = ordered[: room - 1], ordered[room - 1 :]
    return [*((item,) for item in alone), tuple(tail)]
