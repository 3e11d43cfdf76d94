"""Sockets under the HTTP client that can be stopped, and that hear a reply while still sending.

httpcore's own sockets block for as long as the time-out says. A worker must instead notice
within moments that the run was cancelled, and must not fill the connection of a server that
has said 413 long ago and reads no more. RFC 9112, section 9.5.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import httpcore

T = TypeVar("T")

_LOOK_S = 0.2
_LOOK_AHEAD = 64 * 1024
_INTERIM = (b"HTTP/1.1 1", b"HTTP/1.0 1")


class TlsError(httpcore.ConnectError):
    """The TLS handshake failed."""


class UntrustedError(TlsError):
    """The server's certificate does not verify."""


class Network(httpcore.NetworkBackend):
    """Opens TCP connections. `check` is called before every wait and raises to end it."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,  # noqa: ARG002 - httpcore's signature; never set here
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - likewise
    ) -> httpcore.NetworkStream:
        """Connect to the first address of `host` that answers within `timeout` seconds."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError("the name does not resolve") from error
        failure: Exception = httpcore.ConnectError("the name has no address")
        for family, kind, protocol, _, address in found:
            try:
                sock = socket.socket(family, kind, protocol)
            except OSError as error:  # an address family that this machine lacks
                failure = httpcore.ConnectError(_reason(error))
                continue
            stream = _Stream(sock, self._check)
            try:
                stream.connect(address, timeout)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                stream.close()
                failure = error
            except BaseException:
                stream.close()
                raise
            else:
                return stream
        raise failure


class _Stream(httpcore.NetworkStream):
    """One connection, its socket never blocking; used by one thread at a time."""

    def __init__(self, sock: socket.socket, check: Callable[[], None]) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._check = check
        self._ahead = b""

    def connect(self, address: Any, timeout: float | None) -> None:
        """Raises httpcore.ConnectError or ConnectTimeout."""
        try:
            self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sock.connect(address)
        except BlockingIOError:
            pass  # under way
        except OSError as error:
            raise httpcore.ConnectError(_reason(error)) from error
        self._wait(select.POLLOUT, timeout, httpcore.ConnectTimeout)
        if code := self._sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            raise httpcore.ConnectError(os.strerror(code))

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        """The same connection under TLS. Raises TlsError, or UntrustedError of that."""
        try:
            sock = ssl_context.wrap_socket(
                self._sock, server_hostname=server_hostname, do_handshake_on_connect=False
            )
        except (OSError, ValueError) as error:
            self.close()
            raise TlsError(_reason(error)) from error
        secured = _Stream(sock, self._check)
        try:
            secured.retry(sock.do_handshake, timeout, httpcore.ConnectTimeout)
        except ssl.SSLCertVerificationError as error:
            secured.close()
            raise UntrustedError(error.verify_message) from error
        except ssl.SSLError as error:
            secured.close()
            raise TlsError((error.reason or "no reason").lower().replace("_", " ")) from error
        except OSError as error:
            secured.close()
            raise httpcore.ConnectError(_reason(error)) from error
        except BaseException:
            secured.close()
            raise
        return secured

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """At least one byte, or none at the end. Raises httpcore.ReadError or ReadTimeout."""
        if self._ahead:
            data, self._ahead = self._ahead[:max_bytes], self._ahead[max_bytes:]
            return data
        try:
            return self.retry(lambda: self._sock.recv(max_bytes), timeout, httpcore.ReadTimeout)
        except OSError as error:
            raise httpcore.ReadError(_reason(error)) from error

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of `buffer`; `timeout` seconds may pass without progress.

        Raises httpcore.WriteTimeout, or WriteError; the latter also once the server has
        given its final answer, which is then there to be read.
        """
        view = memoryview(buffer)
        try:
            while view:
                ready = self._wait(select.POLLIN | select.POLLOUT, timeout, httpcore.WriteTimeout)
                if ready & ~select.POLLOUT and self._answered():
                    raise httpcore.WriteError("answered before the request was complete")
                if ready & select.POLLOUT:
                    view = view[self._send(view) :]
        except OSError as error:
            raise httpcore.WriteError(_reason(error)) from error

    def close(self) -> None:
        """Close the connection. Safe to call again."""
        self._sock.close()

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks for: whether the server spoke up, or hung up, unasked."""
        if info == "is_readable":
            poll = select.poll()
            poll.register(self._sock, select.POLLIN)
            return bool(poll.poll(0))
        if info == "ssl_object" and isinstance(self._sock, ssl.SSLSocket):
            return self._sock
        return self._sock if info == "socket" else None

    def retry(
        self, step: Callable[[], T], timeout: float | None, expired: type[httpcore.TimeoutException]
    ) -> T:
        """Do `step` as soon as the socket allows. Raises OSError, or `expired`."""
        while True:
            try:
                return step()
            except (BlockingIOError, ssl.SSLWantReadError):
                self._wait(select.POLLIN, timeout, expired)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, timeout, expired)

    def _send(self, view: memoryview) -> int:
        try:
            return self._sock.send(view)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return 0

    def _answered(self) -> bool:
        """Whether a final reply, or the end, has come. Interim replies (1xx) are kept for later."""
        try:
            data = self._sock.recv(_LOOK_AHEAD)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False  # a TLS record without data, such as a session ticket
        self._ahead += data
        return not self._ahead.startswith(_INTERIM) or not data or len(self._ahead) > _LOOK_AHEAD

    def _wait(
        self, events: int, timeout: float | None, expired: type[httpcore.TimeoutException]
    ) -> int:
        """Wait until one of `events`, or an error, is there, and say which."""
        poll = select.poll()
        poll.register(self._sock, events)
        end = None if timeout is None else time.monotonic() + timeout
        while True:
            self._check()
            left = _LOOK_S if end is None else end - time.monotonic()
            if ready := poll.poll(max(0.0, min(left, _LOOK_S)) * 1000):
                return ready[0][1]
            if left <= 0:
                raise expired(f"nothing for {timeout:.0f} s")


def _reason(error: Exception) -> str:
    """What the system says, in words and without errno."""
    return (error.strerror if isinstance(error, OSError) else None) or type(error).__name__
