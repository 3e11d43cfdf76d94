"""Run regpush as a child process, for the GitHub Action."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from regpush.cli.action.results import Report

_WARNING = re.compile(r"(?:regpush: )?warning: (.*)")
_ERROR = re.compile(r"regpush: (?!warning: )(.*)")


class Ended(Struct, frozen=True, kw_only=True):
    """The result of a regpush process: exit code, stdout, and the lines of stderr."""

    code: int
    stdout: str
    lines: Sequence[str]

    def report(self) -> Report | None:
        """Read the JSON report on stdout; None if stdout holds something else."""
        try:
            found = json.loads(self.stdout)
        except ValueError:
            return None
        return found if isinstance(found, dict) else None

    def warnings(self) -> list[str]:
        """Return the distinct warnings that the process printed, without the word `warning:`."""
        found = (_WARNING.fullmatch(line) for line in self.lines)
        return list(dict.fromkeys(match[1] for match in found if match))

    def error(self) -> str:
        """Return the last error message that the process printed, or a text with its exit code."""
        found = [match[1] for line in self.lines if (match := _ERROR.fullmatch(line))]
        return found[-1] if found else f"regpush printed no error; its exit code is {self.code}"


def run(
    words: Sequence[str], environ: Mapping[str, str], stdin: str, say: Callable[[str], None]
) -> Ended:
    """Run `regpush WORDS…` with the given environment and stdin.

    `say` is called with each line of stderr as soon as it arrives. SIGINT and SIGTERM are passed on
    to regpush, so that a cancelled push cleans up. If a signal ends regpush, the exit code is 128
    plus the signal's number, like in a shell.
    """
    # -I: modules in the working directory or PYTHONPATH must not replace regpush's own.
    command = [sys.executable, "-I", "-m", "regpush", *words]
    lines: list[str] = []
    with (
        tempfile.TemporaryFile("w+", encoding="utf-8") as stdout,
        subprocess.Popen(
            command,
            env=dict(environ),
            stdin=subprocess.PIPE,
            stdout=stdout,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="backslashreplace",
        ) as child,
    ):
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda heard, _: child.send_signal(heard))
        if child.stdin is not None:
            with (
                suppress(BrokenPipeError),
                child.stdin,
            ):  # a process that failed early reads nothing
                child.stdin.write(stdin)
        for line in child.stderr or ():
            lines.append(line.rstrip("\n"))
            say(lines[-1])
        code = child.wait()
        stdout.seek(0)
        return Ended(code=code if code >= 0 else 128 - code, stdout=stdout.read(), lines=lines)
