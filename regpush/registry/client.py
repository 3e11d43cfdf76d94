"""The registries of one run: connections, credentials and the state their repositories share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self

from msgspec import Struct
from msgspec.structs import replace

from regpush.concurrency import Cancellation
from regpush.events import Decided, Exchanged, Listener, Warned
from regpush.http.exchange import Exchange
from regpush.http.pace import Pace
from regpush.http.proxy import Routes
from regpush.http.redaction import Redactor, shown_url
from regpush.http.retry import Policy
from regpush.http.trust import Contexts
from regpush.options import RegistryOptions
from regpush.reference import Reference, RepositoryName
from regpush.registry.api import Api, Call
from regpush.registry.auth.challenges import Scope
from regpush.registry.auth.record import Credentials, described
from regpush.registry.auth.sources import CredentialSources, from_options
from regpush.registry.host import Host, RegistryRole
from regpush.registry.repository import Access, Repository
from regpush.registry.uploads.lessons import HostMemory
from regpush.settings import Settings

if TYPE_CHECKING:
    from regpush.registry.probe import Probe

_FAREWELL_S = 0.5
_UNVERIFIED = (
    "the registry's certificate is not verified (--insecure-skip-tls-verify): anyone on the "
    "network path can read the credentials and change what is sent"
)


class _KnownRegistry(Struct, frozen=True, eq=False):
    """A registry that this run uses: its host, the pace of requests, and `Lessons` on uploads."""

    host: Host
    pace: Pace
    memory: HostMemory


class _Counter:
    """A number that several threads add to."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0

    def add(self, amount: int) -> None:
        with self._lock:
            self.total += amount


class Client:
    """The connections, credentials and registries of one run. A context manager; thread-safe.

    Options for the destination alone (such as --username) apply to the registry of the repository
    that is opened first, and to no other.
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
        self._notify = notify
        self._cancel = cancel
        self._lock = threading.Lock()
        self._known: dict[str, _KnownRegistry] = {}
        self._repositories: dict[tuple[RepositoryName, Access], Repository] = {}
        self._uploaded = _Counter()
        self._retry = Policy(options.retry_times, notify=notify, cancel=cancel)
        self._given = from_options(options)
        self._given_for: str | None = None
        self._sources = CredentialSources(options, settings, cancel.check)
        self._redactor = Redactor()
        self._folders = settings.certificate_dirs
        self._contexts = contexts = Contexts.take(settings.ca_file, settings.ca_dir)
        self._routes = routes = Routes(settings.proxies)
        self._redactor.add(routes.secrets)
        places = 1 + len(options.also_to)
        self._ahead = ThreadPoolExecutor(places * options.jobs, thread_name_prefix="regpush-ahead")
        self._exchange = Exchange(
            contexts=contexts,
            routes=routes,
            cancel=cancel,
            seen=self._seen,
            stall_s=options.stall_s,
        )
        if options.insecure_skip_tls_verify:
            notify(Warned(message=_UNVERIFIED))
        # Upload sessions are deleted after a cancellation too, so no cancellation ends these.
        self._farewell = Exchange(
            contexts=contexts,
            routes=routes,
            cancel=Cancellation(),
            seen=self._seen,
            connect_s=_FAREWELL_S,
            stall_s=_FAREWELL_S,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ahead.shutdown()
        for repository in self._repositories.values():
            repository.close()
        self._exchange.__exit__(kind, error, trace)
        self._farewell.__exit__(kind, error, trace)

    @property
    def requests(self) -> int:
        """HTTP requests sent so far, requests for tokens included."""
        return self._exchange.requests + self._farewell.requests

    @property
    def bytes_uploaded(self) -> int:
        """Bytes of blobs and manifests sent so far, failed attempts included."""
        return self._uploaded.total

    def open_ahead(self, reference: Reference, count: int) -> None:
        """Begin `count` connections to the registry of `reference`, for the next requests.

        As many are begun to the server to which the registry redirected a request for a blob.
        Returns as soon as the host names are resolved; a connection that fails is reported by the
        request that would have used it.
        """
        with self._lock:
            host = self._registry(reference).host
        self._exchange.open_ahead(host.origin, count)
        if host.storage:
            self._exchange.open_ahead(host.storage, count)

    def _registry(self, reference: Reference) -> _KnownRegistry:
        if reference.registry not in self._known:
            there = reference.registry == self._given_for
            host = Host(
                reference,
                self._options if there else self._options.elsewhere,
                RegistryRole.DESTINATION if there else RegistryRole.SOURCE,
                self._folders,
                self._exchange,
                self._cancel,
            )
            self._known[reference.registry] = _KnownRegistry(host, Pace(self._cancel), HostMemory())
        return self._known[reference.registry]

    def repository(self, reference: Reference, access: Access) -> Repository:
        """Return the repository of `reference`, whose tag and digest are ignored; sends nothing."""
        key = (reference.name, access)
        with self._lock:
            if key not in self._repositories:
                scope = Scope(reference.repository, access.value)
                api = self._api(reference, reference.name, scope)
                self._repositories[key] = Repository(
                    api,
                    self._retry,
                    memory=self._registry(reference).memory,
                    count=self._count,
                    notify=self._notify,
                    ahead=self._ahead,
                )
            return self._repositories[key]

    def log_in(self, reference: Reference) -> bool:
        """Have the registry of `reference` check the credentials; False if it asks for none.

        Raises AuthError, RefusedError, TransientError (after retries) and CancelledError.
        """
        with self._lock:
            api = self._api(reference, RepositoryName(reference.registry, ""), None)
        self._retry.run(lambda: api.expect(Call(doing="logging in", method="GET")))
        return api.challenged

    def credentials(self, reference: Reference) -> Credentials | None:
        """Return our credentials for the registry of `reference`; None to stay anonymous.

        Raises UsageError for a credentials file that cannot be read, AuthError for a helper that
        fails.
        """
        if self._given and reference.registry == self._given_for:
            found: Credentials | None = self._given
        else:
            found = self._sources.find(reference.registry, reference.repository)
        self._notify(Decided(message=f"credentials for {reference.registry}: {described(found)}"))
        return found

    def probe(self, reference: Reference) -> Probe:
        """Return a `Probe` of the registry and the repository of `reference`. Sends nothing."""
        from regpush.registry.probe import Probe  # of `regpush doctor` alone

        scope = Scope(reference.repository, Access.PUSH.value)
        with self._lock:
            root = self._api(reference, RepositoryName(reference.registry, ""), None)
            return Probe(
                host=self._registry(reference).host,
                root=root,
                pushing=self._api(reference, reference.name, scope),
                contexts=self._contexts,
                routes=self._routes,
                cancel=self._cancel,
            )

    def _api(self, reference: Reference, name: RepositoryName, scope: Scope | None) -> Api:
        self._given_for = self._given_for or reference.registry
        registry = self._registry(reference)
        return Api(
            name=name,
            scope=scope,
            host=registry.host,
            exchange=self._exchange,
            farewell=self._farewell,
            pace=registry.pace,
            credentials=lambda: self.credentials(reference),
            redactor=self._redactor,
        )

    def _seen(self, event: Exchanged) -> None:
        # A registry chooses the URLs of redirects and uploads, and may put our secrets into them.
        self._notify(replace(event, url=shown_url(event.url, self._redactor)))

    def _count(self, sent: int) -> None:
        # This stops the body of a request in flight after a cancellation.
        self._cancel.check()
        self._uploaded.add(sent)
