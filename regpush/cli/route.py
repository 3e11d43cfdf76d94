"""The address at which the registry of a push is reached first."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from itertools import pairwise

from regpush.errors import RegpushError
from regpush.http import ahead
from regpush.http.address import Origin
from regpush.reference import Reference


def connect_ahead(words: Sequence[str]) -> None:
    """Begin a TCP connection to the registry in the command line `words`, if they have `--to REF`.

    Returns at once. If typer, which reads the command line later, finds that the push leads
    elsewhere, the connection is closed without a request.
    """
    to = next((ref for flag, ref in pairwise(words) if flag == "--to"), "")
    # Reported by the push. RuntimeError: no thread can be started.
    with suppress(RegpushError, RuntimeError):
        origin = first_origin(Reference.parse(to), "http" if "--plain-http" in words else "https")
        ahead.begin(origin.host, origin.port)


def first_origin(registry: Reference, scheme: str) -> Origin:
    """Return the origin at which the API of `registry` is asked first.

    `scheme`: http or https, for all registries but those on this machine, which are asked by http
    first. Raises RefusedError.
    """
    return Origin.of(f"{'http' if registry.is_loopback else scheme}://{registry.api_host}")
