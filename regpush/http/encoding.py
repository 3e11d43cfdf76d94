"""Decompresses replies with `Content-Encoding: gzip`, which some proxies add unasked.

RFC 9110, section 8.4.1.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

from regpush.http.wire import UnansweredError

_PIECE = 1 << 18
"""Bytes that are unpacked at a time, because a small reply may unpack to a thousand times its
size."""

_GZIP = 16 + zlib.MAX_WBITS


def is_gzip(encoding: str) -> bool:
    """Whether the header `Content-Encoding` names gzip and nothing else."""
    return encoding.strip().lower() in ("gzip", "x-gzip")


def unpacked(parts: Iterator[bytes]) -> Iterator[bytes]:
    """Decompress a gzip body, in pieces of bounded size; an empty body gives no piece.

    Raises UnansweredError where the body is not gzip, or is truncated.
    """
    packer = zlib.decompressobj(_GZIP)
    began = False
    for part in parts:
        left = part
        while left:
            if packer.eof:  # RFC 1952: members may follow each other
                packer = zlib.decompressobj(_GZIP)
            began = True
            try:
                piece = packer.decompress(left, _PIECE)
            except zlib.error as error:
                raise UnansweredError(
                    "the reply's Content-Encoding is gzip, but its body is not"
                ) from error
            left = packer.unused_data if packer.eof else packer.unconsumed_tail
            if piece:
                yield piece
    while began and not packer.eof and (piece := packer.decompress(b"", _PIECE)):
        yield piece
    if began and not packer.eof:
        raise UnansweredError("the gzip data of the reply is truncated")
