"""`app-deps`: the application above, what it stands on below.

The split of the guix-devel experiment of 2020: on top the profile and the items it
references directly, in the base all the rest.
"""

from __future__ import annotations

from regpush.closure import Closure, Item
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.stack import stack


def app_deps(closure: Closure, context: PlanContext) -> Plan:
    """At most two layers."""
    top = {path for root in closure.roots for path in (root, *closure[root].references)}
    return stack(closure, context.max_layers, _base, top=top)


def _base(items: tuple[Item, ...], _room: int) -> tuple[tuple[Item, ...]]:
    return (items,)
