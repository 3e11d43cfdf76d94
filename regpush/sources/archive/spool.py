"""What was read of a stream and may be read again, in temporary files."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Protocol

from regpush.errors import SourceError

_PIECE = 1 << 20


class Held(Protocol):
    """The contents of a layer's files, to be read any number of times until it is let go."""

    size: int

    @property
    def is_gone(self) -> bool:
        """Whether they were let go."""

    def keep(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """Take a file's `data`, which begin at `at` in the archive, while it passes.

        Gives the place to read it at later, and what must be read to its end for that.
        """

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """`size` bytes from the place `at`. Raises SourceError where they were let go."""

    def let_go(self) -> None:
        """Give the room back."""


class InFile:
    """Contents that are read where they lie: in an archive that is no stream and not compressed."""

    size = 0
    is_gone = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def keep(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """Keep nothing: the data stay where they are."""
        return at, data

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Read from the archive. Raises SourceError where it became shorter."""
        return _read(self._fd, at, size)

    def let_go(self) -> None:
        """It takes no room."""


class TemporaryHold:
    """Contents in a temporary file without a name, which ends with this process."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="regpush-") as file:
            self._fd = os.dup(file.fileno())
        self._close = weakref.finalize(self, os.close, self._fd)
        self.size = 0

    @property
    def is_gone(self) -> bool:
        """Whether the file was closed."""
        return not self._close.alive

    def keep(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:  # noqa: ARG002
        """Write the data behind what is there. Raises SourceError where there is no room."""
        return self.size, self._kept(data)

    def _kept(self, data: Iterator[bytes]) -> Iterator[bytes]:
        for piece in data:
            left = memoryview(piece)
            while left:
                try:
                    left = left[os.write(self._fd, left) :]
                except OSError as error:
                    raise SourceError(
                        f"no room to keep a layer of the archive in {tempfile.gettempdir()}: "
                        f"{os.strerror(error.errno or 0).lower()}; TMPDIR names another folder"
                    ) from error
            self.size += len(piece)
            yield piece

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Read from the file. Raises SourceError where it was closed."""
        if self.is_gone:
            raise SourceError(
                "a layer of the archive must be read again, and was let go when it had been sent; "
                "push once more"
            )
        return _read(self._fd, at, size)

    def let_go(self) -> None:
        """Close the file, which frees its blocks."""
        self._close()
        self.size = 0


def _read(fd: int, at: int, size: int) -> Iterator[bytes]:
    while size:
        piece = os.pread(fd, min(size, _PIECE), at)
        if not piece:
            raise SourceError("the archive became shorter while it was being pushed")
        at += len(piece)
        size -= len(piece)
        yield piece
