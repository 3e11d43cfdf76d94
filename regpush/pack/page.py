"""The blocks of memory into which an archive is written, one after the other."""

from __future__ import annotations

from collections.abc import Generator
from typing import NamedTuple

ROOM = 512
"""Bytes of a record (block) of a tar archive; every member is padded to a multiple of it."""

_ZEROS = bytes(ROOM)


class Filled(NamedTuple):
    """How many bytes of a block were filled, and how the block is compressed.

    `packed`: the part of the compressed layer that stands for this block, where it is copied from
    an existing compressed stream; None where the block must be compressed. `is_last`: whether the
    archive ends with the block.
    """

    used: int
    packed: bytes | None = None
    is_last: bool = False


class Page:
    """The block of memory that is being filled; a full one is exchanged for an empty one.

    `block`: the memory. `used`: how many of its bytes are filled.
    """

    def __init__(self, block: bytearray) -> None:
        self._begin(block)

    def _begin(self, block: bytearray) -> None:
        self.block = block
        self._view = memoryview(block)
        self._size = len(block)
        self.used = 0

    @property
    def free(self) -> memoryview:
        """The part of the block that is not filled yet."""
        return self._view[self.used :]

    @property
    def is_full(self) -> bool:
        """Whether the whole block is filled."""
        return self.used == self._size

    def has_room(self, count: int) -> bool:
        """Whether `count` more bytes fit into the block."""
        return self.used + count <= self._size

    def take(self, count: int) -> memoryview:
        """Return the next `count` bytes of the block, counted as filled; there must be room."""
        start, self.used = self.used, self.used + count
        return self._view[start : self.used]

    def write(self, data: bytes) -> None:
        """Write `data`, for which there must be room."""
        self.take(len(data))[:] = data

    def member(self, head: bytes, size: int) -> tuple[int, memoryview]:
        """Write a member's header and padding, for which there must be room.

        Returns where in `block` its `size` bytes of content begin, and the memory for them.
        """
        view = self._view
        start = self.used + len(head)
        end = start + size
        view[self.used : start] = head
        self.used = end
        if short := -size % ROOM:
            self.used += short
            view[end : self.used] = _ZEROS[:short]
        return start, view[start:end]

    def turn(self, packed: bytes | None = None) -> Generator[Filled, bytearray, None]:
        """Yield how far the block is filled, and continue with the block that is sent in return.

        `packed`: the compressed form of the block, None where it must be compressed.
        """
        self._begin((yield Filled(self.used, packed)))

    def put(self, data: bytes) -> Generator[Filled, bytearray, None]:
        """Write `data`, across several blocks where one has no room.

        For each block that becomes full, yields a Filled and continues with the block that is sent
        in return.
        """
        while not self.has_room(len(data)):
            fitting, data = data[: len(self.free)], data[len(self.free) :]
            self.write(fitting)
            yield from self.turn()
        self.write(data)


def padding(size: int) -> bytes:
    """Return the zeros that pad `size` bytes of content to whole records."""
    return _ZEROS[: -size % ROOM]
