"""The command line: the only place that reads argv, terminals, clocks and signals."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from typing import NoReturn


def main() -> None:
    """Run the program `regpush` with the command line of this process, and end the process."""
    if sys.argv[1:] == ["--version"]:
        # Scripts ask for the version often: this answer needs no other import.
        from regpush import __version__

        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        print(f"regpush {__version__}")  # noqa: T201  print bears a closed stdout
        return
    # Imports and file lists make many objects and no garbage: the garbage collector would take a
    # tenth of the time of an unchanged push. With 100,000 it took 4 % of a push of 20,000 files.
    gc.set_threshold(1_000_000)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _cancelled)
    stop_listing = _list_ahead(sys.argv[1:])
    try:
        _connect_ahead(sys.argv[1:])
        # The directory is listed during these imports, which take longer than starting the listing.
        from regpush.cli.app import run
        from regpush.cli.console import end  # --version needs no console
    except ImportError as error:
        stop_listing()
        _stop(1, f"the installation is not whole: {error}; install regpush again")

    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # the parent process closed it
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  stays open to the end
        else:
            # The terminal's encoding may lack characters of file names and of tables.
            stream.reconfigure(errors="backslashreplace")
    code = run(sys.argv[1:], os.environ)
    stop_listing()
    # Python's clean-up at exit takes a sixth of the time of an unchanged push. It is skipped:
    # threads have ended and files are closed.
    end(code)


def _cancelled(number: int, frame: FrameType | None) -> None:  # noqa: ARG001  a handler's form
    """Handle Ctrl-C before a command handles it by `console.stoppable`: end this process.

    Python's own handler raises KeyboardInterrupt. During an import that is a traceback, or nothing
    at all: Python ignores an exception in a callback that runs when an object is deleted.
    """
    _stop(128 + number, "cancelled")


def _stop(code: int, message: str) -> NoReturn:
    """Write `message` to stderr and end this process, even in the middle of an import."""
    with suppress(OSError):  # stderr may be closed
        os.write(2, f"regpush: {message}\n".encode("utf-8", "backslashreplace"))
    os._exit(code)


def _connect_ahead(words: Sequence[str]) -> None:
    """Begin the connection to the registry that `words` name, unless a proxy may stand before it.

    The modules for it are needed by every push; typer, which takes as long as a round trip, is
    imported while the registry answers.
    """
    if "--to" not in words or any(name.lower().endswith("_proxy") for name in os.environ):
        return
    from regpush.cli.route import connect_ahead  # needed only if the command line has --to

    connect_ahead(words)


def _list_ahead(words: Sequence[str]) -> Callable[[], None]:
    """Start listing the files of the directory to push, if `words` begin with a directory.

    Returns a function that stops the listing.
    """
    word = next((word for word in words if word not in ("push", "plan")), "")
    # A link most likely leads to a store item, whose files are not listed before it is packed.
    if not os.path.isdir(word) or os.path.islink(word):
        return lambda: None
    from regpush.files import scan_ahead  # needed only if the target is a directory

    scan_ahead.begin(word)
    return scan_ahead.end
