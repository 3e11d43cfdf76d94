"""Copies content that is compressed already into a gzip member, without compressing it again.

A member is a header, a raw deflate stream, the CRC-32 and the size of the content (RFC 1952,
section 2.3), and a zip archive contains such streams. The content is decompressed all the same: the
diff ID is computed over it, and a damaged stream must not get into an image.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Generator, Iterator

from regpush.entry import Deflated
from regpush.pack.page import Filled, Page

Takes = Callable[[bytes, int], bool]
"""Called with some content and the size of its deflate stream; returns whether the stream is short
enough to be copied."""

SPLICED = 512 << 10
"""The minimum bytes of content of a deflate stream that is copied.

`unpigz`, which container engines call, takes some 60 µs for each member, and 1 to 4 ms to unpack
1 MiB. A copied stream makes two members, its own and that of what comes before it, so a layer has
four members for 1 MiB at most, and `unpigz` takes at most 1.2 times as long as with one. With 128
KiB it would take 1.2 times as long for text, 1.5 for JSON, and layers of large wheels would be .2
to .7 % smaller, for the same CPU time (docs/benchmarks.md, Python projects from their lock).
"""

_SAMPLE = 64 << 10
_MOST = 1 << 20
_HEADER = b"\x1f\x8b\x08" + bytes(6) + b"\xff"
"""A gzip header: deflate, no flags, no time, no extra flags, unknown system."""
_TRAILER = struct.Struct("<LL")


def splice(
    page: Page, content: Deflated, size: int, takes: Takes
) -> Generator[Filled, bytearray, None]:
    """Write `content`, of `size` bytes, and copy its deflate stream if `takes` accepts it.

    The stream becomes a gzip member of its own; otherwise the content is compressed again. Raises
    SourceError where `content` cannot be read.
    """
    pieces = content.open()
    first = list(_sample(pieces))
    deflated = sum(len(stream) for stream, _ in first)
    if not takes(b"".join(plain for _, plain in first), deflated):
        for _, plain in (*first, *pieces):
            yield from page.put(plain)
        return
    if page.used:
        yield from page.turn()
    packed = bytearray(_HEADER)
    for stream, plain in _chained(first, pieces):
        packed += stream
        left = memoryview(plain)
        while left or len(packed) > _MOST:
            count = min(len(left), len(page.free))
            page.take(count)[:] = left[:count]
            left = left[count:]
            if page.is_full or len(packed) > _MOST:
                yield from page.turn(bytes(packed))
                packed.clear()
    packed += _TRAILER.pack(content.crc, size & 0xFFFFFFFF)
    yield from page.turn(bytes(packed))


def _sample(pieces: Iterator[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the first pieces of a stream, until they unpack to `_SAMPLE` bytes.

    Stops as well once they have twice as many compressed bytes.
    """
    read = unpacked = 0
    for stream, plain in pieces:
        yield stream, plain
        read, unpacked = read + len(stream), unpacked + len(plain)
        if unpacked >= _SAMPLE or read >= 2 * _SAMPLE:
            return


def _chained(
    first: list[tuple[bytes, bytes]], rest: Iterator[tuple[bytes, bytes]]
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pieces of `first`, then of `rest`; each piece in `first` is freed when yielded."""
    while first:
        yield first.pop(0)
    yield from rest
