"""Begins TCP connections before a request needs them, because a handshake takes a round trip.

This module imports nothing but sockets, so that a connection can begin while the rest of `http/` is
still imported.
"""

from __future__ import annotations

import select
import socket
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

_FRESH_S = 5.0
"""Seconds within which a connection that was begun must be used; afterwards it is discarded."""

Place = tuple[str, int]
"""A host and a port."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Begun:
    """A connection that was begun, and when (monotonic seconds)."""

    sock: socket.socket
    at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        """Whether the connection may still be used: servers soon close one without requests."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return time.monotonic() - self.at < _FRESH_S and not poll.poll(0)


class Ahead:
    """Connections that were begun and that no request uses yet. Thread-safe."""

    def __init__(self) -> None:
        self._begun: dict[Place, deque[_Begun]] = {}
        self._beginning: dict[Place, Thread] = {}

    def begin(self, host: str, port: int) -> None:
        """Begin one connection in a thread, because resolving the name may take long.

        Returns at once.
        """
        thread = Thread(target=self.open, args=(host, port, 1), name="regpush-connect", daemon=True)
        self._beginning[host, port] = thread
        thread.start()

    def open(self, host: str, port: int, count: int) -> None:
        """Begin connections to `host` until `count` are fresh; returns when the name is resolved.

        A connection that fails is made anew, and its error reported, by the request that needs it.
        """
        begun = self._begun.setdefault((host, port), deque())
        with suppress(OSError, UnicodeError):  # UnicodeError: a label too long for IDNA
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )[0]
            for _ in range(count - sum(one.is_fresh for one in tuple(begun))):
                begun.append(_Begun(connecting(socket.socket(family, kind, protocol), address)))

    def take(self, host: str, port: int) -> socket.socket | None:
        """Return a fresh connection, which may not be established yet; None without a fresh one."""
        if thread := self._beginning.pop((host, port), None):
            thread.join()
        waiting = self._begun.get((host, port), deque())
        with suppress(IndexError):  # none is left
            while True:
                begun = waiting.popleft()
                if begun.is_fresh:
                    return begun.sock
                begun.sock.close()
        return None

    def close(self) -> None:
        """Close all connections that were not taken."""
        for begun in self._begun.values():
            while begun:
                begun.pop().sock.close()


_early = Ahead()
"""Connections that were begun before an `Exchange` was made."""


def begin(host: str, port: int) -> None:
    """Begin a connection for the `Exchange` that is made next. Returns at once."""
    _early.begin(host, port)


def handed_over() -> Ahead:
    """Return the connections that `begin` began; they belong to the caller from now on."""
    global _early
    early, _early = _early, Ahead()
    return early


def connecting(sock: socket.socket, address: Any) -> socket.socket:
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
