"""Download artifacts (wheels, npm tarballs), each once, and only if their layer must be sent.

An artifact is taken from the cache of earlier pushes, of pip or of npm, else from the URL in the
lock file; several are downloaded at a time. An artifact is used only after all hashes that the lock
file states for it were compared with its bytes.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
from threading import Lock
from typing import IO, Any

from msgspec import Struct
from msgspec.structs import replace

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
"""Concurrent downloads. A small file takes one round trip, so several at once save time; package
indexes accept this number."""
_HOPS = 5
_BLOCK = 1 << 20
_LARGEST = 20 << 30
"""Maximum bytes of an artifact whose size the lock file does not state."""
_LARGEST_LIST = 256 << 20
"""Maximum bytes of a package index's document that lists the versions of a package."""
_LOGINS = {
    "pypi": "UV_INDEX_<NAME>_USERNAME and _PASSWORD, PIP_INDEX_URL",
    "npm": ".npmrc (//HOST/:_authToken=…)",
}
"""Where a user can set the login of a package index, for messages, by the type of package."""
_CLIENT_CERTIFICATES = {
    "pypi": "SSL_CLIENT_CERT or PIP_CLIENT_CERT",
    "npm": ".npmrc (//HOST/:certfile and //HOST/:keyfile)",
}
"""Where a user can set a client certificate for a package index, for messages, by package type."""
_TOO_MANY = (408, 425, 429)
_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/(?:[0-9]{1,18}|\*)", re.ASCII)

_NO_CERTIFICATES = Certificates()


class _MissingError(SourceError):
    """The package index has no file at a URL: it answered 404 or 410."""


class Fetcher:
    """Downloads the artifacts of one push. Thread-safe. Its threads stop when `workshop` ends.

    `mirror`: a URL whose origin (scheme, host, port) replaces that of every download, or empty.
    `elsewhere`: gives the path at which another program (pip, npm) may have cached an artifact.
    `certificates`: used besides the system's certificates and those of `--ca-file`. `proxies`:
    used instead of the proxies of the environment.
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
        """Start the download of `artifact` in a thread, if no earlier call started it.

        The future's result is the path of the downloaded file. The future raises SourceError where
        the file cannot be downloaded or its hashes differ from the lock file's, AuthError,
        TransientError after retries, CancelledError.
        """
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_AT_A_TIME, thread_name_prefix="regpush-fetch")
                self._workshop.at_end(self._stop)
            key = artifact.package.hashes[0]
            if key not in self._begun:
                self._begun[key] = self._pool.submit(self._obtain, artifact)
            return self._begun[key]

    def path(self, artifact: Artifact) -> str:
        """Wait until `artifact` is downloaded, and return the path of its file.

        Raises SourceError where the file cannot be downloaded or its hashes differ from the lock
        file's, AuthError, TransientError after retries, CancelledError.
        """
        return self.begin(artifact).result()

    def _stop(self) -> None:
        if self._pool:
            self._pool.shutdown(wait=True, cancel_futures=True)
        if self._exchange:
            self._exchange.__exit__(None, None, None)
        self._kept().prune()

    def _obtain(self, artifact: Artifact) -> str:
        self._workshop.cancel.check()  # downloads queued for a thread must not start after Ctrl-C
        if artifact.path:
            _check_local(artifact)
            return artifact.path
        url = self._request_url(artifact.url)
        if kept := self._kept().find(artifact):
            return kept
        try:
            path = self._fetch(artifact, url)
        except _MissingError:
            if artifact.listing is None:
                raise
            url = self._request_url(self._look_up(artifact, artifact.listing))
            path = self._fetch(artifact, url)
        size = os.path.getsize(path)
        source = described(url)
        self._workshop.notify(ItemFetched(path=artifact.named, source=source, size=size))
        return self._kept().keep(artifact, path)

    def _request_url(self, url: str) -> str:
        """Store the login that `url` contains, and return the URL to request, without a login.

        Where a mirror is configured, the returned URL has the mirror's scheme, host and port.
        """
        plain, user, password = without_login(url)
        self._logins.add(plain, user, password)
        return self._mirror + request_target(plain) if self._mirror else plain

    def _look_up(self, artifact: Artifact, listing: VersionList) -> str:
        """Download the package index's document `listing`, and find the URL of `artifact` in it.

        Raises SourceError where the document does not list the artifact or cannot be downloaded,
        AuthError, TransientError after retries, CancelledError.
        """
        list_of_it = dataclasses.replace(
            artifact,
            filename="its list of versions",
            size=None,
            package=replace(artifact.package, hashes=()),
        )
        path = self._fetch(list_of_it, self._request_url(listing.url), listing.media_type)
        with open(path, "rb") as file:
            text = file.read(_LARGEST_LIST)
        _remove(path)
        return listing.find(text)

    def _fetch(self, artifact: Artifact, url: str, accept: str = "") -> str:
        """Download `url` into a new file, compare its hashes, and return the file's path.

        `accept`: the media type to request, empty for any.
        """
        folder = self._kept().folder
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".", delete=False) as file:
            self._workshop.at_end(lambda: _remove(file.name))
            send = partial(self._send, Origin.of(url))
            download = _Download(artifact, url, file, send, {"Accept": accept} if accept else {})
            self._retry.run(download.attempt, lambda: download.size)
            download.check()
        return file.name

    def _send(self, named: Origin, url: str, headers: dict[str, str]) -> Reply:
        """Send a GET request with login and client certificate, at the pace the server permits.

        `named`: the origin of the artifact's URL; after a redirect, `url` has another one.
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
                    contexts=Contexts(settings.ca_file, settings.ca_dir),
                    routes=routes,
                    cancel=self._workshop.cancel,
                    seen=self._seen,
                    stall_s=self._surroundings.registry.stall_s,
                )
            return self._exchange

    def _seen(self, event: Exchanged) -> None:
        self._workshop.notify(replace(event, url=shown_url(event.url, self._redactor)))


class _Download(Struct):
    """The download of an artifact from `url` into `file`, resumed where a reply breaks off.

    `send`: sends a GET request with the given headers. `size`: bytes received. `hashes`: hash
    objects over these bytes, one for each hash in the lock file; None before the first reply.
    """

    artifact: Artifact
    url: str
    file: IO[bytes]
    send: Callable[[str, dict[str, str]], Reply]
    headers: dict[str, str]
    size: int = 0
    hashes: list[Any] | None = None

    def attempt(self) -> None:
        """Request the bytes that are missing in `file` and append them.

        Raises RetryableError where another attempt may succeed, AuthError, RefusedError,
        SourceError.
        """
        try:
            reply = self._reply()
            try:
                self._append(reply)
            finally:
                if reply.rest:
                    reply.rest.close()
        except UnansweredError as error:
            raise RetryableError(TransientError(f"{self._what}: {error}")) from error
        except RefusedError as error:  # the server's TLS certificate is not trusted
            raise RefusedError(f"{self._what}: {error}") from error
        except ClientCertificateError as error:
            raise AuthError(
                f"{self._what}: the server did not accept the connection without a client "
                f"certificate, or with this one ({error.alert}); set one in "
                f"{_CLIENT_CERTIFICATES[self.artifact.package.kind]}"
            ) from error

    def check(self) -> None:
        """Raise SourceError where the downloaded bytes do not have the hashes in the lock file."""
        self.file.flush()
        for (name, wanted), found in zip(
            self.artifact.package.hashes, self.hashes or (), strict=True
        ):
            if found.hexdigest() != wanted:
                raise _mismatch(self.artifact, f"from {described(self.url)}", name, wanted, found)

    @property
    def _what(self) -> str:
        return f"fetching {self.artifact.named} from {described(self.url)}"

    def _reply(self) -> Reply:
        """Request the missing bytes, follow redirects, and return the reply with status 200 or 206.

        Raises AuthError, RetryableError or SourceError for a reply with another status.
        """
        url, first = self.url, Origin.of(self.url)
        for _ in range(_HOPS):
            rest = {"Range": f"bytes={self.size}-"} if self.size else {}
            reply = self.send(url, {**self.headers, **rest})
            location = reply.header("location")
            if reply.status not in (301, 302, 303, 307, 308) or not location:
                return self._checked(reply)
            if reply.rest:
                reply.rest.close()
            try:
                url = redirect_location(url, location, first)
            except RefusedError as error:
                said = str(error).replace("the registry", described(self.url))
                raise SourceError(f"{self._what}: {said}") from error
        raise SourceError(f"{self._what}: the server redirects more than {_HOPS} times")

    def _checked(self, reply: Reply) -> Reply:
        match reply.status:
            case 200 | 206:
                return reply
            case 416:
                self._begin_again()
                raise RetryableError(
                    TransientError(
                        f"{self._what}: the server refused the requested byte range (416)"
                    )
                )
            case 401 | 403:
                raise AuthError(
                    f"{self._what}: the server answered {reply.status}; set a login for it in "
                    f"{_LOGINS[self.artifact.package.kind]} or .netrc"
                )
            case 404 | 410:
                raise _MissingError(
                    f"{self._what}: {printable(self.artifact.filename)} does not exist "
                    f"({reply.status}): it was deleted, or the mirror given by --index-url does "
                    "not have it"
                )
            case status if status in _TOO_MANY or status >= 500:
                error = TransientError(f"{self._what}: the server answered {status}")
                raise RetryableError(error, after_s=_wait_s(reply))
        raise SourceError(f"{self._what}: the server answered {reply.status} instead of the file")

    def _append(self, reply: Reply) -> None:
        """Append the body of `reply` to the file, and add it to the hashes.

        A reply with the whole file, not a range of it, replaces what was received before. Raises
        RetryableError where the reply has another range or ends early, SourceError for a file that
        is too large.
        """
        rest = reply.rest
        match = _RANGE.fullmatch(reply.header("content-range").strip())
        if reply.status == 206 and (match is None or int(match[1]) != self.size):
            self._begin_again()
            raise RetryableError(
                TransientError(
                    f"{self._what}: the server sent another byte range than the requested one"
                )
            )
        if reply.status == 200 or self.hashes is None:
            self._begin_again()
        limit = _LARGEST if self.artifact.size is None else self.artifact.size
        while part := rest.next() if rest else b"":
            if self.size + len(part) > limit:
                said = "the maximum" if self.artifact.size is None else "its size in the lock file"
                raise SourceError(f"{self._what}: the file is larger than {limit} bytes, {said}")
            self.file.write(part)
            for one in self.hashes or ():
                one.update(part)
            self.size += len(part)
        whole = content_length(reply.status, reply.headers) or self.artifact.size
        if whole is not None and self.size < whole:
            raise RetryableError(
                TransientError(
                    f"{self._what}: the server's reply ended after {self.size} of {whole} bytes"
                )
            )

    def _begin_again(self) -> None:
        self.file.seek(0)
        self.file.truncate()
        self.size = 0
        self.hashes = [hashlib.new(name) for name, _ in self.artifact.package.hashes]


def _check_local(artifact: Artifact) -> None:
    """Raise SourceError where the hashes of the file at `artifact.path` differ from the lock's."""
    try:
        with open(artifact.path, "rb") as file:
            for name, wanted in artifact.package.hashes:
                file.seek(0)
                found = hashlib.file_digest(file, name)
                if found.hexdigest() != wanted:
                    raise _mismatch(artifact, f"at {printable(artifact.path)}", name, wanted, found)
    except OSError as error:
        raise SourceError(f"cannot read {printable(artifact.path)}: {error.strerror}") from error


def _mismatch(artifact: Artifact, where: str, name: str, wanted: str, found: Any) -> SourceError:
    return SourceError(
        f"{artifact.named} {where} has the {name} hash {found.hexdigest()[:12]}…, but the lock "
        f"file states {wanted[:12]}…: the file was replaced, or the lock file was edited; if the "
        "new file is right, lock the package again"
    )


def _wait_s(reply: Reply) -> float | None:
    return retry_after_s(reply.header("retry-after"), reply.header("date"))


def _remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
