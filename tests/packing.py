"""Archives block by block, as a push reads them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from regpush.closure import Item
from regpush.pack.tar import Archive, ArchiveOptions

BLOCK = 1 << 20


def pack(items: Sequence[Item], options: ArchiveOptions, size: int = BLOCK) -> Iterator[bytes]:
    """The archive of `items` in blocks of `size` bytes; the last may be shorter."""
    archive = Archive(items, options)
    block = memoryview(bytearray(size))
    is_last = False
    while not is_last:
        count, _, is_last = archive.readinto(block)
        yield bytes(block[:count])
