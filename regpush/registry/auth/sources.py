"""The places where credentials are looked for, and their order."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator

from regpush.errors import AuthError, UsageError, printable
from regpush.options import RegistryOptions
from regpush.registry.auth.challenges import SENDABLE
from regpush.registry.auth.files import AuthFile
from regpush.registry.auth.keys import candidates, docker_key
from regpush.registry.auth.record import Credentials
from regpush.settings import Settings

_GITHUB_REGISTRY = "ghcr.io"


class CredentialSources:
    """Finds logins in files, credential helpers and the environment. Thread-safe.

    In this order: `--authfile`, `REGPUSH_AUTH`, the files of `settings` with their helpers,
    GitHub's token, netrc; the first place that has a login for the registry decides. The flags
    `--username` and `--registry-token` are read by `from_options`. `check` is called while a helper
    runs; an error that it raises ends the helper.
    """

    def __init__(
        self, options: RegistryOptions, settings: Settings, check: Callable[[], None]
    ) -> None:
        self._authfile = options.authfile
        self._settings = settings
        self._check = check
        self._lock = threading.Lock()
        self._asked: dict[tuple[str, str], Credentials | AuthError | None] = {}

    def find(self, registry: str, repository: str = "") -> Credentials | None:
        """Find the login for `repository` of `registry`; None is anonymous.

        Raises UsageError naming the file that cannot be read, AuthError naming the helper that
        fails.
        """
        for file in self._files():
            if found := self._look_up(file, registry, repository):
                return found
        token = self._settings.github_token
        if registry.lower() == _GITHUB_REGISTRY and token:
            user = self._settings.github_actor or "token"
            return Credentials(source="GITHUB_TOKEN", username=user, password=token)
        if self._settings.netrc_file:
            # Imported late, because most logins are found in Docker's file.
            from regpush.registry.auth import netrc

            return netrc.find(self._settings.netrc_file, registry)
        return None

    def _files(self) -> Iterator[AuthFile]:
        """Yield the credentials files, each read only when no file before it had the login.

        So a broken file after the first match does no harm.
        """
        if self._authfile is not None:
            if not os.path.exists(self._authfile):
                raise UsageError(f"--authfile {printable(self._authfile)}: there is no such file")
            yield AuthFile.load(self._authfile)
        if self._settings.auth:
            yield AuthFile.parse(self._settings.auth.encode("utf-8", "replace"), "REGPUSH_AUTH")
        yield from map(AuthFile.load, self._settings.auth_files)

    def _look_up(self, file: AuthFile, registry: str, repository: str) -> Credentials | None:
        """Return the login of the most specific entry: from its helper, or from the file itself."""
        keys = candidates(registry, repository) if repository else [registry.lower()]
        for key in keys:
            if helper := file.helper(key):
                servers = (
                    (docker_key(registry),) if key == keys[-1] else (key, docker_key(registry))
                )
                for server in servers:
                    if found := self._ask(helper, server, file):
                        return found
            if found := file.login(key):
                return found
        return None

    def _ask(self, helper: str, server: str, file: AuthFile) -> Credentials | None:
        """Ask the helper for a login, only once a server, since a user may have to unlock it."""
        # Imported late, because few registries need a helper.
        from regpush.registry.auth.helpers import Helper

        with self._lock:
            if (helper, server) not in self._asked:
                program = Helper(name=helper, named_in=printable(file.path), check=self._check)
                try:
                    self._asked[helper, server] = program.get(server)
                except AuthError as error:
                    self._asked[helper, server] = error
            said = self._asked[helper, server]
        if isinstance(said, AuthError):
            raise said
        return said


def from_options(options: RegistryOptions) -> Credentials | None:
    """Return the credentials that flags give for the destination; None without such flags.

    Raises UsageError for incomplete or contradictory flags.
    """
    if options.registry_token is not None:
        if options.username is not None or options.password is not None:
            raise UsageError(
                "--registry-token cannot be combined with --username and --password-stdin"
            )
        if not re.fullmatch(SENDABLE, options.registry_token):
            raise UsageError("--registry-token must be printable ASCII without blanks")
        return Credentials(source="the command line", registry_token=options.registry_token)
    if options.username is None and options.password is None:
        return None
    if not options.username or options.password is None:
        raise UsageError("--username and --password-stdin must be given together")
    if ":" in options.username:
        raise UsageError("the user name must not contain a colon (RFC 7617)")
    return Credentials(
        source="the command line", username=options.username, password=options.password
    )
