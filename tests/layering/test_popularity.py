"""The rule of nixpkgs' closure-graph.py, by its published examples and a plain unfolding."""

import pytest
from hypothesis import given, settings

from regpush.closure import Closure
from regpush.layering.plan import PlanContext
from regpush.layering.popularity import popularities, popularity
from tests.layering.closures import closures
from tests.layering.graphs import graph, names

#   A ─┬─ B ─┬─ C ─┬─ D ─── F
#      │     │     └─ E ─── F
#      │     └─ E
#      └─ G
#
# and the counts that closure-graph.py gives for it.
LETTERS = "A: B G\nB: C E\nC: D E\nD: F\nE: F"
COUNTS = {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5, "F": 9, "G": 2}


def counted(closure: Closure) -> dict[str, int]:
    return {closure[path].name: count for path, count in popularities(closure).items()}


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (LETTERS, COUNTS),
        # Its own test of the contest.
        ("foo: bar baz\nbar: baz\nbaz: tux", {"foo": 1, "bar": 2, "baz": 4, "tux": 6}),
        # Two that nobody references: each walk counts.
        ("p: x\nq: x\nx: y", {"p": 1, "q": 1, "x": 4, "y": 6}),
    ],
)
def test_counts_by_hand(text, counts):
    assert counted(graph(text, roots=text[0] if text[0] != "f" else "foo")) == counts


@pytest.mark.parametrize(
    ("limit", "layers"),
    [
        (2, ["A B C D E F G", "links"]),
        (3, ["F", "A B C D E G", "links"]),
        (6, ["F", "E", "D", "C", "A B G", "links"]),
        (8, ["F", "E", "D", "C", "B", "G", "A", "links"]),  # B and G tie: by name
    ],
)
def test_the_most_popular_lie_alone_at_the_bottom(limit, layers):
    closure = graph(LETTERS, roots="A", generated=True)
    assert names(popularity(closure, PlanContext(max_layers=limit))) == layers


def unfolded(closure: Closure, path: str) -> dict[str, int]:
    """The published description, literally: a tree, merged upwards one level at a time."""
    counts = {path: 0}
    for reference in closure[path].references:
        for below, count in unfolded(closure, reference).items():
            counts[below] = counts.get(below, 0) + count
    return {below: count + 1 for below, count in counts.items()}


@settings(deadline=None)  # a busy machine is no failure
@given(closures(most=12))
def test_counts_are_those_of_the_unfolded_tree(closure):
    referenced = {reference for item in closure.items for reference in item.references}
    expected = dict.fromkeys((item.path for item in closure.items), 0)
    for item in closure.items:
        if item.path not in referenced:
            for path, count in unfolded(closure, item.path).items():
                expected[path] += count
    assert popularities(closure) == expected


def test_a_deep_graph_is_counted_without_walking_every_path():
    """Each rung needs the next two: Fibonacci numbers of walks, sums of them as popularity."""
    rungs = 2000
    text = "\n".join(
        f"r{number:04}: " + " ".join(f"r{number + k:04}" for k in (1, 2) if number + k < rungs)
        for number in range(rungs)
    )
    counts = counted(graph(text, roots="r0000"))
    walks, following, total = 1, 1, 0
    for number in range(rungs):
        total += walks
        assert counts[f"r{number:04}"] == total
        walks, following = following, walks + following
    assert total.bit_length() > 1300
