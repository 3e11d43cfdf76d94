"""A store item together with everything that it refers to."""

from __future__ import annotations

from dataclasses import dataclass

from regpush.closure import Item
from regpush.sources.database import Database
from regpush.sources.path_info import PathInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePart:
    """The closure of one store item, `root`.

    `local`: those of its paths that are valid in the store of `database`; the others are in binary
    caches. `kind`: what `root` is, for people. `system`: what it was built for, None where unknown.
    `is_profile`: whether it is a profile of Guix, whose `etc/profile` sets variables. `deriver`:
    the path of its derivation, None or empty where unknown.
    """

    root: str
    items: tuple[Item, ...]
    local: tuple[PathInfo, ...]
    database: Database | None
    kind: str
    system: str | None
    is_profile: bool = False
    deriver: str | None = None
