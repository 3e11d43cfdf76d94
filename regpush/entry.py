"""One filesystem entry as an archive will hold it, and the identity over many.

An `Entry` is already normalised by its `Profile`, so that the archive writes what it is
given and an identity is computed over exactly what the archive writes (design: one place
decides, two places agree).
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from regpush.digest import Digest


class Profile(Enum):
    """How file metadata is normalised; part of every recipe.

    STORE: uid/gid 0, `go` = `u` without `w`, set-id bits and xattrs dropped, hard links
    stored as files. TREE: modes 07777, numeric owners, hard links kept inside an item.
    """

    STORE = "store"
    TREE = "tree"


class Kind(Enum):
    """What an entry is. The value stands in identities: never change one."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"
    HARDLINK = "h"


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A file's content on this machine, and what lstat said when it was listed.

    `path` is physical, in bytes. The rest must still hold when the content is read:
    `inode`, `mtime_ns` and `ctime_ns` as st_ino, st_mtime_ns and st_ctime_ns.
    """

    path: bytes
    inode: int
    mtime_ns: int
    ctime_ns: int


Content: TypeAlias = OnDisk | bytes

HEAD = 1 << 16
"""The first bytes of a file, at most, by which its kind is told."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One member of an archive.

    `path` is where it lies in the image, in bytes, without leading or trailing slash; the
    image's root itself is never an entry. `mode` is permission bits as they will be
    written. `size` is the bytes of content and 0 for all but files. `link` is a symlink's
    target verbatim, or the image path of a hard link's first name. `xattrs` are sorted
    (name, value) pairs. `content` is empty bytes for all but files.
    """

    path: bytes
    kind: Kind
    mode: int
    uid: int = 0
    gid: int = 0
    size: int = 0
    link: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    content: Content = field(default=b"", compare=False)


class TreeHash:
    """sha256 over a sequence of entries and the sha256 of each file's content.

    Injective: every field is either of a fixed alphabet or preceded by its length.
    Feed entries in archive order.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def add(self, entry: Entry, content_sha256: bytes = b"") -> None:
        """Take in `entry`; `content_sha256` is the raw digest (32 bytes) of a file's content."""
        head = (
            f"{entry.kind.value} {entry.mode:o} {entry.uid} {entry.gid} {entry.size} "
            f"{len(entry.path)} {len(entry.link)} {len(entry.xattrs)}\n"
        ).encode()
        parts = [head, entry.path, entry.link]
        for name, value in entry.xattrs:
            parts += [f"{len(name)} {len(value)}\n".encode(), name, value]
        parts.append(content_sha256)
        self._hash.update(b"".join(parts))

    def digest(self) -> Digest:
        """The digest of everything added so far."""
        return Digest("sha256", self._hash.hexdigest())
