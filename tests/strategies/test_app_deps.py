"""`app-deps`: the split of the 2020 experiment.

profile ──▶ guile ──▶ libgc ──▶ libc
   └──────▶ hello ────────────▶ libc
"""

from __future__ import annotations

from regpush.closure import Role
from regpush.strategies.app_deps import app_deps
from regpush.strategies.plan import PlanContext
from tests.strategies.graphs import closure, item, names

PROFILE = (
    item("profile", "guile", "hello"),
    item("guile", "libgc"),
    item("hello", "libc"),
    item("libgc", "libc"),
    item("libc"),
)


def test_the_profile_and_what_it_references_directly() -> None:
    made = app_deps(closure("profile", *PROFILE), PlanContext())
    assert names(made) == ["libc libgc", "guile hello profile"]


def test_a_root_without_a_profile() -> None:
    made = app_deps(closure("guile", *PROFILE[1:]), PlanContext())
    assert names(made) == ["hello libc", "guile libgc"]


def test_beside_own_code_nothing_is_lifted() -> None:
    app = item("app", "profile", role=Role.OWN)
    made = app_deps(closure("app profile", app, *PROFILE), PlanContext())
    assert names(made) == ["guile hello libc libgc profile", "app"]
