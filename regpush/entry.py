"""Entries of an archive: files, directories, links.

An `Entry` is already normalised by its `Profile`: the archive writes exactly what the identity
covers (`tree_hash`). Entries are tuples because they are many: a tuple is made three times faster
than a frozen dataclass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import Enum
from typing import NamedTuple, Protocol, TypeAlias


def as_bytes(text: str) -> bytes:
    """Encode a path, or other text of a file system, as the bytes that an archive holds.

    The encoding is UTF-8; bytes that are not UTF-8 are lone surrogates in `text` (PEP 383).
    """
    return text.encode("utf-8", "surrogateescape")


def as_text(data: bytes) -> str:
    """Decode `data` into text from which `as_bytes` makes the same bytes again."""
    return data.decode("utf-8", "surrogateescape")


def image_path(path: str) -> bytes:
    """Convert a path in an image into the form of `Entry.path`: bytes without outer slashes."""
    return as_bytes(path.strip("/"))


def absolute(path: bytes) -> str:
    """Convert an `Entry.path` into text that starts with a slash."""
    return "/" + as_text(path)


class Profile(Enum):
    """How file metadata is normalised; part of every recipe.

    STORE: uid and gid 0; group and others get the user's permissions without write; set-id bits and
    extended attributes are dropped; hard links are stored as files. TREE: all mode bits (07777) and
    numeric owners are kept, and hard links within an item.
    """

    STORE = "store"
    TREE = "tree"


class Kind(Enum):
    """The type of an entry. Identities contain the value: it must never change."""

    FILE = "f"
    DIRECTORY = "d"
    SYMLINK = "l"
    HARDLINK = "h"
    CHARACTER = "c"
    BLOCK = "b"
    FIFO = "p"

    # That of Enum is a function of Python, which each look-up in a dict would call: 0.1 µs.
    __hash__ = object.__hash__


class Root(Protocol):
    """A tree on this machine whose files are opened by paths relative to it, in bytes."""

    def open(self, path: bytes, /) -> int:
        """Open `path` for reading, without following symbolic links; returns the descriptor.

        Raises OSError.
        """

    def on_disk(self, path: bytes, /) -> bytes:
        """Return the absolute path of `path`, for messages."""


class OnDisk(NamedTuple):
    """A file's content on this machine, with the lstat data from when it was listed.

    `path` is relative to `root`, in bytes. `inode`, `mtime_ns` and `ctime_ns` (st_ino, st_mtime_ns,
    st_ctime_ns) must be unchanged when the content is read.
    """

    root: Root
    path: bytes
    inode: int
    mtime_ns: int
    ctime_ns: int


class Deflated(NamedTuple):
    """A file's content as a raw deflate stream (RFC 1951).

    `open`: starts anew at each call; gives pieces of bounded size, each the next bytes of the
    stream and the content that they unpack to; either may be empty. Raises SourceError, before its
    end, where the content has not `Entry.size` bytes and the CRC-32 `crc`.
    """

    open: Callable[[], Iterator[tuple[bytes, bytes]]]
    crc: int


class Streamed(NamedTuple):
    """A file's content that is made on demand, for instance unpacked from an archive.

    `open`: starts anew at each call; gives `Entry.size` bytes in total, always equal, in pieces of
    bounded size. Raises SourceError where it cannot. `deflated`: the content in compressed form, if
    it exists as a deflate stream that a layer may contain.
    """

    open: Callable[[], Iterator[bytes]]
    deflated: Deflated | None = None


Content: TypeAlias = OnDisk | Streamed | bytes

HEAD = 1 << 16
"""The maximum number of bytes at the beginning of a file by which its type is recognised."""

LOOK_AT = 1 << 20
"""The maximum number of bytes at the beginning of a file that are searched for a secret: a key may
follow a long chain of certificates. Packing has them in memory anyway, as one block."""


class Entry(NamedTuple):
    """One member of an archive.

    `path` is where it lies in the image, in bytes, without leading or trailing slash; the
    image's root itself is never an entry. `mode` is permission bits as they will be
    written. `size` is the bytes of content and 0 for all but files. `link` is a symlink's
    target verbatim, the image path of a hard link's first name, or a device's numbers as
    `major:minor`. `xattrs` are sorted
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
    content: Content = b""
