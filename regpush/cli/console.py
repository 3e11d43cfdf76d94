"""What all commands do with the terminal: errors, signals, lines, files."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Annotated

import typer

from regpush.cli.colour import Style, on_stderr
from regpush.cli.flags import Format
from regpush.concurrency import Cancellation
from regpush.errors import CancelledError, UsageError, printable

_STOPS = (signal.SIGINT, signal.SIGTERM)

OnStdout = Annotated[Format, typer.Option("--format", help="On stdout: text or json.")]


def fail(message: str, code: int) -> int:
    """Say on stderr what was wrong; gives `code` back."""
    tell(f"{on_stderr()('regpush:', Style.BAD)} {printable(message)}")
    return code


def tell(text: str) -> None:
    """Write lines to stderr now. That nobody hears them undoes nothing and ends nothing."""
    with suppress(OSError):
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


@contextmanager
def stoppable() -> Iterator[Cancellation]:
    """Ctrl-C and SIGTERM ask for a stop; a second one does not wait for it.

    A thread of its own hears them. Python runs handlers in the main thread alone, between two
    steps of it: a signal that comes just before it falls asleep, waiting for workers, would
    wake nobody.
    """
    cancel = Cancellation()
    received: list[int] = []
    hears, tells = os.pipe()
    os.set_blocking(tells, False)

    def listen() -> None:
        while number := os.read(hears, 1):
            if received:
                # Bars may stand on the screen: the shell's next prompt begins below them.
                start = "\n" if sys.stderr.isatty() else ""
                os.write(2, f"{start}regpush: ended without waiting\n".encode())
                os._exit(128 + number[0])
            received.append(number[0])
            cancel.cancel()

    listener = threading.Thread(target=listen, name="regpush-signals", daemon=True)
    listener.start()
    told_before = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    before = {number: signal.signal(number, _nothing) for number in _STOPS}
    try:
        yield cancel
    except CancelledError as error:
        fail(str(error), 0)
        raise typer.Exit(128 + (received[0] if received else signal.SIGINT)) from error
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(told_before)
        os.close(tells)
        listener.join()
        os.close(hears)


def _nothing(number: int, frame: FrameType | None) -> None:
    """The handler of a signal that somebody else has heard."""


def read_password(username: str | None, from_stdin: bool) -> str | None:
    """The password on stdin, where it is said to be there. Raises UsageError."""
    if bool(username) != from_stdin:
        raise UsageError("--username and --password-stdin go together")
    if not from_stdin:
        return None
    from regpush.cli import password

    return password.from_stdin()


def width() -> int:
    """Columns of the terminal, or as many as a log may have."""
    return shutil.get_terminal_size((160, 24)).columns if sys.stderr.isatty() else 200


def note(line: str) -> None:
    """Say something on stderr."""
    tell(f"regpush: {line}")


class OutputError(Exception):
    """stdout cannot be written to."""


def print_line(text: str) -> None:
    """Write to stdout now. Raises OutputError, or BrokenPipeError where nobody reads on."""
    with _writing():
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()


def print_bytes(data: bytes) -> None:
    """Write to stdout now, whatever the terminal's encoding. Raises as `print_line` does."""
    with _writing():
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"cannot write the result to stdout: {reason}") from error


def give_up_stdout() -> None:
    """Nobody hears us: leave nothing to be flushed, and complained about, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def write_file(path: str, mode: str, text: str) -> None:
    """Write or append a whole file. Raises UsageError."""
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {printable(path)}: {reason}") from error
