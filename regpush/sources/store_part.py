"""A store item together with everything that it refers to."""

from __future__ import annotations

from msgspec import Struct

from regpush.closure import Item
from regpush.sources.database import Database
from regpush.sources.path_info import PathInfo


class StorePart(Struct, frozen=True, kw_only=True):
    """The closure of one store item, whose path is `root`.

    `items`: an item for each path of the closure. `local`: the paths that are valid in the store of
    `database`; the others are in binary caches. `kind`: a phrase that describes `root` in messages.
    `system`: the system for which it was built (`x86_64-linux`), None where unknown. `is_profile`:
    whether it is a Guix profile, whose `etc/profile` sets variables. `deriver`: the path of its
    derivation, None or empty where unknown.
    """

    root: str
    items: tuple[Item, ...]
    local: tuple[PathInfo, ...]
    database: Database | None
    kind: str
    system: str | None
    is_profile: bool = False
    deriver: str | None = None
