"""Decide the image's Python version, C library and interpreter path.

They come from the user's options, the project's `.python-version` and the base image.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from regpush.errors import UsageError, printable
from regpush.options import LockOptions
from regpush.sources.python.target import Libc, PythonVersion
from regpush.sources.surroundings import BaseFacts

INTERPRETER = "/usr/local/bin/python3"
"""The path of the Python interpreter in the official `python` images."""

_DEFAULT = "docker.io/library/python:{version}-slim"
_OLDEST_LIBC = Libc("glibc", 2, 28)
"""Assumed C library of a base image that does not tell its own: nearly all wheels run on it and on
every newer glibc."""
_MUSL = Libc("musl", 1, 2)

# Commands in an image's history by which Debian's and Alpine's images are made. They name the
# release, and the release decides the C library; `_GLIBC`: the minor version of glibc 2 by release.
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
    """Return the reference of the official slim image with Python `version`."""
    return _DEFAULT.format(version=version)


def python_version(
    options: LockOptions, pinned: str, facts: BaseFacts | None, choices: Callable[[], str]
) -> PythonVersion:
    """Return the image's Python version: of `--python`, else `pinned`, else of the base image.

    `pinned`: the text of the project's `.python-version`, empty without one. `facts`: the base
    image's environment and name, None without a base. `choices`: makes the end of the error
    message, which lists the versions for which every package has a wheel. Raises UsageError where
    no version is known, or where the base image has another one.
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
            raise UsageError(
                f"{printable(said_by)} is not a version of Python 3; correct it, or give a version "
                "by --python"
            )
    theirs = PythonVersion.find(facts.env.get("PYTHON_VERSION", "")) if facts else None
    if wanted is None:
        if theirs is None:
            raise UsageError(
                "the image's Python version is not known: give it by --python, or write it into "
                ".python-version"
                f"{choices()}"
            )
        return theirs
    if facts and theirs:
        if not wanted.agrees(theirs) and not (wanted.minor == theirs.minor and wanted.threaded):
            raise UsageError(
                f"{printable(said_by)}, but the base image {printable(facts.reference)} has Python "
                f"{theirs}: change --python or --from"
            )
        patch = wanted.patch if wanted.patch is not None else theirs.patch
        return PythonVersion(wanted.minor, patch, wanted.threaded)
    return wanted


def libc(options: LockOptions, facts: BaseFacts | None) -> Libc:
    """Return the image's C library: of `--libc`, else of the base image, else glibc 2.28.

    The base image's distribution, which decides its C library, is read from its history and its
    labels. Raises UsageError for a malformed `--libc`.
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
    """Return the interpreter's path in the base image: `--python-path`, else the official images'.

    Raises UsageError where `--python-path` is not an absolute path.
    """
    path = options.python_path or INTERPRETER
    if not re.fullmatch(r"(?:/(?!\.{1,2}(?:/|$))[^/\0\n]+)+", path) or path.count("/") < 2:
        raise UsageError(
            f"bad --python-path '{printable(path)}': expected an absolute path, such as "
            "/usr/bin/python3"
        )
    return path
