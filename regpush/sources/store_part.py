"""One item of a store with all that it refers to."""

from __future__ import annotations

from dataclasses import dataclass

from regpush.closure import Item
from regpush.sources.database import Database
from regpush.sources.path_info import PathInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class StorePart:
    """The closure of one item, `root`; `local` is what of it lies in the store of `database`.

    `kind` says for people what it is. `is_profile`: one of Guix, which says what environment
    its programs want.
    """

    root: str
    items: tuple[Item, ...]
    local: tuple[PathInfo, ...]
    database: Database | None
    kind: str
    system: str | None
    is_profile: bool = False
    deriver: str | None = None
