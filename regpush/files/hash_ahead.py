"""Hashes the files of a directory in the process that has listed them: see `scan_ahead`."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from typing import TypeAlias

from regpush.entry import HEAD, LOOK_AT, Entry, Kind, OnDisk
from regpush.errors import SourceError
from regpush.files.content_hash import ContentHash
from regpush.files.filesystem import GuardedFile, read_listed
from regpush.files.listing import Folder, Row, join
from regpush.files.open_root import OpenRoot
from regpush.files.suspects import is_suspect

_BLOCK = 1 << 20
# Limits of a report: so few files that hardly any are hashed by both processes where they meet.
_FILES = 64
_BYTES = 4 << 20

Hashed: TypeAlias = tuple[bytes, int, list[bytes]]
"""The path of a folder, the index of one of its names, and the digests of the files from this name
on; empty for what is no file, and for files that the first process must read itself."""


def hashed(root: OpenRoot, folders: Iterable[tuple[bytes, Folder]]) -> Iterator[list[Hashed]]:
    """Hash the files of `folders`, pairs of path and folder; yield digests, some at a time.

    The digest is empty for a file that may hold a secret, because the first process searches it,
    and for a file that cannot be read, because the first process reports the error.
    """
    block = bytearray(_BLOCK)
    done: list[Hashed] = []
    files = size = 0
    for path, folder in folders:
        rows = list(Row.unpack(folder.rows))
        # Backwards, because the first process hashes from the first name to the last.
        for begin in reversed(range(0, len(rows), _FILES)):
            part = rows[begin : begin + _FILES]
            names = folder.names[begin : begin + _FILES]
            digests = [
                _digest(root, join(path, name), row, block) if stat.S_ISREG(row.mode) else b""
                for name, row in zip(names, part, strict=True)
            ]
            done.append((path, begin, digests))
            files += len(part)
            size += sum(row.size for row in part)
            if files >= _FILES or size >= _BYTES:
                yield done
                done, files, size = [], 0, 0
    yield done


def _digest(root: OpenRoot, path: bytes, row: Row, block: bytearray) -> bytes:
    content = OnDisk(root, path, row.inode, row.mtime_ns, row.ctime_ns)
    entry = Entry(path, Kind.FILE, 0, size=row.size, content=content)
    try:
        if row.size > HEAD:
            return _of_large(entry, content, block)
        data = read_listed(entry, content)
    except SourceError:
        return b""
    return b"" if is_suspect(path, data, 0, len(data)) else ContentHash(data).digest()


def _of_large(entry: Entry, content: OnDisk, block: bytearray) -> bytes:
    """Return the digest of a large file, empty for a suspect one. Raises SourceError."""
    digest, memory = ContentHash(), memoryview(block)
    with GuardedFile(entry, content) as file:
        count = file.readinto(memory)
        if is_suspect(entry.path, block, 0, min(count, LOOK_AT)):
            return b""
        while count:
            digest.update(memory[:count])
            count = file.readinto(memory)
        file.finish()
    return digest.digest()
