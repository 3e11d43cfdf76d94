"""Keep contents of an archive in temporary files, so that they can be read again."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Protocol

from regpush.errors import SourceError

_PIECE = 1 << 20


class Held(Protocol):
    """The contents of a layer's files, which can be read any number of times until dropped."""

    size: int

    @property
    def is_gone(self) -> bool:
        """Whether the contents were dropped."""

    def keep(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """Keep a file's `data`, which begins at `at` in the archive, while it is read.

        Returns the place for `read`, and an iterator over the data that must be read to its end.
        """

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Read `size` bytes from the place `at`. Raises SourceError where they were dropped."""

    def let_go(self) -> None:
        """Drop the contents and free their disk space."""


class InFile:
    """Contents in the archive itself, where it is a regular file that is not compressed."""

    size = 0
    is_gone = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def keep(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """Keep nothing, because the archive has the data."""
        return at, data

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Read from the archive. Raises SourceError where it became shorter."""
        return _read(self._fd, at, size)

    def let_go(self) -> None:
        """Do nothing, because no disk space was used."""


class TemporaryHold:
    """Contents in a temporary file without a name, which disappears with this process."""

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
        """Append the data to the file. Raises SourceError where the disk is full."""
        return self.size, self._kept(data)

    def _kept(self, data: Iterator[bytes]) -> Iterator[bytes]:
        for piece in data:
            left = memoryview(piece)
            while left:
                try:
                    left = left[os.write(self._fd, left) :]
                except OSError as error:
                    raise SourceError(
                        f"cannot keep a layer of the archive in {tempfile.gettempdir()}: "
                        f"{os.strerror(error.errno or 0).lower()}; set TMPDIR to another folder"
                    ) from error
            self.size += len(piece)
            yield piece

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Read from the file. Raises SourceError where it was closed."""
        if self.is_gone:
            raise SourceError(
                "a layer of the archive must be read again, but its files were dropped after it "
                "was sent; push once more"
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
