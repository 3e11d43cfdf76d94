"""A directory becomes items: the app's own code, and one for each package it depends on."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence

from regpush import __version__
from regpush.cancel import Cancellation
from regpush.closure import Closure, Role
from regpush.entry import Profile
from regpush.errors import UsageError, printable
from regpush.events import Listener, Note
from regpush.listing import Row, join, scan
from regpush.options import SourceOptions
from regpush.sources import dependencies
from regpush.sources.ignore import LeaveOut, parse_patterns, read_ignore_file
from regpush.sources.part import Part
from regpush.sources.secrets import Watch
from regpush.sources.tree import Tree

_ROOT_DIR = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[^/\0]+)+")


def resolve(
    path: str, options: SourceOptions, *, notify: Listener, cancel: Cancellation
) -> Closure:
    """The closure of the directory `path`, listed but not read; its root is the app's own code.

    No item has an identity yet. Raises UsageError for a bad `root_dir`, a malformed
    `.regpushignore` and a secret, by its name, among the app's own code; SourceError for
    what cannot be listed or packed.
    """
    at = _image_root(options.root_dir)
    root = os.fsencode(os.path.realpath(path))
    leave_out = LeaveOut(read_ignore_file(root), in_image=at)

    def watched(folder: bytes, found: Mapping[bytes, os.DirEntry[bytes]]) -> set[bytes]:
        cancel.check()
        return leave_out(folder, found)

    listing = scan(root, leave_out=watched, xattrs=options.preserve_xattrs)
    tree = Tree(listing=listing, at=at, profile=options.profile)
    watch = Watch(tree, parse_patterns(options.allow_secrets, where="--allow-secret"))
    name = os.path.basename(os.path.abspath(path)) or "root"
    own, *others = _parts(tree, name, _key(root, options))
    watch.check_names(own.names())
    for message in _remarks(tree, leave_out, (own, *others)):
        notify(Note(message=message))
    code = own.item(Role.OWN, watch.look)
    items = (code, *(part.item(Role.ORDINARY) for part in others))
    return Closure.build((code.path,), items, profile=options.profile)


def _image_root(root_dir: str) -> bytes:
    if not _ROOT_DIR.fullmatch(root_dir) or "/.wh." in root_dir:
        raise UsageError(
            f"bad --root-dir '{printable(root_dir)}': an absolute path such as /srv/app, "
            "without '..' or a slash at its end"
        )
    return root_dir.encode("utf-8", "surrogateescape").strip(b"/")


def _key(root: bytes, options: SourceOptions) -> bytes:
    """A digest of all but the files that decides what an item is, and whether it may be sent."""
    said = [
        __version__,  # which secrets are found, and how items are cut, changes with it
        os.fsdecode(root),
        options.root_dir,
        options.profile.value,
        options.preserve_xattrs,
        options.allow_secrets,
    ]
    return hashlib.sha256(json.dumps(said).encode()).digest()


def _parts(tree: Tree, name: str, key: bytes) -> Iterator[Part]:
    """The app's own code, then the packages and the rest of each dependency folder."""
    folders = dependencies.find(tree)
    stop_at = frozenset(folder.path for folder in folders)
    yield Part(tree=tree, key=key, path=b"", name=name, tops=(b"",), stop_at=stop_at)
    for folder in folders:
        tops = frozenset(top for package in folder.packages for top in package.tops)
        rest, path = os.fsdecode(os.path.basename(folder.path)), folder.path
        yield Part(tree=tree, key=key, path=path, name=rest, tops=(path,), stop_at=tops)
        for package in folder.packages:
            yield Part(tree=tree, key=key, path=package.path, name=package.name, tops=package.tops)


def _remarks(tree: Tree, leave_out: LeaveOut, parts: Sequence[Part]) -> Iterator[str]:
    """What the user should know about what was left out or changed on the way."""
    if leave_out.git:
        yield f"{printable(leave_out.git)} is left out"
    if leave_out.device:
        yield "what lies in /dev is left out"
    if b".dockerignore" in tree.names(b""):
        yield ".dockerignore is not read; list what is to be left out in .regpushignore"
    if tree.profile is Profile.TREE and (shared := _shared_file(parts)):
        first, second = (printable(tree.in_image(path)) for path in shared)
        yield f"hard links between items are stored as separate files: /{first} and /{second}"


def _shared_file(parts: Sequence[Part]) -> tuple[bytes, bytes] | None:
    """Two paths of one file, which are in two parts, if there are such."""
    seen: dict[tuple[int, int], tuple[Part, bytes]] = {}
    for part in parts:
        for selected in part.names():
            for name, row in zip(selected.names, Row.unpack(selected.rows), strict=True):
                if row.names > 1:
                    path = join(selected.folder, name)
                    holder, first = seen.setdefault((row.device, row.inode), (part, path))
                    if holder is not part:
                        return first, path
    return None
