"""`store:PATH`: a store item, or a link that leads to one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from regpush.errors import UsageError, printable
from regpush.sources.source import Asked, Locate, Parts
from regpush.sources.store_item import StoreItem, find


@dataclass(frozen=True, slots=True)
class Stored:
    """A target that is a store item."""

    item: StoreItem

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Return one part: the item and everything that it refers to."""
        return Parts(parts=(locate(str(self.item)),))


def understand(rest: str, asked: Asked) -> Stored:
    """Find the store item that `rest` is in or links to. Raises UsageError without one."""
    found = find(rest, asked.stores)
    if found is None:
        raise UsageError(f"{printable(rest)} neither lies in a store nor links to one")
    return Stored(found)


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the path of the item or link, moved by `move`."""
    return move(rest)
