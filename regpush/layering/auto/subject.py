"""The closure that is planned, with its items by key and by name."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Self

from msgspec import Struct

from regpush.closure import Closure, Item, Role
from regpush.layering.auto.groups import GroupKind
from regpush.layering.memory import Key, Laid, Name, keys_of, names_of


class Subject(Struct, frozen=True, kw_only=True):
    """A closure of which all identities are known. `keys` and `names` are by path.

    `top`: the keys of items that share the top layer: generated ones, and the own code that the
    user asked for. `kinds`: the kind of each role whose items share no layer with ordinary items.
    """

    closure: Closure
    keys: Mapping[str, Key]
    names: Mapping[str, Name]
    items: Mapping[Key, Item]
    top: frozenset[Key]
    kinds: Mapping[Role, GroupKind]

    @classmethod
    def of(cls, closure: Closure, max_layers: int) -> Self | None:
        """Make the record for planning `closure`; None if any identity is still unknown.

        Where `max_layers` is less than the number of kinds, all items that are not ordinary are of
        one kind.
        """
        keys = keys_of(closure.items)
        if keys is None:
            return None
        return cls(
            closure=closure,
            keys=keys,
            names=names_of(closure.items),
            items={keys[item.path]: item for item in closure.items},
            top=frozenset(keys[item.path] for item in closure.items if _is_top(item, closure)),
            kinds=_kinds({item.role for item in closure.items}, max_layers),
        )

    @property
    def has_own(self) -> bool:
        """Whether the closure holds own code of a directory."""
        return Role.OWN in self.kinds

    def holds(self, layer: Laid) -> bool:
        """Whether the closure holds all items of the layer."""
        return layer.keys <= self.items.keys()

    def is_pure(self, layer: Laid) -> bool:
        """Whether all items of `layer` are of one GroupKind: ordinary, record, asset or own code.

        The closure must hold all items of the layer.
        """
        return len({self.kind(self.items[key]) for key in layer.keys}) == 1

    def size(self, keys: Collection[Key]) -> int:
        """Return the total bytes of the items `keys`, all of which are in the closure."""
        return sum(self.items[key].size for key in keys)

    def kind(self, item: Item) -> GroupKind:
        """Return the GroupKind of `item`: that of its role in `kinds`, else ordinary."""
        return self.kinds.get(item.role, GroupKind.ORDINARY)


def _kinds(roles: Collection[Role], max_layers: int) -> dict[Role, GroupKind]:
    if Role.OWN not in roles:
        return {}
    kinds = {
        Role.RECORD: GroupKind.RECORD,
        Role.ASSET: GroupKind.ASSET,
        Role.OWN: GroupKind.OWN,
        Role.GENERATED: GroupKind.OWN,
    }
    if len(set(map(kinds.get, roles))) > max_layers:
        kinds = dict.fromkeys(kinds, GroupKind.OWN)
    return {role: kind for role, kind in kinds.items() if role in roles}


def _is_top(item: Item, closure: Closure) -> bool:
    return item.role is Role.GENERATED or (item.role is Role.OWN and item.path in closure.roots)
