"""Bodies for uploads."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator

from regpush.digest import Descriptor, Digest

PIECE = 1 << 20


def content(size: int, seed: int = 0) -> bytes:
    """`size` bytes, the same for the same seed."""
    return random.Random(f"{seed}/{size}").randbytes(size)


def descriptor_of(data: bytes) -> Descriptor:
    digest = Digest("sha256", hashlib.sha256(data).hexdigest())
    return Descriptor(media_type="application/octet-stream", digest=digest, size=len(data))


def pieces(data: bytes) -> Iterator[bytes]:
    for at in range(0, len(data), PIECE):
        yield data[at : at + PIECE]


class Stream:
    """A BlobStream that hashes as it goes."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._hash = hashlib.sha256()
        self._done = False
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for piece in pieces(self._data):
            self._hash.update(piece)
            self.size += len(piece)
            yield piece
        self._done = True

    @property
    def digest(self) -> Digest:
        assert self._done, "asked for the digest before the stream was exhausted"
        return Digest("sha256", self._hash.hexdigest())
