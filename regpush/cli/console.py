"""What all commands do with the terminal: errors, signals, lines, files."""

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
"""What a shell tells of a program that wrote to a pipe which nobody reads on."""

_STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def fail(message: str, code: int) -> int:
    """Say on stderr what was wrong; gives `code` back."""
    tell((Span("regpush:", Style.BAD), f" {message}"))
    return code


def tell(*lines: Line) -> None:
    """Write lines to stderr now. That nobody hears them undoes nothing and ends nothing."""
    render = Renderer.of(sys.stderr, os.environ)
    with suppress(OSError):
        sys.stderr.write("".join(f"{render(line)}\n" for line in lines))
        sys.stderr.flush()


@contextmanager
def stoppable() -> Iterator[Cancellation]:
    """Ctrl-C, SIGTERM and SIGHUP ask for a stop; a second one does not wait for it.

    A signal that is ignored stays so: `nohup` starts programs that outlive their terminal.

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
    """The handler of a signal that somebody else has heard."""


def read_password(username: str | None, from_stdin: bool) -> str | None:
    """The password on stdin, where it is said to be there. Raises UsageError."""
    if bool(username) != from_stdin:
        raise UsageError("--username and --password-stdin must be given together")
    if not from_stdin:
        return None
    return password.from_stdin()


def width() -> int:
    """Columns of the terminal, or as many as a log may have."""
    return shutil.get_terminal_size((160, 24)).columns if sys.stderr.isatty() else 200


def note(line: str) -> None:
    """Say something on stderr."""
    tell(f"regpush: {line}")


class OutputError(Exception):
    """stdout cannot be written to."""


def print_lines(*lines: Line) -> None:
    """Write to stdout now. Raises OutputError, or BrokenPipeError where nobody reads on."""
    render = Renderer.of(sys.stdout, os.environ, longest=LONGEST_RESULT)
    _print("".join(f"{render(line)}\n" for line in lines))


def print_json(value: Mapping[str, Any], *, indent: int | None = None) -> None:
    """Write a report to stdout now. Raises as `print_lines` does."""
    _print(f"{json_text(value, indent=indent)}\n")


def print_document(data: bytes) -> None:
    """Write to stdout now what others wrote, made printable. Raises as `print_lines` does."""
    _print(document(data))


def print_bytes(data: bytes) -> None:
    """Write to stdout now, whatever the terminal's encoding. Raises as `print_lines` does."""
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
    """Nobody hears us: leave nothing to be flushed, and complained about, at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def end(code: int) -> NoReturn:
    """End this process at once with `code`, after all has been written that can be.

    A reader of stdout that closed it, as `head` does, ends this as it ends other programs: by
    SIGPIPE, of which Python makes an exception. By then the work is done, and files are written.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):  # said before, if it mattered
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
