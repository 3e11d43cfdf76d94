"""The layer strategies by name, and how a closure is planned by one of them.

A strategy is a pure function from a closure and a `PlanContext` to a plan; each is in a module of
its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib import import_module

from regpush.closure import Closure, Role
from regpush.errors import UsageError, printable, similar
from regpush.layering.plan import Plan, PlanContext, Strategy
from regpush.options import MAX_LAYERS

_NAMES = ("single", "app-deps", "size", "popularity", "origin", "stable", "auto")
"""The names of the strategies. A strategy such as `app-deps` is the function `app_deps` of the
module `layering.app_deps`."""

LEARNING = "auto"
"""The strategy that plans from the images that were pushed before."""


class _Strategies(Mapping[str, Strategy]):
    """Maps names to strategies. The module of a strategy is imported when it is looked up."""

    def __getitem__(self, name: str) -> Strategy:
        if name not in _NAMES:
            raise KeyError(name)
        function = name.replace("-", "_")
        strategy: Strategy = getattr(import_module(f"regpush.layering.{function}"), function)
        return strategy

    def __iter__(self) -> Iterator[str]:
        return iter(_NAMES)

    def __len__(self) -> int:
        return len(_NAMES)


STRATEGIES: Mapping[str, Strategy] = _Strategies()

_FILE = "file="


def named(name: str, max_layers: int) -> Strategy:
    """Return the strategy `name`: one of `STRATEGIES`, or `file=PATH`, whose file is read now.

    Raises UsageError for an unknown name, a malformed file, and a limit outside 1 to 127.
    """
    if not 1 <= max_layers <= MAX_LAYERS:
        raise UsageError(
            f"bad maximum of layers (--max-layers) {max_layers}: give a number from 1 to "
            f"{MAX_LAYERS}"
        )
    if name.startswith(_FILE):
        split = import_module("regpush.layering.file").Split
        strategy: Strategy = split.read(name.removeprefix(_FILE))
        return strategy
    if name not in STRATEGIES:
        near = similar(name, STRATEGIES)
        hint = f"did you mean '{near}'? choose one of " if near else "choose one of "
        known = ", ".join([*sorted(STRATEGIES), "file=layers.json"])
        raise UsageError(f"no layer strategy is named '{printable(name)}': {hint}{known}")
    return STRATEGIES[name]


def plan(closure: Closure, name: str, context: PlanContext) -> Plan:
    """Plan `closure` by the strategy `name`.

    Raises UsageError for an unknown name, a malformed layers file, and a limit of layers outside 1
    to 127.
    """
    return carry_out(named(name, context.max_layers), closure, context)


def carry_out(strategy: Strategy, closure: Closure, context: PlanContext) -> Plan:
    """Plan `closure` by the given strategy.

    A closure that is cut into layers already (`stacked`) keeps them. Raises what the strategy
    raises, UsageError where such layers are too many, and RegpushError for a bug in the strategy.
    """
    planned = _stacked(closure, context) if closure.stacked else strategy(closure, context)
    planned.check(closure)
    return planned


def _stacked(closure: Closure, context: PlanContext) -> Plan:
    """Plan a layer for each item, and one above for the items that regpush generates."""
    generated = [item for item in closure.items if item.role is Role.GENERATED]
    own = [item for item in closure.items if item.role is not Role.GENERATED]
    layers = [*([item] for item in own), generated]
    planned = Plan.of(layers)
    if len(planned.layers) > context.max_layers:
        adds = ", and regpush adds one" if generated else ""
        way_out = (
            f"say --max-layers {context.max_layers}"
            if context.max_layers > 1
            else "say --max-layers 2, or choose a base with fewer layers"
        )
        raise UsageError(
            f"the archive was cut into {len(own)} layers{adds}; the image has room for "
            f"{context.max_layers}: {way_out}"
        )
    return planned
