"""How parts of a directory's own code share layers."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush import strategies
from regpush.closure import Closure, Role
from regpush.strategies import PlanContext
from regpush.strategies.own_code import LAYER_LIMIT, apart, share, together
from tests.strategies.graphs import MIB, graph, item, names

GIB = 1 << 30


def part(name, size=MIB):
    return item(name, size=size, role=Role.OWN)


def drawn(groups):
    return sorted(" ".join(sorted(part.name for part in group)) for group in groups)


@pytest.mark.parametrize(
    ("own", "others", "room", "layers"),
    [
        (0, 0, 2, 1),
        (1, 0, 64, 56),
        (1, 99, 64, 16),
        (30, 70, 64, 16),  # 2.4 eighths
        (32, 68, 64, 24),  # 2.56
        (1, 1, 64, 32),
        (1, 1, 127, 63),
        (99, 1, 2, 1),
        (99, 1, 3, 2),
        (1, 99, 3, 1),
    ],
)
def test_own_code_has_its_share_in_eighths(own, others, room, layers):
    assert share(own * MIB, others * MIB, room) == layers


@given(own=st.integers(0, 1 << 45), others=st.integers(0, 1 << 45), room=st.integers(2, 127))
def test_both_get_a_layer(own, others, room):
    assert 1 <= share(own, others, room) <= room - 1


def test_the_largest_lie_alone_and_the_others_where_their_names_say():
    """printf '%d lib' | sha256sum: the greatest of 14 digests, for each of the names."""
    parts = [part("huge", 90 * MIB), part("large", 9 * MIB), *(part(n) for n in "abcdefgh")]
    bins = {}
    for one in parts[2:]:
        digests = [hashlib.sha256(b"%d %s" % (n, one.name.encode())).hexdigest() for n in range(14)]
        bins.setdefault(digests.index(max(digests)), []).append(one.name)
    assert len(bins) < 8, "at least two of them meet"
    expected = sorted(["huge", "large", *(" ".join(group) for group in bins.values())])
    assert drawn(apart(parts, 16)) == expected
    assert drawn(apart(parts[::-1], 16)) == expected


@given(
    sizes=st.lists(st.integers(0, 40 * MIB), min_size=1, max_size=60),
    room=st.integers(1, 64),
    more=st.integers(0, 40 * MIB),
)
def test_another_part_changes_three_layers_at_most(sizes, room, more):
    """Its own, and those that a part leaves and enters that is no longer among the largest."""
    parts = [part(f"p{number}", size) for number, size in enumerate(sizes)]
    before = {frozenset(group) for group in apart(parts, room)}
    after = [frozenset(group) for group in apart([*parts, part("new", more)], room)]
    assert len(after) <= room
    assert sum(group not in before for group in after) <= 3


@pytest.mark.parametrize(
    ("sizes", "room", "layers"),
    [
        ([4 * GIB] * 2, 64, 1),
        ([10 * GIB], 64, 1),
        ([GIB] * 200, 64, 64),
        ([GIB] * 200, 1, 1),
        ([], 1, 0),
    ],
)
def test_code_stays_together_up_to_what_a_registry_takes(sizes, room, layers):
    parts = [part(f"p{number}", size) for number, size in enumerate(sizes)]
    groups = together(parts, room)
    assert len(groups) <= layers
    assert sorted(p.name for group in groups for p in group) == sorted(p.name for p in parts)
    if room > 1:
        assert all(sum(p.size for p in group) <= LAYER_LIMIT for group in groups)


def code(*sizes: int) -> Closure:
    """An app whose own code has the root and parts of `sizes` MiB, beside two libraries."""
    closure = graph("app:\nlib:\ntool:", roots="app", own="app", generated=True)
    parts = tuple(part(f"part{number}", size * MIB) for number, size in enumerate(sizes))
    return Closure.build(closure.roots, (*closure.items, *parts))


def test_each_strategy_says_what_becomes_of_the_parts():
    def planned(name, limit):
        return names(strategies.plan(code(5, 4, 3), name, PlanContext(max_layers=limit)))

    for name in ("app-deps", "popularity"):
        assert planned(name, 64)[-1] == "app links part0 part1 part2"
    assert planned("single", 64) == ["app lib links part0 part1 part2 tool"]
    for name in ("app-deps", "popularity", "size", "stable"):
        assert planned(name, 2) == ["lib tool", "app links part0 part1 part2"]
    assert planned("size", 64) == ["lib", "tool", "part0", "part1", "part2", "app links"]
    layers = planned("stable", 64)
    assert layers[:2] == ["lib", "tool"]
    assert {"part0", "part1", "part2"} <= set(layers)
    assert layers[-1] == "app links"
