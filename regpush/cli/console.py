"""Terminal input and output of all commands: errors, signals, results and files."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import typer

from regpush.cli import password
from regpush.cli.colour import Style
from regpush.cli.rendering import LONGEST_RESULT, Line, Renderer, Span, document, json_text
from regpush.concurrency import Cancellation
from regpush.errors import CancelledError, UsageError, printable

NOBODY_READS = 128 + signal.SIGPIPE
"""The exit code that a shell shows for a program that SIGPIPE ended, because stdout was closed."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def fail(message: str, code: int) -> int:
    """Write `regpush: MESSAGE` to stderr, and return `code`, the exit code."""
    tell((Span("regpush:", Style.BAD), f" {message}"))
    return code


def tell(*lines: Line) -> None:
    """Write `lines` to stderr, and flush it. A closed stderr is ignored."""
    render = Renderer.of(sys.stderr, os.environ)
    with suppress(OSError):
        sys.stderr.write("".join(f"{render(line)}\n" for line in lines))
        sys.stderr.flush()


@contextmanager
def stoppable() -> Iterator[Cancellation]:
    """Yield a `Cancellation` that Ctrl-C, SIGTERM and SIGHUP set during the block.

    A second signal ends the process at once. A signal that is ignored stays ignored, for `nohup`.
    A CancelledError in the block becomes a message and the exit code of the signal. A separate
    thread receives the signals, because Python runs signal handlers only in the main thread,
    between two instructions: a signal just before that thread waits for workers would not wake it.
    """
    cancel = Cancellation()
    received: list[int] = []
    hears, tells = os.pipe()
    os.set_blocking(tells, False)

    def listen() -> None:
        while number := os.read(hears, 1):
            if received:
                # If progress bars are on the screen, the shell's next prompt must begin below them.
                start = "\n" if sys.stderr.isatty() else ""
                os.write(2, f"{start}regpush: second signal, exiting at once\n".encode())
                os._exit(128 + number[0])
            received.append(number[0])
            cancel.cancel()

    listener = threading.Thread(target=listen, name="regpush-signals", daemon=True)
    listener.start()
    told_before = signal.set_wakeup_fd(tells, warn_on_full_buffer=False)
    before = {
        number: signal.signal(number, _nothing)
        for number in _STOPS
        if signal.getsignal(number) is not signal.SIG_IGN
    }
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


@contextmanager
def interruptible(message: str) -> Iterator[None]:
    """Run the block until it ends or Ctrl-C is pressed; then raise CancelledError with `message`.

    The block is ended by KeyboardInterrupt, so that it can clean up: `getpass` turns the echo of
    the terminal on again. An ignored SIGINT stays ignored.
    """
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as error:
        raise CancelledError(message) from error
    finally:
        signal.signal(signal.SIGINT, before)


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing: the thread in `stoppable` learns of it by a pipe."""


def read_password(username: str | None, from_stdin: bool) -> str | None:
    """Read the password from stdin; return None without --password-stdin (`from_stdin` False).

    Raises UsageError if only one of --username and --password-stdin is given, and for an empty or
    malformed password.
    """
    if bool(username) != from_stdin:
        raise UsageError("--username and --password-stdin must be given together")
    if not from_stdin:
        return None
    return password.from_stdin()


def width() -> int:
    """Return the columns of the terminal; 200 if stderr is not a terminal."""
    return shutil.get_terminal_size((160, 24)).columns if sys.stderr.isatty() else 200


def note(line: str) -> None:
    """Write `regpush: LINE` to stderr."""
    tell(f"regpush: {line}")


class OutputError(Exception):
    """Writing to stdout failed; the message tells the reason."""


def print_lines(*lines: Line) -> None:
    """Write `lines` to stdout, and flush it.

    Raises BrokenPipeError if the reader closed the pipe, else OutputError.
    """
    render = Renderer.of(sys.stdout, os.environ, longest=LONGEST_RESULT)
    _print("".join(f"{render(line)}\n" for line in lines))


def print_json(value: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write `value` as JSON to stdout, and flush it.

    Raises BrokenPipeError if the reader closed the pipe, else OutputError.
    """
    _print(f"{json_text(value, indent=indent)}\n")


def print_document(data: bytes) -> None:
    """Write a document from a registry to stdout, with control characters escaped.

    Raises BrokenPipeError if the reader closed the pipe, else OutputError.
    """
    _print(document(data))


def print_bytes(data: bytes) -> None:
    """Write `data` to stdout unchanged.

    Raises BrokenPipeError if the reader closed the pipe, else OutputError.
    """
    with _writing():
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def _print(text: str) -> None:
    with _writing():
        sys.stdout.write(text)
        sys.stdout.flush()


@contextmanager
def _writing() -> Iterator[None]:
    """Turn an OSError of the block into OutputError, but let BrokenPipeError pass."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise OutputError(f"cannot write the result to stdout: {reason}") from error


def give_up_stdout() -> None:
    """Replace a closed stdout by /dev/null, so that Python flushes it at exit without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end(code: int) -> NoReturn:
    """Flush stdout and stderr, and end this process with the exit code `code`.

    Python's clean-up at exit is skipped, to save time. For the code NOBODY_READS the process ends
    itself by SIGPIPE, like other programs whose reader, such as `head`, closed the pipe.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # the write before has reported the error
            stream.flush()
    if code == NOBODY_READS:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(code)


def write_file(path: str, mode: str, text: str) -> None:
    """Write `text` to the file `path`; `mode`: `w` replaces it, `a` appends.

    Raises UsageError if the file cannot be written.
    """
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {printable(path)}: {reason}") from error
