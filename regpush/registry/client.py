"""What a run talks to registries through: one client, a repository at a time.

Client ─ Endpoint ─ Repository ─ uploads      what is asked: blobs, manifests, tags
  │         │           └─ RepositoryApi      with which scopes, and what a refusal means
  │         └─ Authenticator, Retry           who asks, how often
  └─ Transport ─ Network                      connections, TLS, redirects, time-outs
"""

from __future__ import annotations

import threading
from enum import Enum
from types import TracebackType
from typing import Self

from regpush.cancel import Cancellation
from regpush.events import Listener
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.api import RepositoryApi
from regpush.registry.auth import Authenticator
from regpush.registry.credentials import find_credentials
from regpush.registry.endpoint import Endpoint
from regpush.registry.protocol import repository_scope
from regpush.registry.repository import Manifest, Repository
from regpush.registry.retry import Retry
from regpush.registry.transport import Transport
from regpush.registry.uploads import BlobStream
from regpush.settings import Settings

__all__ = ["Access", "BlobStream", "Client", "Manifest", "Repository"]


class Access(Enum):
    """What a repository will be asked for; tokens are good for that and no more."""

    PULL = ("pull",)
    PUSH = ("pull", "push")


class Client:
    """The registries of one run: connections, credentials, counters. Thread-safe.

    A context manager. `cancel` ends whatever is under way within moments.
    """

    def __init__(
        self,
        options: RegistryOptions,
        settings: Settings,
        *,
        notify: Listener,
        cancel: Cancellation,
    ) -> None:
        self._options = options
        self._settings = settings
        self._cancel = cancel
        self._retry = Retry(options.retry_times, notify, cancel)
        ca_files = tuple(filter(None, (options.ca_file, settings.ca_file)))
        self._transport = Transport(ca_files, cancel)
        self._lock = threading.Lock()
        self._endpoints: dict[str, Endpoint] = {}
        self._authenticators: dict[str, Authenticator] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End everything, what other threads are at within moments. Safe to call again."""
        self._transport.close()

    @property
    def requests(self) -> int:
        """HTTP requests sent, those for tokens included."""
        return self._transport.requests

    @property
    def bytes_uploaded(self) -> int:
        """Bytes of blobs and manifests sent, repeated attempts included."""
        return self._transport.bytes_uploaded

    def repository(self, reference: Reference, access: Access) -> Repository:
        """The repository of `reference`, whose tag and digest do not matter. Sends nothing."""
        name = reference.name
        with self._lock:
            if reference.registry not in self._endpoints:
                self._endpoints[reference.registry] = Endpoint(
                    reference,
                    self._transport,
                    self._retry,
                    self._cancel,
                    plain_http=self._options.plain_http,
                )
            if name not in self._authenticators:
                self._authenticators[name] = Authenticator(
                    name,
                    self._transport,
                    lambda: find_credentials(reference, self._options, self._settings),
                )
            api = RepositoryApi(
                reference.registry,
                reference.repository,
                self._endpoints[reference.registry],
                self._authenticators[name],
                repository_scope(reference.repository, *access.value),
            )
        return Repository(api)
