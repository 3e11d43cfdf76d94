"""The command line: the only place that reads argv, terminals, clocks and signals."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence


def main() -> None:
    """The `regpush` program."""
    if sys.argv[1:] == ["--version"]:
        # Answered before anything is imported: scripts ask this often.
        from regpush import __version__

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(f"regpush {__version__}")  # noqa: T201  which bears a closed stdout
        return
    # Imports and file lists make many objects and no garbage: looking for it takes a tenth of
    # the time that an unchanged push does.
    gc.set_threshold(100_000)
    stop_listing = _list_ahead(sys.argv[1:])
    # The listing above has begun before the time that these take.
    from regpush.cli.app import run
    from regpush.cli.console import end

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  stays open to the end
        else:
            # Names on disk, and the table's own signs, may be more than the terminal can say.
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:], os.environ)
    stop_listing()
    # The kernel takes a process apart in no time; the interpreter takes a sixth of an
    # unchanged push. Nothing is left to be done: threads have ended, files are closed.
    end(code)


def _list_ahead(words: Sequence[str]) -> Callable[[], None]:
    """Start to list the directory to push, if it is the first word; returns how to stop."""
    word = next((word for word in words if word not in ("push", "plan")), "")
    # A link most likely leads into a store, where nothing is listed before it is packed.
    if not os.path.isdir(word) or os.path.islink(word):
        return lambda: None
    from regpush.files import scan_ahead  # only of use to a directory

    scan_ahead.begin(word)
    return scan_ahead.end
