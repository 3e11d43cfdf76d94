"""The order of the layers: a runtime reuses layers below the first one that differs."""

from __future__ import annotations

from collections.abc import Sequence

from regpush.layering.auto.groups import GroupKind, ItemGroup
from regpush.layering.auto.odds import hazard
from regpush.layering.auto.subject import Subject
from regpush.layering.memory import Layout

_Rank = tuple[GroupKind, bool]


def stacked(groups: Sequence[ItemGroup], subject: Subject, base: Layout | None) -> list[ItemGroup]:
    """Return `groups` in the order of their layers, lowest first.

    First comes the unbroken run of layers that `base` starts with, then the others by odds of a
    change per byte. Own code lies above all others, and generated items with the roots above own
    code.
    """

    def rank(group: ItemGroup) -> _Rank:
        on_top = any(subject.keys[item.path] in subject.top for item in group.items)
        return group.kind, on_top

    of_keys = {
        frozenset(subject.keys[item.path] for item in group.items): group for group in groups
    }
    below: list[ItemGroup] = []
    for layer in base.layers if base else ():
        group = of_keys.get(layer.keys)
        if group is None or rank(group) != (GroupKind.ORDINARY, False):
            break
        below.append(group)
    placed = {group.items for group in below}

    def volatility(group: ItemGroup) -> tuple[_Rank, int, tuple[str, str]]:
        return rank(group), (hazard(group.odds) << 64) // max(group.size, 1), group.first

    rest = (group for group in groups if group.items not in placed)
    return [*below, *sorted(rest, key=volatility)]
