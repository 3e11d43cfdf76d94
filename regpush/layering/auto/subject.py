"""The closure that is planned, by keys and names."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from regpush.closure import Closure, Item, Role
from regpush.layering.auto.groups import Kind
from regpush.layering.memory import Key, Laid, Name, keys_of, names_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A closure all of whose items are known. `keys` and `names` are by path.

    `top`: the keys of what lies on top together: what regpush writes itself, and the own
    code that was asked for.
    """

    closure: Closure
    keys: Mapping[str, Key]
    names: Mapping[str, Name]
    items: Mapping[Key, Item]
    top: frozenset[Key]
    has_own: bool

    @classmethod
    def of(cls, closure: Closure) -> Self | None:
        """The subject `closure`; None where an identity is still open."""
        keys = keys_of(closure.items)
        if keys is None:
            return None
        return cls(
            closure=closure,
            keys=keys,
            names=names_of(closure.items),
            items={keys[item.path]: item for item in closure.items},
            top=frozenset(keys[item.path] for item in closure.items if _is_top(item, closure)),
            has_own=any(item.role is Role.OWN for item in closure.items),
        )

    def holds(self, layer: Laid) -> bool:
        """Whether all that was in the layer is in the closure."""
        return layer.keys <= self.items.keys()

    def is_pure(self, layer: Laid) -> bool:
        """Whether the layer, all of which is in the closure, mixes nothing that it must not."""
        return len({self.kind(self.items[key]) for key in layer.keys}) == 1

    def size(self, keys: Collection[Key]) -> int:
        """Bytes of the items, which all are in the closure."""
        return sum(self.items[key].size for key in keys)

    def kind(self, item: Item) -> Kind:
        """Own code lies apart; what is generated with it, or else where the strategy likes."""
        return Kind(self.has_own and item.role is not Role.ORDINARY)


def _is_top(item: Item, closure: Closure) -> bool:
    return item.role is Role.GENERATED or (item.role is Role.OWN and item.path in closure.roots)
