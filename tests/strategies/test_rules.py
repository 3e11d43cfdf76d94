"""What holds for every strategy."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.closure import Closure, Role
from regpush.errors import UsageError
from regpush.strategies import STRATEGIES, check, plan
from regpush.strategies.plan import LABEL_LENGTH, PlanContext
from tests.strategies.graphs import closure, closures, item, links, names

STRATEGY = st.sampled_from(sorted(STRATEGIES))
LIMIT = st.integers(1, 127) | st.integers(1, 8)


@given(closures(), STRATEGY, LIMIT)
@settings(max_examples=300, deadline=None)
def test_every_item_lies_in_exactly_one_of_at_most_so_many_layers(
    any_closure: Closure, name: str, limit: int
) -> None:
    layers = plan(any_closure, name, PlanContext(max_layers=limit)).layers
    placed = [item.path for layer in layers for item in layer.items]
    assert sorted(placed) == sorted(item.path for item in any_closure.items)
    assert len(layers) <= limit
    for layer in layers:
        assert layer.items == tuple(sorted(layer.items, key=lambda item: item.path))
        assert layer.items
        assert layer.label.isprintable()
        assert 0 < len(layer.label) <= LABEL_LENGTH


@given(closures(), STRATEGY, LIMIT, st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_the_order_of_input_does_not_matter(
    any_closure: Closure, name: str, limit: int, random: Random
) -> None:
    items, roots = list(any_closure.items), list(any_closure.roots)
    random.shuffle(items)
    random.shuffle(roots)
    context = PlanContext(max_layers=limit)
    shuffled = Closure.build(tuple(roots), tuple(items))
    assert plan(shuffled, name, context) == plan(any_closure, name, context)


@given(closures(), STRATEGY, st.integers(2, 127) | st.integers(2, 8))
@settings(max_examples=300, deadline=None)
def test_own_code_and_generated_items_lie_on_top_and_own_code_apart(
    any_closure: Closure, name: str, limit: int
) -> None:
    layers = plan(any_closure, name, PlanContext(max_layers=limit)).layers
    if name == "single":
        assert len(layers) <= 1
        return
    for layer in layers[:-1]:
        assert {item.role for item in layer.items} == {Role.ORDINARY}
    if any(item.role is Role.OWN for item in any_closure.items):
        assert Role.ORDINARY not in {item.role for item in layers[-1].items}


DIRECTORY = closure(
    "app",
    item("app", "left-pad", "react", size=50, role=Role.OWN),
    item("left-pad", size=10),
    item("react", size=900_000),
    links(),
)
STORE = closure(
    "profile",
    item("profile", "hello", size=3),
    item("hello", "libc", size=200_000),
    item("libc", size=9_000_000),
    links(),
)


@pytest.mark.parametrize(
    ("name", "limit", "directory", "store"),
    [
        ("single", 9, ["links app left-pad react"], ["links hello libc profile"]),
        ("app-deps", 1, ["links app left-pad react"], ["links hello libc profile"]),
        ("app-deps", 9, ["left-pad react", "links app"], ["libc", "links hello profile"]),
        ("size", 1, ["links app left-pad react"], ["links hello libc profile"]),
        ("size", 2, ["left-pad react", "links app"], ["hello libc profile", "links"]),
        ("size", 3, ["react", "left-pad", "links app"], ["libc", "hello profile", "links"]),
        ("size", 9, ["react", "left-pad", "links app"], ["libc", "hello", "profile", "links"]),
        ("popularity", 1, ["links app left-pad react"], ["links hello libc profile"]),
        ("popularity", 2, ["left-pad react", "links app"], ["hello libc profile", "links"]),
        ("popularity", 3, ["left-pad", "react", "links app"], ["libc", "hello profile", "links"]),
        ("stable", 1, ["links app left-pad react"], ["links hello libc profile"]),
        ("stable", 2, ["left-pad react", "links app"], ["hello libc", "links profile"]),
        ("stable", 9, ["react", "left-pad", "links app"], ["libc", "hello", "links profile"]),
    ],
)
def test_the_top_layer(name: str, limit: int, directory: list[str], store: list[str]) -> None:
    context = PlanContext(max_layers=limit)
    assert names(plan(DIRECTORY, name, context)) == directory
    assert names(plan(STORE, name, context)) == store


@pytest.mark.parametrize("name", sorted(STRATEGIES))
def test_nothing_gives_no_layers(name: str) -> None:
    assert plan(closure(""), name, PlanContext()).layers == ()


def test_names_as_in_the_command_line() -> None:
    assert set(STRATEGIES) == {"single", "app-deps", "size", "popularity", "stable"}


def test_an_unknown_name_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(UsageError) as caught:
        check("popularty", 64)
    message = str(caught.value)
    assert "'popularty'" in message
    assert "did you mean 'popularity'?" in message
    assert "app-deps, popularity, single, size, stable" in message
    assert "\n" not in message


def test_a_name_like_no_other_gets_no_guess() -> None:
    with pytest.raises(UsageError, match=r"'\\x1b\[31m'") as caught:
        check("\x1b[31m", 64)
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("limit", [-1, 0, 128, 1000])
def test_a_limit_out_of_range(limit: int) -> None:
    with pytest.raises(UsageError, match=rf"^{limit} .*from 1 to 127"):
        check("stable", limit)
    with pytest.raises(UsageError):
        plan(STORE, "stable", PlanContext(max_layers=limit))


@pytest.mark.parametrize("limit", [1, 64, 127])
def test_a_limit_in_range(limit: int) -> None:
    for name in STRATEGIES:
        check(name, limit)


PRINT_PLANS = """
from regpush.strategies import STRATEGIES, plan
from regpush.strategies.plan import PlanContext
from tests.strategies.histories import TINY, hashes, load, pushes
for push in pushes(load(TINY)):
    for name in STRATEGIES:
        for limit in (4, 9, 64):
            made = plan(push.closure, name, PlanContext(max_layers=limit))
            print(hashes(made), [layer.label for layer in made.layers])
"""


def test_plans_do_not_depend_on_the_seed_of_hashes() -> None:
    root = Path(__file__).parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PRINT_PLANS],
            cwd=root,
            env={**os.environ, "PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        for seed in ("0", "1", "2024")
    }
    assert len(outputs) == 1
    assert outputs.pop().count(b"\n") == 10 * 5 * 3
