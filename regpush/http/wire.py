"""Sockets for httpx on which every wait can be interrupted.

httpcore's own sockets wait in the kernel until a time-out ends, and read a reply only when the
whole request has been sent. Here every wait ends soon after a cancellation, and a reply that
arrives while the body is still being sent is read at once.
"""

from __future__ import annotations

import fcntl
import select
import socket
import ssl
import sys
import termios
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeAlias

import httpcore
import httpx

from regpush.concurrency import Cancellation
from regpush.errors import RefusedError
from regpush.http.address import Origin
from regpush.http.ahead import LOOK_S, Ahead, handed_over
from regpush.http.proxy import Proxy
from regpush.http.race import connect
from regpush.http.trust import Trust, check_alert, untrusted

_GRACE_S = 0.4
"""Seconds that a request in flight may still take after a cancellation. An upload whose last chunk
was sent whole can then be deleted; distribution does not delete an upload whose connection
broke."""

_IDLE_S = 50.0
"""Seconds after which an idle connection is not used again; load balancers close them at 60."""


_SLOWEST = 1024
"""The least bytes a second of a reply; a slower reply is treated as stalled."""

_STEP = 64 * 1024
"""The bytes of a request that must be sent within each time-out."""

_REPLY_LIMIT = 32 << 20
"""Bytes that one reply may have, its heads included: the largest replies that are read into memory
have 16 MiB. Replies that are streamed are exempt, because their readers check the size."""

_HEAD_LIMIT = 128 * 1024
"""Bytes that the head of a reply may have, provisional replies before it included."""

_SO_NWRITE = 0x1024
"""The socket option of macOS and BSD for the bytes in the send buffer (setsockopt(2)); Python has
no name for it."""


class UnansweredError(Exception):
    """No reply arrived, for the reason in `str()`. The server may have carried out the request."""


class NoConnectionError(UnansweredError):
    """No connection could be made, so nothing was sent."""


class _Watch(threading.local):
    """Holds, for each thread, the function to call with the progress of the thread's request.

    httpcore writes a request in the thread that calls it.
    """

    hears: Callable[[int], None] | None = None


_watch = _Watch()


@contextmanager
def watching(hears: Callable[[int], None]) -> Iterator[None]:
    """Call `hears` with the number of bytes of this thread's request that the kernel still queues.

    It is called inside the block after each write, and ten times a second while the reply is waited
    for.
    """
    before, _watch.hears = _watch.hears, hears
    try:
        yield
    finally:
        _watch.hears = before


def _queued(sock: socket.socket) -> int:
    """Return the bytes written to `sock` that the other side has not acknowledged.

    0 where the system cannot tell. tcp(7), SIOCOUTQ, which is TIOCOUTQ by another name.
    """
    with suppress(OSError):
        if sys.platform == "linux":
            size = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
            return int.from_bytes(size, sys.byteorder)
        if sys.platform == "darwin":
            return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
    return 0


class HandshakeError(RefusedError):
    """A server speaks no TLS, or its certificate is not trusted.

    The message names the host without its port; `Transport` adds the origin.
    """


_Way: TypeAlias = tuple[str, ssl.SSLContext | None, Proxy | None, bool]
"""An origin, the TLS context and the proxy for it, and whether its replies are limited in size.
A connection that was used for one way may be used for all requests of an equal way."""


class Transport(httpx.BaseTransport):
    """Sends requests by HTTP/1.1 over connections of this module, which are kept. Thread-safe.

    The extensions of a request hold its path and query (`target`), the certificates for https
    (`trust`), its `proxy` or None, and whether its reply is limited to `_REPLY_LIMIT` bytes
    (`bounded`). `tls` returns the TLS context for a `Trust`.

    Each connection has a pool of its own, because httpcore's pool looks at all of its connections
    before and after each request: of 40 requests over 40 connections, that took half of the time.
    """

    def __init__(self, *, tls: Callable[[Trust], ssl.SSLContext], cancel: Cancellation) -> None:
        self._tls = tls
        self._cancel = cancel
        self._pools: list[httpcore.ConnectionPool] = []
        self._idle: dict[_Way, deque[httpcore.ConnectionPool]] = {}
        self._ahead = handed_over()

    def open_ahead(self, host: str, port: int, count: int) -> None:
        """Begin `count` TCP connections to `host` and `port`, for the next requests to it."""
        self._ahead.open(host, port, count, self._cancel.check)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and read the head of the reply.

        Raises UnansweredError where no reply arrives, AuthError and RefusedError where a proxy or a
        handshake ends the request, and any error that reading the request's body raises.
        """
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.extensions["target"],
        )
        trust, proxy = request.extensions["trust"], request.extensions["proxy"]
        context = self._tls(trust) if request.url.scheme == "https" else None
        way = str(url.origin), context, proxy, request.extensions["bounded"]
        idle = self._idle.setdefault(way, deque())
        try:
            pool = idle.pop()  # the connection that was used last is the least likely to be closed
        except IndexError:
            pool = self._new_pool(*way)
        sent = httpcore.Request(
            method=request.method,
            url=url,
            headers=request.headers.raw,
            content=request.stream,
            extensions={"timeout": request.extensions["timeout"]},
        )
        try:
            with _translated(proxy):
                reply = pool.handle_request(sent)
        except HandshakeError as error:
            raise RefusedError(f"{Origin.of(str(request.url)).with_port}: {error}") from error
        body = _ReplyStream(reply, proxy, lambda: idle.append(pool))
        return httpx.Response(status_code=reply.status, headers=reply.headers, stream=body)

    def _new_pool(
        self,
        origin: str,  # noqa: ARG002  each request names it; here it completes a `_Way`
        context: ssl.SSLContext | None,
        proxy: Proxy | None,
        bounded: bool,
    ) -> httpcore.ConnectionPool:
        ahead, limit = (self._ahead, _REPLY_LIMIT) if bounded else (Ahead(), None)
        backend = _Backend(self._cancel, ahead, limit, context)
        if proxy is None:
            pool = httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=1,
                keepalive_expiry=_IDLE_S,
                network_backend=backend,
            )
        else:
            pool = httpcore.HTTPProxy(
                f"http://{proxy}",
                proxy_headers={"Proxy-Authorization": proxy.authorization}
                if proxy.authorization
                else {},
                ssl_context=context,
                max_connections=1,
                keepalive_expiry=_IDLE_S,
                network_backend=backend,
            )
        self._pools.append(pool)
        return pool

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools:
            pool.close()
        self._ahead.close()


class _ReplyStream(httpx.SyncByteStream):
    """The body of a reply, read piece by piece."""

    def __init__(
        self, reply: httpcore.Response, proxy: Proxy | None, closed: Callable[[], None]
    ) -> None:
        """`closed` is called once the connection may be used for another request."""
        self._reply = reply
        self._proxy = proxy
        self._closed = closed

    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._proxy):
            yield from self._reply.iter_stream()

    def close(self) -> None:
        self._reply.close()
        self._closed()


@contextmanager
def _translated(proxy: Proxy | None) -> Iterator[None]:
    """Turn errors of httpcore in the block into regpush's errors for the failure of a request.

    These are NoConnectionError if no connection was made, UnansweredError if no valid reply
    arrived, and the error that `proxy` gives for a refusal.
    """
    try:
        yield
    except httpcore.ProxyError as error:
        status = int(str(error)[:3])
        if proxy and (refusal := proxy.refusal(status)):
            raise refusal from error
        # Most proxies answer so when they cannot reach the registry; a retry may succeed.
        raise NoConnectionError(f"the proxy {proxy} answered {status}") from error
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        way = f" through the proxy {proxy}" if proxy else ""
        raise NoConnectionError(f"{error}{way}") from error
    except httpcore.TimeoutException as error:
        raise UnansweredError(str(error)) from error
    except httpcore.NetworkError as error:
        raise UnansweredError(str(error) or "the connection broke") from error
    except httpcore.RemoteProtocolError as error:
        raise UnansweredError("the connection ended without a valid HTTP reply") from error


class _Backend(httpcore.NetworkBackend):
    """Makes connections for httpcore's pool, or takes those that were begun in advance.

    `context`: the TLS context of the pool; None for http, or for a proxy that is reached by http.
    """

    def __init__(
        self,
        cancel: Cancellation,
        ahead: Ahead,
        reply_limit: int | None,
        context: ssl.SSLContext | None,
    ) -> None:
        self._cancel = cancel
        self._ahead = ahead
        self._reply_limit = reply_limit
        self._context = context

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002  httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002  httpcore's signature
    ) -> httpcore.NetworkStream:
        begun = self._ahead.take(host, port, self._cancel.check)
        if begun and isinstance(begun.sock, ssl.SSLSocket) and begun.sock.context != self._context:
            begun.sock.close()  # its handshake was done for other certificates
            begun = None
        sock = connect(host, port, timeout, self._cancel, begun)
        return _Connection(sock, self._cancel, self._reply_limit)


def _wait(
    sock: socket.socket, events: int, timeout: float | None, check: Callable[[], None]
) -> int:
    """Wait for `events` on `sock`; returns the events, or 0 after `timeout` seconds.

    `check` is called every `LOOK_S` seconds; an error that it raises ends the wait.
    """
    poll = select.poll()
    poll.register(sock, events)
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        check()
        left = LOOK_S if end is None else min(end - time.monotonic(), LOOK_S)
        ready = poll.poll(max(left, 0.0) * 1000)
        if ready:
            return ready[0][1]
        if end is not None and time.monotonic() >= end:
            return 0


def _end(timeout: float | None) -> float | None:
    return None if timeout is None else time.monotonic() + timeout


def _left(end: float | None) -> float | None:
    return None if end is None else max(end - time.monotonic(), 0.0)


_AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class _Connection(httpcore.NetworkStream):
    """One connection, as httpcore's pool uses it; raises the errors of httpcore."""

    def __init__(self, sock: socket.socket, cancel: Cancellation, reply_limit: int | None) -> None:
        self._sock = sock
        self._cancel = cancel
        self._reply_limit = reply_limit
        self._early = b""
        self._grace_end: float | None = None
        self._reply_began: float | None = None
        self._came = 0
        self._head: bytearray | None = bytearray()

    def _check(self) -> None:
        if _watch.hears:
            _watch.hears(_queued(self._sock))
        self._obey()

    def _obey(self) -> None:
        """Raise CancelledError where the grace after a cancellation is over."""
        if not self._cancel.cancelled:
            return
        now = time.monotonic()
        self._grace_end = self._grace_end or now + _GRACE_S
        if now >= self._grace_end:
            self._cancel.check()

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return bytes that arrived, empty at the end.

        Raises ReadTimeout for a reply that is too slow, ReadError for one that is too large.
        """
        came = self._early[:max_bytes] or self._receive(max_bytes, timeout)
        self._early = self._early[max_bytes:]
        now = time.monotonic()
        self._reply_began = self._reply_began or now
        self._came += len(came)
        self._watch(came)
        if timeout is not None and now > self._reply_began + timeout + self._came / _SLOWEST:
            raise httpcore.ReadTimeout(f"the reply is slower than {_SLOWEST} bytes a second")
        return came

    def _watch(self, came: bytes) -> None:
        """Find the end of a reply's head in `came`, and check the sizes of head and body.

        Raises ReadError for a head or a body that is too large.
        """
        if self._head is not None:
            self._head += came
            while (end := self._head.find(b"\r\n\r\n")) >= 0:
                provisional = self._head[:10] == b"HTTP/1.1 1"
                del self._head[: end + 4]
                if not provisional:
                    self._head = None
                    break
        limit = self._reply_limit if self._head is None else _HEAD_LIMIT
        if limit is not None and self._came > limit:
            raise httpcore.ReadError(f"the reply, or its head, is larger than {limit} bytes")

    def _receive(self, max_bytes: int, timeout: float | None) -> bytes:
        while True:
            try:
                return self._sock.recv(max_bytes)
            except _AGAIN as again:
                if not _wait(self._sock, _wanted(again), timeout, self._check):
                    raise httpcore.ReadTimeout(f"no reply within {timeout:g} s") from None
            except ssl.SSLZeroReturnError:
                return b""
            except OSError as error:
                check_alert(error)
                raise httpcore.ReadError(_words(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`.

        Raises WriteError when a reply arrives before that, upon which httpcore reads the reply, and
        WriteTimeout when less than `_STEP` bytes are sent within `timeout` seconds.
        """
        self._reply_began, self._came, self._head = None, 0, bytearray()
        left = memoryview(buffer)
        mark, end = len(left), _end(timeout)
        while left:
            # Before its first byte has left, nothing is to be heard of a request.
            check = self._check if len(left) < len(buffer) else self._obey
            ready = _wait(self._sock, select.POLLIN | select.POLLOUT, _left(end), check)
            if not ready or _left(end) == 0:
                raise httpcore.WriteTimeout(f"sending made no progress for {timeout:g} s")
            if ready & ~select.POLLOUT:
                self._listen()
            try:
                left = left[self._sock.send(left) :]
            except _AGAIN:
                continue
            except OSError as error:
                check_alert(error)
                raise httpcore.WriteError(_words(error)) from error
            if mark - len(left) >= _STEP:
                mark, end = len(left), _end(timeout)
        if _watch.hears:
            _watch.hears(_queued(self._sock))

    def _listen(self) -> None:
        # Over TLS, the bytes may be only a session ticket, which recv consumes.
        try:
            came = self._sock.recv(65536)
        except _AGAIN:
            return
        except OSError as error:
            check_alert(error)
            raise httpcore.WriteError(_words(error)) from error
        self._early += came
        provisional = self._early.rpartition(b"HTTP/1.1 ")[2][:1] == b"1"
        if not provisional or len(self._early) > _STEP:  # a short 100 Continue is no reply
            raise httpcore.WriteError("the registry answered before it had read the whole request")

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        if isinstance(self._sock, ssl.SSLSocket):
            return self  # the handshake was done in advance, with this context
        return _Connection(
            shake_hands(self._sock, ssl_context, server_hostname, timeout, self._cancel),
            self._cancel,
            self._reply_limit,
        )

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable":
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            return bool(self._early or poll.poll(0))
        if info == "ssl_object":
            return self._sock if isinstance(self._sock, ssl.SSLSocket) else None
        return None


def shake_hands(
    sock: socket.socket,
    context: ssl.SSLContext,
    hostname: str | None,
    timeout: float | None,
    cancel: Cancellation,
) -> ssl.SSLSocket:
    """Start TLS on a connection, which is closed if that fails.

    Raises HandshakeError where the certificate is not trusted or the server speaks no TLS,
    httpcore's ConnectError or ConnectTimeout where a retry may help.
    """
    secure = context.wrap_socket(sock, server_hostname=hostname, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secure.do_handshake()
            except _AGAIN as again:
                if not _wait(secure, _wanted(again), timeout, cancel.check):
                    raise httpcore.ConnectTimeout(
                        f"no TLS handshake within {timeout:g} s"
                    ) from None
            else:
                return secure
    except ssl.SSLCertVerificationError as error:
        secure.close()
        reason = error.verify_message.rstrip(".")
        raise HandshakeError(
            f"the certificate of {hostname} is not trusted: {reason}; "
            f"{untrusted(error.verify_code)}"
        ) from error
    except ssl.SSLError as error:
        secure.close()
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            raise HandshakeError(
                f"{hostname} does not speak TLS; to use plain http, give --plain-http, "
                "or --from-plain-http for a source"
            ) from error
        check_alert(error)
        raise httpcore.ConnectError(f"TLS failed: {_words(error)}") from error
    except OSError as error:
        secure.close()
        raise httpcore.ConnectError(f"TLS failed: {_words(error)}") from error
    except BaseException:
        secure.close()
        raise


def speaks_tls(host: str, port: int, timeout_s: float, cancel: Cancellation) -> bool:
    """Whether `host` completes a TLS handshake, whatever its certificate. Sends no request."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        sock = connect(host, port, timeout_s, cancel)
        shake_hands(sock, context, host, timeout_s, cancel).close()
    except (RefusedError, httpcore.ConnectError, httpcore.ConnectTimeout):
        return False
    return True


def _wanted(again: BaseException) -> int:
    return select.POLLOUT if isinstance(again, ssl.SSLWantWriteError) else select.POLLIN


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    return (error.strerror or str(error)).lower()
