"""Finds the programs that tests run, on the PATH or in a cache, else skips the test visibly."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import pytest

# Debian packages whose programs are static, so that unpacking one is installing it.
_FETCHABLE = {"docker-registry": "docker-registry", "umoci": "umoci"}
_FETCH_TIMEOUT_S = 120.0


def real_part(name: str) -> str:
    """Return the path of the program `name`.

    Where it is missing, the test is skipped; with REGPUSH_REQUIRE_REAL=1 the test fails.
    """
    path = find_part(name)
    if path is None:
        missing(f"the program '{name}' is not installed")
    return path


def missing(reason: str) -> NoReturn:
    """Skip the test for `reason`; with REGPUSH_REQUIRE_REAL=1, fail it."""
    if os.environ.get("REGPUSH_REQUIRE_REAL") == "1":
        pytest.fail(reason)
    pytest.skip(reason)


@functools.cache
def find_part(name: str) -> str | None:
    """Return the path of the program `name`, fetched into a cache where apt can, or None."""
    own = os.path.dirname(sys.executable)  # what came with the tests' own packages
    search = os.pathsep.join([os.environ.get("PATH", os.defpath), own, "/usr/sbin", "/sbin"])
    found = shutil.which(name, path=search)
    if found is None and name in _FETCHABLE:
        found = _from_cache(name, _FETCHABLE[name])
    return found


def _from_cache(name: str, package: str) -> str | None:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    unpacked = Path(base, "regpush-tests", package)
    if not unpacked.is_dir():
        try:
            _fetch(package, unpacked)
        except (OSError, subprocess.SubprocessError):
            return None  # offline, no apt lists, read-only home: the skip says what is missing
    return shutil.which(name, path=str(unpacked / "usr/bin"))


def _fetch(package: str, destination: Path) -> None:
    destination.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=destination.parent) as scratch:

        def run(*command: str) -> None:
            subprocess.run(
                command, cwd=scratch, check=True, capture_output=True, timeout=_FETCH_TIMEOUT_S
            )

        run("apt-get", "download", package)
        (archive,) = Path(scratch).glob("*.deb")
        run("dpkg-deb", "-x", archive.name, "root")
        Path(scratch, "root").rename(destination)  # whole or not at all
