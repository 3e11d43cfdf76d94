"""`store:PATH`: a store item, or a link that leads to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regpush.errors import UsageError, printable
from regpush.sources.source import Asked, Locate, Parts
from regpush.sources.store_item import StoreItem, find


@dataclass(frozen=True, slots=True)
class Stored:
    """An item that a store holds."""

    item: StoreItem

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """The item alone."""
        return Parts(parts=(locate(str(self.item)),))


def understand(rest: str, asked: Asked) -> Stored:
    """The item at, or behind, the path `rest`. Raises UsageError where there is none."""
    found = find(rest, asked.stores)
    if found is None:
        raise UsageError(f"{printable(rest)} neither lies in a store nor links to one")
    return Stored(found)


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """The path, moved."""
    return move(rest)
