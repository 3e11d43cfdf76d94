"""The address of one registry, and whether it speaks TLS."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from enum import Enum

from regpush.concurrency import Cancellation
from regpush.errors import RefusedError
from regpush.http.address import Origin, request_target
from regpush.http.exchange import CONNECT_S, Exchange, Reply, Request
from regpush.http.trust import Trust
from regpush.http.wire import NoConnectionError, UnansweredError, speaks_tls
from regpush.options import RegistryOptions
from regpush.reference import Reference


class RegistryRole(Enum):
    """Whether a registry is the run's destination or a source of images.

    The value is the flag by which the registry is reached over http.
    """

    DESTINATION = "--plain-http"
    SOURCE = "--from-plain-http"


class Host:
    """How one registry is reached in this run. Thread-safe.

    By https, with two exceptions: `options.plain_http` demands http; and a registry on loopback
    without any certificate setting is asked by http first, and by https from then on if its answer,
    confirmed by a handshake, shows that it speaks TLS. No request falls back from https to http.
    `storage`: the server to which the registry redirected the last request for a blob, None before.
    `folders`: folders in the form of Docker's certs.d, with certificates for each registry. `side`:
    whether the registry is the run's destination.
    """

    def __init__(
        self,
        reference: Reference,
        options: RegistryOptions,
        side: RegistryRole,
        folders: Sequence[str],
        exchange: Exchange,
        cancel: Cancellation,
    ) -> None:
        self._authority = reference.api_host
        self._exchange = exchange
        self._cancel = cancel
        self._lock = threading.Lock()
        self._trust = Trust.of(reference.registry, options, folders)
        self._plain_flag = side.value if options.plain_http else ""
        # --ca-file applies to every registry of a run, so it shows only for the destination that
        # this registry speaks TLS.
        told = options if side is RegistryRole.DESTINATION else replace(options, ca_file=None)
        means_tls = Trust.of(reference.registry, told, folders).means_tls
        plain = options.plain_http or (reference.is_loopback and not means_tls)
        self._settled = not plain
        self.storage: Origin | None = None
        self._scheme = "http" if plain else "https"

    @property
    def base(self) -> str:
        """The URL, without a path, that paths of the API are appended to, as currently known."""
        return f"{self._scheme}://{self._authority}"

    @property
    def origin(self) -> Origin:
        """The only origin that may see this registry's credentials."""
        return Origin.of(self.base)

    @property
    def settled(self) -> bool:
        """Whether it is known by now if the registry speaks https or http."""
        return self._settled

    @property
    def trust(self) -> Trust:
        """The certificates and client certificates for connections to this registry."""
        return self._trust

    def trusting(self, request: Request) -> Request:
        """Return `request` with the certificates to use for its URL."""
        here = Origin.of(request.url) == self.origin
        return replace(request, trust=self._trust if here else self._trust.anonymous)

    def send(self, request: Request) -> Reply:
        """Send `request`, to this registry or elsewhere.

        Raises the errors of `Exchange.send`, and RefusedError where http was demanded and the
        registry speaks TLS.
        """
        if self._settled or Origin.of(request.url) != self.origin:
            return self._exchange.send(self.trusting(request))
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
            # Servers answer 400 to http at a port for https; a reply to HEAD has no body to say so.
            if reply.status != 400 or not self._speaks_tls():
                self._settled = True
                return reply
        if self._plain_flag:
            raise RefusedError(f"{self._authority} speaks https; drop {self._plain_flag}")
        self._scheme = "https"
        self._settled = True
        return self._exchange.send(self._rebased(request))

    def _speaks_tls(self) -> bool:
        origin = self.origin
        # The handshake waits no longer than any other request.
        patience_s = min(CONNECT_S, self._exchange.stall_s)
        return speaks_tls(origin.host, origin.port, patience_s, self._cancel)

    def _rebased(self, request: Request) -> Request:
        return self.trusting(replace(request, url=self.base + request_target(request.url)))
