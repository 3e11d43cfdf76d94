"""Compute the hash of a Nix archive (NAR): of files alone, or while a layer is packed.

Nix manual, "Nix Archive (NAR) Format".
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Callable, Iterable

from regpush.digest import Digest
from regpush.entry import Entry, Kind, Profile
from regpush.files.filesystem import blocks
from regpush.files.listing import scan
from regpush.sources.case_hack import undone

_ROOT = b"nar"


def nar_hash(path: str, check: Callable[[], None] = lambda: None) -> tuple[Digest, int]:
    """Hash the Nix archive of the file tree at `path`: sha256, and the archive's bytes.

    `check` is called for each file and may raise. Raises SourceError for what cannot be read.
    """
    entries = undone(scan(os.fsencode(path)).entries(_ROOT, Profile.STORE))
    return hash_entries(entries, _ROOT, check)


def hash_entries(
    entries: Iterable[Entry], root: bytes, check: Callable[[], None]
) -> tuple[Digest, int]:
    """Hash the Nix archive of `entries`, those of the store profile at `root` and below.

    Returns the sha256 and the archive's bytes. `check` is called for each file and may raise.
    Raises SourceError for what cannot be read.
    """
    found: list[Digest] = []
    nar = NarHash(entries, root, found.append)
    for entry in nar.order:
        check()
        nar.begin(entry.path)
        if entry.kind is Kind.FILE:
            for block in blocks(entry):
                nar.update(block)
        nar.end()
    return found[0], nar.size


_LENGTH = struct.Struct("<Q").pack
_PADDING = tuple(bytes(-length % 8) for length in range(8))
"""The zero bytes that follow a value, by its length modulo 8."""


def _string(value: bytes) -> bytes:
    """Encode `value` with its length (64 bits, little endian) before it, padded to 8 bytes."""
    length = len(value)
    return b"%b%b%b" % (_LENGTH(length), value, _PADDING[length & 7])


def _strings(*values: bytes) -> bytes:
    return b"".join(map(_string, values))


_MAGIC = _strings(b"nix-archive-1")
_ENTRY, _NODE = _strings(b"entry", b"(", b"name"), _strings(b"node")
_DIRECTORY = _strings(b"(", b"type", b"directory")
_SYMLINK = _strings(b"(", b"type", b"symlink", b"target")
_REGULAR = _strings(b"(", b"type", b"regular", b"contents")
_EXECUTABLE = _strings(b"(", b"type", b"regular", b"executable", b"", b"contents")
_CLOSE = _strings(b")")
_SMALL = 1 << 15
"""Contents of at most this many bytes are copied into a buffer and hashed together.

A call of sha256 costs the interpreter as much as hashing a kilobyte, and lets other threads take
its lock.
"""


class NarHash:
    """The hash of a Nix archive of `entries`, whose contents may be given in any order.

    A Nix archive sorts siblings by name, while a layer sorts whole paths: there `lib-a` precedes
    `lib/b`. A file that is given too early is read again when its turn comes; it was read a moment
    ago, so it is still in the page cache.

    `entries`: everything at `root` and below, of the store profile. `order`: the entries in the
    archive's order. `size`: bytes of the archive so far. `done` is called with the hash when the
    last entry has been given; its exceptions pass through. Not thread-safe.
    """

    def __init__(
        self, entries: Iterable[Entry], root: bytes, done: Callable[[Digest], None]
    ) -> None:
        # Names contain no zero byte, so this sorts paths as lists of names.
        self.order = sorted(entries, key=lambda entry: entry.path.replace(b"/", b"\0"))
        self.size = len(_MAGIC)
        self._done = done
        self._hash = hashlib.sha256()
        self._unhashed = bytearray(_MAGIC)
        self._above_root = root.count(b"/")
        self._at = 0
        self._early: set[bytes] = set()
        self._closing = b""  # ends the previous entry; written before the next one
        self._depth = 0  # folders that are not closed yet

    def begin(self, path: bytes) -> bool:
        """Begin the entry at `path`. Returns whether its content is wanted now.

        If True, give the content to `update`, then call `end`. If False, give nothing: the file is
        read again when its turn comes.
        """
        entry = self.order[self._at]
        if entry.path != path:
            self._early.add(path)
            return False
        self._open(entry)
        return True

    def update(self, content: bytes | memoryview) -> None:
        """Add the next bytes of the file that was given to `begin`."""
        unhashed = self._unhashed
        if len(content) <= _SMALL:
            unhashed += content
        if len(content) > _SMALL or len(unhashed) > 2 * _SMALL:
            self._hash.update(unhashed)
            unhashed.clear()
        if len(content) > _SMALL:
            self._hash.update(content)

    def end(self) -> None:
        """Complete the entry that `begin` began. Raises SourceError, and what `done` raises."""
        self._at += 1
        if self._early or self._at == len(self.order):
            self._catch_up()

    def _catch_up(self) -> None:
        """Write entries that were given too early and are next in order; after the last, finish."""
        while self._early and self.order[self._at].path in self._early:
            entry = self.order[self._at]
            self._early.remove(entry.path)
            self._open(entry)
            if entry.kind is Kind.FILE:
                for block in blocks(entry):
                    self.update(block)
            self._at += 1
        if self._at == len(self.order):
            self._put(self._closing + _CLOSE * (2 * self._depth - 1))
            self._hash.update(self._unhashed)
            self._done(Digest("sha256", self._hash.hexdigest()))

    def add(self, path: bytes, content: bytes | memoryview = b"") -> None:
        """Add the entry at `path` with all of its content at once.

        Raises SourceError, and what `done` raises.
        """
        if self.begin(path):
            if content:
                self.update(content)
            self.end()

    def _open(self, entry: Entry) -> None:
        """Write everything that precedes the content of `entry` in the archive."""
        path, kind, mode, _, _, size, link, _, _ = entry
        depth = path.count(b"/") - self._above_root
        head = self._closing + _CLOSE * (2 * (self._depth - depth))
        if depth:
            head += _ENTRY + _string(path[path.rindex(b"/") + 1 :]) + _NODE
        if kind is Kind.FILE:
            head += _EXECUTABLE if mode & 0o100 else _REGULAR
            head += _LENGTH(size)
            self._closing = _PADDING[size & 7] + _CLOSE
        elif kind is Kind.SYMLINK:
            head += _SYMLINK + _string(link)
            self._closing = _CLOSE
        else:
            head += _DIRECTORY
            self._closing = b""
        self.size += size
        self._put(head)
        self._depth = depth
        if kind is Kind.DIRECTORY:
            self._depth += 1
        elif depth:
            self._closing += _CLOSE

    def _put(self, data: bytes) -> None:
        self._unhashed += data
        self.size += len(data)
