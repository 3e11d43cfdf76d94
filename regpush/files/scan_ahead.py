"""Lists a directory, and hashes its files, in a second process while this one imports modules.

The imports of a push take as long as listing 30,000 files, and one interpreter does one thing at a
time. The second process lists folders from the last to the first, and this one, later, from the
first to the last, until they meet. If all files must be read to identify them, both hash them in
this manner too: the files of 500 MB are then identified .1 s sooner. This process never waits for
the other, and does everything itself where the other fails.
"""

from __future__ import annotations

import marshal
import os
import signal
import struct
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from regpush.entry import OnDisk
from regpush.files.ignore import LeaveOut, read_ignore_file
from regpush.files.listing import Folder, folders_in, list_folder, row_of_root
from regpush.files.open_root import OpenRoot

if TYPE_CHECKING:
    from regpush.files.hash_ahead import Hashed

_LENGTH = struct.Struct("=Q")
_BATCH = 2048  # names listed between two reports
_LISTED, _HASH = b"l", b"h"  # orders to the second process: to stop listing, and to begin hashing
# Fewer files are hashed before the second process has imported what it needs, or they are so large
# that threads hash them as fast.
_MANY_NAMES = 1000


class ScanAhead:
    """The folders of `root` that the second process has listed so far; a `listing.Known`.

    Names that `LeaveOut` leaves out (`.git`, matches of `.regpushignore`) are missing. The listing
    is for an image path below the root, and has no extended attributes. `git`: `LeaveOut.git` of
    the folders so far. Any thread may call `digest` and `catch_up`.
    """

    def __init__(self, root: OpenRoot) -> None:
        """Fork the second process, which is safe only while this one has a single thread.

        Raises OSError.
        """
        self.root = root
        self.git = b""
        self._found: dict[bytes, Folder] = {}
        self._digests: dict[bytes, bytes] = {}
        self._used: Mapping[bytes, Folder] = {}
        self._lock = threading.Lock()
        self._file = os.memfd_create("regpush-scan-ahead")
        self._read = 0
        orders, self._orders = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(self._orders)
            _work(root, self._file, orders)
        os.close(orders)

    def get(self, path: bytes) -> Folder | None:
        """Return the folder `path`, relative to the root; None where it is not listed yet."""
        if path not in self._found:
            self.catch_up()
        return self._found.get(path)

    def listed(self, folders: Mapping[bytes, Folder]) -> None:
        """Stop the listing: `folders` are all folders of the directory, by path."""
        self._used = folders
        self._order(_LISTED)

    def hash(self) -> bool:
        """Begin to hash the files of the directory; `listed` must have been called before.

        Returns False, and does nothing, for a directory of few files.
        """
        if sum(len(folder.names) for folder in self._used.values()) < _MANY_NAMES:
            return False
        self._order(_HASH)
        return True

    def digest(self, content: OnDisk) -> bytes:
        """Return the `ContentHash` digest of a listed file, if the second process has hashed it.

        Empty where it has not, and for a file that must be searched for secrets.
        """
        return self._digests.get(content.path, b"") if content.root is self.root else b""

    def catch_up(self) -> None:
        """Read the reports that the second process has written since the last call."""
        with self._lock:
            if self._file < 0:
                return
            for end, (git, folders, digests) in _reports(self._file, self._read):
                self._read = end
                self.git = git or self.git
                self._found.update((path, Folder(*folder)) for path, folder in folders)
                for path, begin, several in digests:
                    folder = self._used.get(path)
                    # Where it was listed again, its files may have changed in between.
                    if folder and folder is self._found.get(path):
                        names = folder.names[begin : begin + len(several)]
                        prefix = path + b"/" if path else b""
                        self._digests.update(zip(map(prefix.__add__, names), several, strict=True))

    def stop(self) -> None:
        """End the second process, finished or not. `get` must not be called afterwards."""
        with self._lock:
            if self._file < 0:
                return
            os.close(self._file)
            os.close(self._orders)
            self._file = -1
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _order(self, order: bytes) -> None:
        with self._lock, suppress(OSError):  # it has ended, because it met an error
            if self._file >= 0:
                os.write(self._orders, order)


def _work(root: OpenRoot, file: int, orders: int) -> None:
    """List all folders, and hash their files if the first process orders it.

    This is all that the second process does. It writes lists and hashes to the descriptor `file`,
    and reads orders from the pipe `orders`, which ends when the first process ends.
    """
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)
    # The first process meets any error here as well, and reports it.
    with suppress(BaseException):
        _list(root, file, orders)
        order = _LISTED
        while order == _LISTED:
            order = os.read(orders, 1)
        if order == _HASH:
            _hash(root, file, orders)
    os._exit(0)


def _is_ordered(orders: int) -> bool:
    """Whether another order has come, or the first process has ended. The order is discarded."""
    os.set_blocking(orders, False)
    try:
        os.read(orders, 1)
    except BlockingIOError:
        return False
    finally:
        os.set_blocking(orders, True)
    return True


def _list(root: OpenRoot, file: int, orders: int) -> None:
    """List and report all folders, unless an order comes before the last one."""
    leave_out = LeaveOut(read_ignore_file(root), in_image=b"below")
    listed: list[tuple[bytes, tuple[Any, ...]]] = []
    names = 0
    pending = [iter([(b"", row_of_root(root))])]
    while pending:
        path, row = next(pending[-1], (None, b""))
        if path is not None:
            folder = list_folder(root, path, row, leave_out)
            pending.append(folders_in(path, folder, reversed(folder.folders)))
            listed.append((path, tuple(folder)))
            names += len(folder.names)
        else:
            pending.pop()
        if names >= _BATCH or not pending:
            _report(file, leave_out.git, listed, [])
            listed, names = [], 0
            if _is_ordered(orders):
                break


def _hash(root: OpenRoot, file: int, orders: int) -> None:
    """Hash and report the files of the folders that `_list` reported.

    Stops where the first process ends before.
    """
    from regpush.files.hash_ahead import hashed  # the first process needs none of it

    # Read from the reports, because keeping the lists would take 150 bytes a file.
    listed = (folders for _, (_, folders, _) in _reports(file, 0))
    folders = ((path, Folder(*folder)) for several in listed for path, folder in several)
    for digests in hashed(root, folders):
        _report(file, b"", [], digests)
        if _is_ordered(orders):
            break


def _report(
    file: int, git: bytes, folders: list[tuple[bytes, tuple[Any, ...]]], hashed: list[Hashed]
) -> None:
    packed = marshal.dumps((git, folders, hashed))
    for part in (_LENGTH.pack(len(packed)), packed):
        data = memoryview(part)
        while data:
            data = data[os.write(file, data) :]


def _reports(file: int, at: int) -> Iterator[tuple[int, Any]]:
    """Yield the reports that begin at the offset `at` of `file` and are complete by now.

    With each comes the offset at which it ends.
    """
    size = os.fstat(file).st_size
    while size - at > _LENGTH.size:
        (length,) = _LENGTH.unpack(os.pread(file, _LENGTH.size, at))
        end = at + _LENGTH.size + length
        if size < end:
            return
        yield end, marshal.loads(os.pread(file, length, at + _LENGTH.size))  # noqa: S302  written by the second process
        at = end


_begun: list[ScanAhead] = []
"""The listing that `begin` started, until `take` or `end`; one at most."""

_taken: list[ScanAhead] = []
"""The listing that `take` returned, until `end`; one at most."""


def begin(path: str) -> None:
    """Start to list the directory `path` in a second process; does nothing without a second core.

    On Linux alone, because forking is not as safe on other systems.
    """
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        with suppress(OSError):
            _begun.append(ScanAhead(OpenRoot(os.fsencode(os.path.realpath(path)))))


def take(root: bytes) -> ScanAhead | None:
    """Return the listing of `root` that `begin` started and `end` stops.

    None where `begin` started none, or that of another directory, and at the second call.
    """
    if _begun and _begun[0].root.path == root:
        _taken.append(_begun.pop())
        return _taken[0]
    return None


def taken() -> ScanAhead | None:
    """Return the listing that `take` has returned; None before that, and after `end` stopped it."""
    return _taken[0] if _taken else None


def end() -> None:
    """Stop the listing that `begin` started."""
    for several in (_begun, _taken):
        while several:
            several.pop().stop()
