"""Terminal input and output of all commands: errors, signals, lines and files."""

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
"""The exit code that a shell shows for a program ended by SIGPIPE: its reader closed stdout."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def fail(message: str, code: int) -> int:
    """Write an error to stderr; returns `code`."""
    tell((Span("regpush:", Style.BAD), f" {message}"))
    return code


def tell(*lines: Line) -> None:
    """Write lines to stderr at once. A closed stderr is no error."""
    render = Renderer.of(sys.stderr, os.environ)
    with suppress(OSError):
        sys.stderr.write("".join(f"{render(line)}\n" for line in lines))
        sys.stderr.flush()


@contextmanager
def stoppable() -> Iterator[Cancellation]:
    """Let Ctrl-C, SIGTERM and SIGHUP cancel the returned `Cancellation`.

    A second signal ends the process at once. A signal that is ignored stays ignored, for `nohup`. A
    separate thread receives the signals. Python runs handlers only in the main thread, between two
    of its instructions: a signal that arrives just before that thread starts to wait for workers
    would not wake it.
    """
    cancel = Cancellation()
    received: list[int] = []
    hears, tells = os.pipe()
    os.set_blocking(tells, False)

    def listen() -> None:
        while number := os.read(hears, 1):
            if received:
                # Bars may be on the screen: the shell's next prompt begins below them.
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


def _nothing(number: int, frame: FrameType | None) -> None:
    """Do nothing on a signal: the wake-up pipe reports it to the thread."""


def read_password(username: str | None, from_stdin: bool) -> str | None:
    """Read the password from stdin; None without --password-stdin. Raises UsageError.

    The flags --username and --password-stdin are only valid together.
    """
    if bool(username) != from_stdin:
        raise UsageError("--username and --password-stdin must be given together")
    if not from_stdin:
        return None
    return password.from_stdin()


def width() -> int:
    """Return the columns of the terminal; 200 where stderr is a log."""
    return shutil.get_terminal_size((160, 24)).columns if sys.stderr.isatty() else 200


def note(line: str) -> None:
    """Write `regpush: LINE` to stderr."""
    tell(f"regpush: {line}")


class OutputError(Exception):
    """stdout cannot be written to."""


def print_lines(*lines: Line) -> None:
    """Write to stdout at once. Raises OutputError, or BrokenPipeError for a closed pipe."""
    render = Renderer.of(sys.stdout, os.environ, longest=LONGEST_RESULT)
    _print("".join(f"{render(line)}\n" for line in lines))


def print_json(value: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write a report to stdout at once. Raises like `print_lines`."""
    _print(f"{json_text(value, indent=indent)}\n")


def print_document(data: bytes) -> None:
    """Write a text from a registry to stdout, made printable. Raises like `print_lines`."""
    _print(document(data))


def print_bytes(data: bytes) -> None:
    """Write bytes to stdout, without the terminal's encoding. Raises like `print_lines`."""
    with _writing():
        sys.stdout.buffer.write(data)
        sys.stdout.flush()


def _print(text: str) -> None:
    with _writing():
        sys.stdout.write(text)
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
    """Replace a closed stdout by /dev/null, so that Python flushes it at exit without an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end(code: int) -> NoReturn:
    """End this process with `code` after flushing stdout and stderr, without Python's clean-up.

    Where the reader of stdout closed it, like `head`, the process ends by SIGPIPE like other
    programs. Python turns that signal into an exception; by then all work is done and files are
    written.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # an earlier write has reported it
            stream.flush()
    if code == NOBODY_READS:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    os._exit(code)


def write_file(path: str, mode: str, text: str) -> None:
    """Write or append a whole file. Raises UsageError."""
    try:
        with open(path, mode, encoding="utf-8") as file:
            file.write(text)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UsageError(f"cannot write {printable(path)}: {reason}") from error
