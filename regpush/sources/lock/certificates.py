"""The TLS certificates for connections to package indexes, from the settings of pip, uv or npm."""

from __future__ import annotations

from collections.abc import Sequence
from urllib.parse import urlsplit

from msgspec import Struct, field
from msgspec.structs import replace

from regpush.http.address import Origin
from regpush.http.trust import Trust


class Certificates(Struct, frozen=True, kw_only=True):
    """Certificate authorities and client certificates for connections to package indexes.

    `trust`: for all servers. Its client certificate is used for servers that the lock file or an
    option names, and not for servers to which these redirect. `below`: pairs of a URL and further
    settings for all URLs below it: authorities that are trusted too, and a client certificate that
    replaces the one of `trust`. `unverified`: hosts, with or without a port, whose certificates are
    not verified.
    """

    trust: Trust = field(default_factory=Trust)
    below: Sequence[tuple[str, Trust]] = ()
    unverified: frozenset[str] = frozenset()

    def of(self, url: str, named: Origin) -> Trust:
        """Return the settings for a request to `url`.

        `named`: the origin that the lock file or an option names; after a redirect, `url` has
        another one.
        """
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
