"""Download artifacts, each once, and only those whose layer must be sent.

They are taken from what earlier pushes and other programs have kept, else from where the lock says;
several at a time. An artifact is used only after all hashes that the lock has for it were found to
be right.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from threading import Lock
from typing import IO, Any

from regpush.errors import AuthError, RefusedError, SourceError, TransientError, printable
from regpush.events import Exchanged, ItemFetched
from regpush.http.address import Origin, redirect_location, request_target
from regpush.http.exchange import Exchange, Reply, Request
from regpush.http.headers import content_length, retry_after_s
from regpush.http.pace import Pace
from regpush.http.proxy import Routes
from regpush.http.redaction import Redactor, shown_url
from regpush.http.retry import Policy, RetryableError
from regpush.http.trust import ClientCertificateError, Contexts
from regpush.http.wire import UnansweredError
from regpush.settings import ProxySettings
from regpush.sources.lock.artifact import Artifact, VersionList
from regpush.sources.lock.certificates import Certificates
from regpush.sources.lock.keep import Elsewhere, Kept
from regpush.sources.lock.logins import Logins, described, without_login
from regpush.sources.surroundings import Surroundings
from regpush.sources.tools import Workshop

_AT_A_TIME = 6
"""Downloads at once: a small one takes a round trip, and indexes accept that many."""
_HOPS = 5
_BLOCK = 1 << 20
_LARGEST = 20 << 30
"""Maximum bytes of an artifact whose size the lock does not state."""
_LARGEST_LIST = 256 << 20
"""Maximum bytes of an index's list of a package's files."""
_LOGINS = {
    "pypi": "UV_INDEX_<NAME>_USERNAME and _PASSWORD, PIP_INDEX_URL",
    "npm": ".npmrc (//HOST/:_authToken=…)",
}
"""Where users keep logins, by the kind of package."""
_CLIENT_CERTIFICATES = {
    "pypi": "SSL_CLIENT_CERT or PIP_CLIENT_CERT",
    "npm": ".npmrc (//HOST/:certfile and //HOST/:keyfile)",
}
"""Where users name client certificates, by the kind of package."""
_TOO_MANY = (408, 425, 429)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)", re.ASCII)

_NO_CERTIFICATES = Certificates()


class _MissingError(SourceError):
    """The index answered that nothing is at a URL (404 or 410)."""


class Fetcher:
    """Downloads the artifacts of one push. Thread-safe; downloads end with the workshop.

    `mirror`: a URL whose origin replaces that of artifacts, or empty. `elsewhere`: where another
    program may have kept them. `certificates`: besides the system's and those of `--ca-file`.
    `proxies`: replace those of the environment.
    """

    def __init__(
        self,
        workshop: Workshop,
        surroundings: Surroundings,
        logins: Logins,
        *,
        mirror: str,
        elsewhere: Elsewhere,
        certificates: Certificates = _NO_CERTIFICATES,
        proxies: ProxySettings | None = None,
    ) -> None:
        self._workshop = workshop
        self._surroundings = surroundings
        self._logins = logins
        self._mirror = str(Origin.of(without_login(mirror)[0])) if mirror else ""
        self._lock = Lock()
        self._begun: dict[tuple[str, str], Future[str]] = {}
        self._paces: dict[Origin, Pace] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._exchange: Exchange | None = None
        self._redactor = Redactor()
        settings = surroundings.settings
        cache_dir = settings.cache_dir if surroundings.cache else None
        self._kept = cache(lambda: Kept(cache_dir, elsewhere, workshop.path("artifacts")))
        self._retry = Policy(
            surroundings.registry.retry_times, notify=workshop.notify, cancel=workshop.cancel
        )
        given = (surroundings.registry.ca_file,) if surroundings.registry.ca_file else ()
        trust = certificates.trust
        self._certificates = replace(
            certificates, trust=replace(trust, ca_files=(*given, *trust.ca_files))
        )
        self._proxies = proxies or settings.proxies

    def begin(self, artifact: Artifact) -> Future[str]:
        """Begin to download `artifact`, unless that was done; the result is the path of its file.

        It raises SourceError where the file cannot be downloaded or differs from the lock,
        AuthError, TransientError after retries, CancelledError.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="regpush-fetch")
                self._workshop.at_end(self._stop)
            key = artifact.package.hashes[0]
            if key not in self._begun:
                self._begun[key] = self._pool.submit(self._find, artifact)
            return self._begun[key]

    def path(self, artifact: Artifact) -> str:
        """Wait until `artifact` is downloaded, and return the path of its file.

        Raises SourceError where the file cannot be downloaded or differs from the lock, AuthError,
        TransientError after retries, CancelledError.
        """
        return self.begin(artifact).result()

    def _stop(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._exchange:
            self._exchange.__exit__(None, None, None)
        self._kept().prune()

    def _find(self, artifact: Artifact) -> str:
        self._workshop.cancel.check()  # many downloads may wait for a thread
        if artifact.path:
            _check_here(artifact)
            return artifact.path
        url = self._ours(artifact.url)
        if kept := self._kept().find(artifact):
            return kept
        try:
            path = self._fetch(artifact, url)
        except _MissingError:
            if artifact.listing is None:
                raise
            url = self._ours(self._listed(artifact, artifact.listing))
            path = self._fetch(artifact, url)
        size = os.path.getsize(path)
        source = described(url)
        self._workshop.notify(ItemFetched(path=artifact.named, source=source, size=size))
        return self._kept().keep(artifact, path)

    def _ours(self, url: str) -> str:
        """Remember the login in `url`, and return the URL to fetch without that login.

        Where a mirror is configured, the URL has the mirror's origin.
        """
        plain, user, password = without_login(url)
        self._logins.add(plain, user, password)
        return self._mirror + request_target(plain) if self._mirror else plain

    def _listed(self, artifact: Artifact, listing: VersionList) -> str:
        """Look up the URL of `artifact` in the list that an index has of its package.

        Raises what downloading the list raises, and SourceError where the list lacks the artifact.
        """
        list_of_it = replace(
            artifact,
            filename="its list of versions",
            size=None,
            package=replace(artifact.package, hashes=()),
        )
        path = self._fetch(list_of_it, self._ours(listing.url), listing.media_type)
        with open(path, "rb") as file:
            text = file.read(_LARGEST_LIST)
        _remove(path)
        return listing.find(text)

    def _fetch(self, artifact: Artifact, url: str, accept: str = "") -> str:
        """Download `url`, requested as `accept`, and check it. Returns the path of a new file."""
        folder = self._kept().folder
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            self._workshop.at_end(lambda: _remove(file.name))
            send = partial(self._send, Origin.of(url))
            download = _Download(artifact, url, file, send, {"Accept": accept} if accept else {})
            self._retry.run(download.attempt, lambda: download.size)
            download.check()
        return file.name

    def _send(self, named: Origin, url: str, headers: dict[str, str]) -> Reply:
        """Send one request, in turn, with login and client certificate for its origin.

        `named`: the origin of the artifact's URL; `url` has another after a redirect.
        """
        exchange = self._open()
        authorization, secrets = self._logins.authorization(url)
        self._redactor.add(secrets)
        if authorization:
            headers = {**headers, "Authorization": authorization}
        pace = self._pace(Origin.of(url))
        with pace.turn():
            trust = self._certificates.of(url, named)
            reply = exchange.send(
                Request(method="GET", url=url, headers=headers, limit=None, trust=trust)
            )
        if reply.status in _TOO_MANY:
            pace.slower(_wait_s(reply))
        else:
            pace.well()
        return reply

    def _pace(self, origin: Origin) -> Pace:
        with self._lock:
            return self._paces.setdefault(origin, Pace(self._workshop.cancel))

    def _open(self) -> Exchange:
        with self._lock:
            if self._exchange is None:
                settings = self._surroundings.settings
                routes = Routes(self._proxies)
                self._redactor.add(routes.secrets)
                self._exchange = Exchange(
                    connections=2 * _AT_A_TIME,
                    contexts=Contexts(settings.ca_file, settings.ca_dir),
                    routes=routes,
                    cancel=self._workshop.cancel,
                    seen=self._seen,
                    stall_s=self._surroundings.registry.stall_s,
                )
            return self._exchange

    def _seen(self, event: Exchanged) -> None:
        self._workshop.notify(replace(event, url=shown_url(event.url, self._redactor)))


@dataclass(slots=True)
class _Download:
    """The download of an artifact into `file`, over as many replies as it needs."""

    artifact: Artifact
    url: str
    file: IO[bytes]
    send: Callable[[str, dict[str, str]], Reply]
    headers: dict[str, str]
    size: int = 0
    hashes: list[Any] | None = None

    def attempt(self) -> None:
        """Download the missing bytes. Raises RetryableError where another attempt may succeed."""
        try:
            reply = self._answer()
            try:
                self._take(reply)
            finally:
                if reply.rest:
                    reply.rest.close()
        except UnansweredError as error:
            raise RetryableError(TransientError(f"{self._what}: {error}")) from error
        except RefusedError as error:  # of a certificate
            raise RefusedError(f"{self._what}: {error}") from error
        except ClientCertificateError as error:
            raise AuthError(
                f"{self._what}: the server wants a client certificate, or another ({error.alert}); "
                f"set it in {_CLIENT_CERTIFICATES[self.artifact.package.kind]}"
            ) from error

    def check(self) -> None:
        """Raise SourceError where the bytes do not have the hashes of the lock."""
        self.file.flush()
        for (name, wanted), found in zip(
            self.artifact.package.hashes, self.hashes or (), strict=True
        ):
            if found.hexdigest() != wanted:
                raise _another(self.artifact, f"from {described(self.url)}", name, wanted, found)

    @property
    def _what(self) -> str:
        return f"fetching {self.artifact.named} from {described(self.url)}"

    def _answer(self) -> Reply:
        """Request the missing bytes, and return the reply with them, after redirects.

        Raises an error for any other reply.
        """
        url, first = self.url, Origin.of(self.url)
        for _ in range(_HOPS):
            rest = {"Range": f"bytes={self.size}-"} if self.size else {}
            reply = self.send(url, {**self.headers, **rest})
            location = reply.header("location")
            if reply.status not in (301, 302, 303, 307, 308) or not location:
                return self._judged(reply)
            if reply.rest:
                reply.rest.close()
            try:
                url = redirect_location(url, location, first)
            except RefusedError as error:
                said = str(error).replace("the registry", described(self.url))
                raise SourceError(f"{self._what}: {said}") from error
        raise SourceError(f"{self._what}: the server redirects more than {_HOPS} times")

    def _judged(self, reply: Reply) -> Reply:
        match reply.status:
            case 200 | 206:
                return reply
            case 416:
                self._begin_again()
                raise RetryableError(
                    TransientError(
                        f"{self._what}: the server refused the part of the file that was asked for"
                    )
                )
            case 401 | 403:
                raise AuthError(
                    f"{self._what}: the server answered {reply.status}; set its login in "
                    f"{_LOGINS[self.artifact.package.kind]} or .netrc"
                )
            case 404 | 410:
                raise _MissingError(
                    f"{self._what}: {printable(self.artifact.filename)} does not exist "
                    f"({reply.status}); it was deleted, or the mirror of --index-url lacks it"
                )
            case status if status in _TOO_MANY or status >= 500:
                error = TransientError(f"{self._what}: the server answered {status}")
                raise RetryableError(error, after_s=_wait_s(reply))
        raise SourceError(f"{self._what}: the server answered {reply.status}")

    def _take(self, reply: Reply) -> None:
        """Write the body of `reply` at its place in the file, and hash it."""
        rest = reply.rest
        match = _RANGE.fullmatch(reply.header("content-range").strip())
        if reply.status == 206 and (match is None or int(match[1]) != self.size):
            self._begin_again()
            raise RetryableError(
                TransientError(
                    f"{self._what}: the server sent another part of the file than was asked for"
                )
            )
        if reply.status == 200 or self.hashes is None:
            self._begin_again()
        limit = _LARGEST if self.artifact.size is None else self.artifact.size
        while part := rest.next() if rest else b"":
            if self.size + len(part) > limit:
                said = "the maximum" if self.artifact.size is None else "the size in the lock"
                raise SourceError(f"{self._what}: the file is larger than {limit} bytes, {said}")
            self.file.write(part)
            for one in self.hashes or ():
                one.update(part)
            self.size += len(part)
        whole = content_length(reply.status, reply.headers) or self.artifact.size
        if whole is not None and self.size < whole:
            raise RetryableError(
                TransientError(f"{self._what}: the reply ended after {self.size} bytes")
            )

    def _begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size = 0
        self.hashes = [hashlib.new(name) for name, _ in self.artifact.package.hashes]


def _check_here(artifact: Artifact) -> None:
    """Raise SourceError where a file on this machine does not have the hashes of the lock."""
    try:
        with open(artifact.path, "rb") as file:
            for name, wanted in artifact.package.hashes:
                file.seek(0)
                found = hashlib.file_digest(file, name)
                if found.hexdigest() != wanted:
                    raise _another(artifact, f"at {printable(artifact.path)}", name, wanted, found)
    except OSError as error:
        raise SourceError(f"cannot read {printable(artifact.path)}: {error.strerror}") from error


def _another(artifact: Artifact, where: str, name: str, wanted: str, found: Any) -> SourceError:
    return SourceError(
        f"{artifact.named} {where} has the {name} {found.hexdigest()[:12]}…, not {wanted[:12]}… as "
        "the lock says: it was changed, or the lock was"
    )


def _wait_s(reply: Reply) -> float | None:
    return retry_after_s(reply.header("retry-after"), reply.header("date"))


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
