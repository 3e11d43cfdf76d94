"""Finds the login of a registry in `~/.netrc`."""

from __future__ import annotations

from urllib.parse import urlsplit

from regpush.errors import printable
from regpush.http.netrc import login
from regpush.reference import DOCKER_HUB, HUB_HOSTS
from regpush.registry.auth.record import Credentials


def find(path: str, registry: str) -> Credentials | None:
    """Find the login for the host of `registry`; None if the file has none or does not exist.

    Raises UsageError if the file at `path` cannot be read or is malformed.
    """
    names = HUB_HOSTS if registry == DOCKER_HUB else (registry, _machine(registry))
    if found := login(path, names):
        return Credentials(source=printable(path), username=found[0], password=found[1])
    return None


def _machine(registry: str) -> str:
    """Return the host without its port, since netrc has no ports."""
    return urlsplit(f"//{registry}").hostname or registry
