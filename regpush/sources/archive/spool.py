"""Storage for the contents of an archive's files, which are read again when layers are packed."""

from __future__ import annotations

import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Protocol

from regpush.errors import SourceError

_PIECE = 1 << 20


class Storage(Protocol):
    """A storage for the contents of one layer's files; `size`: the disk space it uses, in bytes."""

    size: int

    @property
    def is_deleted(self) -> bool:
        """Whether `delete` has deleted the contents."""

    def store(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """Store a file's `data`, which begins at the offset `at` of the archive.

        Returns the offset at which `read` finds it, and an iterator over `data`. The data is stored
        while the caller reads this iterator, which must be read to its end.
        """

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes from the offset `at`. Raises SourceError where they were deleted."""

    def delete(self) -> None:
        """Delete the contents and free their disk space."""


class ArchiveStorage:
    """Reads contents from the archive itself, for an archive that is an uncompressed file.

    `fd`: the archive's file descriptor, which is closed together with this object.
    """

    size = 0
    is_deleted = False

    def __init__(self, fd: int) -> None:
        self._fd = fd
        weakref.finalize(self, os.close, fd)

    def store(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:
        """Store nothing, because the data can be read from the archive again."""
        return at, data

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes from the offset `at` of the archive.

        Raises SourceError where the archive became shorter.
        """
        return _read(self._fd, at, size)

    def delete(self) -> None:
        """Do nothing, because no disk space was used."""


class TemporaryStorage:
    """Stores the contents of a layer's files in a temporary file without a name.

    The kernel deletes the file when this process ends.
    """

    def __init__(self) -> None:
        with tempfile.TemporaryFile(prefix="regpush-") as file:
            self._fd = os.dup(file.fileno())
        self._close = weakref.finalize(self, os.close, self._fd)
        self.size = 0

    @property
    def is_deleted(self) -> bool:
        """Whether the file was closed."""
        return not self._close.alive

    def store(self, at: int, data: Iterator[bytes]) -> tuple[int, Iterator[bytes]]:  # noqa: ARG002
        """Append `data` to the temporary file, while the returned iterator is read.

        Returns the offset of `data` in the file, and the iterator, which raises SourceError where
        the disk is full.
        """
        return self.size, self._kept(data)

    def _kept(self, data: Iterator[bytes]) -> Iterator[bytes]:
        for piece in data:
            left = memoryview(piece)
            while left:
                try:
                    left = left[os.write(self._fd, left) :]
                except OSError as error:
                    raise SourceError(
                        f"cannot store a layer of the archive in {tempfile.gettempdir()}: "
                        f"{os.strerror(error.errno or 0).lower()}; set TMPDIR to another folder"
                    ) from error
            self.size += len(piece)
            yield piece

    def read(self, at: int, size: int) -> Iterator[bytes]:
        """Yield `size` bytes from the offset `at` of the temporary file.

        Raises SourceError where the file was closed.
        """
        if self.is_deleted:
            raise SourceError(
                "a layer of the archive must be sent again, but its files were deleted after it "
                "was sent; run the push again"
            )
        return _read(self._fd, at, size)

    def delete(self) -> None:
        """Close the temporary file, which frees its disk space."""
        self._close()
        self.size = 0


def _read(fd: int, at: int, size: int) -> Iterator[bytes]:
    while size:
        piece = os.pread(fd, min(size, _PIECE), at)
        if not piece:
            raise SourceError(
                "the archive became shorter while it was being pushed; push a copy that no other "
                "program changes"
            )
        at += len(piece)
        size -= len(piece)
        yield piece
