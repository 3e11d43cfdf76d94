"""`regpush login` and `regpush logout`: logins in the files that docker and podman use too."""

from __future__ import annotations

from dataclasses import replace

from regpush.concurrency import Cancellation
from regpush.errors import UsageError, printable
from regpush.events import Listener, Warned
from regpush.options import RegistryOptions
from regpush.reference import DOCKER_HUB, Reference
from regpush.registry.auth.keys import normalise
from regpush.registry.auth.sources import CredentialSources
from regpush.registry.auth.store import LoginKind, LoginPlace, LoginStore
from regpush.registry.client import Client
from regpush.settings import Settings


def login(
    registry: str,
    *,
    username: str,
    password: str,
    options: RegistryOptions,
    settings: Settings,
    notify: Listener,
    cancel: Cancellation,
) -> LoginPlace:
    """Check a user name and password with `registry`, and store them.

    Returns the file or credential helper that stores them. Raises AuthError if the registry rejects
    them, UsageError if they cannot be stored; nothing was changed then.
    """
    reference = parse(registry)
    given = replace(options, username=username, password=password)
    with Client(given, settings, notify=notify, cancel=cancel) as client:
        if not client.log_in(reference):
            name = reference.registry
            notify(
                Warned(
                    message=f"{name} requires no authentication: the credentials were not checked"
                )
            )
    place = _store(options, settings, cancel).put(reference.registry, username, password)
    if place.kind is LoginKind.PLAIN_TEXT:
        notify(
            Warned(
                message=f"the password is stored unencrypted in {printable(place.name)}; "
                "a credential helper (credsStore) avoids that"
            )
        )
    return place


def logout(
    registry: str,
    *,
    options: RegistryOptions,
    settings: Settings,
    notify: Listener,
    cancel: Cancellation,
) -> list[LoginPlace]:
    """Delete all stored logins for `registry`; return the files and helpers that had one.

    With `options.authfile`, looks in that file alone. Raises UsageError if a login cannot be
    deleted.
    """
    reference = parse(registry)
    removed = _store(options, settings, cancel).remove(reference.registry)
    left = CredentialSources(RegistryOptions(), settings, cancel.check).find(reference.registry)
    if left:
        message = f"credentials for {reference.registry} still come from {left.source}"
        notify(Warned(message=message))
    return removed


def parse(registry: str) -> Reference:
    """Parse the name of a registry: a host with or without port, or its URL.

    The returned reference has an empty repository. Raises UsageError for text with a path, and for
    text that is no host.
    """
    host = normalise(registry)
    bad = f"bad registry '{printable(registry)}'"
    if "/" in host:
        raise UsageError(f"{bad}: a login is for a whole registry; write HOST or HOST:PORT alone")
    reference = Reference.parse(f"{host}/any")
    if reference.registry == DOCKER_HUB and host != DOCKER_HUB:
        raise UsageError(f"{bad}: the host must contain a '.' or a ':', or be localhost")
    return Reference(registry=reference.registry, repository="")


def _store(options: RegistryOptions, settings: Settings, cancel: Cancellation) -> LoginStore:
    if options.authfile is not None:
        return LoginStore((options.authfile,), default=options.authfile, check=cancel.check)
    return LoginStore(settings.auth_files, default=settings.login_file, check=cancel.check)
