"""URLs of requests: origins, Locations and redirects. Pure, no I/O.

RFC 3986 and RFC 9110. Every function takes hostile input, and raises at most RefusedError.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import urljoin, urlsplit

from msgspec import Struct

from regpush.errors import RefusedError

_URL = re.compile(r"[\x21-\x7e]{1,16384}", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)
_NUMERIC = re.compile(r"0x[0-9a-f]*|[0-9]+", re.ASCII)
_DEFAULT_PORT = {"http": 80, "https": 443}


class Origin(Struct, frozen=True):
    """Scheme, host and effective port, which decide whether credentials are sent."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Return the origin of an absolute http or https URL.

        Raises RefusedError for any other URL.
        """
        try:
            if not _URL.fullmatch(url):
                raise ValueError(url)
            parts = urlsplit(url)
            port = parts.port
            host = _host(parts.hostname or "")
        except ValueError:
            raise RefusedError("the registry sent an address that is not a URL") from None
        if parts.scheme not in _DEFAULT_PORT:
            raise RefusedError(f"the registry sent an address of scheme '{parts.scheme[:20]}'")
        if "@" in parts.netloc:
            raise RefusedError(f"the registry sent an address with a user name in it, at {host}")
        if port == 0:
            raise RefusedError("the registry sent an address that is not a URL")
        return cls(parts.scheme, host, port or _DEFAULT_PORT[parts.scheme])

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"

    @property
    def with_port(self) -> str:
        """The origin with its port, even where that is the default of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether the host is an address, or a name, of a private network (RFC 1918, RFC 6762)."""
        host = self.host.removesuffix(".")
        if host == "localhost" or host.endswith(".localhost"):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            # Resolvers also read 127.1, 0x7f000001 and the like as addresses; `ipaddress` does not.
            return _NUMERIC.fullmatch(host.rpartition(".")[2]) is not None
        mapped = getattr(address, "ipv4_mapped", None)
        return not (mapped or address).is_global


def _host(host: str) -> str:
    if ":" in host:
        return str(ipaddress.IPv6Address(host))
    if not _HOST.fullmatch(host):
        raise ValueError(host)
    return host.lower()


class Location(Struct, frozen=True):
    """The URL at which an upload continues; `upgraded`: http was replaced by https."""

    url: str
    upgraded: bool


def upload_location(request: str, location: str, registry: Origin) -> Location:
    """Resolve the header `location` of a reply in an upload, against the request's URL `request`.

    The query stays byte for byte. Raises RefusedError where the upload must not be sent to that
    URL: it holds a user name, or leads from https to http, or into a private network that only the
    sender of the reply can name.
    """
    url, origin = _resolve(request, location)
    if origin.scheme == "http" and registry.scheme == "https" and origin.host == registry.host:
        # Port 80 cannot be the https port; any other port may well be it.
        there = Origin("https", origin.host, registry.port if origin.port == 80 else origin.port)
        return Location(_rebase(url, there), upgraded=True)
    _check_elsewhere(origin, registry)
    return Location(url, upgraded=False)


def redirect_location(request: str, location: str, registry: Origin) -> str:
    """Resolve the header `location` of a redirect, against the request's URL `request`.

    Raises RefusedError where the request must not be sent there: the URL holds a user name, or
    leads from https to http, or into a private network that only the sender of the reply can name.
    """
    url, origin = _resolve(request, location)
    if origin.scheme == "http" and Origin.of(request).scheme == "https":
        raise RefusedError(f"refusing to be redirected from https to plain http at {origin.host}")
    _check_elsewhere(origin, registry)
    return url


def _resolve(request: str, location: str) -> tuple[str, Origin]:
    """Return the URL that `location` leads to, and its origin; an error names the sender."""
    try:
        if not _URL.fullmatch(location):
            raise RefusedError("the registry sent an address that is not a URL")
        try:
            url = urljoin(request, location).partition("#")[0]
        except ValueError:
            raise RefusedError("the registry sent an address that is not a URL") from None
        return url, Origin.of(url)
    except RefusedError as error:
        raise RefusedError(f"{Origin.of(request).with_port}: {error}") from None


def _rebase(url: str, origin: Origin) -> str:
    return f"{origin}{request_target(url)}"


def request_target(url: str) -> str:
    """Return path and query of an absolute `url`, byte for byte."""
    rest = url.partition("://")[2]
    cut = re.search(r"[/?]", rest)
    target = rest[cut.start() :] if cut else ""
    return target if target.startswith("/") else f"/{target}"


def authority(url: str) -> str:
    """Return the Host header for `url`; an explicit port stays, even the scheme's default."""
    return re.split(r"[/?#]", url.partition("://")[2], maxsplit=1)[0]


def _check_elsewhere(origin: Origin, registry: Origin) -> None:
    if origin == registry:
        return
    if origin.scheme == "http" and registry.scheme == "https":
        raise RefusedError(
            f"the registry {registry} sent an address at {origin.host} with plain http: regpush "
            "does not send requests there"
        )
    if origin.is_private and not registry.is_private:
        raise RefusedError(
            f"the registry {registry} sent the private address {origin.host}: regpush does not "
            "send requests there"
        )
