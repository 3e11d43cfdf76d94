"""Define a part of a directory, some paths and everything below them, that becomes one item."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from msgspec import Struct

from regpush.closure import Item, Look, Role, Stamp
from regpush.entry import Entry, Kind, absolute
from regpush.files.listing import ByFolder, Names, newest_ns, size
from regpush.sources.tree import Tree
from regpush.tree_hash import TreeHash


class Part(Struct, frozen=True, kw_only=True):
    """The paths `tops` of a directory and everything below them, except `stop_at` and below.

    Paths are relative to `tree`. `path`: the one of `tops` that becomes the item's path. `name`:
    the item's name, without hash and version. `key`: a digest of all settings that decide the item,
    besides its files, which becomes `Stamp.tree`.
    """

    tree: Tree
    key: bytes
    path: bytes
    name: str
    tops: ByFolder
    stop_at: ByFolder

    def item(self, role: Role, look: Look | None = None) -> Item:
        """Return the part as an item, whose identity is None until its files are read.

        `look`: called with each file that is read, to refuse secrets; None for no such check.
        """
        selected = list(self.names())
        parents = self.tree.parents(self.tops)
        return Item(
            path=absolute(self.tree.in_image(self.path)),
            name=self.name,
            origin=self.name,
            identity=None,
            size=size(selected, self.tree.profile),
            parents=parents,
            role=role,
            entries=self.entries,
            look=look,
            stamp=Stamp(
                tree=self.key,
                fingerprint=_fingerprint(parents, selected),
                newest_ns=newest_ns(selected),
            ),
        )

    def names(self) -> Iterator[Names]:
        """Yield the names and lstat data of the part's files and folders, by folder."""
        return self.tree.listing.select(self.tops, self.stop_at)

    def entries(self) -> Iterator[Entry]:
        """Yield the part's entries in archive order, without the directories in `tree.kept`."""
        tree = self.tree
        entries = tree.listing.entries(tree.at, tree.profile, self.tops, self.stop_at)
        return filter(self._is_written, entries) if tree.kept else entries

    def _is_written(self, entry: Entry) -> bool:
        return entry.kind is not Kind.DIRECTORY or entry.path not in self.tree.kept


def _fingerprint(parents: Iterable[Entry], selected: Iterable[Names]) -> bytes:
    """Return a sha256 (32 bytes) over the entries `parents` and the lstat data `selected`.

    Different data cannot give the same input: each field is preceded by its length.
    """
    above = TreeHash()
    for parent in parents:
        above.add(parent)
    digest = hashlib.sha256(above.digest().hex.encode())
    for folder, names, rows, targets in selected:
        links = b"".join(b"%b\0%b\0" % link for link in sorted(targets.items())) if targets else b""
        joined = b"/".join(names)  # no name holds a slash, no target a NUL
        lengths = (len(folder), len(joined), len(rows), len(links))
        digest.update(b"%d %d %d %d\n%b%b%b%b" % (*lengths, folder, joined, rows, links))
    return digest.digest()
