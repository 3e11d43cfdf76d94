"""The block of memory that an archive is written into, until it is full and the next begins."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

ROOM = 512
"""Bytes of a record of an archive; what a member holds is filled up to a multiple of it."""

_ZEROS = bytes(ROOM)


class Filled(NamedTuple):
    """How many bytes of a block were filled, and what else there is to say of them.

    `packed`: what stands for the block in a compressed layer, if that is known: the next bytes of
    a compressed stream, of which block after block gives a part. `is_last`: whether the archive
    ends with the block.
    """

    used: int
    packed: bytes | None = None
    is_last: bool = False


class Page:
    """The block that is being filled; full ones are handed out when room is needed."""

    def __init__(self, block: memoryview) -> None:
        self._block = block
        self.used = 0

    @property
    def free(self) -> memoryview:
        """What is left of the block."""
        return self._block[self.used :]

    @property
    def is_full(self) -> bool:
        """Whether nothing is."""
        return self.used == len(self._block)

    def has_room(self, count: int) -> bool:
        """Whether `count` bytes fit into this block."""
        return self.used + count <= len(self._block)

    def take(self, count: int) -> memoryview:
        """The next `count` bytes, counted as filled; there must be room."""
        start, self.used = self.used, self.used + count
        return self._block[start : self.used]

    def write(self, data: bytes) -> None:
        """Write `data`, for which there must be room."""
        self.take(len(data))[:] = data

    def member(self, head: bytes, size: int) -> memoryview:
        """Write a member but for its content; the room for that. There must be room for all."""
        block = self._block
        start = self.used + len(head)
        end = start + size
        block[self.used : start] = head
        self.used = end + -size % ROOM
        block[end : self.used] = _ZEROS[: self.used - end]
        return block[start:end]

    def turn(self, packed: bytes | None = None) -> Generator[Filled, memoryview, None]:
        """Hand the block out, with what is `packed` of it, and go on with the next."""
        self._block = yield Filled(self.used, packed)
        self.used = 0

    def put(self, data: bytes) -> Generator[Filled, memoryview, None]:
        """Write `data`, over several blocks if need be."""
        while not self.has_room(len(data)):
            fitting, data = data[: len(self.free)], data[len(self.free) :]
            self.write(fitting)
            yield from self.turn()
        self.write(data)


def padding(size: int) -> bytes:
    """Zeros up to the next record after `size` bytes of content."""
    return _ZEROS[: -size % ROOM]
