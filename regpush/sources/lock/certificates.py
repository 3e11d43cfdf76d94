"""Certificates for connections to package indexes, as the tools of packages are told them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from regpush.http.address import Origin
from regpush.http.trust import Trust


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificates:
    """What connections to package indexes trust, and the client certificates they present.

    `trust`: for all servers; its client certificate is for servers that the lock or an option
    names, not for those that they redirect to. `below`: pairs of a URL and the settings for
    everything below it, which are trusted besides `trust` and whose client certificate replaces
    that of `trust`. `unverified`: hosts, or hosts with a port, whose certificates are not verified.
    """

    trust: Trust = field(default_factory=Trust)
    below: Sequence[tuple[str, Trust]] = ()
    unverified: frozenset[str] = frozenset()

    def of(self, url: str, named: Origin) -> Trust:
        """Return the settings for a request to `url`; the lock or an option named `named`."""
        origin, path = Origin.of(url), urlsplit(url).path
        general = self.trust if origin == named else self.trust.anonymous
        fitting = [
            (len(_folder(place)), trust)
            for place, trust in self.below
            if Origin.of(place) == origin and path.startswith(_folder(place))
        ]
        own = max(fitting, key=lambda one: one[0])[1] if fitting else Trust()
        host = origin.host.strip("[]")
        return replace(
            general,
            ca_files=(*general.ca_files, *own.ca_files),
            identities=own.identities or general.identities,
            verify=general.verify and not {host, f"{host}:{origin.port}"} & self.unverified,
        )


def _folder(url: str) -> str:
    return urlsplit(url).path.rstrip("/") + "/"
