"""Makes a TCP connection to a host with several addresses, some of which may not answer.

RFC 8305 ("Happy Eyeballs"): a host with addresses of IPv6 and IPv4 is usually reached by both, but
where packets to one of them are lost, a connection to it fails only after its time-out.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable

import httpcore

from regpush.concurrency import Cancellation
from regpush.http.ahead import LOOK_S, STAGGER_S, Address, Begun, addresses


def connect(
    host: str,
    port: int,
    timeout: float | None,
    cancel: Cancellation,
    begun: Begun | None = None,
) -> socket.socket:
    """Make a non-blocking TCP connection to the address of `host` that accepts one first.

    An address that has not answered after `STAGGER_S` seconds is still waited for while the next
    one is tried (RFC 8305, section 5). `timeout`: seconds for each address. `begun`: a connection
    to `host` that was begun in advance, which is waited for first. Raises httpcore's ConnectError
    or ConnectTimeout, or CancelledError.
    """
    race = _Race(timeout)
    try:
        if begun:
            race.enter(begun)
            if sock := race.winner(time.monotonic() + STAGGER_S, cancel.check):
                return sock
        for address in _resolved(host, port, race, cancel.check):
            if race.has(address):
                continue
            race.begin(address)
            if sock := race.winner(time.monotonic() + STAGGER_S, cancel.check):
                return sock
        if sock := race.winner(None, cancel.check):
            return sock
        raise race.failure or httpcore.ConnectError(f"the name {host} has no address")
    finally:
        race.close()


def _resolved(host: str, port: int, race: _Race, check: Callable[[], None]) -> list[Address]:
    """Return the addresses of `host`. Raises ConnectError where no connection of `race` is left."""
    try:
        return addresses(host, port, check)
    except OSError as error:
        if race.is_on:
            return []
        raise httpcore.ConnectError(f"the name {host} does not resolve") from error


class _Race:
    """Connections to addresses of one host, of which the first that is established is used.

    `failure`: why the last connection that failed did so; None before any failed.
    """

    def __init__(self, timeout: float | None) -> None:
        self._timeout = timeout
        self._running: dict[int, tuple[Begun, float | None]] = {}
        self._poll = select.poll()
        self.failure: httpcore.ConnectError | httpcore.ConnectTimeout | None = None

    @property
    def is_on(self) -> bool:
        """Whether any connection may still be established."""
        return bool(self._running)

    def has(self, address: Address) -> bool:
        """Whether a connection to `address` may still be established."""
        return any(begun.address == address for begun, _ in self._running.values())

    def begin(self, address: Address) -> None:
        """Begin a connection to `address`."""
        try:
            self.enter(Begun.to(address))
        except OSError as error:
            self.failure = httpcore.ConnectError(error.strerror or str(error))

    def enter(self, begun: Begun) -> None:
        """Wait for `begun` too, from now on."""
        end = None if self._timeout is None else time.monotonic() + self._timeout
        self._running[begun.sock.fileno()] = begun, end
        self._poll.register(begun.sock, select.POLLOUT)

    def winner(self, until: float | None, check: Callable[[], None]) -> socket.socket | None:
        """Return the connection that is established first; None once all have failed.

        None also at the time `until` (monotonic seconds). `check` is called every `LOOK_S`
        seconds; an error that it raises ends the wait.
        """
        while self._running:
            check()
            ends = [until, *(end for _, end in self._running.values())]
            now = time.monotonic()
            left = min([LOOK_S, *(end - now for end in ends if end is not None)])
            for fd, _ in self._poll.poll(max(left, 0.0) * 1000):
                sock = self._leave(fd)
                code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if not code:
                    return sock
                sock.close()
                self.failure = httpcore.ConnectError(_reason(code))
            now = time.monotonic()
            for fd, (_, end) in tuple(self._running.items()):
                if end is not None and now >= end:
                    self._leave(fd).close()
                    self.failure = httpcore.ConnectTimeout(
                        f"no connection within {self._timeout:g} s"
                    )
            if until is not None and now >= until:
                return None
        return None

    def _leave(self, fd: int) -> socket.socket:
        self._poll.unregister(fd)
        return self._running.pop(fd)[0].sock

    def close(self) -> None:
        """Close all connections that were not returned by `winner`."""
        for fd in tuple(self._running):
            self._leave(fd).close()


def _reason(code: int) -> str:
    return os.strerror(code).lower()
