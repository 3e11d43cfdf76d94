"""A part of a directory, which becomes one item: some paths and all below them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from regpush.closure import Item, Role, Stamp
from regpush.entry import Entry, TreeHash
from regpush.listing import ByFolder, Names, size
from regpush.sources.tree import Tree


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """`tops` and all below them but `stop_at`, relative to `tree`; `path` is one of the tops.

    `name`: see `Item.name`. `key`: a digest of what else decides the item; see `Stamp.tree`.
    """

    tree: Tree
    key: bytes
    path: bytes
    name: str
    tops: tuple[bytes, ...]
    stop_at: ByFolder

    def item(self, role: Role, look: Callable[[Entry, bytes], None] | None = None) -> Item:
        """The item, whose identity it takes reading to know."""
        return Item(
            path="/" + self.tree.in_image(self.path).decode("utf-8", "surrogateescape"),
            name=self.name,
            origin=self.name,
            identity=None,
            size=size(self.names(), self.tree.profile),
            parents=self.tree.parents(self.tops),
            role=role,
            entries=self.entries,
            look=look,
            stamp=self.stamp,
        )

    def names(self) -> Iterator[Names]:
        """What it holds, a folder at a time."""
        return self.tree.listing.select(self.tops, self.stop_at)

    def entries(self) -> Iterator[Entry]:
        """What it holds, in archive order."""
        tree = self.tree
        return tree.listing.entries(tree.at, tree.profile, self.tops, self.stop_at)

    def stamp(self) -> Stamp:
        """What lstat said of it. Injective: each field is preceded by its length."""
        above = TreeHash()
        for parent in self.tree.parents(self.tops):
            above.add(parent)
        digest, newest_ns = hashlib.sha256(above.digest().hex.encode()), 0
        for selected in self.names():
            links = b"".join(b"%b\0%b\0" % link for link in sorted(selected.links.items()))
            # No name holds a slash.
            fields = (selected.folder, b"/".join(selected.names), selected.rows, links)
            digest.update(b"%d %d %d %d\n" % tuple(map(len, fields)) + b"".join(fields))
            newest_ns = max(newest_ns, selected.newest_ns)
        return Stamp(tree=self.key, fingerprint=digest.digest(), newest_ns=newest_ns)
