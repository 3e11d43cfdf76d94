"""A directory listed by a second process, while the program itself is still starting.

To import what a push needs takes as long as listing 30,000 files, and one interpreter does one
thing at a time. Later the two meet: the other process goes from the last folder to the first,
and whoever asked from the first to the last. Nobody ever waits for it, and where it fails,
nothing is missing.
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
_BATCH = 2048  # names listed from one report to the next


class ScanAhead:
    """What another process has listed so far of `root`, by folder.

    Less what `.regpushignore` says; for a directory that comes to lie below the root of an
    image, without extended attributes. `git` is `LeaveOut.git`, as far as was seen.
    """

    def __init__(self, root: OpenRoot) -> None:
        """Fork. Only while this process has a single thread. Raises OSError."""
        self.root = root
        self.git = b""
        self._found: dict[bytes, Folder] = {}
        self._file = os.memfd_create("regpush-scan-ahead")
        self._read = 0
        self._pid = os.fork()
        if self._pid == 0:
            _work(root, self._file)

    def get(self, path: bytes) -> Folder | None:
        """The folder `path`, relative to the root, if it is listed by now."""
        if path not in self._found:
            self._catch_up()
        return self._found.get(path)

    def stop(self) -> None:
        """End the other process, whether it was done or not. `get` must not be called again."""
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
                break  # it is being written
            git, folders = marshal.loads(os.pread(self._file, length, at))  # noqa: S302  our fork's
            self.git = git
            self._found.update((path, Folder(*folder)) for path, folder in folders)
            self._read = at + length


def _work(root: OpenRoot, file: int) -> None:
    """What the other process does, all its life."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_DFL)
    # Whatever goes wrong, the other meets it as well, and says so.
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
"""At most one: begun before anything else is, for whoever comes to ask about its root."""


def begin(path: str) -> None:
    """Have the directory `path` listed, if another core is there to do it.

    On Linux alone: elsewhere, to fork is not as harmless.
    """
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        with suppress(OSError):
            _begun.append(ScanAhead(OpenRoot(os.fsencode(os.path.realpath(path)))))


def take(root: bytes) -> ScanAhead | None:
    """What was begun about `root`, if it was, and nobody took it before; to be stopped."""
    if _begun and _begun[0].root.path == root:
        return _begun.pop()
    return None


def end() -> None:
    """Stop what nobody asked for."""
    while _begun:
        _begun.pop().stop()
