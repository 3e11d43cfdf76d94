"""How parts of a directory's own code share layers."""

import hashlib
import random
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from regpush.closure import Closure, Role
from regpush.layering import strategies
from regpush.layering.own_code import apart, share, together
from regpush.layering.plan import PlanContext
from regpush.quantities import LAYER_LIMIT
from tests.layering.graphs import MIB, graph, item, names

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
    """printf '%d lib' | sha256sum: the greatest of 7 digests that is not full, in turn."""
    parts = [part("huge", 90 * MIB), *(part(f"p{n}") for n in range(40))]
    load = dict.fromkeys(range(7), 0)
    bins = {}
    most = 40 * 3 // (2 * 7)  # half as much again as the average of 40 in 7: sizes are even
    for one in sorted(parts[1:], key=lambda p: hashlib.sha256(p.name.encode()).hexdigest()):
        digests = {n: hashlib.sha256(b"%d %s" % (n, one.name.encode())).hexdigest() for n in load}
        choices = sorted(digests, key=digests.__getitem__, reverse=True)
        chosen = next(n for n in choices if load[n] < most)
        load[chosen] += 1
        bins.setdefault(chosen, []).append(one.name)
    assert most in load.values(), "at least one is full"
    expected = sorted(["huge", *(" ".join(sorted(group)) for group in bins.values())])
    assert drawn(apart(parts, 8)) == expected
    assert drawn(apart(parts[::-1], 8)) == expected


def parts_of(count, seed):
    rng = random.Random(seed)
    return [part(f"p{number}", rng.randrange(2 * MIB)) for number in range(count)]


def changed(before, after):
    known = {frozenset(part.path for part in group) for group in before}
    return sum(frozenset(part.path for part in group) not in known for group in after)


@given(count=st.integers(200, 600), seed=st.integers(0, 99), room=st.integers(8, 40))
def test_no_layer_is_much_larger_than_another(count, seed, room):
    parts = parts_of(count, seed)
    groups = apart(parts, room)
    assert len(groups) <= room
    alone = room // 8
    average = sum(sorted(part.size for part in parts)[: count - alone]) / (room - alone)
    # Half as much again, of a sum that is rounded by up to an eighth.
    assert max(sum(part.size for part in group) for group in groups) <= 1.7 * average
    assert sorted(p.name for group in groups for p in group) == sorted(p.name for p in parts)


@given(seed=st.integers(0, 99), at=st.integers(0, 299), more=st.integers(-200, 200))
def test_a_few_bytes_move_nothing(seed, at, more):
    parts = parts_of(300, seed)
    edited = list(parts)
    step = 1 << max(parts[at].size.bit_length() - 4, 0)
    assume(-(-parts[at].size // step) == -(-(parts[at].size + more) // step))
    edited[at] = replace(parts[at], size=parts[at].size + more)
    assert changed(apart(parts, 40), apart(edited, 40)) == 0


def test_a_part_that_comes_or_goes_changes_two_layers_on_average():
    came = went = 0
    for seed in range(40):
        parts = parts_of(250, seed)
        groups = apart(parts, 40)
        came += changed(groups, apart([*parts, part("new", MIB)], 40))
        went += changed(groups, apart(parts[:-1], 40))
    assert came / 40 <= 2.5
    assert went / 40 <= 2.5


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
