"""Reads files, and checks that they are unchanged since they were listed.

Everything is bytes, because names on disk have no encoding. No symbolic link is followed.
"""

from __future__ import annotations

import os
import resource
import stat
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from regpush.entry import HEAD, Entry, OnDisk, Root, Streamed
from regpush.errors import SourceError, UsageError, printable

_AHEAD = 4 << 20  # bytes of a file that the disk is asked for before they are read
_FILES_AHEAD = 16


def files_ahead() -> int:
    """Return how many files of one archive may be opened before they are read.

    The number depends on the limit of open files: with `ulimit -n 256`, it is four, for each of 32
    archives.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _FILES_AHEAD if limit < 0 else min(limit // 64, _FILES_AHEAD)


def open_ahead(content: OnDisk) -> int:
    """Open a listed file that will soon be read, and ask the disk to read it in advance.

    Returns a descriptor, which the caller closes. Raises SourceError where it cannot be opened.
    """
    try:
        fd = content.root.open(content.path)
    except OSError as error:
        raise _unreadable(content, error) from error
    try:  # noqa: SIM105  suppress() would cost as much as the call
        os.posix_fadvise(fd, 0, _AHEAD, os.POSIX_FADV_WILLNEED)
    except (OSError, AttributeError):  # a FIFO replaced the file, or this is macOS
        pass
    return fd


class GuardedFile:
    """Reads a listed file once, whole, and checks at the end that it is unchanged.

    A context manager, which closes the file; `fd`: its descriptor if it is open already. `finish`
    raises SourceError naming the file if it grew, shrank or was written to since it was listed: its
    length and stat data are compared.
    """

    def __init__(self, entry: Entry, content: OnDisk, fd: int | None = None) -> None:
        self._entry = entry
        self._content = content
        self._left = entry.size
        self._fd = open_ahead(content) if fd is None else fd

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.close(self._fd)

    def head(self) -> bytes:
        """Read the first bytes, `HEAD` at most, without changing what `readinto` reads.

        Raises SourceError.
        """
        try:
            return os.pread(self._fd, min(self._entry.size, HEAD), 0)
        except OSError as error:
            raise _unreadable(self._content, error) from error

    def readinto(self, view: memoryview) -> int:
        """Read the next bytes into `view`. Returns their count, 0 once all were read.

        Raises SourceError where the file cannot be read or ends too early.
        """
        want = min(len(view), self._left)
        if not want:
            return 0
        try:
            count = os.readv(self._fd, [view[:want]])
        except OSError as error:
            raise _unreadable(self._content, error) from error
        if not count:
            raise _changed(self._content)
        self._left -= count
        return count

    def finish(self) -> None:
        """Check that the whole file was read and that it did not change meanwhile.

        Raises SourceError otherwise.
        """
        if self._left or not _is_listed(os.fstat(self._fd), self._entry, self._content):
            raise _changed(self._content)


def read_whole(entry: Entry, content: OnDisk, fd: int, view: memoryview) -> None:
    """Read a listed file, open as `fd`, into `view` of exactly its size; check and close it.

    For small files. Raises SourceError where the file grew, shrank or was written to since it was
    listed.
    """
    try:
        count = os.readv(fd, [view])
        status = os.fstat(fd)
    except OSError as error:
        raise _unreadable(content, error) from error
    finally:
        os.close(fd)
    if count != entry.size or not _is_listed(status, entry, content):
        raise _changed(content)


def read_listed(entry: Entry, content: OnDisk) -> bytes:
    """Read the content of a listed file, and check it.

    For small files: this takes two thirds of the time of `GuardedFile`. Raises SourceError where
    the file grew, shrank or was written to since it was listed.
    """
    try:
        fd = content.root.open(content.path)
        try:
            # One byte more than there should be: a single call tells whether the file grew.
            data = os.read(fd, entry.size + 1)
            status = os.fstat(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise _unreadable(content, error) from error
    if len(data) != entry.size or not _is_listed(status, entry, content):
        raise _changed(content)
    return data


def _is_listed(status: os.stat_result, entry: Entry, content: OnDisk) -> bool:
    return (
        status.st_size == entry.size
        and status.st_ino == content.inode
        and status.st_mtime_ns == content.mtime_ns
        and status.st_ctime_ns == content.ctime_ns
    )


def blocks(entry: Entry, size: int = 1 << 20) -> Iterator[memoryview | bytes]:
    """Yield the content of a file entry in pieces of at most `size` bytes.

    A piece is valid until the next is asked for. Raises SourceError, at the end, where a file on
    disk grew, shrank or was written to since it was listed.
    """
    content = entry.content
    if isinstance(content, bytes):
        if content:
            yield content
        return
    if isinstance(content, Streamed):
        yield from content.open()
        return
    with GuardedFile(entry, content) as file:
        view = memoryview(bytearray(min(size, entry.size)))
        while count := file.readinto(view):
            yield view[:count]
        file.finish()


def read_start(root: Root, path: bytes, count: int) -> bytes:
    """Return the first `count` bytes of the file `path` in `root`, or fewer; none if unreadable.

    For recognising a file's type: an error is reported where the whole file is read.
    """
    try:
        fd = root.open(path)
    except OSError:
        return b""
    try:
        return os.pread(fd, count, 0)
    except OSError:
        return b""
    finally:
        os.close(fd)


SMALL = 16 << 20
"""The maximum bytes of a file that controls a push, such as an ignore file or a lock file."""


def read_small(root: Root, path: bytes) -> bytes:
    """Read the whole regular file `path` in `root`, of at most `SMALL` bytes.

    Follows no link and waits for no FIFO. Raises FileNotFoundError where it does not exist,
    SourceError for any other kind of file, a larger one, or one that cannot be read.
    """
    try:
        fd = root.open(path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(root.on_disk(path), error) from error
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SMALL:
            raise SourceError(
                f"cannot read {printable(root.on_disk(path))}: not a regular file of 16 MiB or less"
            )
        with os.fdopen(fd, "rb", closefd=False) as file:
            return file.read(SMALL)
    except OSError as error:
        raise unreadable(root.on_disk(path), error) from error
    finally:
        os.close(fd)


def _changed(content: OnDisk) -> SourceError:
    path = content.root.on_disk(content.path)
    return SourceError(
        f"{printable(path)}: changed while it was being read; push from a copy that holds still"
    )


def _unreadable(content: OnDisk, error: OSError) -> SourceError:
    return unreadable(content.root.on_disk(content.path), error)


def working_directory() -> str:
    """Return the current directory.

    Raises UsageError where it was deleted, as CI workspaces are.
    """
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise UsageError(
            "the current directory was deleted; change to another, or name everything by "
            "absolute paths"
        ) from error


def unreadable(path: str | bytes, error: OSError) -> SourceError:
    """Return the SourceError, of one line, for an OSError at `path`."""
    reason = error.strerror or type(error).__name__
    return SourceError(f"cannot read {printable(path)}: {reason}")
