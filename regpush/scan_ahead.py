"""A directory listed by a second process, while the program itself is still starting.

To import what a push needs takes as long as listing 30,000 files, and one interpreter does one
thing at a time. What the other process saw are hints: whatever it did not list, or lists no
longer, is listed by whoever asked.
"""

from __future__ import annotations

import marshal
import os
import select
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from regpush.ignore import LeaveOut, read_ignore_file
from regpush.listing import Folder, scan

_LOOK_S = 0.1
_PIECE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """Folders as `listing.scan` has them, and `LeaveOut.git`."""

    folders: Mapping[bytes, Folder]
    git: bytes


NOTHING_SEEN = Seen(folders={}, git=b"")


class ScanAhead:
    """The listing of `root`, a physical path, on its way from another process.

    Less what `.regpushignore` says; for a directory that comes to lie below the root of an
    image, without extended attributes.
    """

    def __init__(self, root: bytes) -> None:
        """Fork. Only while this process has a single thread. Raises OSError."""
        self.root = root
        self._pipe, theirs = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            _work(root, theirs)
        os.close(theirs)

    def result(self, check: Callable[[], None]) -> Seen:
        """What was seen, nothing if the other process failed. Once; raises what `check` does."""
        pieces = []
        try:
            while True:
                check()
                if select.select([self._pipe], [], [], _LOOK_S)[0]:
                    if not (piece := os.read(self._pipe, _PIECE)):
                        break
                    pieces.append(piece)
        finally:
            self.stop()
        with suppress(EOFError, ValueError, TypeError):
            git, folders = marshal.loads(b"".join(pieces))  # noqa: S302  from our own fork
            return Seen(folders={path: Folder(*one) for path, one in folders}, git=git)
        return NOTHING_SEEN

    def stop(self) -> None:
        """End the other process, whether it was done or not."""
        os.close(self._pipe)
        with suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(self._pid, 0)


def _work(root: bytes, pipe: int) -> None:
    """What the other process does, all its life."""
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
        signal.signal(one, signal.SIG_DFL)
    # Whatever goes wrong, its parent will meet as well, and say so.
    with suppress(BaseException):
        leave_out = LeaveOut(read_ignore_file(root), in_image=b"below")
        listing = scan(root, leave_out=leave_out)
        folders = [(path, tuple(one)) for path, one in listing.folders.items()]
        data = memoryview(marshal.dumps((leave_out.git, folders)))
        while data:
            data = data[os.write(pipe, data) :]
    os._exit(0)


_begun: list[ScanAhead] = []
"""At most one: begun before anything else is, for whoever comes to ask about its root."""


def begin(path: str) -> None:
    """Have the directory `path` listed, if another core is there to do it.

    On Linux alone: elsewhere, to fork is not as harmless.
    """
    if sys.platform == "linux" and len(os.sched_getaffinity(0)) > 1:
        with suppress(OSError):
            _begun.append(ScanAhead(os.fsencode(os.path.realpath(path))))


def take(root: bytes) -> ScanAhead | None:
    """What was begun about `root`, if it was, and nobody took it before."""
    if _begun and _begun[0].root == root:
        return _begun.pop()
    return None


def end() -> None:
    """Stop what nobody asked for."""
    while _begun:
        _begun.pop().stop()
