"""One registry: where its API is, how it is asked, and what its refusals mean."""

from __future__ import annotations

import threading
from dataclasses import replace

from regpush.cancel import Cancellation
from regpush.reference import Reference
from regpush.registry.auth import Authenticator
from regpush.registry.protocol import (
    Challenge,
    Origin,
    Scope,
    parse_challenges,
    parse_problem,
)
from regpush.registry.retry import Retry
from regpush.registry.transport import Call, Reply, Transport

_TLS_WANTED = ("https server", "https port")


class Endpoint:
    """The API of one registry, shared by its repositories; thread-safe.

    https, but http where `plain_http` says so or the registry is this machine. There alone
    it may turn out, at the first reply, that the server speaks TLS after all.
    """

    def __init__(
        self,
        reference: Reference,
        transport: Transport,
        retry: Retry,
        cancel: Cancellation,
        *,
        plain_http: bool,
    ) -> None:
        self.retry = retry
        self._transport = transport
        self._cancel = cancel
        self._host = reference.api_host
        self._scheme = "http" if plain_http or reference.is_loopback else "https"
        self._open_question = reference.is_loopback and not plain_http
        self._lock = threading.Lock()

    @property
    def api(self) -> Origin:
        """The origin that credentials are for."""
        return Origin.of(self.url(""))

    def url(self, path: str) -> str:
        """The URL of `path` below the API's root."""
        return f"{self._scheme}://{self._host}/v2/{path}"

    def send(self, call: Call, auth: Authenticator, scopes: tuple[Scope, ...]) -> Reply:
        """Send `call` once; after a 401, once more with what it asked for.

        Raises AuthError, and what `Transport.exchange` raises.
        """
        self._cancel.check()
        used = auth.header(scopes)
        reply = self._transport.exchange(call, used)
        if reply.status == 400 and self._open_question and self._wants_tls():
            call = replace(call, url=_under_tls(call.url), api=self.api)
            reply = self._transport.exchange(call, used)
        self._open_question = False
        if reply.status != 401 or Origin.of(reply.url) != call.api:
            return reply
        if auth.challenged(self._challenges(reply, auth), scopes, used, call.api):
            reply = self._transport.exchange(call, auth.header(scopes))
        if reply.status == 401:
            raise auth.rejected(scopes, parse_problem(reply.body).words)
        return reply

    def farewell(self, call: Call, auth: Authenticator, scopes: tuple[Scope, ...]) -> None:
        """Send `call` with what is at hand, even when cancelled, and ignore the answer."""
        self._transport.farewell(call, auth.current(scopes))

    def _challenges(self, reply: Reply, auth: Authenticator) -> tuple[Challenge, ...]:
        """Those of a 401; where neither it nor an earlier one has any, those of a ping."""
        challenges = parse_challenges(reply.headers.get_list("www-authenticate"))
        if not challenges and not auth.was_challenged:
            ping = self._transport.exchange(self._ping(), None)
            challenges = parse_challenges(ping.headers.get_list("www-authenticate"))
        return challenges

    def _ping(self) -> Call:
        return Call(method="GET", url=self.url(""), api=self.api)

    def _wants_tls(self) -> bool:
        """Whether the server on this machine said no because it speaks TLS; then so do we."""
        with self._lock:
            if self._scheme == "http":
                answer = self._transport.exchange(self._ping(), None)
                words = answer.body.decode("utf-8", "replace").lower()
                if not any(phrase in words for phrase in _TLS_WANTED):
                    return False
                self._scheme = "https"
            return True


def _under_tls(url: str) -> str:
    return "https" + url.removeprefix("http")
