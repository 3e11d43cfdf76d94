"""Run external programs (nix, guix, uv) for one push, and stop them when the push ends.

The programs inherit the environment of this process, which selects their store, daemon and
configuration. Their messages become events.
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
"""Seconds between SIGTERM and SIGKILL, in which a program may end by itself."""
_READ = 1 << 16
_TAIL = 10_000
"""Maximum lines of a program's messages that are kept for a ToolError."""

_ERROR = "error: "
_NOTHING, _PIPE = subprocess.DEVNULL, subprocess.PIPE


class ToolError(SourceError):
    """An external program failed; the message names the program and quotes its error.

    `said`: the lines that the program wrote on stderr, the last 10,000 at most.
    """

    def __init__(self, message: str, said: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.said = tuple(said)


class Workshop:
    """A scratch directory and external programs for one push; a context manager.

    At the end of the `with` block, programs are stopped and the directory is deleted. `notify`:
    gets events. `cancel`: ends waiting for programs.
    """

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
        """Return the path of `name` in the scratch directory, which the first call creates."""
        with self._lock:
            if self._directory is None:
                # Links are resolved, because nix and guix print paths in it with links resolved.
                self._directory = os.path.realpath(tempfile.mkdtemp(prefix="regpush-"))
            return os.path.join(self._directory, name)

    def new_path(self, name: str) -> str:
        """Return a new path in the scratch directory: `name` with a number after it."""
        return self.path(f"{name}-{next(self._count)}")

    def at_end(self, undo: Callable[[], object]) -> None:
        """Have `undo` called when the push ends, also by an error; the last registered first."""
        self._undo.callback(undo)

    def run(self, *command: str) -> str:
        """Run `command` and return its stdout; its lines on stderr become events.

        Raises ToolError where the program fails or cannot be started, CancelledError.
        """
        return self._run(command, lambda line: self.show(command[0], [line]))

    def ask(self, *command: str, environment: Mapping[str, str] | None = None) -> str:
        """Run `command` and return its stdout, without reporting its lines on stderr as events.

        `environment`: the program's whole environment, None for that of this process. Raises
        ToolError, with the lines on stderr, where the program fails or cannot be started;
        CancelledError.
        """
        return self._run(command, _unheard, environment)

    def show(self, program: str, said: Iterable[str]) -> None:
        """Report each line in `said`, which `program` wrote, as an event."""
        for line in said:
            self.notify(ToolSaid(program=program, line=line))

    def start(self, *command: str) -> None:
        """Start `command` in the background without input and output; the push's end stops it.

        Does nothing where it cannot be started.
        """
        with contextlib.suppress(ToolError):
            self._undo.enter_context(_started(command, _NOTHING, _NOTHING, _NOTHING))

    def converse(self, *command: str) -> tuple[IO[bytes], IO[bytes]]:
        """Start `command` in the background; return its stdin and its stdout, as binary streams.

        The push's end stops it. Raises ToolError where it cannot be started.
        """
        started = _started(command, _PIPE, _PIPE, _NOTHING)
        process = self._undo.enter_context(started)
        assert process.stdin is not None  # noqa: S101  started with _PIPE
        assert process.stdout is not None  # noqa: S101
        return process.stdin, process.stdout

    def convey(self, giver: Sequence[str], taker: Sequence[str]) -> Digest:
        """Run two commands, and pipe the stdout of `giver` into the stdin of `taker`.

        Returns the sha256 of the piped data. Raises ToolError where either fails, CancelledError.
        """
        digest = hashlib.sha256()
        said: deque[str] = deque(maxlen=_TAIL)
        with (
            _started(giver, _NOTHING, _PIPE, _PIPE) as source,
            _started(taker, _PIPE, _NOTHING, _PIPE) as sink,
        ):
            assert sink.stdin is not None  # noqa: S101  started with _PIPE
            # BrokenPipeError means that `taker` failed; `_check` raises its own error below.
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
        """Yield (stream, data) until the process has closed stdout and stderr.

        Data of stderr consists of whole lines.
        """
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
        """Wait for the end of a process that has closed its output.

        Raises ToolError, with the lines `said`, where its exit code is not 0.
        """
        code = process.wait()
        if code:
            self.cancel.check()  # a terminal sends Ctrl-C to the program and to regpush
            why = _reason(said) or f"exit code {code}"
            raise ToolError(f"{_spelled(command)} failed: {why}", said)


def _unheard(line: str) -> None:
    """Ignore a line of a program's messages."""


def find_program(name: str) -> str | None:
    """Return the path of the program `name` on the PATH, or None."""
    return shutil.which(name)


@contextmanager
def _started(
    command: Sequence[str],
    stdin: int,
    stdout: int,
    stderr: int,
    environment: Mapping[str, str] | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """Yield the running program of `command`; at the end, stop it and close its pipes.

    `stdin`, `stdout` and `stderr`: file descriptors, or `subprocess.PIPE` or `DEVNULL`. Raises
    ToolError if the program cannot be started.
    """
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
    """Split a program's messages into lines, without empty lines, progress bars and spinners.

    Guix draws progress bars into pipes too. Of a line with carriage returns, only the text after
    the last one is kept, as on a terminal.
    """
    found = []
    for line in data.decode("utf-8", "replace").split("\n"):
        last = line.rstrip("\r").rpartition("\r")[2]
        seen = re.sub(_ESCAPE, "", last).strip()
        if seen and not re.fullmatch(_BAR, seen):
            found.append(last)
    return found


_ESCAPE = r"\x1b\[[0-9;?]*[A-Za-z]"
_BAR = r".*(\[[#= >]{10,}\]|▕.*▏).*|\s*[-\\|/]\s*"
"""Matches a line that is a progress bar or a spinner (guix/progress.scm, guix/status.scm)."""


def _spelled(command: Sequence[str]) -> str:
    """Return a command's program and its words before the first option, for errors: `nix build`."""
    words = itertools.takewhile(lambda word: not word.startswith("-"), command[1:])
    return printable(" ".join([os.path.basename(command[0]), *words]))


def _reason(said: Iterable[str]) -> str:
    """Return the reason of a failure in a program's messages, 500 characters at most.

    It is the last line with `error: `, else the last line. In Nix 2.29 and later, a line `Reason: `
    and the builder's log (lines that begin with `> `) follow an error "Cannot build"; the reason
    and the log's last line are added. Where Guix's last error begins with `(failed to evaluate`,
    its cause is the line before; where an error ends in a colon, its cause is the line after.
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
