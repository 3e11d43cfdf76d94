"""Small closures, written down as a graph: `app: lib tool` is an app with two references."""

import hashlib
from collections.abc import Iterator, Mapping

from regpush.closure import Closure, Identity, Item, Role
from regpush.digest import Digest
from regpush.entry import Entry
from regpush.layering.plan import Plan

MIB = 1 << 20


def _never() -> Iterator[Entry]:
    raise AssertionError("a strategy opened an item")


def item(
    name: str,
    *,
    size: int = MIB,
    references: tuple[str, ...] = (),
    origin: str = "",
    role: Role = Role.ORDINARY,
    version: str = "",
) -> Item:
    """A store item of `version`, which stands for whatever else made its hash."""
    path = store_path(name, version) if role is not Role.GENERATED else f"({name})"
    return Item(
        path=path,
        name=name,
        origin=origin or name,
        identity=Identity.nar(Digest.of(path.encode())),
        size=size,
        references=references,
        role=role,
        entries=_never,
    )


def store_path(name: str, version: str = "") -> str:
    digest = hashlib.sha256(f"{name} {version}".encode()).hexdigest()[:32]
    return f"/gnu/store/{digest}-{name}"


def graph(
    text: str,
    *,
    roots: str,
    sizes: Mapping[str, int] | None = None,
    generated: bool = False,
    own: str = "",
) -> Closure:
    """The closure of lines `name: reference…`; items are of 1 MiB where `sizes` says nothing."""
    references: dict[str, tuple[str, ...]] = {}
    for line in text.strip().splitlines():
        name, _, rest = line.partition(":")
        references[name.strip()] = tuple(rest.split())
    for name in [name for names in references.values() for name in names]:
        references.setdefault(name, ())
    items = tuple(
        item(
            name,
            size=(sizes or {}).get(name, MIB),
            references=tuple(map(store_path, below)),
            role=Role.OWN if name in own.split() else Role.ORDINARY,
        )
        for name, below in references.items()
    )
    closure = Closure.build(tuple(map(store_path, roots.split())), items)
    return (
        closure.with_items((item("links", size=0, role=Role.GENERATED),)) if generated else closure
    )


def names(plan: Plan) -> list[str]:
    """The names in each layer, sorted and joined by spaces, bottom first."""
    return [" ".join(sorted(item.name for item in layer.items)) for layer in plan.layers]
