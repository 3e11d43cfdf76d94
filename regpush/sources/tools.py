"""Run external programs (nix, guix) for one push, and stop them when it ends.

They inherit the environment of this process, which selects their store, daemon and configuration.
Their messages become events.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import IO, Self

from regpush.concurrency import Cancellation
from regpush.digest import Digest
from regpush.entry import as_text
from regpush.errors import SourceError, printable
from regpush.events import Listener, ToolSaid

_LOOK_S = 0.1
_GRACE_S = 0.5
"""Seconds from SIGTERM to SIGKILL, in which a program may end by itself."""
_READ = 1 << 16
_TAIL = 10_000
"""Lines of a program's messages that are kept for an error."""

_ERROR = "error: "
_NOTHING, _PIPE = subprocess.DEVNULL, subprocess.PIPE


class ToolError(SourceError):
    """An external program failed; the message tells which, and its reason in its own words.

    `said`: the lines it wrote for people, the last ones if they were very many.
    """

    def __init__(self, message: str, said: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.said = tuple(said)


class Workshop:
    """A scratch directory and external programs for one push; both end with the block."""

    def __init__(self, notify: Listener, cancel: Cancellation) -> None:
        self.notify = notify
        self.cancel = cancel
        self._lock = threading.Lock()
        self._directory: str | None = None
        self._count = itertools.count(1)
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._undo.close()
        finally:
            if self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)

    def path(self, name: str) -> str:
        """Return the path of `name` in the scratch directory, which is created where missing."""
        with self._lock:
            if self._directory is None:
                # Resolved, because other programs resolve links to it before they print them.
                self._directory = os.path.realpath(tempfile.mkdtemp(prefix="regpush-"))
            return os.path.join(self._directory, name)

    def new_path(self, name: str) -> str:
        """Return an unused path in the scratch directory that begins with `name`."""
        return self.path(f"{name}-{next(self._count)}")

    def at_end(self, undo: Callable[[], object]) -> None:
        """Call `undo` when the push ends in any way; the last one registered is called first."""
        self._undo.callback(undo)

    def run(self, *command: str) -> str:
        """Run `command` and return its stdout; its lines on stderr become events.

        Raises ToolError where it fails, CancelledError.
        """
        return self._run(command, lambda line: self.show(command[0], [line]))

    def ask(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run `command` and return its stdout; lines on stderr become no events.

        Only an error contains those lines. `environment`: all variables of the program, in place of
        those of this process. Raises ToolError where the program fails, CancelledError.
        """
        return self._run(command, _unheard, environment)

    def show(self, program: str, said: Iterable[str]) -> None:
        """Report lines that `program` wrote as events."""
        for line in said:
            self.notify(ToolSaid(program=program, line=line))

    def start(self, *command: str) -> None:
        """Run `command` in the background; it is stopped when the push ends."""
        with contextlib.suppress(ToolError):
            self._undo.enter_context(_started(command, _NOTHING, _NOTHING, _NOTHING))

    def converse(self, *command: str) -> tuple[IO[bytes], IO[bytes]]:
        """Run `command` in the background until the push ends. Returns its stdin and its stdout.

        Raises ToolError where it cannot be run.
        """
        started = _started(command, _PIPE, _PIPE, _NOTHING)
        process = self._undo.enter_context(started)
        assert process.stdin is not None  # noqa: S101  pipes were asked for
        assert process.stdout is not None  # noqa: S101
        return process.stdin, process.stdout

    def convey(self, giver: Sequence[str], taker: Sequence[str]) -> Digest:
        """Pipe the stdout of `giver` into `taker`. Returns the sha256 of the data.

        Raises ToolError where either fails, CancelledError.
        """
        digest = hashlib.sha256()
        said: deque[str] = deque(maxlen=_TAIL)
        with (
            _started(giver, _NOTHING, _PIPE, _PIPE) as source,
            _started(taker, _PIPE, _NOTHING, _PIPE) as sink,
        ):
            assert sink.stdin is not None  # noqa: S101  a pipe was asked for
            # A pipe breaks where `taker` fails; its own error is raised below.
            with contextlib.suppress(BrokenPipeError):
                for stream, data in self._output(source):
                    if stream is source.stderr:
                        said += _lines(data)
                    else:
                        digest.update(data)
                        sink.stdin.write(data)
                self._check(giver, source, said)
                sink.stdin.close()
            for _, data in self._output(sink):
                said += _lines(data)
            self._check(taker, sink, said)
        return Digest("sha256", digest.hexdigest())

    def _run(
        self,
        command: Sequence[str],
        tell: Callable[[str], None],
        environment: Mapping[str, str] | None = None,
    ) -> str:
        printed: list[bytes] = []
        said: deque[str] = deque(maxlen=_TAIL)
        with _started(command, _NOTHING, _PIPE, _PIPE, environment) as process:
            for stream, data in self._output(process):
                if stream is process.stdout:
                    printed.append(data)
                    continue
                for line in _lines(data):
                    said.append(line)
                    tell(line)
            self._check(command, process, said)
        return as_text(b"".join(printed))

    def _output(self, process: subprocess.Popen[bytes]) -> Iterator[tuple[IO[bytes], bytes]]:
        """Yield data from stdout, and whole lines from stderr, until the process closes both."""
        begun = b""
        with selectors.DefaultSelector() as selector:
            for stream in filter(None, (process.stdout, process.stderr)):
                selector.register(stream, selectors.EVENT_READ, stream)
            while selector.get_map():
                for key, _ in selector.select(_LOOK_S):
                    data = os.read(key.fd, _READ)
                    if not data:
                        selector.unregister(key.fileobj)
                    if key.data is process.stderr:
                        whole, newline, rest = (begun + data).rpartition(b"\n")
                        data, begun = (whole + newline, rest) if data else (begun, b"")
                    if data:
                        yield key.data, data
                self.cancel.check()

    def _check(
        self, command: Sequence[str], process: subprocess.Popen[bytes], said: Iterable[str]
    ) -> None:
        """Wait for the end of a process that has closed its output. Raises ToolError."""
        code = process.wait()
        if code:
            self.cancel.check()  # Ctrl-C on a terminal ends both of us
            why = _reason(said) or f"exit code {code}"
            raise ToolError(f"{_spelled(command)} failed: {why}", said)


def _unheard(line: str) -> None:
    """Ignore a line."""


def find_program(name: str) -> str | None:
    """Find the program `name` on the PATH; returns its path, or None."""
    return shutil.which(name)


@contextmanager
def _started(
    command: Sequence[str],
    stdin: int,
    stdout: int,
    stderr: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    try:
        process = subprocess.Popen(
            command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment
        )
    except OSError as error:
        raise ToolError(f"cannot run {printable(command[0])}: {error.strerror}") from error
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(_GRACE_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for stream in filter(None, (process.stdin, process.stdout, process.stderr)):
            with contextlib.suppress(BrokenPipeError):
                stream.close()


def _lines(data: bytes) -> list[str]:
    """Split `data` into the lines for people, without progress bars and spinners.

    Guix draws these into pipes too. A carriage return erases what precedes it, and what remains of
    a bar is of no use in a log.
    """
    found = []
    for line in data.decode("utf-8", "replace").split("\n"):
        last = line.rstrip("\r").rpartition("\r")[2]
        seen = _ESCAPE.sub("", last).strip()
        if seen and not _BAR.fullmatch(seen):
            found.append(last)
    return found


_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_BAR = re.compile(r".*(\[[#= >]{10,}\]|▕.*▏).*|\s*[-\\|/]\s*")
"""A progress bar or a spinner (guix/progress.scm, guix/status.scm)."""


def _spelled(command: Sequence[str]) -> str:
    """Return the program and its words before the first option, for an error."""
    words = itertools.takewhile(lambda word: not word.startswith("-"), command[1:])
    return printable(" ".join([os.path.basename(command[0]), *words]))


def _reason(said: Iterable[str]) -> str:
    """Find the reason in a program's messages: its last line with `error: `, else the last line.

    From Nix 2.29 on, "Cannot build" is followed by a line with its reason, and by the end of the
    builder's log, each line of it after `>`; both are added. A line that Guix ends with `(failed to
    evaluate …)` follows its cause; an error that ends in a colon precedes its cause.
    """
    lines = [line.strip() for line in said if line.strip()]
    at = max((n for n, line in enumerate(lines) if _ERROR in line), default=len(lines) - 1)
    if at > 0 and lines[at].startswith("(failed to evaluate"):
        at -= 1
    if at < 0:
        return ""
    reason = lines[at].rpartition(_ERROR)[2]
    if reason.endswith(":") and lines[at + 1 :]:
        reason = f"{reason} {lines[at + 1]}"
    reason = reason.rstrip(";:")
    after = [line for line in lines[at + 1 :] if line.startswith("Reason: ")]
    log = [line.removeprefix("> ") for line in lines[at + 1 :] if line.startswith("> ")]
    parts = [reason.rstrip("."), *(one.rstrip(".") for one in after[:1]), *log[-1:]]
    return printable("; ".join(parts))[:500]
