"""Opens the root of a tree once, and everything below it relative to descriptors.

Between listing a folder and opening a file in it, another process may put a symbolic link in the
folder's place. A path that is resolved from the start would follow that link and read files from
outside the tree. Here each folder is opened by its bare name, relative to the descriptor of the
folder above it, with O_NOFOLLOW: a link in its place is an error. This works on every kernel and
under every seccomp filter, unlike openat2(2), and is not bound by PATH_MAX.
"""

from __future__ import annotations

import errno
import os
import threading

OPEN_FILE = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
"""Flags to open a file with. O_NONBLOCK: a FIFO that replaced the file must not block the call."""

_OPEN_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
_HELD = 8
"""The maximum number of folders of one tree that are kept open. `ulimit -n` is 256 on macOS and in
some CI, and a push with `--jobs 16` packs 32 layers at a time, each of which may read a store item
of its own."""


class OpenFolder:
    """The descriptor of an open folder; it is closed with the last reference to this object."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __del__(self) -> None:
        os.close(self.fd)


class OpenRoot:
    """The tree at `path`, a path without symbolic links. Any thread may use it.

    Paths given to its methods are relative to the root, in bytes; the empty path is the root
    itself.
    """

    def __init__(self, path: bytes) -> None:
        """Open the root if it is a directory. Raises OSError."""
        self.path = path
        self._top: OpenFolder | None = None
        # Read without the lock: a thread that found a folder here refers to it, so the folder
        # stays open although another thread removes it.
        self._held: dict[bytes, OpenFolder] = {}
        self._lock = threading.Lock()
        try:
            self._top = OpenFolder(os.open(path, _OPEN_FOLDER))
        except OSError as error:
            if error.errno not in (errno.ENOTDIR, errno.ELOOP):  # a file; a symbolic link
                raise

    def __eq__(self, other: object) -> bool:
        return isinstance(other, OpenRoot) and self.path == other.path

    def __hash__(self) -> int:
        return hash(self.path)

    def on_disk(self, path: bytes) -> bytes:
        """Return the absolute path of `path`, for messages. Opening that path follows links."""
        return self.path + b"/" + path if path else self.path

    def status(self) -> os.stat_result:
        """Read lstat's data of the root. Raises OSError."""
        return os.fstat(self._top.fd) if self._top else os.lstat(self.path)

    def open(self, path: bytes) -> int:
        """Open the file at `path` for reading; the caller closes the descriptor. Raises OSError.

        The error is ELOOP where a symbolic link is in the file's place, ENOTDIR where one is in a
        folder's.
        """
        above, _, name = path.rpartition(b"/")
        if not name:
            return os.open(self.path, OPEN_FILE)
        # This reference keeps the folder open if another thread removes it from `_held`.
        folder = self._held.get(above) or self.folder(above)
        return os.open(name, OPEN_FILE, dir_fd=folder.fd)

    def folder(self, path: bytes) -> OpenFolder:
        """Open the folder at `path`, or return it if it is open. Raises OSError.

        The error is ELOOP or ENOTDIR where a symbolic link is in a folder's place.
        """
        below: list[bytes] = []
        found = self._nearest(path)
        while found is None:
            below.append(path)
            path = path.rpartition(b"/")[0]
            found = self._nearest(path)
        if below and path:
            self._hold(path, found)
        for path in reversed(below):
            name = path.rpartition(b"/")[2]
            found = OpenFolder(os.open(name, _OPEN_FOLDER, dir_fd=found.fd))
            self._hold(path, found)
        return found

    def _nearest(self, path: bytes) -> OpenFolder | None:
        if path:
            return self._held.get(path)
        if self._top is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        return self._top

    def _hold(self, path: bytes, folder: OpenFolder) -> None:
        """Keep `folder` open; of all folders that are kept open, this one is then closed last."""
        with self._lock:
            self._held.pop(path, None)
            self._held[path] = folder
            if len(self._held) > _HELD:
                del self._held[next(iter(self._held))]
