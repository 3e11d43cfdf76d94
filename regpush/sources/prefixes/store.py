"""`store:PATH`: a path in a Nix or Guix store, or a symbolic link into a store."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct

from regpush.errors import UsageError, printable
from regpush.sources.source import Asked, Locate, Parts
from regpush.sources.store_item import StoreItem, find


class Stored(Struct, frozen=True):
    """A target that is a store item (a path right below `/nix/store` or `/gnu/store`)."""

    item: StoreItem

    def parts(self, asked: Asked, locate: Locate) -> Parts:
        """Return one part: the store item and everything that it refers to.

        Raises UsageError for a derivation, SourceError, CancelledError.
        """
        return Parts(parts=(locate(str(self.item)),))


def understand(rest: str, asked: Asked) -> Stored:
    """Interpret `rest`, the text after `store:`, as a path in a store, or a link to one.

    Raises UsageError where it is neither.
    """
    found = find(rest, asked.stores)
    if found is None:
        raise UsageError(
            f"store:{printable(rest)}: this is neither a path in a Nix or Guix store nor a link to "
            "one"
        )
    return Stored(found)


def relocated(rest: str, move: Callable[[str], str]) -> str:
    """Return the target's text with the path replaced by `move(rest)`."""
    return move(rest)
