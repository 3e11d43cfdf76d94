"""Layers of locked packages, and the largest layer that GitHub's registry takes (10 GiB)."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.closure import Closure, Item, LockedPackage, Role
from regpush.layering import strategies
from regpush.layering.plan import Plan, PlanContext
from regpush.layering.strategies import STRATEGIES
from tests.layering.graphs import item

GIB = 1 << 30
SIZES = st.sampled_from([1 << 20, 300 << 20, GIB, 3 * GIB, 5 * GIB, 9 * GIB, 12 * GIB])
GROUPING = sorted(STRATEGIES.keys() - {"single"})


def package(number: int, size: int, *, version: str = "1.0", needs: tuple[str, ...] = ()) -> Item:
    name = f"package{number:02}"
    locked = LockedPackage(kind="pypi", name=name, version=version)
    return replace(item(name, size=size, version=version, references=needs), locked=locked)


def app(packages: list[Item]) -> Closure:
    own = item("app", size=1000, role=Role.OWN)
    links = item("links", size=0, role=Role.GENERATED)
    return Closure.build((own.path,), (*packages, own)).with_items((links,))


@st.composite
def packages(draw: st.DrawFn) -> list[Item]:
    found: list[Item] = []
    for number, size in enumerate(draw(st.lists(SIZES, min_size=1, max_size=30))):
        below = draw(st.sets(st.sampled_from(found), max_size=3)) if found else ()
        needs = tuple(sorted(one.path for one in below))
        found.append(package(number, size, needs=needs))
    return found


def check(plan: Plan, wanted: Closure) -> None:
    plan.check(wanted)
    for layer in plan.layers:
        if len(layer.items) > 1:
            assert sum(one.size for one in layer.items) <= 10 * GIB


def enough(found: list[Item]) -> int:
    """Layers that suffice for any packages: two in a row have more than one may have."""
    return 2 * sum(one.size for one in found) // (10 * GIB) + 3


@pytest.mark.parametrize("name", GROUPING)
@settings(deadline=None)
@given(found=packages(), more=st.integers(0, 20))
def test_no_group_of_packages_is_larger_than_a_registry_takes(name, found, more):
    wanted, room = app(found), enough(found) + more
    plan = strategies.plan(wanted, name, PlanContext(max_layers=min(room, 127)))
    check(plan, wanted)
    assert len(plan.layers) <= room


@settings(deadline=None)
@given(found=packages(), at=st.integers(0, 29), more=st.integers(0, 20))
def test_nor_is_one_that_grows_by_a_new_version(found, at, more):
    context = PlanContext(max_layers=min(enough(found) + more + 1, 127))
    first = strategies.plan(app(found), "auto", context)
    assert first.memory
    newer = [
        package(n, min(2 * one.size, 9 * GIB) if n == at else one.size, version="1.1")
        if n >= at else one
        for n, one in enumerate(found)
    ]  # fmt: skip
    room = max(context.max_layers, enough(newer))
    again = PlanContext(max_layers=min(room, 127), past=(first.memory,))
    check(strategies.plan(app(newer), "auto", again), app(newer))


@pytest.mark.parametrize("name", GROUPING)
def test_what_has_no_room_is_pushed_all_the_same(name):
    wanted = app([package(n, 6 * GIB) for n in range(9)])
    plan = strategies.plan(wanted, name, PlanContext(max_layers=4))
    plan.check(wanted)
    assert 1 < len(plan.layers) <= 4


@pytest.mark.parametrize("name", GROUPING)
def test_many_packages_on_few_layers(name):
    wanted = app([package(n, 900 << 20) for n in range(40)])
    plan = strategies.plan(wanted, name, PlanContext(max_layers=12))
    check(plan, wanted)
    assert len(plan.layers) <= 12
