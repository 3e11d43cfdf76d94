"""Sockets under httpx on which every wait can be interrupted.

httpcore's own sockets wait in the kernel until a time-out ends, and read a reply only when the
whole request has been sent. Here every wait ends soon after a cancellation, and a reply that
arrives while the body is still being sent is read at once.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import ssl
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpcore
import httpx

from regpush.concurrency import Cancellation
from regpush.errors import RefusedError
from regpush.http.address import Origin
from regpush.http.ahead import Ahead, connecting, handed_over
from regpush.http.proxy import Proxy
from regpush.http.trust import Trust, check_alert, untrusted

_LOOK_S = 0.1
"""Seconds between two checks for a cancellation."""

_GRACE_S = 0.4
"""Seconds that a request may still take after a cancellation. An upload whose last chunk was sent
can then be deleted; distribution refuses to delete one whose connection broke."""

_IDLE_S = 50.0
"""Seconds after which an idle connection is not used again; load balancers close them at 60."""


_SLOWEST = 1024
"""Bytes a second that a reply must deliver; a slower reply is treated as stalled."""

_STEP = 64 * 1024
"""Bytes of a request that must be sent within the time-out."""

_REPLY_LIMIT = 32 << 20
"""Bytes that one reply may have, its heads included: the largest replies that are read whole have
16 MiB. Blobs that are passed through are exempt; their readers count."""

_HEAD_LIMIT = 128 * 1024
"""Bytes that the head of a reply may have, provisional replies before it included."""

_SO_NWRITE = 0x1024
"""An option of macOS and BSD: bytes in the send buffer (setsockopt(2)). Python has no name for it.
"""


class UnansweredError(Exception):
    """No reply to a request arrived; `str()` tells the reason. The server may have obeyed it."""


class NoConnectionError(UnansweredError):
    """No connection could be made, so nothing was sent."""


class _Watch(threading.local):
    """Holds, for each thread, the function that hears of the request which the thread sends.

    httpcore writes a request in the thread that calls it.
    """

    hears: Callable[[int], None] | None = None


_watch = _Watch()


@contextmanager
def watching(hears: Callable[[int], None]) -> Iterator[None]:
    """Tell `hears` how many bytes of this thread's requests the kernel still holds.

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

    The error does not know the port.
    """


class Transport(httpx.BaseTransport):
    """HTTP/1.1 over pooled connections of our own sockets; thread-safe.

    A request's extensions say whom to trust, for which `tls` gives the context if it is
    https, which proxy to go through, and whether the reply is `bounded`. Raises
    UnansweredError, AuthError and RefusedError where a proxy or a handshake ends it, and lets
    pass what a request body raises while it is read.
    """

    def __init__(
        self, *, connections: int, tls: Callable[[Trust], ssl.SSLContext], cancel: Cancellation
    ) -> None:
        self._connections = connections
        self._tls = tls
        self._cancel = cancel
        self._lock = threading.Lock()
        self._pools: dict[
            tuple[str, ssl.SSLContext | None, Proxy | None, bool], httpcore.ConnectionPool
        ] = {}
        self._ahead = handed_over()
        self._backend = _Backend(cancel, self._ahead, _REPLY_LIMIT)
        self._unbounded = _Backend(cancel, Ahead(), None)

    def open_ahead(self, host: str, port: int, count: int) -> None:
        """Begin `count` connections to `host`, which the next requests to it will take."""
        self._ahead.open(host, port, count)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request` and read the head of the reply."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.extensions["target"],
        )
        trust, proxy = request.extensions["trust"], request.extensions["proxy"]
        pool = self._pool(request.url.scheme, trust, proxy, bounded=request.extensions["bounded"])
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
        body = _ReplyStream(reply, proxy)
        return httpx.Response(status_code=reply.status, headers=reply.headers, stream=body)

    def _pool(
        self, scheme: str, trust: Trust, proxy: Proxy | None, *, bounded: bool
    ) -> httpcore.ConnectionPool:
        context = self._tls(trust) if scheme == "https" else None
        with self._lock:
            key = (scheme, context, proxy, bounded)
            if key not in self._pools:
                backend = self._backend if bounded else self._unbounded
                self._pools[key] = self._new_pool(context, proxy, backend)
            return self._pools[key]

    def _new_pool(
        self, context: ssl.SSLContext | None, proxy: Proxy | None, backend: _Backend
    ) -> httpcore.ConnectionPool:
        if proxy is None:
            return httpcore.ConnectionPool(
                ssl_context=context,
                max_connections=self._connections,
                keepalive_expiry=_IDLE_S,
                network_backend=backend,
            )
        return httpcore.HTTPProxy(
            f"http://{proxy}",
            proxy_headers={"Proxy-Authorization": proxy.authorization}
            if proxy.authorization
            else {},
            ssl_context=context,
            max_connections=self._connections,
            keepalive_expiry=_IDLE_S,
            network_backend=backend,
        )

    def close(self) -> None:
        """Close every connection."""
        for pool in self._pools.values():
            pool.close()
        self._ahead.close()


class _ReplyStream(httpx.SyncByteStream):
    """The body of a reply, read piece by piece."""

    def __init__(self, reply: httpcore.Response, proxy: Proxy | None) -> None:
        self._reply = reply
        self._proxy = proxy

    def __iter__(self) -> Iterator[bytes]:
        with _translated(self._proxy):
            yield from self._reply.iter_stream()

    def close(self) -> None:
        self._reply.close()


@contextmanager
def _translated(proxy: Proxy | None) -> Iterator[None]:
    try:
        yield
    except httpcore.ProxyError as error:
        status = int(str(error)[:3])
        if proxy and (refusal := proxy.refusal(status)):
            raise refusal from error
        # Most say so when they cannot reach the registry, which another time they may.
        raise NoConnectionError(f"the proxy {proxy} answered {status}") from error
    except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
        way = f" by way of the proxy {proxy}" if proxy else ""
        raise NoConnectionError(f"{error}{way}") from error
    except httpcore.TimeoutException as error:
        raise UnansweredError(str(error)) from error
    except httpcore.NetworkError as error:
        raise UnansweredError(str(error) or "the connection broke") from error
    except httpcore.RemoteProtocolError as error:
        raise UnansweredError("the connection ended without a valid HTTP reply") from error


class _Backend(httpcore.NetworkBackend):
    """Makes connections, or takes them from those that were begun `ahead`."""

    def __init__(self, cancel: Cancellation, ahead: Ahead, reply_limit: int | None) -> None:
        self._cancel = cancel
        self._ahead = ahead
        self._reply_limit = reply_limit

    def _begun(self, host: str, port: int, timeout: float | None) -> socket.socket | None:
        """Return a connection that was begun ahead and is made; None without one."""
        while sock := self._ahead.take(host, port):
            with suppress(OSError, httpcore.ConnectTimeout):
                return _finish(sock, timeout, self._cancel)
        return None

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002  httpcore's signature
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002  httpcore's signature
    ) -> httpcore.NetworkStream:
        sock = self._begun(host, port, timeout) or connect(host, port, timeout, self._cancel)
        return _Connection(sock, self._cancel, self._reply_limit)


def connect(host: str, port: int, timeout: float | None, cancel: Cancellation) -> socket.socket:
    """Make a non-blocking TCP connection to the first address of `host` that accepts one.

    Raises httpcore's ConnectError or ConnectTimeout, CancelledError. `timeout` in seconds is for
    each address.
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:  # UnicodeError: a label too long for IDNA
        raise httpcore.ConnectError(f"the name {host} does not resolve") from error
    failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None
    for family, kind, protocol, _, address in addresses:
        try:
            return _connect(socket.socket(family, kind, protocol), address, timeout, cancel)
        except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
            failure = error
        except OSError as error:
            failure = httpcore.ConnectError(error.strerror or str(error))
    raise failure or httpcore.ConnectError(f"the name {host} has no address")


def _connect(
    sock: socket.socket, address: Any, timeout: float | None, cancel: Cancellation
) -> socket.socket:
    return _finish(connecting(sock, address), timeout, cancel)


def _finish(sock: socket.socket, timeout: float | None, cancel: Cancellation) -> socket.socket:
    try:
        if not _wait(sock, select.POLLOUT, timeout, cancel.check):
            raise httpcore.ConnectTimeout(f"no connection within {timeout:g} s")
        if code := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise OSError(code, _reason(code))
    except BaseException:
        sock.close()
        raise
    return sock


def _reason(code: int) -> str:
    return os.strerror(code).lower()


def _wait(
    sock: socket.socket, events: int, timeout: float | None, check: Callable[[], None]
) -> int:
    """Wait for `events` on `sock`; returns the events, or 0 after `timeout` seconds.

    `check` is called every `_LOOK_S` seconds, and ends the wait by raising.
    """
    poll = select.poll()
    poll.register(sock, events)
    end = None if timeout is None else time.monotonic() + timeout
    while True:
        check()
        left = _LOOK_S if end is None else min(end - time.monotonic(), _LOOK_S)
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
    """One connection; raises the errors of httpcore, which its pool expects."""

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

        Raises ReadError for a reply that is too slow or too large.
        """
        came = self._early[:max_bytes] or self._receive(max_bytes, timeout)
        self._early = self._early[max_bytes:]
        now = time.monotonic()
        self._reply_began = self._reply_began or now
        self._came += len(came)
        self._watch(came)
        if timeout is not None and now > self._reply_began + timeout + self._came / _SLOWEST:
            raise httpcore.ReadTimeout(f"{self._came} bytes of an answer in {timeout:g} s")
        return came

    def _watch(self, came: bytes) -> None:
        """Raise ReadError for a reply whose head, or whose body, exceeds the limit of its size."""
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
            raise httpcore.ReadError("the answer has no end")

    def _receive(self, max_bytes: int, timeout: float | None) -> bytes:
        while True:
            try:
                return self._sock.recv(max_bytes)
            except _AGAIN as again:
                if not _wait(self._sock, _wanted(again), timeout, self._check):
                    raise httpcore.ReadTimeout(f"no answer within {timeout:g} s") from None
            except ssl.SSLZeroReturnError:
                return b""
            except OSError as error:
                check_alert(error)
                raise httpcore.ReadError(_words(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`.

        Raises WriteError when a reply arrives meanwhile, upon which httpcore reads that reply, and
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
        # Over TLS what came may be no more than a session ticket, which recv swallows.
        try:
            came = self._sock.recv(65536)
        except _AGAIN:
            return
        except OSError as error:
            check_alert(error)
            raise httpcore.WriteError(_words(error)) from error
        self._early += came
        provisional = self._early.rpartition(b"HTTP/1.1 ")[2][:1] == b"1"
        if not provisional or len(self._early) > _STEP:  # 100 Continue: by all means, but once
            raise httpcore.WriteError("the registry answered before it had everything")

    def close(self) -> None:
        self._sock.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
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
                    raise httpcore.ConnectTimeout(f"no TLS within {timeout:g} s") from None
            else:
                return secure
    except ssl.SSLCertVerificationError as error:
        secure.close()
        raise HandshakeError(
            f"the certificate of {hostname} is not trusted: {error.verify_message}; "
            f"{untrusted(error.verify_code)}"
        ) from error
    except ssl.SSLError as error:
        secure.close()
        if error.reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
            raise HandshakeError(
                f"{hostname} does not speak TLS; if it is meant to speak http, give "
                "--plain-http, or for a source --from-plain-http"
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
    """Whether a TLS handshake with `host` begins, whatever its certificate. Sends no request."""
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
