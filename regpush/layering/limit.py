"""Layers of locked packages stay below the size that a registry takes.

The sizes of packages are estimated from their files. So what is too large is cut into layers that
are half as large as they may be.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from regpush.closure import Item
from regpush.quantities import LAYER_LIMIT


def too_large(group: Collection[Item]) -> bool:
    """Whether a layer of `group` has packages of a lock, can be cut, and may be refused."""
    locked = any(item.locked for item in group)
    return locked and len(group) > 1 and sum(item.size for item in group) > LAYER_LIMIT


def within_limit(groups: Iterable[Collection[Item]], room: int) -> list[Collection[Item]]:
    """Return `groups` in their order, with each group that is too large cut into smaller ones.

    At most `room` (>= 1) groups. Where `room` is too small for that, all groups are filled anew up
    to LAYER_LIMIT, and the last group takes every item that is left.
    """
    given = list(groups)
    if not any(map(too_large, given)):
        return given
    cut = [
        piece
        for group in given
        for piece in (_filled(group, LAYER_LIMIT // 2) if too_large(group) else (group,))
    ]
    if len(cut) <= room:
        return cut
    filled = list(_filled([item for group in given for item in group], LAYER_LIMIT))
    last = [item for group in filled[room - 1 :] for item in group]
    return [*filled[: room - 1], last]


def _filled(items: Iterable[Item], most: int) -> Iterator[Collection[Item]]:
    """Yield groups of neighbouring items: at most `most` bytes each, or one larger item alone."""
    group: list[Item] = []
    size = 0
    for item in items:
        if group and size + item.size > most:
            yield group
            group, size = [], 0
        group.append(item)
        size += item.size
    if group:
        yield group
