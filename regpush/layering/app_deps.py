"""`app-deps`: two layers, the application above everything it depends on.

The split of the guix-devel experiment of 2020: the upper layer holds the profile and the items it
references directly, the base layer all other items.
"""

from __future__ import annotations

from regpush.closure import Closure, Item
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.stack import stack


def app_deps(closure: Closure, context: PlanContext) -> Plan:
    """Plan a layer for the app and its direct references, and one below it for all other items.

    More layers where the packages of a lock file are too large for one layer.
    """
    top = {path for root in closure.roots for path in (root, *closure[root].references)}
    return stack(closure, context.max_layers, _base, top=top)


def _base(items: tuple[Item, ...], _room: int) -> tuple[tuple[Item, ...]]:
    return (items,)
