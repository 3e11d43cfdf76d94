"""Strategies: pure functions from a closure and a limit to a plan, one in each file."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from regpush.closure import Closure
from regpush.errors import UsageError, printable
from regpush.layering.app_deps import app_deps
from regpush.layering.auto import auto
from regpush.layering.file import Split
from regpush.layering.origin import origin
from regpush.layering.plan import Plan, PlanContext, Strategy
from regpush.layering.popularity import popularity
from regpush.layering.single import single
from regpush.layering.size import size
from regpush.layering.stable import stable
from regpush.options import MAX_LAYERS

STRATEGIES: Mapping[str, Strategy] = MappingProxyType(
    {
        "single": single,
        "app-deps": app_deps,
        "size": size,
        "popularity": popularity,
        "origin": origin,
        "stable": stable,
        "auto": auto,
    }
)

_FILE = "file="


def named(name: str, max_layers: int) -> Strategy:
    """The strategy `name`: one of `STRATEGIES`, or `file=PATH`, which is read here.

    Raises UsageError for an unknown name, a malformed file, and a limit outside 1 to 127.
    """
    if not 1 <= max_layers <= MAX_LAYERS:
        raise UsageError(f"{max_layers} layers at most: give a number from 1 to {MAX_LAYERS}")
    if name.startswith(_FILE):
        return Split.read(name.removeprefix(_FILE))
    if name not in STRATEGIES:
        near = difflib.get_close_matches(name, STRATEGIES, n=1)
        hint = f"did you mean '{near[0]}'? there are " if near else "there are "
        known = ", ".join([*sorted(STRATEGIES), "file=layers.json"])
        raise UsageError(f"no layer strategy is named '{printable(name)}': {hint}{known}")
    return STRATEGIES[name]


def plan(closure: Closure, name: str, context: PlanContext) -> Plan:
    """Plan `closure` by the strategy `name`. Raises UsageError like `named`."""
    return carry_out(named(name, context.max_layers), closure, context)


def carry_out(strategy: Strategy, closure: Closure, context: PlanContext) -> Plan:
    """Plan `closure`.

    Raises what the strategy raises, and RegpushError for a bug in the strategy.
    """
    planned = strategy(closure, context)
    planned.check(closure)
    return planned
