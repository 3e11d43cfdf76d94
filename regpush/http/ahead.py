"""Begins connections before a request needs them, because a handshake takes a round trip.

This module imports little but sockets, so that a connection can begin while the rest of `http/` is
still imported.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from threading import Lock, Thread
from typing import Any, TypeAlias

from msgspec import Struct, field

from regpush.errors import RegpushError

LOOK_S = 0.1
"""Seconds between two checks for a cancellation."""

STAGGER_S = 0.25
"""Seconds after which the next address of a host is tried beside one that has not answered; RFC
8305, section 8, recommends this delay."""

_SSL_ERROR_WANT_READ = 2
"""The code of `ssl.SSLWantReadError`; importing `ssl` takes longer than all of this module."""

_FRESH_S = 5.0
"""Seconds within which a connection that was begun must be used; afterwards it is discarded."""

Place = tuple[str, int]
"""A host and a port."""

Address: TypeAlias = tuple[Any, Any, int, str, Any]
"""An address of a host, as `socket.getaddrinfo` returns it."""


def addresses(host: str, port: int, check: Callable[[], None]) -> list[Address]:
    """Return the addresses of `host`, in the order in which they are to be tried.

    `check` is called every `LOOK_S` seconds while the name is resolved; an error that it raises
    ends the wait. Raises OSError for a name that does not resolve.
    """
    found: list[list[Address]] = []
    failed: list[OSError] = []

    def resolve() -> None:
        try:
            # Every host is ASCII. Given as text, Python would convert it by its codec for IDNA,
            # whose import takes 1.5 ms.
            found.append(socket.getaddrinfo(host.encode("ascii"), port, type=socket.SOCK_STREAM))
        except OSError as error:
            failed.append(error)

    # Nothing interrupts the system's resolver, which waits 10 s for each name server that is silent
    # (resolv.conf(5)).
    thread = Thread(target=resolve, name="regpush-resolve", daemon=True)
    thread.start()
    _join(thread, check)
    if failed:
        raise failed[0]
    return found[0]


def _join(thread: Thread, check: Callable[[], None]) -> None:
    """Wait until `thread` ends, or until `check` raises an error."""
    while thread.is_alive():
        check()
        thread.join(LOOK_S)


Secure: TypeAlias = Callable[[socket.socket], socket.socket]
"""Does the TLS handshake on an established connection; returns the socket of the TLS connection,
which does not block. Raises OSError, ValueError or RegpushError."""


class Begun(Struct, frozen=True, eq=False):
    """A connection to `address` that was begun, and when (monotonic seconds)."""

    sock: socket.socket
    address: Address
    at: float = field(default_factory=time.monotonic)

    @classmethod
    def to(cls, address: Address) -> Begun:
        """Begin a connection to `address`. Raises OSError."""
        family, kind, protocol, _, at = address
        return cls(_connecting(socket.socket(family, kind, protocol), at), address)

    @property
    def is_young(self) -> bool:
        """Whether the connection was begun so lately that the server has hardly closed it."""
        return time.monotonic() - self.at < _FRESH_S

    def is_fresh(self) -> bool:
        """Whether the connection may still be used: servers soon close one without requests.

        Only for the thread that has taken the connection: TLS may read from it, and OpenSSL crashes
        if two threads use one connection.
        """
        return self.is_young and is_silent(self.sock)

    def is_decided(self) -> bool:
        """Whether the connection is established or has failed; waits `STAGGER_S` seconds for that.

        After that time, connections to further addresses of the host are to be tried beside it.
        """
        poll = select.poll()
        poll.register(self.sock, select.POLLOUT)
        return bool(poll.poll(STAGGER_S * 1000))


def is_silent(sock: socket.socket) -> bool:
    """Whether nothing for a reader of `sock`, which does not block, has arrived, not even its end.

    Session tickets of TLS are for nobody: they are read here.
    """
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    if not poll.poll(0):
        return True
    if type(sock) is socket.socket:
        return False
    try:
        sock.recv(1)
    except OSError as error:
        return error.errno == _SSL_ERROR_WANT_READ
    return False


class Ahead:
    """Connections that were begun and that no request uses yet. Thread-safe."""

    def __init__(self) -> None:
        self._first: dict[Place, Address] = {}
        self._begun: dict[Place, deque[Begun]] = {}
        self._beginning: dict[Place, Thread] = {}
        self._lock = Lock()
        self._closed = False

    def begin(self, host: str, port: int, secure: Secure | None = None) -> None:
        """Begin one connection in a thread, because resolving the name may take long.

        `secure`: None for a connection without TLS. A connection to the same place that is begun
        already, without TLS, is the one that `secure` gets. Returns at once.
        """
        before = self._beginning.get((host, port))
        thread = Thread(
            target=self._begin,
            args=(host, port, secure, before),
            name="regpush-connect",
            daemon=True,
        )
        self._beginning[host, port] = thread
        thread.start()

    def _begin(self, host: str, port: int, secure: Secure | None, before: Thread | None) -> None:
        if before:
            before.join()
        self._open(host, port, 1, lambda: None)
        first = self._fresh(host, port) if secure else None
        if secure is None or first is None:
            return
        try:
            if first.is_decided():
                first = Begun(secure(first.sock), first.address)
        except (OSError, ValueError, RegpushError):
            # The request that needs a connection makes another, and reports the error.
            first.sock.close()
            return
        with self._lock:
            if self._closed:
                first.sock.close()
            else:
                self._begun[host, port].appendleft(first)

    def open(self, host: str, port: int, count: int, check: Callable[[], None]) -> None:
        """Begin connections to `host` until `count` are there that were begun lately.

        Fewer are begun where too few file descriptors would remain for files. The name is resolved
        the first time only; `check` is called meanwhile, like that of `addresses`. A connection
        that fails is made anew, and its error reported, by the request that needs it.
        """
        if thread := self._beginning.get((host, port)):
            _join(thread, check)
        self._open(host, port, count, check)

    def _open(self, host: str, port: int, count: int, check: Callable[[], None]) -> None:
        with suppress(OSError, RuntimeError):  # RuntimeError: no thread can be started
            if (host, port) not in self._first:
                self._first[host, port] = addresses(host, port, check)[0]
            with self._lock:
                begun = self._begun.setdefault((host, port), deque())
                missing = count - sum(one.is_young for one in tuple(begun))
                for _ in range(0 if self._closed else min(missing, self._room())):
                    begun.append(Begun.to(self._first[host, port]))

    def _room(self) -> int:
        """Return how many more connections may wait for a request.

        A quarter of the process's file descriptors, because files and modules need some too.
        """
        limit = os.sysconf("SC_OPEN_MAX")  # RLIMIT_NOFILE, or -1 for none (sysconf(3))
        waiting = sum(map(len, self._begun.values()))
        return (limit if limit >= 0 else sys.maxsize) // 4 - waiting

    def take(self, host: str, port: int, check: Callable[[], None]) -> Begun | None:
        """Return a fresh connection, which may not be established yet; None without a fresh one.

        `check` is called while the first connection is still begun, like that of `addresses`.
        """
        if thread := self._beginning.pop((host, port), None):
            _join(thread, check)
        return self._fresh(host, port)

    def _fresh(self, host: str, port: int) -> Begun | None:
        """Return a fresh connection, and close those before it that are not; None without one."""
        waiting = self._begun.get((host, port), deque())
        with suppress(IndexError):  # none is left
            while True:
                begun = waiting.popleft()
                if begun.is_fresh():
                    return begun
                begun.sock.close()
        return None

    def close(self) -> None:
        """Close all connections that were not taken; none is begun afterwards."""
        with self._lock:
            self._closed = True
            for begun in self._begun.values():
                while begun:
                    begun.pop().sock.close()


_early = Ahead()
"""Connections that were begun before an `Exchange` was made."""


def begin(host: str, port: int) -> None:
    """Begin a TCP connection that `begun`, or the next `Exchange`, takes over. Returns at once."""
    _early.begin(host, port)


@contextmanager
def begun(host: str, port: int, secure: Secure | None = None) -> Iterator[None]:
    """Yield at once, while a connection begins for the `Exchange` that the `with` block makes.

    `secure`: None for a connection without TLS. A connection that no `Exchange` took over is closed
    at the end of the block.
    """
    _early.begin(host, port, secure)
    try:
        yield
    finally:
        handed_over().close()


def handed_over() -> Ahead:
    """Return the connections that `begun` began; they belong to the caller from now on."""
    global _early
    early, _early = _early, Ahead()
    return early


def _connecting(sock: socket.socket, address: Any) -> socket.socket:
    """Begin to connect `sock`, which is non-blocking from now on, and return it.

    Raises OSError.
    """
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        with suppress(BlockingIOError):
            sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
