"""Strategies: a closure and a limit become a plan. Pure functions, one a file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from regpush.closure import Closure
from regpush.errors import UsageError, printable
from regpush.options import MAX_LAYERS
from regpush.strategies.app_deps import app_deps
from regpush.strategies.plan import Plan, PlanContext, Strategy
from regpush.strategies.popularity import popularity
from regpush.strategies.single import single
from regpush.strategies.size import size
from regpush.strategies.stable import stable

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "single": single,
        "app-deps": app_deps,
        "size": size,
        "popularity": popularity,
        "stable": stable,
    }
)


def check(name: str, max_layers: int) -> None:
    """Raises UsageError for a name that is no strategy and a limit outside 1 to 127."""
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean '{near[0]}'? there are " if near else "there are "
        raise UsageError(
            f"no layer strategy is named '{printable(name)}': {hint}{', '.join(sorted(STRATEGIES))}"
        )
    if not 1 <= max_layers <= MAX_LAYERS:
        raise UsageError(f"{max_layers} layers at most: give a number from 1 to {MAX_LAYERS}")


def plan(closure: Closure, name: str, context: PlanContext) -> Plan:
    """Plan `closure` with the strategy `name`. Raises UsageError as `check` does."""
    check(name, context.max_layers)
    planned = STRATEGIES[name](closure, context)
    planned.check(closure)
    return planned
