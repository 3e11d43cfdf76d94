"""A directory becomes items: the app's own code, and a package of a dependency folder each."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from pathspec import GitIgnoreSpec

from regpush.cancel import Cancellation
from regpush.closure import Closure, Identity, Item, Role, Scheme
from regpush.entry import Entry, Kind, OnDisk, Profile, TreeHash
from regpush.errors import UsageError, printable
from regpush.events import Listener, Note
from regpush.filesystem import GuardedFile
from regpush.options import SourceOptions
from regpush.sources import dependencies, secrets
from regpush.sources.ignore import IGNORE_FILE, LeaveOut, parse_patterns, read_ignore_file
from regpush.sources.tree import Tree

_BLOCK = 1 << 20
# Files that one task of a worker hashes: enough that tasks cost nothing, few enough that large
# files find several workers.
_BATCH_FILES = 256
_BATCH_BYTES = 16 << 20
_ROOT_DIR = re.compile(r"/|(?:/(?!\.{1,2}(?:/|$))[^/\0]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What becomes one item: `tops` and all below them, relative to the tree, but `stop_at`."""

    tree: Tree
    path: bytes
    name: str
    tops: tuple[bytes, ...]
    role: Role = Role.ORDINARY
    stop_at: frozenset[bytes] = frozenset()

    def list(self) -> list[Entry]:
        return self.tree.entries(self.tops, self.stop_at)

    def entries(self) -> Iterator[Entry]:
        return iter(self.list())


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
    leave_out = LeaveOut(read_ignore_file(root), in_image=at)
    tree = Tree(
        root=root,
        at=at,
        profile=options.profile,
        xattrs=options.preserve_xattrs,
        leave_out=leave_out,
    )
    name = os.path.basename(os.path.abspath(path)) or os.path.basename(options.root_dir) or "root"
    own, *others = _parts(tree, name)
    items = [_own_item(own, path, options.allow_secrets, cancel)]
    listings = []
    for part in others:
        cancel.check()
        listings.append(part.list())
    digests = iter(_digests([entry for entries in listings for entry in entries], cancel))
    items += [
        _item(part, entries, itertools.islice(digests, len(entries)))
        for part, entries in zip(others, listings, strict=True)
    ]
    _tell(tree, listings, notify)
    return Closure.build((items[0].path,), tuple(items), profile=options.profile)


def _image_root(root_dir: str) -> bytes:
    if not _ROOT_DIR.fullmatch(root_dir):
        raise UsageError(
            f"bad --root-dir '{printable(root_dir)}': an absolute path such as /srv/app, "
            "without '..' or a slash at its end"
        )
    return root_dir.encode("utf-8", "surrogateescape").strip(b"/")
