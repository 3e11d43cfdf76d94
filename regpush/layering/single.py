"""`single`: everything in one layer, as `guix pack` does by default."""

from __future__ import annotations

from regpush.closure import Closure
from regpush.layering.plan import Plan, PlanContext


def single(closure: Closure, _context: PlanContext) -> Plan:
    """A plan of one layer."""
    return Plan.of([closure.items])
