"""What a store records about a store path, and the item that is made of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from regpush.closure import Identity, Item, Recorded
from regpush.digest import Digest
from regpush.entry import Entry, Profile, image_path
from regpush.errors import SourceError, printable
from regpush.files.listing import scan
from regpush.settings import GUIX_STORE
from regpush.sources.case_hack import undone
from regpush.sources.store_path import item_name


@dataclass(frozen=True, slots=True, kw_only=True)
class PathInfo:
    """One valid store path, as databases, binary caches and closure files describe it.

    `path` is logical (`/gnu/store/…`), `nar_size` in bytes, `deriver` empty where unknown;
    `references` are logical paths, without the path itself.
    """

    path: str
    nar_hash: Digest
    nar_size: int
    deriver: str
    references: tuple[str, ...]


def to_item(info: PathInfo, physical: str) -> Item:
    """Make the item of `info`; its files at `physical` are opened only when needed."""
    at = image_path(info.path)

    def entries() -> Iterator[Entry]:
        if not os.path.lexists(physical):
            raise SourceError(
                f"{printable(info.path)}: valid in its store, but missing on disk; "
                "it was collected meanwhile or the store is damaged: build the item again"
            )
        return undone(scan(os.fsencode(physical)).entries(at, Profile.STORE))

    return Item(
        path=info.path,
        name=item_name(info.path),
        origin=item_name(info.deriver or info.path),
        identity=Identity.nar(info.nar_hash),
        size=info.nar_size,
        references=info.references,
        entries=entries,
        recorded=Recorded(nar_hash=info.nar_hash, entries=entries, repair=_repair(info.path)),
    )


def _repair(path: str) -> str:
    """Write the command that repairs `path`.

    Guix manual, "Invoking guix gc"; Nix manual, "nix-store --repair-path".
    """
    if path.startswith(GUIX_STORE + "/"):
        return "guix gc --verify=contents,repair"
    return f"nix-store --repair-path {path}"
