"""`size`, worked by hand from Guix's rule.

item    libc  icu  zlib  bash  tz
size    90    80   30    30    10      tie of zlib and bash: by name
"""

from __future__ import annotations

import pytest

from regpush.closure import Closure
from regpush.strategies.plan import PlanContext
from regpush.strategies.size import size
from tests.strategies.graphs import closure, item, links, names

ITEMS = (
    item("bash", size=30),
    item("icu", size=80),
    item("libc", size=90),
    item("tz", size=10),
    item("zlib", size=30),
)


@pytest.mark.parametrize(
    ("limit", "expected"),
    [
        (2, ["bash icu libc tz zlib", "links"]),
        (3, ["libc", "bash icu tz zlib", "links"]),
        (4, ["libc", "icu", "bash tz zlib", "links"]),
        (5, ["libc", "icu", "bash", "tz zlib", "links"]),
        (6, ["libc", "icu", "bash", "zlib", "tz", "links"]),
        (7, ["libc", "icu", "bash", "zlib", "tz", "links"]),
    ],
)
def test_two_fewer_alone_a_tail_and_the_customisation(limit: int, expected: list[str]) -> None:
    made = size(closure("bash", *ITEMS, links()), PlanContext(max_layers=limit))
    assert names(made) == expected


def test_without_customisation_one_more_lies_alone() -> None:
    made = size(closure("bash", *ITEMS), PlanContext(max_layers=3))
    assert names(made) == ["libc", "icu", "bash tz zlib"]


def test_ties_go_by_name_whatever_the_hash() -> None:
    for first, second in (("a", "b"), ("b", "a")):
        ash = item("ash", path=f"/gnu/store/{first * 32}-ash-1")
        zsh = item("zsh", path=f"/gnu/store/{second * 32}-zsh-1")
        assert names(size(Closure.build((), (ash, zsh)), PlanContext())) == ["ash", "zsh"]
