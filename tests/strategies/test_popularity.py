"""`popularity` against nixpkgs: its documented example, and its definition taken at its word."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings

from regpush.closure import Closure
from regpush.strategies.plan import PlanContext
from regpush.strategies.popularity import popularities, popularity
from tests.strategies.graphs import closure, closures, item, names

# A ──▶ B ──▶ C ──▶ D ──▶ F       Dependents to the left. The example of nixpkgs'
# │     │     └───▶ E ──▶ F       closure-graph.py, which gives these popularities:
# │     └─────────▶ E             A 1, B 2, C 3, D 4, E 5, F 9, G 2
# └───▶ G
NIXPKGS = closure(
    "A",
    item("A", "B", "G"),
    item("B", "C", "E"),
    item("C", "D", "E"),
    item("D", "F"),
    item("E", "F"),
    item("F"),
    item("G"),
)

# foo ──▶ bar ──▶ baz ──▶ tux     Walks from foo: bar 1, baz 2, tux 2. An item adds up its
#  └────────────▶ baz             own and those of everything above: foo 1, bar 1+1,
#                                 baz 1+1+2, tux 1+1+2+2
DIAMOND = closure(
    "foo",
    item("foo", "bar", "baz"),
    item("bar", "baz"),
    item("baz", "tux"),
    item("tux"),
)


def _counts(any_closure: Closure) -> dict[str, int]:
    return {path.removeprefix("/s/"): n for path, n in popularities(any_closure).items()}


def test_the_example_of_nixpkgs() -> None:
    assert _counts(NIXPKGS) == {"A": 1, "B": 2, "C": 3, "D": 4, "E": 5, "F": 9, "G": 2}


def test_a_diamond() -> None:
    assert _counts(DIAMOND) == {"foo": 1, "bar": 2, "baz": 4, "tux": 6}


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (2, ["F", "A B C D E G"]),
        (4, ["F", "E", "D", "A B C G"]),
        (6, ["F", "E", "D", "C", "B", "A G"]),  # B before G: a tie, by name
        (7, ["F", "E", "D", "C", "B", "G", "A"]),
    ],
)
def test_the_most_popular_alone_the_rest_together(limit: int, expected: list[str]) -> None:
    assert names(popularity(NIXPKGS, PlanContext(max_layers=limit))) == expected


def test_ties_go_by_name_then_by_hash() -> None:
    b, a = "b" * 32, "a" * 32
    paths = [f"/nix/store/{a}-zsh", f"/nix/store/{b}-ash", f"/nix/store/{a}-ash"]
    items = [item(f"i{number}", path=path) for number, path in enumerate(paths)]
    assert names(popularity(Closure.build((), tuple(items)), PlanContext())) == ["i2", "i1", "i0"]


def _unfolded(any_closure: Closure, paths: list[str]) -> Counter[str]:
    """nixpkgs' definition, over the graph unfolded into a tree: exponential, and literal."""
    counts: Counter[str] = Counter()
    for path in paths:
        counts[path] += 1
        below = _unfolded(any_closure, list(any_closure[path].references))
        for sub, count in below.items():
            counts[sub] += count + 1
    return counts


@given(closures())
@settings(max_examples=100, deadline=None)
def test_the_same_as_unfolding_the_graph(any_closure: Closure) -> None:
    referenced = {path for item in any_closure.items for path in item.references}
    heads = [item.path for item in any_closure.items if item.path not in referenced]
    assert popularities(any_closure) == dict(_unfolded(any_closure, heads))


def test_counts_may_be_astronomic() -> None:
    # 300 diamonds on top of each other: each doubles the walks.
    items = [item("n0")]
    for level in range(1, 301):
        below = f"n{level - 1}"
        items += [item(f"l{level}", below), item(f"r{level}", below)]
        items += [item(f"n{level}", f"l{level}", f"r{level}")]
    counts = _counts(closure("n300", *items))
    assert counts["n300"] == 1
    # 2**k walks to the node k levels down, 2**k to each half of the diamond above it.
    assert counts["n0"] == sum(2**k for k in range(301)) + sum(2 * 2**k for k in range(300))
