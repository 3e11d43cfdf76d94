"""Requests that examine one registry step by step, for `regpush doctor`. None is retried."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

import httpcore
from msgspec import Struct

from regpush.concurrency import Cancellation
from regpush.errors import RefusedError, TransientError, printable
from regpush.http.address import Origin, upload_location
from regpush.http.ahead import addresses
from regpush.http.exchange import CONNECT_S, Reply, Request
from regpush.http.headers import http_date
from regpush.http.proxy import Proxy, Routes
from regpush.http.race import connect
from regpush.http.retry import RetryableError
from regpush.http.trust import Contexts
from regpush.http.wire import UnansweredError, shake_hands, speaks_tls
from regpush.registry.api import Api, Call
from regpush.registry.auth.challenges import choose, parse_challenges
from regpush.registry.hints import unreachable
from regpush.registry.host import Host

T = TypeVar("T")


class ProbedConnection(Struct, frozen=True, kw_only=True):
    """A connection that succeeded; `protocol`: the version of TLS, empty for plain http.

    `address`: the IP address. `issuer` and `expires`: those of the registry's certificate; empty
    and None where it was not verified.
    """

    address: str
    protocol: str = ""
    issuer: str = ""
    expires: datetime | None = None


class RootAnswer(Struct, frozen=True, kw_only=True):
    """The reply of a registry at `/v2/` to a request without credentials.

    `says`: the API version and the software that its headers name. `scheme`: the authentication
    scheme that it wants, in lower case, empty for none; `tokens`: the host of its token server,
    empty without one. `date`: the time in its Date header.
    """

    status: int
    says: str
    scheme: str
    tokens: str
    date: datetime | None


class Probe:
    """Examines one registry: `root` sends requests to its root, `pushing` to one repository.

    Every method raises AuthError, RefusedError, TransientError or CancelledError.
    """

    def __init__(
        self,
        *,
        host: Host,
        root: Api,
        pushing: Api,
        contexts: Contexts,
        routes: Routes,
        cancel: Cancellation,
    ) -> None:
        self._host = host
        self._root = root
        self._pushing = pushing
        self._contexts = contexts
        self._routes = routes
        self._cancel = cancel

    @property
    def origin(self) -> Origin:
        """The scheme, host and port of the registry, as currently known."""
        return self._host.origin

    @property
    def proxy(self) -> Proxy | None:
        """The proxy for requests to the registry; None for a direct connection.

        Raises UsageError for a malformed variable such as HTTPS_PROXY.
        """
        return self._routes.proxy(self._host.origin)

    def addresses(self) -> tuple[str, ...]:
        """Resolve the registry's host name; returns its IP addresses, each once."""
        origin = self._host.origin
        try:
            found = addresses(origin.host, origin.port, self._cancel.check)
        except OSError as error:
            said = f"the name {origin.host} does not resolve"
            raise TransientError(f"{said}; {unreachable(said)}") from error
        return tuple(dict.fromkeys(str(address[0]) for *_, address in found))

    def connect(self) -> ProbedConnection:
        """Open and close a connection, with TLS unless the registry is reached by http."""
        origin = self._host.origin
        try:
            sock = connect(origin.host, origin.port, CONNECT_S, self._cancel)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            said = f"cannot reach {origin.with_port}: {error}"
            raise TransientError(f"{said}; {unreachable(str(error))}") from error
        address = str(sock.getpeername()[0])
        guessed = not self._host.settled and speaks_tls(
            origin.host, origin.port, CONNECT_S, self._cancel
        )
        if origin.scheme == "http" and not guessed:
            sock.close()
            return ProbedConnection(address=address)
        context = self._contexts.context(self._host.trust)
        try:
            with shake_hands(sock, context, origin.host, CONNECT_S, self._cancel) as secure:
                shown: Mapping[str, Any] = secure.getpeercert() or {}
                version = secure.version() or "TLS"
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise TransientError(str(error)) from error
        return ProbedConnection(
            address=address,
            protocol=version,
            issuer=_name(shown.get("issuer", ())),
            expires=_date(shown.get("notAfter")),
        )

    def root(self) -> RootAnswer:
        """Request `/v2/` without credentials, and return the reply's content."""
        request = Request(method="GET", url=f"{self._host.base}/v2/")
        try:
            reply = self._host.send(request)
        except UnansweredError as error:
            raise TransientError(f"{self.origin.host} gave no answer: {error}") from error
        challenge = choose(parse_challenges(reply.values("www-authenticate")))
        version = reply.header("docker-distribution-api-version")
        if reply.status not in (200, 401) or (reply.status == 401 and challenge is None):
            raise RefusedError(
                f"{self.origin.host} answered {reply.status} at /v2/, which no registry does; "
                "is it the right host and port?"
            )
        tokens = ""
        if challenge and challenge.scheme == "bearer":
            with suppress(RefusedError):
                tokens = Origin.of(challenge.get("realm")).host
        return RootAnswer(
            status=reply.status,
            says=printable(", ".join(filter(None, (version, reply.header("server"))))),
            scheme=challenge.scheme if challenge and reply.status == 401 else "",
            tokens=tokens,
            date=http_date(reply.header("date")),
        )

    def authenticate(self) -> str:
        """Log in to the registry's root; returns the user and the source of the login."""
        _once(lambda: self._root.expect(Call(doing="logging in", method="GET")))
        return self._root.account

    def scopes(self) -> frozenset[str] | None:
        """Request a token to pull and push; returns the actions that it allows.

        None if the token is unreadable.
        """
        call = Call(doing="asking for a token", method="GET", url=f"{self._host.base}/v2/")
        _once(lambda: self._pushing.expect(call))
        return self._pushing.granted

    def send(self, call: Call) -> Reply:
        """Send one request to the repository; returns any reply."""
        return _once(lambda: self._pushing.send(call))

    def failure(self, reply: Reply, doing: str) -> Exception:
        """Return the error for a reply that is not a success.

        `doing` names the request in the error's message.
        """
        failure = self._pushing.failure(reply, doing)
        return failure.error if isinstance(failure, RetryableError) else failure

    def next_place(self, reply: Reply) -> str:
        """Return the URL at which the upload opened by `reply` continues; empty if it has none."""
        location = reply.header("location")
        return upload_location(reply.url, location, self.origin).url if location else ""


def _once(work: Callable[[], T]) -> T:
    try:
        return work()
    except RetryableError as failure:
        raise failure.error from failure.__cause__


def _name(issuer: Any) -> str:
    """Return `CN (O)` of a distinguished name in the form of the ssl module."""
    parts = {key: value for part in issuer for key, value in part}
    names = (parts.get("commonName", ""), parts.get("organizationName", ""))
    first, *rest = [printable(name) for name in dict.fromkeys(filter(None, names))] or [""]
    return f"{first} ({rest[0]})" if rest else first


def _date(text: str | None) -> datetime | None:
    if not text:
        return None
    try:
        return datetime.strptime(text, "%b %d %H:%M:%S %Y GMT").replace(tzinfo=UTC)
    except ValueError:
        return None
