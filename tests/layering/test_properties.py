"""What holds for every strategy, whatever the closure and the limit."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from regpush.closure import Closure, Item, Role
from regpush.layering import strategies
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.strategies import STRATEGIES
from tests.layering.closures import closures
from tests.layering.graphs import item, names
from tests.layering.pushes import with_new_versions
from tests.steps import steps

ROOT = Path(__file__).parents[2]
HISTORY = ROOT / "tests" / "data" / "history.json"

limits = st.one_of(st.integers(1, 8), st.integers(1, 127)).map(
    lambda limit: PlanContext(max_layers=limit)
)
in_peace = settings(deadline=None)  # a busy machine is no failure
by_name = pytest.mark.parametrize("name", STRATEGIES)


def by_all(closure: Closure, context: PlanContext) -> Iterator[tuple[str, Plan]]:
    """The plan of each strategy: to make a closure costs more than all plans for it."""
    for name in STRATEGIES:
        note(f"by {name}")
        yield name, strategies.plan(closure, name, context)


@in_peace
@given(closure=closures(), context=limits)
def test_a_plan_is_a_partition_within_the_limit(closure, context):
    for _, plan in by_all(closure, context):
        paths = [item.path for layer in plan.layers for item in layer.items]
        assert sorted(paths) == sorted(item.path for item in closure.items)
        assert 1 <= len(plan.layers) <= context.max_layers
        for layer in plan.layers:
            assert layer.items
            assert list(layer.items) == sorted(layer.items, key=lambda item: item.path)
            assert 0 < len(layer.label) <= 60
            assert layer.label.isprintable()


@in_peace
@given(closure=closures(), context=limits)
def test_own_code_shares_only_with_generated_items_and_both_lie_on_top(closure, context):
    for name, plan in by_all(closure, context):
        check_roles(name, plan, closure, context)


def check_roles(name: str, plan: Plan, closure: Closure, context: PlanContext) -> None:
    if name == "single" or context.max_layers == 1:
        assert len(plan.layers) == 1
        return
    roles = [{item.role for item in layer.items} for layer in plan.layers]
    all_roles = {item.role for item in closure.items}
    code = [Role.ORDINARY not in held for held in roles]
    if Role.OWN in all_roles:
        assert all(held == {Role.ORDINARY} or Role.ORDINARY not in held for held in roles)
        assert code == sorted(code), "own code lies above all others"
        owned = {path for path in closure.roots if closure[path].role is Role.OWN}
        top = {item.path for item in plan.layers[-1].items}
        assert bool(owned & top) == bool(owned)
    elif name in ("size", "popularity"):
        assert len(roles[-1]) == 1
    if Role.GENERATED in all_roles:
        assert [Role.GENERATED in held for held in roles].index(True) == len(roles) - 1


@in_peace
@given(closure=closures(), context=limits, shuffle=st.randoms(use_true_random=False))
def test_the_order_of_the_input_says_nothing(closure, context, shuffle):
    roots, items = list(closure.roots), list(closure.items)
    shuffle.shuffle(roots)
    shuffle.shuffle(items)
    items = [replace(one, references=tuple(reversed(one.references))) for one in items]
    other = Closure.build(tuple(roots), tuple(items))
    both = zip(by_all(closure, context), by_all(other, context), strict=True)
    for (_, first), (_, second) in both:
        assert [layer.label for layer in first.layers] == [layer.label for layer in second.layers]
        assert [[item.path for item in layer.items] for layer in first.layers] == [
            [item.path for item in layer.items] for layer in second.layers
        ]


@in_peace
@given(closure=closures(unique_names=True), context=limits, salt=st.binary(max_size=3))
def test_hashes_say_nothing(closure, context, salt):
    """Rebuilding the world gives every item another path and moves none to another layer."""

    def renamed(path: str) -> str:
        _, dash, rest = path.rpartition("-")
        digest = hashlib.sha256(salt + path.encode()).hexdigest()[:32]
        return f"/gnu/store/{digest}-{rest}" if dash else path

    items = tuple(
        replace(one, path=renamed(one.path), references=tuple(map(renamed, one.references)))
        for one in closure.items
    )
    rebuilt = Closure.build(tuple(map(renamed, closure.roots)), items)
    both = zip(by_all(closure, context), by_all(rebuilt, context), strict=True)
    for (_, before), (_, after) in both:
        assert names(before) == names(after)


def large(count: int) -> Closure:
    """Every item needs up to ten earlier ones; two are of one package."""
    choose = random.Random(1)
    items: list[Item] = []
    for number in range(count):
        below = {choose.choice(items).path for _ in range(choose.randrange(10))} if items else ()
        size = int(2 ** choose.uniform(8, 26))
        origin = f"o{number // 2}"
        items.append(item(f"i{number}", size=size, references=tuple(sorted(below)), origin=origin))
    return Closure.build((items[-1].path,), tuple(items))


@by_name
def test_the_work_grows_with_the_closure_and_not_with_its_square(name):
    cost = [lines_of_planning(name, large(count), max_layers=127) for count in (1000, 4000)]
    assert cost[1] < 6 * cost[0]


def test_twenty_thousand_items_are_planned_as_stable_in_few_lines_each():
    """A hundred lines of Python for each item; 82 are usual."""
    assert lines_of_planning("stable", large(20_000), max_layers=64) < 20_000 * 100


@pytest.mark.soak
def test_twenty_thousand_new_items_cost_five_times_what_five_thousand_cost():
    cost = []
    for count in (5000, 20_000):
        closure = large(count)
        memory = strategies.plan(closure, "auto", PlanContext()).memory
        newer = with_new_versions(closure, [one.name for one in closure.items], "2")
        assert len(strategies.plan(newer, "auto", PlanContext(past=(memory,))).layers) <= 64
        cost.append(lines_of_planning("auto", newer, past=(memory,)))
    assert cost[1] < 5 * cost[0]


def lines_of_planning(name: str, closure: Closure, **context: object) -> int:
    return steps(lambda: strategies.plan(closure, name, PlanContext(**context)))


_PRINT_PLANS = """
import json, sys
from pathlib import Path
from regpush.layering import strategies
from tests.layering.histories import closures, hashes, load
closure = [closure for _, closure in closures(load(Path(sys.argv[1])))][-1]
print(json.dumps({
    name: hashes(strategies.plan(closure, name, strategies.PlanContext(max_layers=20)))
    for name in strategies.STRATEGIES
}))
"""


def test_every_process_plans_alike():
    seen = [
        json.loads(
            subprocess.run(
                [sys.executable, "-c", _PRINT_PLANS, str(HISTORY)],
                env={**os.environ, "PYTHONHASHSEED": seed, "LC_ALL": locale},
                cwd=ROOT,
                check=True,
                capture_output=True,
                text=True,
            ).stdout
        )
        for seed, locale in [("1", "C"), ("4711", "C.UTF-8")]
    ]
    assert seen[0] == seen[1]
    assert sorted(seen[0]) == sorted(STRATEGIES)
