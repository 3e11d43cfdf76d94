"""Stores and deletes logins in the files and helpers that Docker and Podman read too."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from enum import Enum, auto

from msgspec import Struct

from regpush.errors import UsageError, printable
from regpush.registry.auth.files import AuthFile
from regpush.registry.auth.helpers import Helper
from regpush.registry.auth.keys import docker_key


class LoginKind(Enum):
    """The kind of place that keeps a login: a credential helper, or plain text in a file."""

    HELPER = auto()
    PLAIN_TEXT = auto()


class LoginPlace(Struct, frozen=True):
    """Where a login is kept: the name of a helper's program, or the path of a file."""

    kind: LoginKind
    name: str


class LoginStore:
    """The places that keep logins: `files`, in the order in which they are read.

    `default`: the file for new logins; None without a home directory. `check` is called while a
    helper runs. Every method raises UsageError for a file that cannot be read or written, or
    AuthError where a helper fails.
    """

    def __init__(
        self, files: Sequence[str], *, default: str | None, check: Callable[[], None]
    ) -> None:
        self._files = files
        self._default = default
        self._check = check

    def put(self, registry: str, username: str, password: str) -> LoginPlace:
        """Store a login for `registry`; returns where it is kept.

        It is kept in the default file, or in an earlier file that has an entry for `registry`;
        where that file names a helper, by the helper.
        """
        path = self._path(registry)
        with _locked(path):
            file = AuthFile.load(path)
            if name := file.helper(registry):
                helper = Helper(name=name, named_in=printable(path), check=self._check)
                helper.store(docker_key(registry), username, password)
                _write(file, file.with_mark(registry))
                return LoginPlace(LoginKind.HELPER, helper.program)
            _write(file, file.with_login(registry, username, password))
            return LoginPlace(LoginKind.PLAIN_TEXT, path)

    def _path(self, registry: str) -> str:
        if self._default is None:
            raise UsageError("no file to keep the login in: name one with --authfile")
        for path in self._files:
            if path == self._default or AuthFile.load(path).knows(registry):
                return path
        return self._default

    def remove(self, registry: str) -> list[LoginPlace]:
        """Delete the logins for `registry` from every file and helper; returns where one was kept.

        Logins for a single namespace of the registry stay.
        """
        removed = []
        for path in self._files:
            if not os.path.exists(path):
                continue
            with _locked(path):
                file = AuthFile.load(path)
                if name := file.helper(registry):
                    helper = Helper(name=name, named_in=printable(path), check=self._check)
                    if helper.get(docker_key(registry)):
                        helper.erase(docker_key(registry))
                        removed.append(LoginPlace(LoginKind.HELPER, helper.program))
                if file.login(registry.lower()):
                    removed.append(LoginPlace(LoginKind.PLAIN_TEXT, path))
                _write(file, file.without_login(registry))
        return removed


@contextmanager
def _locked(path: str) -> Iterator[None]:
    """Lock the folder of `path`, so that no other regpush changes its files meanwhile.

    The folder itself is locked, so no lock file remains; a missing folder is created, readable by
    its user alone. Raises UsageError if the folder cannot be created or opened.
    """
    folder = os.path.dirname(os.path.realpath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(before: AuthFile, after: AuthFile) -> None:
    """Replace the file `before` by `after` in one step, readable by its user alone.

    An equal file is not touched. A symbolic link stays: the file that it leads to is replaced.
    """
    if after == before:
        return
    target = os.path.realpath(after.path)
    temporary = None
    try:
        # Made with mode 0600.
        descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(target), prefix=".regpush-")
        with open(descriptor, "wb") as file:
            file.write(after.dump())
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except OSError as error:
        if temporary:
            with suppress(OSError):
                os.unlink(temporary)
        raise _unwritable(after.path, error) from error


def _unwritable(path: str, error: OSError) -> UsageError:
    why = (error.strerror or str(error)).lower()
    return UsageError(f"cannot change the logins in {printable(path)}: {why}")
