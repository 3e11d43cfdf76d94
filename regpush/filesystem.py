"""Reading a tree off the disk: entries in archive order, contents under guard.

Everything is bytes: names on disk have no encoding. Nothing follows a symbolic link.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from regpush.entry import HEAD, Entry, Kind, OnDisk, Profile
from regpush.errors import SourceError, printable

# NONBLOCK: a file that became a FIFO meanwhile must not hold us up.
_OPEN = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
_AHEAD = 4 << 20  # bytes of a file that the disk is asked for ahead


def walk(
    root: bytes,
    at: bytes,
    profile: Profile,
    *,
    tops: Sequence[bytes] = (b"",),
    leave_out: Callable[[bytes, bool], bool] | None = None,
    stop_at: Collection[bytes] = (),
    xattrs: bool = False,
) -> list[Entry]:
    """List `root` and all below it as entries under the image path `at`, sorted bytewise.

    `tops` narrows that to these paths and all below them. They, `leave_out(path,
    is_directory)` and `stop_at` are relative to `root`; what is left out, or stopped at, is
    not listed, nor is anything below it. With `at` empty, `root` itself gives no entry: it
    is the image's root. Raises SourceError, naming the path, for what cannot be read, for
    sockets, FIFOs and devices, and for names that layers reserve.
    """
    entries: list[Entry] = []
    links: dict[bytes, tuple[int, int]] = {}

    def add(path: bytes, relative: bytes, status: os.stat_result) -> None:
        image_path = at + b"/" + relative if at and relative else at or relative
        entry = _entry(path, image_path, status, profile, xattrs)
        entries.append(entry)
        if profile is Profile.TREE and entry.kind is Kind.FILE and status.st_nlink > 1:
            links[image_path] = (status.st_dev, status.st_ino)

    pending: list[tuple[bytes, bytes]] = []
    for top in tops:
        path = root + b"/" + top if top else root
        try:
            status = os.lstat(path)
        except OSError as error:
            raise unreadable(path, error) from error
        if at or top:
            add(path, top, status)
        if stat.S_ISDIR(status.st_mode):
            pending.append((path, top + b"/" if top else b""))
    while pending:
        directory, prefix = pending.pop()
        try:
            with os.scandir(directory) as children:
                for child in children:
                    relative = prefix + child.name
                    is_directory = child.is_dir(follow_symlinks=False)
                    if relative in stop_at or (leave_out and leave_out(relative, is_directory)):
                        continue
                    add(child.path, relative, child.stat(follow_symlinks=False))
                    if is_directory:
                        pending.append((child.path, relative + b"/"))
        except OSError as error:
            raise unreadable(error.filename or directory, error) from error
    entries.sort(key=lambda entry: entry.path)
    return _link(entries, links) if links else entries


def directory_entry(path: bytes, at: bytes, profile: Profile, *, xattrs: bool = False) -> Entry:
    """The entry of one directory, without what is in it. Raises SourceError."""
    try:
        status = os.lstat(path)
    except OSError as error:
        raise unreadable(path, error) from error
    return _entry(path, at, status, profile, xattrs)


def _entry(path: bytes, at: bytes, status: os.stat_result, profile: Profile, xattrs: bool) -> Entry:
    name = at.rsplit(b"/", 1)[-1]
    if name.startswith(b".wh."):
        raise SourceError(
            f"{printable(path)}: names beginning '.wh.' mark deletions in layers; rename it"
        )
    mode = status.st_mode
    if stat.S_ISREG(mode):
        kind, size, link = Kind.FILE, status.st_size, b""
    elif stat.S_ISDIR(mode):
        kind, size, link = Kind.DIRECTORY, 0, b""
    elif stat.S_ISLNK(mode):
        kind, size, link = Kind.SYMLINK, 0, _readlink(path)
    else:
        raise SourceError(f"{printable(path)}: {_special(mode)} cannot be packed into a layer")
    return Entry(
        path=at,
        kind=kind,
        mode=_mode(mode, kind, profile),
        uid=status.st_uid if profile is Profile.TREE else 0,
        gid=status.st_gid if profile is Profile.TREE else 0,
        size=size,
        link=link,
        xattrs=_xattrs(path) if xattrs else (),
        content=OnDisk(path, status.st_ino, status.st_mtime_ns, status.st_ctime_ns)
        if kind is Kind.FILE
        else b"",
    )


def _mode(mode: int, kind: Kind, profile: Profile) -> int:
    if kind is Kind.SYMLINK:
        return 0o777
    if profile is Profile.TREE:
        return stat.S_IMODE(mode)
    user = mode >> 6 & 7
    others = user & 5
    return user << 6 | others << 3 | others


def _special(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a FIFO"
    return "a device" if stat.S_ISCHR(mode) or stat.S_ISBLK(mode) else "a special file"


def _xattrs(path: bytes) -> tuple[tuple[bytes, bytes], ...]:
    # Linux only, as the images are; elsewhere there are none to keep.
    if not hasattr(os, "listxattr"):
        return ()
    try:
        names = sorted(os.listxattr(path, follow_symlinks=False))
        found = [(os.fsencode(n), os.getxattr(path, n, follow_symlinks=False)) for n in names]
    except OSError as error:
        if error.errno == errno.ENOTSUP:
            return ()  # a file system without any
        raise unreadable(path, error) from error
    if odd := [name for name in names if "=" in name]:
        raise SourceError(
            f"{printable(path)}: an archive cannot hold the attribute '{printable(odd[0])}'"
        )
    return tuple(found)


def _readlink(path: bytes) -> bytes:
    try:
        return os.readlink(path)
    except OSError as error:
        raise unreadable(path, error) from error


def _link(entries: list[Entry], inodes: dict[bytes, tuple[int, int]]) -> list[Entry]:
    """Make every name of an inode but the first a hard link to the first."""
    first: dict[tuple[int, int], bytes] = {}
    linked: list[Entry] = []
    for entry in entries:
        inode = inodes.get(entry.path)
        target = first.setdefault(inode, entry.path) if inode else entry.path
        if target == entry.path:
            linked.append(entry)
        else:
            linked.append(
                replace(entry, kind=Kind.HARDLINK, link=target, size=0, xattrs=(), content=b"")
            )
    return linked


def open_ahead(content: OnDisk) -> int:
    """Open a listed file that will soon be read, and have the disk begin; a descriptor.

    Raises SourceError.
    """
    try:
        fd = os.open(content.path, _OPEN)
        # Only advice: no matter if a FIFO came in the file's place, or this is macOS.
        with contextlib.suppress(OSError, AttributeError):
            os.posix_fadvise(fd, 0, _AHEAD, os.POSIX_FADV_WILLNEED)
    except OSError as error:
        raise unreadable(content.path, error) from error
    return fd


class GuardedFile:
    """A listed file, opened to be read once, whole, and found unchanged at the end.

    A context manager, which closes the file, `fd` if it was opened already. `finish` raises
    SourceError naming the file if it grew, shrank or was written to since it was listed: its
    length and stat are compared, not trusted.
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
        """The first bytes, `HEAD` at most; they will be read again."""
        try:
            return os.pread(self._fd, min(self._entry.size, HEAD), 0)
        except OSError as error:
            raise unreadable(self._content.path, error) from error

    def readinto(self, view: memoryview) -> int:
        """Fill `view`, or less at the end; the count of bytes, 0 once all were read."""
        want = min(len(view), self._left)
        if not want:
            return 0
        try:
            count = os.readv(self._fd, [view[:want]])
        except OSError as error:
            raise unreadable(self._content.path, error) from error
        if not count:
            raise _changed(self._content.path)
        self._left -= count
        return count

    def finish(self) -> None:
        """Check that everything was read and nothing changed meanwhile."""
        status = os.fstat(self._fd)
        if self._left or (
            status.st_size != self._entry.size
            or status.st_ino != self._content.inode
            or status.st_mtime_ns != self._content.mtime_ns
            or status.st_ctime_ns != self._content.ctime_ns
        ):
            raise _changed(self._content.path)


def read_whole(entry: Entry, content: OnDisk, fd: int, view: memoryview) -> None:
    """Read a listed file, opened as `fd`, into `view` of just its size, under guard; close it.

    For small files; raises SourceError as `GuardedFile` does.
    """
    try:
        count = os.readv(fd, [view])
        status = os.fstat(fd)
    except OSError as error:
        raise unreadable(content.path, error) from error
    finally:
        os.close(fd)
    if (
        count != entry.size
        or status.st_size != count
        or status.st_ino != content.inode
        or status.st_mtime_ns != content.mtime_ns
        or status.st_ctime_ns != content.ctime_ns
    ):
        raise _changed(content.path)


def blocks(entry: Entry, size: int = 1 << 20) -> Iterator[memoryview | bytes]:
    """The content of a file entry in pieces of at most `size` bytes, under guard.

    A piece is valid until the next is asked for. Raises SourceError as `GuardedFile` does.
    """
    content = entry.content
    if isinstance(content, bytes):
        if content:
            yield content
        return
    with GuardedFile(entry, content) as file:
        view = memoryview(bytearray(min(size, entry.size)))
        while count := file.readinto(view):
            yield view[:count]
        file.finish()


SMALL = 16 << 20
"""Bytes that a file which steers a push, a list or an index, has at most."""


def read_small(path: bytes) -> bytes:
    """A regular file of at most `SMALL` bytes, whole.

    Follows no link and waits for no FIFO. Raises FileNotFoundError where there is none,
    SourceError for what is no such file or cannot be read.
    """
    try:
        fd = os.open(path, _OPEN)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise unreadable(path, error) from error
    with os.fdopen(fd, "rb") as file:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_size > SMALL:
            raise SourceError(
                f"cannot read {printable(path)}: not a regular file of 16 MiB or less"
            )
        return file.read(SMALL)


def _changed(path: bytes) -> SourceError:
    return SourceError(
        f"{printable(path)}: changed while it was being read; push from a copy that holds still"
    )


def unreadable(path: str | bytes, error: OSError) -> SourceError:
    """The one-line SourceError for an OSError at `path`."""
    reason = error.strerror or type(error).__name__
    return SourceError(f"cannot read {printable(path)}: {reason}")
