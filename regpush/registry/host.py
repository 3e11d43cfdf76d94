"""One registry: where it is, and whether it speaks TLS."""

from __future__ import annotations

import threading
from dataclasses import replace

from regpush.cancel import Cancellation
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.exchange import CONNECT_S, Exchange, Reply, Request
from regpush.registry.protocol import Origin, request_target
from regpush.registry.wire import NoConnectionError, UnansweredError, speaks_tls


class Host:
    """How one registry is reached in this run. Thread-safe.

    https, always, but for two cases: with `plain_http` it is http; and a registry on
    loopback is asked by http first unless `ca_file` was given, and by https from then on if
    that showed, and a handshake confirmed, that it speaks TLS. Nothing ever falls back from
    https to http.
    """

    def __init__(
        self,
        reference: Reference,
        options: RegistryOptions,
        exchange: Exchange,
        cancel: Cancellation,
    ) -> None:
        self._authority = reference.api_host
        self._exchange = exchange
        self._cancel = cancel
        self._lock = threading.Lock()
        guess = reference.is_loopback and not options.plain_http and options.ca_file is None
        self._settled = not guess
        self._scheme = "http" if guess or options.plain_http else "https"

    @property
    def base(self) -> str:
        """The address that paths of the API are appended to, as far as is known now."""
        return f"{self._scheme}://{self._authority}"

    @property
    def origin(self) -> Origin:
        """The only origin that may see this registry's credentials."""
        return Origin.of(self.base)

    def send(self, request: Request) -> Reply:
        """Send `request`, to this registry or elsewhere. Raises UnansweredError."""
        if self._settled or Origin.of(request.url) != self.origin:
            return self._exchange.send(request)
        with self._lock:
            if not self._settled:
                return self._settle(request)
        return self._exchange.send(self._rebased(request))

    def _settle(self, request: Request) -> Reply:
        try:
            reply = self._exchange.send(request)
        except NoConnectionError:
            raise
        except UnansweredError:
            if not self._speaks_tls():
                raise
        else:
            # Servers say so in words: "client sent an HTTP request to an HTTPS server".
            hint = reply.status == 400 and b"https" in reply.body.lower()
            if not (hint and self._speaks_tls()):
                self._settled = True
                return reply
        self._scheme = "https"
        self._settled = True
        return self._exchange.send(self._rebased(request))

    def _speaks_tls(self) -> bool:
        origin = self.origin
        return speaks_tls(origin.host, origin.port, CONNECT_S, self._cancel)

    def _rebased(self, request: Request) -> Request:
        return replace(request, url=self.base + request_target(request.url))
