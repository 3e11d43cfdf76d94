"""TCP connections that are begun before a request needs them: a handshake takes a round trip.

Sockets alone, so that a connection is on its way while `http/` is still imported.
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
"""Seconds within which a connection that was begun is used, or discarded."""

Place = tuple[str, int]
"""A host and a port."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class _Begun:
    """A connection, and when it was begun (monotonic seconds)."""

    sock: socket.socket
    at: float = field(default_factory=time.monotonic)

    @property
    def is_fresh(self) -> bool:
        """Whether the connection may be used: servers soon close connections without requests."""
        poll = select.poll()
        poll.register(self.sock, select.POLLIN)
        return time.monotonic() - self.at < _FRESH_S and not poll.poll(0)


class Ahead:
    """Connections that were begun, and that nothing uses yet. Thread-safe."""

    def __init__(self) -> None:
        self._begun: dict[Place, deque[_Begun]] = {}
        self._beginning: dict[Place, Thread] = {}

    def begin(self, host: str, port: int) -> None:
        """Begin one connection, in a thread: a name may take long to resolve."""
        thread = Thread(target=self.open, args=(host, port, 1), name="regpush-connect", daemon=True)
        self._beginning[host, port] = thread
        thread.start()

    def open(self, host: str, port: int, count: int) -> None:
        """Begin connections until `count` are there; returns when the name is resolved.

        Failures appear where a connection is needed and made anew.
        """
        begun = self._begun.setdefault((host, port), deque())
        with suppress(OSError, UnicodeError):  # UnicodeError: a label too long for IDNA
            family, kind, protocol, _, address = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM
            )[0]
            for _ in range(count - sum(one.is_fresh for one in tuple(begun))):
                begun.append(_Begun(connecting(socket.socket(family, kind, protocol), address)))

    def take(self, host: str, port: int) -> socket.socket | None:
        """Return a connection that may not be made yet; None without a fresh one."""
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
"""Connections that were begun before there was an `Exchange`."""


def begin(host: str, port: int) -> None:
    """Begin a connection for the `Exchange` that will be made next. Returns at once."""
    _early.begin(host, port)


def handed_over() -> Ahead:
    """Return the connections that `begin` began, which now belong to the caller."""
    global _early
    early, _early = _early, Ahead()
    return early


def connecting(sock: socket.socket, address: Any) -> socket.socket:
    """Begin to connect `sock`, which does not block from now on. Raises OSError."""
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
