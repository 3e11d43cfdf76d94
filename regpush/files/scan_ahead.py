"""Lists a directory in a second process, while this one is still importing modules.

The imports of a push take as long as listing 30,000 files, and one interpreter does one thing at a
time. The second process lists folders from the last to the first, and this one, later, from the
first to the last, until they meet. This process never waits for the other, and lists everything
itself where the other fails.
"""

from __future__ import annotations

import marshal
import os
import signal
import struct
import sys
from contextlib import suppress

from regpush.files.ignore import LeaveOut, read_ignore_file
from regpush.files.listing import Folder, folders_in, list_folder, row_of_root
from regpush.files.open_root import OpenRoot

_LENGTH = struct.Struct("=Q")
_BATCH = 2048  # names listed between two reports


class ScanAhead:
    """The folders of `root` that the second process has listed so far; a `listing.Known`.

    Names that `LeaveOut` leaves out (`.git`, matches of `.regpushignore`) are missing. The listing
    is for an image path below the root, and has no extended attributes. `git`: `LeaveOut.git` of
    the folders so far.
    """

    def __init__(self, root: OpenRoot) -> None:
        """Fork the second process, which is safe only while this one has a single thread.

        Raises OSError.
        """
        self.root = root
        self.git = b""
        self._found: dict[bytes, Folder] = {}
        self._file = os.memfd_create("regpush-scan-ahead")
        self._read = 0
        self._pid = os.fork()
        if self._pid == 0:
            _work(root, self._file)

    def get(self, path: bytes) -> Folder | None:
        """Return the folder `path`, relative to the root; None where it is not listed yet."""
        if path not in self._found:
            self._catch_up()
        return self._found.get(path)

    def stop(self) -> None:
        """End the second process, finished or not. `get` must not be called afterwards."""
        os.close(self._file)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)

    def _catch_up(self) -> None:
        size = os.fstat(self._file).st_size
        while size - self._read > _LENGTH.size:
            (length,) = _LENGTH.unpack(os.pread(self._file, _LENGTH.size, self._read))
            at = self._read + _LENGTH.size
            if size - at < length:
                break  # the report is not written completely
            git, folders = marshal.loads(os.pread(self._file, length, at))  # noqa: S302  our fork's
            self.git = git
            self._found.update((path, Folder(*folder)) for path, folder in folders)
            self._read = at + length


def _work(root: OpenRoot, file: int) -> None:
    """List all folders, in the second process, and write the lists to the descriptor `file`."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)
    # The first process meets any error here as well, and reports it.
    with suppress(BaseException):
        leave_out = LeaveOut(read_ignore_file(root), in_image=b"below")
        listed: list[tuple[bytes, tuple[object, ...]]] = []
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
                _report(file, marshal.dumps((leave_out.git, listed)))
                listed, names = [], 0
    os._exit(0)


def _report(file: int, report: bytes) -> None:
    for part in (_LENGTH.pack(len(report)), report):
        data = memoryview(part)
        while data:
            data = data[os.write(file, data) :]


_begun: list[ScanAhead] = []
"""The listing that `begin` started, until `take` or `end`; one at most."""


def begin(path: str) -> None:
    """Start to list the directory `path` in a second process; does nothing without a second core.

    On Linux alone, because forking is not as safe on other systems.
    """
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        with suppress(OSError):
            _begun.append(ScanAhead(OpenRoot(os.fsencode(os.path.realpath(path)))))


def take(root: bytes) -> ScanAhead | None:
    """Return the listing of `root` that `begin` started, which the caller must stop; or None."""
    if _begun and _begun[0].root.path == root:
        return _begun.pop()
    return None


def end() -> None:
    """Stop the listing that `begin` started, unless `take` returned it."""
    while _begun:
        _begun.pop().stop()
