"""Sends single HTTP requests and reads their replies, with limits of size and time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Self

import httpx

from regpush import __version__
from regpush.concurrency import Cancellation
from regpush.errors import RefusedError
from regpush.events import Exchanged
from regpush.http.address import Origin, authority, request_target
from regpush.http.encoding import is_gzip, unpacked
from regpush.http.proxy import WANTS_CREDENTIALS, Routes
from regpush.http.trust import Contexts, Trust
from regpush.http.wire import Transport, UnansweredError

ERROR_LIMIT = 64 * 1024
"""The maximum number of bytes of an error body that are read."""

CONNECT_S = 10.0
STALL_S = 60.0
"""Seconds without progress after which a request has failed; `wire` defines progress."""

PARTIAL = 206
"""The status of a reply to a Range request. A range counts encoded bytes, so such a reply is not
decoded."""

COMMIT_PATIENCE = 5.0
"""The last request of an upload may take this many times as long as others, because registries hash
and move a large blob before they answer it."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Request:
    """One HTTP request; `url` is sent byte for byte.

    `body` is bytes, or an iterator that is consumed; `body_size` the Content-Length of the latter,
    or None to send it chunked. `limit`: bytes of a successful reply that are read at most, None to
    leave the body to the caller. `expected`: the size of the requested blob, None if unknown; a
    reply of that length is not decoded, another one that is gzip is unpacked. `patience`: how many
    times longer than usual the reply may take. `trust`: the certificates for https.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | Iterator[bytes] = b""
    body_size: int | None = None
    limit: int | None = ERROR_LIMIT
    expected: int | None = None
    patience: float = 1.0
    trust: Trust = field(default_factory=Trust)


class ReplyBody:
    """The body of a reply, read piece by piece as it arrives."""

    def __init__(self, reply: httpx.Response, expected: int | None) -> None:
        self._reply = reply
        length = reply.headers.get("content-length", "")
        whole = reply.status_code != PARTIAL and length != str(expected)
        self.unpacks = whole and is_gzip(reply.headers.get("content-encoding", ""))
        self._parts = unpacked(reply.iter_raw()) if self.unpacks else reply.iter_raw()

    def next(self) -> bytes:
        """Return the next bytes that arrived, empty at the end. Raises UnansweredError."""
        return next(self._parts, b"")

    def close(self) -> None:
        """Release the connection, which is used again if the body was read to its end."""
        self._reply.close()
        # httpx's stream refers to the reply and the reply to it: 7 KB for each request, which would
        # stay until the garbage collector runs.
        self._reply.stream = httpx.ByteStream(b"")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Reply:
    """A reply to the request for `url`; `whole` is False where `body` was cut at a limit.

    `headers` ignores the case of names; `values` reads a header that may come several times. `rest`
    is the body of a success without a limit, which the caller must read or close; None otherwise.
    """

    method: str
    url: str
    status: int
    headers: httpx.Headers = field(repr=False)
    body: bytes = field(repr=False)
    whole: bool
    rest: ReplyBody | None = None

    def header(self, name: str) -> str:
        """Return the header `name`, or the empty string."""
        value: str = self.headers.get(name, "")
        return value

    def values(self, name: str) -> list[str]:
        """Return all headers called `name`."""
        return self.headers.get_list(name)


class Exchange:
    """Sends requests over shared connections and counts them. Thread-safe; a context manager.

    `seen` is called when a request has ended, with its URL as it was sent, secrets included.
    Cookies are neither kept nor sent, redirects not followed, the environment not read.
    """

    def __init__(
        self,
        *,
        contexts: Contexts,
        routes: Routes,
        cancel: Cancellation,
        seen: Callable[[Exchanged], None],
        connect_s: float = CONNECT_S,
        stall_s: float = STALL_S,
    ) -> None:
        self._cancel = cancel
        self._seen = seen
        self._connect_s = connect_s
        self.stall_s = stall_s
        self._lock = threading.Lock()
        self.requests = 0
        self._routes = routes
        self._transport = Transport(tls=contexts.context, cancel=cancel)
        self._client = httpx.Client(
            transport=self._transport,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            trust_env=False,
            follow_redirects=False,
        )
        self._client.headers = httpx.Headers(
            # Bytes as they are stored: digests are over those.
            {"User-Agent": f"regpush/{__version__}", "Accept-Encoding": "identity"}
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()

    def open_ahead(self, origin: Origin, count: int) -> None:
        """Begin `count` TCP connections to `origin`, or to its proxy, for the next requests."""
        there = self._routes.proxy(origin) or origin
        self._transport.open_ahead(there.host, there.port, count)

    def send(self, request: Request) -> Reply:
        """Send `request` once, through a proxy where one is configured for its host.

        Raises UnansweredError where no reply arrives, CancelledError, AuthError and RefusedError
        for a proxy that refuses, UsageError for a malformed proxy or certificate setting, and any
        error that reading the request's body raises.
        """
        self._cancel.check()
        with self._lock:
            self.requests += 1
        outgoing = _RequestBody(request.body)
        begun = time.monotonic()

        def seen(status: int | None, received: int, failure: str = "") -> None:
            self._seen(
                Exchanged(
                    method=request.method,
                    url=request.url,
                    status=status,
                    sent=outgoing.sent,
                    received=received,
                    seconds=time.monotonic() - begun,
                    failure=failure,
                )
            )

        try:
            reply = self._answer(request, outgoing)
        except Exception as error:
            seen(None, 0, str(error) if isinstance(error, UnansweredError) else "given up")
            raise
        seen(reply.status, len(reply.body))
        return reply

    def _answer(self, request: Request, outgoing: _RequestBody) -> Reply:
        headers = {**request.headers, "Host": authority(request.url)}
        if request.body_size is not None:
            headers["Content-Length"] = str(request.body_size)
        elif isinstance(request.body, bytes) and request.method in ("POST", "PUT", "PATCH"):
            headers["Content-Length"] = str(len(request.body))
        origin = Origin.of(request.url)
        proxy = self._routes.proxy(origin)
        read_s = self.stall_s * request.patience
        timeout = httpx.Timeout(self.stall_s, connect=self._connect_s, read=read_s, pool=None)
        try:
            made = self._client.build_request(
                request.method,
                # httpx logs the URL, and queries hold what opens an upload to anyone; besides,
                # it would not send them byte for byte.
                request.url.partition("?")[0],
                headers=headers,
                content=outgoing if request.body else None,
                timeout=timeout,
                extensions={
                    "target": request_target(request.url).encode("ascii"),
                    "trust": request.trust,
                    "proxy": proxy,
                    "bounded": request.limit is not None,
                },
            )
        except httpx.InvalidURL as error:
            raise RefusedError("the registry sent an address that is not a URL") from error
        reply = self._client.send(made, stream=True)
        limit = request.limit if reply.is_success else ERROR_LIMIT
        rest, body, whole = ReplyBody(reply, request.expected), b"", False
        if limit is not None:
            try:
                body, whole = _read(rest, limit)
            finally:
                rest.close()
        if proxy and origin.scheme == "http" and reply.status_code == WANTS_CREDENTIALS:
            raise proxy.denied()
        return Reply(
            method=request.method,
            url=request.url,
            status=reply.status_code,
            headers=reply.headers,
            body=body,
            whole=whole,
            rest=rest if limit is None else None,
        )


class _RequestBody:
    """The body of a request; `sent` counts the bytes that httpx has taken from it."""

    def __init__(self, content: bytes | Iterator[bytes]) -> None:
        self._content = content
        self.sent = 0

    def __iter__(self) -> Iterator[bytes]:
        for part in (self._content,) if isinstance(self._content, bytes) else self._content:
            yield part
            self.sent += len(part)


def _read(rest: ReplyBody, limit: int) -> tuple[bytes, bool]:
    # A bytearray, not a list of parts, because a hostile server may send parts of one byte.
    body = bytearray()
    while part := rest.next():
        body += part
        if len(body) > limit:
            return bytes(body[:limit]), False
    return bytes(body), True
