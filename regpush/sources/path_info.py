"""What a store records about a store path, and the image item for it."""

from __future__ import annotations

import os
from collections.abc import Iterator

from msgspec import Struct

from regpush.closure import Identity, Item, Recorded
from regpush.digest import Digest
from regpush.entry import Entry, Profile, image_path
from regpush.errors import SourceError, printable
from regpush.files.listing import scan
from regpush.settings import GUIX_STORE
from regpush.sources.case_hack import undone
from regpush.sources.store_path import item_name


class PathInfo(Struct, frozen=True, kw_only=True):
    """What a database, a binary cache or a closure file states about a valid store path.

    `path`: the logical path (`/gnu/store/…`), wherever the files are. `nar_hash`, `nar_size`:
    sha256 and bytes of its Nix archive. `deriver`: the path of its derivation, empty where unknown.
    `references`: the logical paths that it refers to, without itself.
    """

    path: str
    nar_hash: Digest
    nar_size: int
    deriver: str
    references: tuple[str, ...]


def to_item(info: PathInfo, physical: str) -> Item:
    """Return the item of a store path; its files, at `physical` on this machine, are not opened."""
    at = image_path(info.path)

    def entries() -> Iterator[Entry]:
        if not os.path.lexists(physical):
            raise SourceError(
                f"{printable(info.path)} is valid in its store's database, but missing on disk: it "
                "was garbage-collected during the push, or the store is damaged; build it again"
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
    """Return the command by which a user repairs the damaged store path `path`.

    Guix manual, "Invoking guix gc"; Nix manual, "nix-store --repair-path".
    """
    if path.startswith(GUIX_STORE + "/"):
        return "guix gc --verify=contents,repair"
    return f"nix-store --repair-path {path}"
