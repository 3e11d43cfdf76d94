"""Compute the sha256 of a Nix archive (NAR), from files or while a layer is packed.

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
    """Return the sha256 and the size in bytes of the Nix archive of the file tree at `path`.

    `check` is called for each file and may raise. Raises SourceError for a file that cannot be
    read.
    """
    entries = undone(scan(os.fsencode(path)).entries(_ROOT, Profile.STORE))
    return hash_entries(entries, _ROOT, check)


def hash_entries(
    entries: Iterable[Entry], root: bytes, check: Callable[[], None]
) -> tuple[Digest, int]:
    """Return the sha256 and the size in bytes of the Nix archive of `entries`.

    `entries`: everything at the image path `root` and below, with the metadata of `Profile.STORE`.
    `check` is called for each file and may raise. Raises SourceError for a file that cannot be
    read.
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
"""The zero bytes after a value, which pad it to 8 bytes, by its length modulo 8."""


def _string(value: bytes) -> bytes:
    """Encode `value` as a NAR string: its length (64 bits, little-endian), then it, zero-padded."""
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
_NAMED = b"%b%%b%%b%%b%b" % (_ENTRY, _NODE)
"""A template of the beginning of an entry in a folder; %b stand for the length of its name (64
bits), the name, and the name's padding."""
_END_OF_ROOT = tuple(padding + _CLOSE for padding in _PADDING)
_END_OF_ENTRY = tuple(end + _CLOSE for end in _END_OF_ROOT)
"""The bytes after the content of a file in a folder, by the content's length modulo 8."""
_FILE, _FOLDER = Kind.FILE, Kind.DIRECTORY
_SMALL = 1 << 15
"""Contents of at most this many bytes are collected in a buffer and hashed together.

A call of sha256 takes the interpreter as long as hashing a kilobyte, and releases its lock.
"""


class NarHash:
    """Computes the sha256 of the Nix archive of `entries`; contents may be given in any order.

    A Nix archive sorts siblings by name, while a layer sorts whole paths, where `lib-a` precedes
    `lib/b`. A file that is given before its place in the archive is read again later; then it is
    still in the page cache.

    `entries`: everything at the image path `root` and below, with the metadata of `Profile.STORE`.
    `order`: the entries in the archive's order. `size`: bytes of the archive so far. `done`: called
    with the hash after the last entry was given; its exceptions pass through. Not thread-safe.
    """

    def __init__(
        self, entries: Iterable[Entry], root: bytes, done: Callable[[Digest], None]
    ) -> None:
        # Names contain no zero byte, so this order is that of the paths as lists of names.
        self.order = sorted(entries, key=lambda entry: entry.path.replace(b"/", b"\0"))
        self.size = len(_MAGIC)
        self._done = done
        self._hash = hashlib.sha256()
        self._unhashed = bytearray(_MAGIC)
        self._above_root = root.count(b"/")
        self._at = 0
        self._early: set[bytes] = set()
        self._closing = b""  # the end of the previous entry, written before the next one
        self._depth = 0  # number of folders whose end is not written yet

    def begin(self, path: bytes) -> bool:
        """Begin the entry at `path`; return whether it is next in the archive's order.

        If True, give its content to `update`, then call `end`. If False, give nothing: the file is
        read again later.
        """
        entry = self.order[self._at]
        if entry.path != path:
            self._early.add(path)
            return False
        self._open(entry)
        return True

    def update(self, content: bytes | memoryview) -> None:
        """Add the next bytes of the content of the entry that `begin` began."""
        unhashed = self._unhashed
        if len(content) <= _SMALL:
            unhashed += content
        if len(content) > _SMALL or len(unhashed) > 2 * _SMALL:
            self._hash.update(unhashed)
            unhashed.clear()
        if len(content) > _SMALL:
            self._hash.update(content)

    def end(self) -> None:
        """End the entry that `begin` began, and add entries that were given early and are next.

        Raises SourceError where one of these cannot be read, and what `done` raises.
        """
        self._at += 1
        if self._early or self._at == len(self.order):
            self._catch_up()

    def _catch_up(self) -> None:
        """Add the entries that were given early and are next; after the last one, call `done`."""
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
        """Add the entry at `path` with its whole `content`, empty for all but files.

        Raises SourceError where a file that was given early cannot be read again, and what `done`
        raises.
        """
        if self.begin(path):
            if content:
                self.update(content)
            self.end()

    def _open(self, entry: Entry) -> None:
        """Add the bytes that precede the content of `entry` in the archive."""
        path, kind, mode, _, _, size, link, _, _ = entry
        depth = path.count(b"/") - self._above_root
        ends = 2 * (self._depth - depth)
        named = b""
        if depth:
            name = path[path.rindex(b"/") + 1 :]
            length = len(name)
            named = _NAMED % (_LENGTH(length), name, _PADDING[length & 7])
        self._depth = depth
        if kind is _FILE:
            typed = (_EXECUTABLE if mode & 0o100 else _REGULAR) + _LENGTH(size)
            closing = (_END_OF_ENTRY if depth else _END_OF_ROOT)[size & 7]
        elif kind is _FOLDER:
            typed, closing = _DIRECTORY, b""
            self._depth += 1
        else:
            typed = _SYMLINK + _string(link)
            closing = (_END_OF_ENTRY if depth else _END_OF_ROOT)[0]
        self.size += size
        self._put(b"%b%b%b%b" % (self._closing, _CLOSE * ends, named, typed))
        self._closing = closing

    def _put(self, data: bytes) -> None:
        self._unhashed += data
        self.size += len(data)
