"""Runs regpush like a user: in a process of its own, with an empty home."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests import schema
from tests.patience import HANG_S

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class Outcome:
    code: int
    stdout: str
    stderr: str

    @property
    def report(self) -> dict:
        """The JSON report on stdout, of a run with `--format json`."""
        return json.loads(self.stdout)

    @property
    def actions(self) -> list[str]:
        """The action for each layer of the first image, lowest first."""
        return [layer["action"] for layer in self.report["images"][0]["layers"]]

    def ok(self) -> "Outcome":
        assert self.code == 0, self.stderr
        return self

    def failed(self, code: int, *words: str) -> "Outcome":
        """Assert that the run ended with `code` and one line on stderr that has all `words`.

        Nothing may be on stdout. Returns this outcome.
        """
        line = self.stderr.splitlines()[-1] if self.stderr else ""
        assert self.code == code, self.stderr
        assert self.stdout == ""
        assert line.startswith("regpush: ")
        assert sum(one.startswith("regpush: ") for one in self.stderr.splitlines()) == 1
        assert "Traceback" not in self.stderr
        for word in words:
            assert word in line, line
        return self


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a fresh CI machine: no home, no cache, no credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    # Nix must not use binary caches, unless a test names one.
    nix = {"NIX_CONFIG": "substituters ="}
    return {**kept, **nix, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", **more}


def program_on_path(directory: Path, path: str) -> str:
    """Put a program `regpush` into `directory`.

    Returns `path` with this folder at its beginning.
    """
    directory.mkdir(parents=True)
    program = directory / "regpush"
    program.write_text(f"#!/bin/sh\nexec '{sys.executable}' -m regpush \"$@\"\n")
    program.chmod(0o755)
    return f"{directory}{os.pathsep}{path}"


OURS = ("-m", "regpush")
PATIENT = (
    "-c",
    "from regpush import cli; from regpush.http import ahead; ahead._FRESH_S = 600.0; cli.main()",
)
"""regpush that uses the connections that it began ahead, however long it takes to get there: after
5 s it would make new ones, which tests of connections must not count on a busy machine."""


def regpush(
    *arguments, program=OURS, env=None, cwd=None, stdin="", timeout=3 * HANG_S, **process
) -> Outcome:
    done = subprocess.run(
        [sys.executable, *program, *map(str, arguments)],
        capture_output=True,
        text=True,
        input=stdin,
        env=environment(**(env or {})),
        cwd=cwd,
        timeout=timeout,
        **process,
    )
    schema.validate(arguments, done.stdout)
    return Outcome(done.returncode, done.stdout, done.stderr)


def push(target, to, *flags, **more) -> Outcome:
    """Run a push whose stdout is the JSON report."""
    return regpush(target, "--to", to, "--format", "json", "--no-cache", *flags, **more)


_NOBODY = """
import contextlib, importlib, io, os, pkgutil, sys
import regpush
for module in pkgutil.walk_packages(regpush.__path__, "regpush."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
import rich.console, rich.progress
from regpush.cli.app import run
with contextlib.redirect_stderr(io.StringIO()):
    run(["push", "x", "--to", "127.0.0.1:1/Bad", "--jobs", "1", "--tag", "t"], {})
os.setgroups([]); os.setgid(65534); os.setuid(65534); os.umask(0o077); os.chdir(sys.argv[1])
sys.exit(run(sys.argv[2:], os.environ))
"""
"""A program that runs regpush as another user. It imports all of regpush before it changes the
user, because other users may not read the checkout and its Python."""


def regpush_as_nobody(*arguments, env=None, cwd="/") -> Outcome:
    """Run regpush as the user nobody, with umask 077 and the working directory `cwd`."""
    done = subprocess.run(
        [sys.executable, "-c", _NOBODY, str(cwd), *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(**(env or {})),
        timeout=3 * HANG_S,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)


@contextmanager
def open_directory() -> Iterator[Path]:
    """Yield a temporary directory for files that other users read; it is deleted afterwards.

    Pytest's `tmp_path` does not serve, because each pytest that starts closes it to others.
    """
    with tempfile.TemporaryDirectory(prefix="regpush-", ignore_cleanup_errors=True) as path:
        yield Path(path)


def open_to_all(path: Path) -> None:
    """Let other users read `path`, which lies below an `open_directory`, and enter its folders."""
    for folder in [path, *path.parents]:
        if folder.stat().st_uid == os.getuid() and folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
