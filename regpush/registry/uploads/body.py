"""Reads the bytes of a blob for an upload: forward, and again from an earlier position."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from msgspec import Struct

Piece = bytes | memoryview


class Chunk(Struct, frozen=True, eq=False):
    """Bytes of a blob from position `start`; `last`: whether the blob ends with them."""

    start: int
    pieces: tuple[Piece, ...]
    last: bool

    @property
    def size(self) -> int:
        """The number of bytes in all `pieces`."""
        return sum(map(len, self.pieces))


class Body:
    """The bytes of a blob; `open_bytes` gives them from the first byte, equal each time.

    Only the last chunk is kept, so a seek to an earlier position opens the blob again. Errors that
    reading it raises pass through.
    """

    def __init__(self, open_bytes: Callable[[], Iterator[bytes]]) -> None:
        self._open = open_bytes
        self._source: Iterator[bytes] | None = None
        self._ahead: deque[Piece] = deque()
        self._chunk = Chunk(0, (), last=False)
        self.position = 0

    def seek(self, position: int) -> None:
        """Continue reading at `position`, which is at most the size of the blob."""
        if position == self.position:
            return
        chunk = self._chunk
        if chunk.start <= position <= chunk.start + chunk.size == self.position:
            self._ahead.extendleft(reversed(chunk.pieces))
            self.position = chunk.start
        elif position < self.position:
            self._reopen()
        while self.position < position and (piece := self._next()):
            part = piece[: position - self.position]
            self.position += len(part)
            if len(part) < len(piece):
                self._ahead.appendleft(memoryview(piece)[len(part) :])

    def rest(self) -> Iterator[bytes]:
        """Yield all bytes from `position` to the end, and advance `position`."""
        self._chunk = Chunk(self.position, (), last=False)
        while piece := self._next():
            self.position += len(piece)
            yield bytes(piece)

    def take(self, size: int) -> Chunk:
        """Read the next `size` bytes, or fewer at the end of the blob."""
        start, pieces, left = self.position, [], size
        while left and (piece := self._next()):
            if len(piece) > left:
                self._ahead.appendleft(memoryview(piece)[left:])
                piece = memoryview(piece)[:left]
            pieces.append(piece)
            left -= len(piece)
        self.position += size - left
        if following := self._next():
            self._ahead.appendleft(following)
        self._chunk = Chunk(start, tuple(pieces), last=not following)
        return self._chunk

    def close(self) -> None:
        """Close the iterator that `open_bytes` gave."""
        source, self._source = self._source, None
        self._ahead.clear()
        # Generators of layers end their threads by this.
        if close := getattr(source, "close", None):
            close()

    def _reopen(self) -> None:
        self.close()
        self.position = 0

    def _next(self) -> Piece:
        """Return the next piece of the blob; empty at the end."""
        if self._ahead:
            return self._ahead.popleft()
        if self._source is None:
            self._source = iter(self._open())
        for piece in self._source:
            if piece:
                return piece
        return b""
