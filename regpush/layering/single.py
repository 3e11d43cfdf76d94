"""`single`: everything in one layer, as `guix pack` does by default."""

from __future__ import annotations

from regpush.closure import Closure
from regpush.layering.plan import Plan, PlanContext


def single(closure: Closure, _context: PlanContext) -> Plan:
    """Plan one layer with all items."""
    return Plan.of([closure.items])
