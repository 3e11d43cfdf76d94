"""A directory becomes items: the app's own code, and one for each package it depends on."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from regpush.cancel import Cancellation
from regpush.closure import Closure, Identity, Item, Role, Scheme
from regpush.entry import Entry, Kind, OnDisk, Profile, TreeHash
from regpush.errors import UsageError, printable
from regpush.events import Listener, Note
from regpush.options import SourceOptions
from regpush.sources import dependencies, secrets
from regpush.sources.contents import digests
from regpush.sources.ignore import LeaveOut, parse_patterns, read_ignore_file
from regpush.sources.tree import Tree

_ROOT_DIR = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[^/\0]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What becomes one item: `tops` and all below them but `stop_at`, relative to the tree."""

    tree: Tree
    path: bytes
    name: str
    tops: tuple[bytes, ...]
    role: Role = Role.ORDINARY
    stop_at: frozenset[bytes] = frozenset()

    def entries(self) -> Iterator[Entry]:
        return iter(self.tree.entries(self.tops, self.stop_at))


def resolve(
    path: str, options: SourceOptions, *, notify: Listener, cancel: Cancellation
) -> Closure:
    """The closure of the directory `path`; its root is the app's own code.

    Every file is read once, to find out what the items are. Raises UsageError for a bad
    `root_dir`, a malformed `.regpushignore` and a secret among the app's own code;
    SourceError for what cannot be read or packed, or changes meanwhile.
    """
    at = _image_root(options.root_dir)
    root = os.fsencode(os.path.realpath(path))
    tree = Tree(
        root=root,
        at=at,
        profile=options.profile,
        xattrs=options.preserve_xattrs,
        leave_out=LeaveOut(read_ignore_file(root), in_image=at),
    )
    parts = _parts(tree, os.path.basename(os.path.abspath(path)) or "root")
    listings = []
    for part in parts:
        cancel.check()
        listings.append(list(part.entries()))
    own, *others = listings
    watch = secrets.Watch(tree, parse_patterns(options.allow_secrets, where="--allow-secret"))
    contents = [digests(own, cancel, watch.look)]
    watch.refuse()
    rest = iter(digests([entry for entries in others for entry in entries], cancel))
    contents += [list(itertools.islice(rest, len(entries))) for entries in others]
    for message in _remarks(tree, listings):
        notify(Note(message=message))
    items = tuple(map(_item, parts, listings, contents))
    return Closure.build((items[0].path,), items, profile=options.profile)


def _image_root(root_dir: str) -> bytes:
    if not _ROOT_DIR.fullmatch(root_dir) or "/.wh." in root_dir:
        raise UsageError(
            f"bad --root-dir '{printable(root_dir)}': an absolute path such as /srv/app, "
            "without '..' or a slash at its end"
        )
    return root_dir.encode("utf-8", "surrogateescape").strip(b"/")


def _parts(tree: Tree, name: str) -> list[_Part]:
    """The app's own code, then the packages and the rest of each dependency folder."""
    folders = dependencies.find(tree)
    parts = [
        _Part(
            tree=tree,
            path=b"",
            name=name,
            tops=(b"",),
            role=Role.OWN,
            stop_at=frozenset(folder.path for folder in folders),
        )
    ]
    for folder in folders:
        tops = [top for package in folder.packages for top in package.tops]
        parts.append(
            _Part(
                tree=tree,
                path=folder.path,
                name=os.fsdecode(os.path.basename(folder.path)),
                tops=(folder.path,),
                stop_at=frozenset(tops),
            )
        )
        parts += [
            _Part(tree=tree, path=package.path, name=package.name, tops=package.tops)
            for package in folder.packages
        ]
    return parts


def _item(part: _Part, entries: list[Entry], contents: list[bytes]) -> Item:
    parents = part.tree.parents(part.path)
    return Item(
        path="/" + part.tree.in_image(part.path).decode("utf-8", "surrogateescape"),
        name=part.name,
        origin=part.name,
        identity=tree_identity(parents, entries, contents),
        size=sum(entry.size for entry in entries),
        parents=parents,
        role=part.role,
        entries=part.entries,
    )


def tree_identity(
    parents: Sequence[Entry], entries: Sequence[Entry], contents: Sequence[bytes]
) -> Identity:
    """What `entries`, of these raw sha256 digests, are below `parents`; packing agrees."""
    tree = TreeHash()
    for parent in parents:
        tree.add(parent)
    for entry, content in zip(entries, contents, strict=True):
        tree.add(entry, content)
    return Identity(Scheme.TREE, tree.digest())


def _remarks(tree: Tree, listings: list[list[Entry]]) -> Iterator[str]:
    """What the user should know about what was left out or changed on the way."""
    if tree.leave_out.git:
        yield f"{printable(tree.leave_out.git)} is left out"
    if tree.leave_out.device:
        yield "what lies in /dev is left out"
    if any(name == b".dockerignore" for name, _ in tree.children(b"")):
        yield ".dockerignore is not read; list what is to be left out in .regpushignore"
    if shared := _shared_inode(tree.profile, listings):
        first, second = shared
        yield (
            f"hard links between items are stored as separate files: /{printable(first)} "
            f"and /{printable(second)}"
        )


def _shared_inode(profile: Profile, listings: list[list[Entry]]) -> tuple[bytes, bytes] | None:
    """The image paths of one file with names in two items, where hard links are kept at all."""
    if profile is not Profile.TREE:
        return None
    seen: dict[int, bytes] = {}
    for entries in listings:
        for entry in entries:
            if entry.kind is Kind.FILE and isinstance(entry.content, OnDisk):
                first = seen.setdefault(entry.content.inode, entry.path)
                if first != entry.path:
                    return first, entry.path
    return None
