"""Python's version, C library and path, from the user, the project and the base image."""

from __future__ import annotations

import re
from collections.abc import Callable

from regpush.errors import UsageError, printable
from regpush.options import LockOptions
from regpush.sources.python.target import Libc, PythonVersion
from regpush.sources.surroundings import BaseFacts

INTERPRETER = "/usr/local/bin/python3"
"""The path of Python in its official images."""

_DEFAULT = "docker.io/library/python:{version}-slim"
_OLDEST_LIBC = Libc("glibc", 2, 28)
"""Nearly all wheels of today run on it; a base whose glibc is unknown may have a newer one."""
_MUSL = Libc("musl", 1, 2)

# Lines in the history of distributions' images, which tell the C library.
_DEBIAN = re.compile(r"debian\.sh\b.*?'([a-z]+)'")
_ALPINE = re.compile(r"alpine-minirootfs-")
_GLIBC = {
    "buster": 28,
    "bullseye": 31,
    "bookworm": 36,
    "trixie": 41,
    "20.04": 31,
    "22.04": 35,
    "24.04": 39,
}


def default_base(version: PythonVersion) -> str:
    """Name the official image of that version of Python."""
    return _DEFAULT.format(version=version)


def python_version(
    options: LockOptions, pinned: str, facts: BaseFacts | None, choices: Callable[[], str]
) -> PythonVersion:
    """Decide the image's version of Python: `--python`, else `pinned`, else the base's.

    `pinned`: the project's `.python-version`, empty without one. `choices`: the versions that have
    all wheels, for the error. Raises UsageError where no version is known, or the base has another.
    """
    wanted = None
    if options.python:
        wanted, said_by = PythonVersion.find(options.python), f"--python {options.python}"
        if wanted is None:
            raise UsageError(
                f"bad {printable(said_by)}: expected one such as 3.13, 3.13.1 or 3.13t"
            )
    elif pinned:
        wanted, said_by = PythonVersion.find(pinned), f".python-version ({pinned})"
        if wanted is None:
            raise UsageError(f"{printable(said_by)} is no version of Python 3: use --python")
    theirs = PythonVersion.find(facts.env.get("PYTHON_VERSION", "")) if facts else None
    if wanted is None:
        if theirs is None:
            raise UsageError(
                "no Python version is given: use --python, or write it into .python-version"
                f"{choices()}"
            )
        return theirs
    if facts and theirs:
        if not wanted.agrees(theirs) and not (wanted.minor == theirs.minor and wanted.threaded):
            raise UsageError(
                f"{printable(said_by)}, but {printable(facts.reference)} has Python {theirs}: "
                "choose one of both"
            )
        patch = wanted.patch if wanted.patch is not None else theirs.patch
        return PythonVersion(wanted.minor, patch, wanted.threaded)
    return wanted


def libc(options: LockOptions, facts: BaseFacts | None) -> Libc:
    """Decide the C library: `--libc`, else what the base indicates, else an old glibc.

    The base's history or labels name its distribution. Raises UsageError for a bad `--libc`.
    """
    if options.libc:
        return Libc.parse(options.libc)
    history = facts.history if facts else ()
    for line in history:
        if _ALPINE.search(line):
            return _MUSL
        if (match := _DEBIAN.search(line)) and match[1] in _GLIBC:
            return Libc("glibc", 2, _GLIBC[match[1]])
    labels = facts.labels if facts else {}
    release = labels.get("org.opencontainers.image.version", "")
    if labels.get("org.opencontainers.image.ref.name") == "ubuntu" and release in _GLIBC:
        return Libc("glibc", 2, _GLIBC[release])
    return _OLDEST_LIBC


def interpreter(options: LockOptions) -> str:
    """Return the path of Python in the base. Raises UsageError for a bad `--python-path`."""
    path = options.python_path or INTERPRETER
    if not re.fullmatch(r"(?:/(?!\.{1,2}(?:/|$))[^/\0\n]+)+", path) or path.count("/") < 2:
        raise UsageError(
            f"bad --python-path '{printable(path)}': expected an absolute path, such as "
            "/usr/bin/python3"
        )
    return path
