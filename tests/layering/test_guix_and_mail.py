"""`size`, `app-deps` and `origin`, against graphs worked by hand from their sources' rules."""

from dataclasses import replace

import pytest

from regpush.closure import Closure
from regpush.layering.app_deps import app_deps
from regpush.layering.origin import origin
from regpush.layering.plan import PlanContext
from regpush.layering.size import size
from tests.layering.graphs import graph, names

FIVE = {"a": 10, "b": 50, "c": 30, "d": 50, "e": 1}


# guix/docker.scm, size-sorted-store-items: of `n` items and `max-layers` m, sorted by
# falling size, the first m - 2 (all but one, if n < m) are alone and the others one tail;
# build-docker-image puts the customisation layer above.
@pytest.mark.parametrize(
    ("limit", "layers"),
    [
        (2, ["a b c d e", "links"]),
        (3, ["b", "a c d e", "links"]),
        (4, ["b", "d", "a c e", "links"]),
        (5, ["b", "d", "c", "a e", "links"]),
        (6, ["b", "d", "c", "a", "e", "links"]),
        (100, ["b", "d", "c", "a", "e", "links"]),
    ],
)
def test_size_is_guix_pack_max_layers(limit, layers):
    closure = graph("a: b c d e", roots="a", sizes=FIVE, generated=True)
    assert names(size(closure, PlanContext(max_layers=limit))) == layers


def test_size_without_a_customisation_layer_has_room_for_one_more():
    closure = graph("a: b c d e", roots="a", sizes=FIVE)
    assert names(size(closure, PlanContext(max_layers=3))) == ["b", "d", "a c e"]


#   profile ─┬─ guile ─┬─ libgc ─── libc
#            │         └─ readline ─ ncurses ─ libc
#            └─ readline
MAIL = """
profile: guile readline
guile: libgc readline
readline: ncurses
ncurses: libc
libgc: libc
"""


def test_app_deps_lifts_the_profile_and_what_it_names():
    closure = graph(MAIL, roots="profile")
    assert names(app_deps(closure, PlanContext())) == [
        "libc libgc ncurses",
        "guile profile readline",
    ]


def test_app_deps_takes_every_root():
    closure = graph(MAIL, roots="profile libgc")
    assert names(app_deps(closure, PlanContext())) == [
        "ncurses",
        "guile libc libgc profile readline",
    ]


def test_app_deps_of_something_flat_is_one_layer():
    closure = graph("profile: a b", roots="profile")
    assert names(app_deps(closure, PlanContext())) == ["a b profile"]


# apko, groupAPKByOrigin and applyBudget in pkg/build/layers.go: packages of one origin are
# one group; groups by falling size, ties by the greatest name in them, rising; with a budget
# of B the first B - 1 stay, the others become one. What no package owns lies above, and is
# not counted there: here it is.
#
#   openssl: ssl 40, crypto 30    glibc: libc 70    zlib: zlib 50    a, b: 10 each
APKS = {"ssl": 40, "crypto": 30, "libc": 70, "zlib": 50, "a": 10, "b": 10}
ORIGINS = {"ssl": "openssl", "crypto": "openssl", "libc": "glibc"}


@pytest.mark.parametrize(
    ("limit", "layers"),
    [
        # 70 and 70: libc comes before ssl, the greatest name of its group
        (8, ["libc", "crypto ssl", "zlib", "a", "b", "links"]),
        (6, ["libc", "crypto ssl", "zlib", "a", "b", "links"]),
        (5, ["libc", "crypto ssl", "zlib", "a b", "links"]),
        (3, ["libc", "a b crypto ssl zlib", "links"]),
        (2, ["a b crypto libc ssl zlib", "links"]),
    ],
)
def test_origin_is_apko_s_strategy(limit, layers):
    closure = graph("\n".join(f"{name}:" for name in APKS), roots="a", sizes=APKS, generated=True)
    items = tuple(replace(one, origin=ORIGINS.get(one.name, one.name)) for one in closure.items)
    plan = origin(Closure.build(closure.roots, items), PlanContext(max_layers=limit))
    assert names(plan) == layers
