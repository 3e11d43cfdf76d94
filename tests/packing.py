"""Packs archives block by block, as a push does."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from regpush.closure import Item
from regpush.pack.tar import Archive, ArchiveOptions

BLOCK = 1 << 20


def pack(items: Sequence[Item], options: ArchiveOptions, size: int = BLOCK) -> Iterator[bytes]:
    """Yield the archive of `items` in blocks of `size` bytes; the last may be shorter."""
    archive = Archive(items, options)
    block = bytearray(size)
    is_last = False
    while not is_last:
        count, _, is_last = archive.readinto(block)
        yield bytes(block[:count])


def members(blob: bytes) -> int:
    """The gzip members in `blob`."""
    count, rest = 0, memoryview(blob)
    while rest:
        unpacking, at = zlib.decompressobj(31), 0
        while not unpacking.eof:
            unpacking.decompress(rest[at : at + (64 << 10)])
            at += 64 << 10
        rest = rest[min(at, len(rest)) - len(unpacking.unused_data) :]
        count += 1
    return count
