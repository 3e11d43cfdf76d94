"""A part of a directory that becomes one item: some paths and everything below them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from regpush.closure import Item, Look, Role, Stamp
from regpush.entry import Entry, Kind, TreeHash, absolute
from regpush.files.listing import ByFolder, Names, newest_ns, size
from regpush.sources.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """Some paths of a directory (`tops`) and everything below them, except `stop_at`.

    Paths are relative to `tree`. `path`: the one of `tops` by which the item is known. `name`: see
    `Item.name`. `key`: a digest of everything besides the files that decides the item; see
    `Stamp.tree`.
    """

    tree: Tree
    key: bytes
    path: bytes
    name: str
    tops: ByFolder
    stop_at: ByFolder

    def item(self, role: Role, look: Look | None = None) -> Item:
        """Make the item. Its identity is None: only reading its files tells it."""
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
        """Yield names and lstat data of everything in the part, one folder at a time."""
        return self.tree.listing.select(self.tops, self.stop_at)

    def entries(self) -> Iterator[Entry]:
        """Yield entries of everything in the part but directories in `tree.kept`.

        In archive order.
        """
        tree = self.tree
        entries = tree.listing.entries(tree.at, tree.profile, self.tops, self.stop_at)
        return filter(self._is_written, entries) if tree.kept else entries

    def _is_written(self, entry: Entry) -> bool:
        return entry.kind is not Kind.DIRECTORY or entry.path not in self.tree.kept


def _fingerprint(parents: Iterable[Entry], selected: Iterable[Names]) -> bytes:
    """Hash the parents' entries and the lstat data of `selected` (32 bytes).

    Injective: the lengths of all fields precede them.
    """
    above = TreeHash()
    for parent in parents:
        above.add(parent)
    digest = hashlib.sha256(above.digest().hex.encode())
    for folder, names, rows, targets in selected:
        links = b"".join(b"%b\0%b\0" % link for link in sorted(targets.items()))
        fields = (folder, b"/".join(names), rows, links)  # no name holds a slash, no target a NUL
        digest.update(b"%d %d %d %d\n" % tuple(map(len, fields)) + b"".join(fields))
    return digest.digest()
