"""Decides through which proxy a request is sent, by variables of the environment. Pure.

The rules are those of Go's `httpproxy`, which Docker, skopeo and crane follow.
"""

from __future__ import annotations

import base64
import ipaddress
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes, urlsplit

from msgspec import Struct

from regpush.errors import AuthError, RefusedError, UsageError
from regpush.http.address import Origin
from regpush.settings import ProxySettings

WANTS_CREDENTIALS = 407

_PORT = 80
_HOST = r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """An HTTP proxy; `authorization`: the value of its Proxy-Authorization header, or empty."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @classmethod
    def parse(cls, text: str, variable: str) -> Proxy:
        """Read the value `text` of the environment variable `variable`.

        Raises UsageError, which does not quote the value.
        """
        try:
            parts = urlsplit(text if "://" in text else f"http://{text}")
            host, port = parts.hostname or "", parts.port or _PORT
            if not re.fullmatch(_HOST, host):
                raise ValueError(host)
        except ValueError:
            # Not chained, because the exception quotes the address, which may hold a password.
            raise UsageError(
                f"{variable} is not the address of a proxy, such as http://proxy.example:3128"
            ) from None
        if parts.scheme != "http":
            raise UsageError(
                f"{variable} names a proxy that is not reached by http://; "
                "other kinds of proxies are not supported"
            )
        authorization = ""
        if parts.username is not None:
            user, password = unquote_to_bytes(parts.username), parts.password or ""
            pair = user + b":" + unquote_to_bytes(password)
            authorization = f"Basic {base64.b64encode(pair).decode()}"
        return cls(host=host, port=port, authorization=authorization)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def refusal(self, status: int) -> AuthError | RefusedError | None:
        """Return the error for a proxy that answered a request with `status` itself.

        None where a retry may help.
        """
        if status == WANTS_CREDENTIALS:
            return self.denied()
        if status >= 500:
            return None
        return RefusedError(f"the proxy {self} refused to connect us (answered {status})")

    def denied(self) -> AuthError:
        """Return the error for a proxy that wants credentials, or rejects ours."""
        return AuthError(
            f"the proxy {self} wants credentials, or rejected ours (407); put them into its "
            "address: HTTPS_PROXY=http://user:password@host:port"
        )

    @property
    def secrets(self) -> tuple[str, ...]:
        """The password for the proxy, plain and as sent in base64; neither must be shown."""
        pair = self.authorization.removeprefix("Basic ")
        password = base64.b64decode(pair).decode("utf-8", "replace").partition(":")[2]
        return tuple(s for s in (pair, password) if s)


class Routes(Struct, frozen=True, eq=False):
    """Chooses the proxy of a request, by the settings of the environment."""

    settings: ProxySettings

    def proxy(self, origin: Origin) -> Proxy | None:
        """Return the proxy for requests to `origin`; None to connect directly.

        A loopback address is always reached directly. Raises UsageError for a malformed variable.
        """
        text = self.settings.https if origin.scheme == "https" else self.settings.http
        if not text or _is_loopback(origin.host) or bypasses(self.settings.bypass, origin):
            return None
        return Proxy.parse(text, f"{origin.scheme.upper()}_PROXY (or ALL_PROXY)")

    @property
    def secrets(self) -> Sequence[str]:
        """The credentials in the addresses of all proxies, which must never be shown."""
        found: list[str] = []
        for text in (self.settings.http, self.settings.https):
            try:
                found += Proxy.parse(text, "").secrets
            except UsageError:
                continue
        return found


def bypasses(rules: str, origin: Origin) -> bool:
    """Whether `NO_PROXY` excludes `origin` from proxies.

    Entries, separated by commas: `*`; an address or a network (`10.0.0.0/8`); `example.com` with
    all its subdomains; `.example.com` or `*.example.com` for the subdomains alone. All but networks
    may end in a port and then hold for that port only. Other entries match nothing.
    """
    host = origin.host.removesuffix(".")
    rules = rules.lower()
    return any(_matches(rule, host, origin.port) for rule in re.split(r"[,\s]+", rules) if rule)


def _matches(rule: str, host: str, port: int) -> bool:
    if rule == "*":
        return True
    if "/" in rule:
        return _in_network(rule, host)
    name, wanted = _split_port(rule)
    if wanted not in ("", str(port)):
        return False
    if (address := _address(name)) is not None:
        return _address(host) == address
    below = name.removeprefix("*") if name.startswith("*.") else name
    below = below.removesuffix(".")
    if below.startswith("."):
        return len(below) > 1 and host.endswith(below)
    return bool(below) and (host == below or host.endswith(f".{below}"))


def _split_port(rule: str) -> tuple[str, str]:
    if _address(rule) is not None:  # an IPv6 address is full of colons
        return rule, ""
    name, colon, port = rule.rpartition(":")
    return (name, port) if colon and port.isdigit() else (rule, "")


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _in_network(rule: str, host: str) -> bool:
    address = _address(host)
    try:
        return address is not None and address in ipaddress.ip_network(rule, strict=False)
    except ValueError:
        return False


def _is_loopback(host: str) -> bool:
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and address.is_loopback
