"""One HTTP exchange at a time: connections, time-outs, TLS, redirects, and what broke.

The only module that knows the HTTP client; its exceptions end here.
"""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import certifi
import httpcore
import httpx

from regpush import __version__
from regpush.cancel import Cancellation
from regpush.errors import (
    RefusedError,
    RegpushError,
    SourceError,
    TransientError,
    UsageError,
    VerificationError,
    printable,
)
from regpush.registry.network import Network, TlsError, UntrustedError
from regpush.registry.protocol import (
    MAX_ERROR_BYTES,
    Origin,
    host_of,
    parse_date,
    redirect_url,
    retry_after_s,
)
from regpush.registry.retry import RetryableError

READ_TIMEOUT_S = 60.0
COMMIT_TIMEOUT_S = 300.0
"""A registry may hash a whole layer before it answers the last request of an upload."""

_CONNECT_TIMEOUT_S = 10.0
_WRITE_STALL_S = 60.0
_FAREWELL_TIMEOUT_S = 2.0
_CLOSE_WAIT_S = 2.0
_KEPT_CONNECTIONS = 32
_MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Body:
    """What a request carries: `open` starts it anew each time; `size` None sends it chunked."""

    open: Callable[[], Iterator[bytes]]
    size: int | None

    @classmethod
    def of(cls, data: bytes) -> Body:
        """A body that is at hand."""
        return cls(lambda: iter((data,)), len(data))


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request to be sent, perhaps more than once.

    Authorization goes along only while the request stays at `api`. Of a good reply at most
    `max_reply` bytes are accepted.
    """

    method: str
    url: str
    api: Origin
    headers: tuple[tuple[str, str], ...] = ()
    body: Body | None = None
    max_reply: int = MAX_ERROR_BYTES
    read_timeout_s: float = READ_TIMEOUT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back, from `url`, which redirects may have changed."""

    url: str
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def ok(self) -> bool:
        """Whether the status is one of success."""
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """How long the server asks to be left alone, by its own clock."""
        now = parse_date(self.headers.get("date")) or datetime.now(UTC)
        return retry_after_s(self.headers.get("retry-after"), now)


class Transport:
    """The connections of one run, shared by its threads, and the counts of what they carried."""

    def __init__(self, ca_files: tuple[str, ...], cancel: Cancellation) -> None:
        self._ca_files = ca_files
        self._cancel = cancel
        self._pools: dict[str, httpx.Client] = {}
        self._tls: ssl.SSLContext | None = None
        self._lock = threading.Condition()
        self._active = 0
        self._closed = False
        self.requests = 0
        self.bytes_uploaded = 0

    def close(self) -> None:
        """End all exchanges, those of other threads within moments, and all connections."""
        with self._lock:
            self._closed = True
            # A connection closed under the hands of its user could be another one by then.
            self._lock.wait_for(lambda: not self._active, _CLOSE_WAIT_S)
            pools = tuple(self._pools.values())
            self._pools.clear()
        for pool in pools:
            pool.close()

    def exchange(self, call: Call, authorization: str | None) -> Reply:
        """Send `call`, follow the redirects of a GET or HEAD by hand, and read the reply.

        Raises RetryableError where the connection failed, RefusedError for a certificate that
        does not verify or a forbidden redirect, VerificationError for an oversized reply,
        CancelledError; whatever the body raises comes out as it is.
        """
        for _ in range(_MAX_REDIRECTS + 1):
            trusted = Origin.of(call.url) == call.api
            with self._pool(call.url) as pool:
                reply = self._once(pool, call, authorization if trusted else None)
            if reply.status not in _REDIRECTS or call.method not in ("GET", "HEAD"):
                return reply
            if not trusted:
                authorization = None  # nor if the way leads back: another sent us there
            call = replace(call, url=redirect_url(call.url, reply.headers.get("location")))
        raise RefusedError(f"{host_of(call.url)}: redirected more than {_MAX_REDIRECTS} times")

    def farewell(self, call: Call, authorization: str | None) -> None:
        """Send `call` on a connection of its own, even when cancelled, and ignore what comes."""
        trusted = Origin.of(call.url) == call.api
        call = replace(call, read_timeout_s=_FAREWELL_TIMEOUT_S)
        try:
            with self._open_pool(call.url, Network(lambda: None), _FAREWELL_TIMEOUT_S) as pool:
                self._once(pool, call, authorization if trusted else None)
        except (TransientError, RefusedError, UsageError):
            pass  # the registry forgets abandoned uploads by itself, some day

    @contextmanager
    def _pool(self, url: str) -> Iterator[httpx.Client]:
        scheme = Origin.of(url).scheme
        with self._lock:
            self._check()
            if scheme not in self._pools:
                self._pools[scheme] = self._open_pool(url, Network(self._check))
            pool = self._pools[scheme]
            self._active += 1
        try:
            yield pool
        finally:
            with self._lock:
                self._active -= 1
                self._lock.notify_all()

    def _check(self) -> None:
        self._cancel.check()
        if self._closed:
            raise TransientError("the connections to the registry have been closed")

    def _open_pool(
        self, url: str, network: Network, connect_timeout_s: float = _CONNECT_TIMEOUT_S
    ) -> httpx.Client:
        if Origin.of(url).scheme == "https" and self._tls is None:
            self._tls = _tls_context(self._ca_files)
        return httpx.Client(
            transport=_Pool(network, self._tls),
            timeout=httpx.Timeout(
                READ_TIMEOUT_S, connect=connect_timeout_s, write=_WRITE_STALL_S, pool=None
            ),
            headers={"User-Agent": f"regpush/{__version__}", "Accept-Encoding": "identity"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
            follow_redirects=False,
        )

    def _once(self, pool: httpx.Client, call: Call, authorization: str | None) -> Reply:
        headers = [*call.headers, ("Host", host_of(call.url))]
        if authorization:
            headers.append(("Authorization", authorization))
        content = None
        if call.body is not None:
            content = self._measured(call.method, call.body)
            if call.body.size is not None:
                headers.append(("Content-Length", str(call.body.size)))
        with self._lock:
            self.requests += 1
        timeout = dict(pool.timeout.as_dict(), read=call.read_timeout_s)
        try:
            request = pool.build_request(
                call.method,
                call.url,
                headers=headers,
                content=content,
                extensions={"timeout": timeout},
            )
            response = pool.send(request, stream=True)
            try:
                return self._read(call, response)
            finally:
                response.close()
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            raise _unreachable(host_of(call.url), error) from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            if isinstance(error, httpcore.LocalProtocolError):
                # Its text quotes what we were about to send, which may be a secret.
                raise RefusedError(f"{host_of(call.url)}: a malformed request") from None
            raise RetryableError(
                f"the connection to {host_of(call.url)} broke: {printable(str(error))[:200]}"
            ) from error
        except httpx.InvalidURL:
            raise RefusedError(f"{host_of(call.url)} sends us to a malformed address") from None
        finally:
            if content is not None:
                content.close()

    def _measured(self, method: str, body: Body) -> Generator[bytes, None, None]:
        left = body.size
        for chunk in body.open():
            self._cancel.check()
            if left is not None:
                left -= len(chunk)
                if left < 0:
                    break
            if method != "POST":  # which begins uploads, and carries forms to token servers
                with self._lock:
                    self.bytes_uploaded += len(chunk)
            yield chunk
        if left:
            raise SourceError("a blob changed its size after it was described")

    def _read(self, call: Call, response: httpx.Response) -> Reply:
        good = 200 <= response.status_code < 300
        limit = call.max_reply if good else MAX_ERROR_BYTES
        body = bytearray()
        try:
            for chunk in response.iter_raw():
                body += chunk
                if len(body) > limit:
                    break
        except (httpcore.NetworkError, httpcore.ProtocolError):
            if good:
                raise
            # A server that hangs up on what we still send: its status is what matters.
        if good and len(body) > limit:
            raise VerificationError(f"{host_of(call.url)}: a reply is larger than {limit} bytes")
        return Reply(
            url=call.url,
            status=response.status_code,
            headers=response.headers,
            body=bytes(body[:limit]),
        )


class _Pool(httpx.BaseTransport):
    """httpcore's connection pool over our own sockets, which httpx alone cannot be given."""

    def __init__(self, network: Network, tls: ssl.SSLContext | None) -> None:
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=None,
            max_keepalive_connections=_KEPT_CONNECTIONS,
            keepalive_expiry=30.0,
            network_backend=network,
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`. Raises httpcore's exceptions."""
        assert isinstance(request.stream, httpx.SyncByteStream)  # noqa: S101 - for the type only
        response = self._pool.handle_request(
            httpcore.Request(
                method=request.method,
                url=httpcore.URL(
                    scheme=request.url.raw_scheme,
                    host=request.url.raw_host,
                    port=request.url.port,
                    target=request.url.raw_path,
                ),
                headers=request.headers.raw,
                content=request.stream,
                extensions=request.extensions,
            )
        )
        return httpx.Response(
            status_code=response.status,
            headers=response.headers,
            stream=_ReplyStream(response),
        )

    def close(self) -> None:
        """Close every connection."""
        self._pool.close()


class _ReplyStream(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        return self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


def _unreachable(host: str, error: Exception) -> RegpushError:
    reason = printable(str(error))
    if isinstance(error, UntrustedError):
        return RefusedError(
            f"{host}: its certificate does not verify ({reason}); "
            "if you trust the authority that issued it, name it with --ca-file"
        )
    if isinstance(error, TlsError):
        return RefusedError(
            f"{host} does not speak TLS as we do ({reason}); "
            "if it is a plain http registry, say --plain-http"
        )
    return RetryableError(f"cannot reach {host}: {reason}; is the registry running?")


def _tls_context(ca_files: tuple[str, ...]) -> ssl.SSLContext:
    """The system's trust with `ca_files` on top. Raises UsageError for an unusable file."""
    context = ssl.create_default_context()
    system = ssl.get_default_verify_paths()
    if not system.cafile and not system.capath:  # a Python that was built without the system's
        context.load_verify_locations(certifi.where())
    for path in ca_files:
        try:
            context.load_verify_locations(path)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "no certificates in PEM form"
            if isinstance(error, ssl.SSLError):
                reason = "no certificates in PEM form"
            raise UsageError(f"cannot use the CA file {printable(path)}: {reason}") from error
    return context
