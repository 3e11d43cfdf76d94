"""Runs regpush on a terminal: a pty for its stderr, and an emulator that knows the screen."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pyte

from tests.patience import HANG_S
from tests.program import environment


@dataclass
class Terminal:
    """A running program whose stderr is a terminal; `out` is its stdout, once it has ended.

    `raw`: all bytes written to the terminal. `frames`: the screen's lines after each write.
    """

    process: subprocess.Popen[bytes]
    master: int
    screen: pyte.Screen
    raw: bytearray = field(default_factory=bytearray)
    frames: list[list[str]] = field(default_factory=list)
    out: bytes = b""

    def lines(self) -> list[str]:
        """Return the lines on the screen that are not empty."""
        return [line.rstrip() for line in self.screen.display if line.strip()]

    def resize(self, columns: int, rows: int) -> None:
        """Change the size of the window, as a user does."""
        _set_size(self.master, columns, rows)
        self.screen.resize(rows, columns)
        self.process.send_signal(signal.SIGWINCH)

    def wait_for(self, seen: Callable[[list[str]], bool], timeout_s: float = HANG_S) -> None:
        """Wait until `seen` returns True for the lines on the screen; fails after `timeout_s`."""
        end = time.monotonic() + timeout_s
        while not seen(self.lines()):
            assert time.monotonic() < end, (self.lines(), bytes(self.raw[-2000:]))
            time.sleep(0.02)

    def end(self, timeout_s: float = HANG_S) -> int:
        """Wait for the end of the program; returns its exit code."""
        self.out = self.process.stdout.read() if self.process.stdout else b""
        return self.process.wait(timeout_s)


def _set_size(terminal: int, columns: int, rows: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def terminal(
    *arguments: object, columns: int = 80, rows: int = 24, **env: str
) -> Iterator[Terminal]:
    """Run regpush with `arguments` on a terminal of `columns` and `rows`."""
    master, slave = pty.openpty()
    _set_size(slave, columns, rows)
    screen = pyte.Screen(columns, rows)
    stream = pyte.ByteStream(screen)
    process = subprocess.Popen(
        [sys.executable, "-m", "regpush", *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=slave,
        env=environment(**{"TERM": "xterm-256color", "LANG": "C.UTF-8", **env}),
    )
    os.close(slave)
    made = Terminal(process, master, screen)

    def watch() -> None:
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # EIO: nobody has the other end any more
                return
            if not part:
                return
            made.raw += part
            stream.feed(part)
            made.frames.append(made.lines())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield made
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        watcher.join(HANG_S)
        os.close(master)
        if process.stdout:
            process.stdout.close()
