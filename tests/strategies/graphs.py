"""Closures drawn by hand and by hypothesis."""

from __future__ import annotations

import hashlib

from hypothesis import strategies as st

from regpush.closure import Closure, Identity, Item, Role, Scheme
from regpush.digest import Digest
from regpush.strategies.plan import Plan


def item(
    name: str,
    *references: str,
    size: int = 1,
    origin: str | None = None,
    path: str | None = None,
    role: Role = Role.ORDINARY,
) -> Item:
    """An item at `/s/<name>` that references the items of those names."""
    return Item(
        path=path or f"/s/{name}",
        name=name,
        origin=origin or name,
        identity=Identity(Scheme.NAR, Digest.of(name.encode())),
        size=size,
        references=tuple(f"/s/{reference}" for reference in references),
        entries=lambda: iter(()),
        role=role,
    )


def links() -> Item:
    """What regpush writes itself."""
    return item("links", size=0, path="(links)", role=Role.GENERATED)


def closure(roots: str, *items: Item) -> Closure:
    """A closure; `roots` are names between spaces."""
    return Closure.build(tuple(f"/s/{name}" for name in roots.split()), items)


def names(plan: Plan) -> list[str]:
    """The layers, bottom first, each as its items' names in order of their paths."""
    return [" ".join(item.name for item in layer.items) for layer in plan.layers]


@st.composite
def closures(draw: st.DrawFn) -> Closure:
    """Closures of a store or a directory, with and without generated items, also empty."""
    own = draw(st.integers(0, 2))
    ordinary = draw(st.integers(0, 30))
    items: list[Item] = []
    for index in range(ordinary + own):
        below = st.sampled_from([made.path for made in items]) if items else st.nothing()
        name = f"p{draw(st.integers(0, 9))}"
        digits = hashlib.sha256(b"%d" % index).hexdigest()[:32]
        items.append(
            Item(
                path=f"/gnu/store/{digits}-{name}-1.{index}",
                name=name,
                origin=f"src-{name}",
                identity=Identity(Scheme.NAR, Digest.of(digits.encode())),
                size=draw(st.sampled_from([0, 1, 5000, 262_143, 262_144, 10**6, 10**9])),
                references=tuple(sorted(draw(st.sets(below, max_size=4)))) if items else (),
                entries=lambda: iter(()),
                role=Role.OWN if index >= ordinary else Role.ORDINARY,
            )
        )
    if draw(st.booleans()):
        items.append(links())
    paths = [made.path for made in items]
    roots = draw(st.sets(st.sampled_from(paths), max_size=5)) if paths else set()
    return Closure.build(tuple(sorted(roots)), tuple(items))
