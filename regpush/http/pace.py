"""Slows down requests to one registry: all workers pause, and send fewer requests at a time.

A registry that answers 429 to one worker means all of them (RFC 6585, RFC 9110 "Retry-After").
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from regpush.concurrency import Cancellation

LONGEST_PAUSE_S = 180.0
_LOOK_S = 0.1
_CALM = 8
"""The number of replies in a row without complaint after which one more request may run at a
time."""


class Pace:
    """Limits the requests to one registry, once it has complained. Thread-safe."""

    def __init__(self, cancel: Cancellation) -> None:
        self._cancel = cancel
        self._changed = threading.Condition()
        self._until = 0.0
        self._running = 0
        self._allowed: int | None = None
        self._calm = 0

    @property
    def allowed(self) -> int | None:
        """The number of requests that may run at a time; None without a limit."""
        return self._allowed

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until a request may be sent; the request must run inside the block.

        Raises CancelledError.
        """
        with self._changed:
            while (wait_s := self._wait_s()) > 0:
                self._cancel.check()
                self._changed.wait(min(wait_s, _LOOK_S))
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify()

    def _wait_s(self) -> float:
        if self._allowed is not None and self._running >= self._allowed:
            return _LOOK_S
        return self._until - time.monotonic()

    def slower(self, after_s: float | None) -> None:
        """Halve the number of parallel requests and pause for `after_s`, after a 429 or 503.

        `after_s` is in seconds, None for no pause. A wait above `LONGEST_PAUSE_S` is ignored here,
        because the operation that was told to wait so long ends instead.
        """
        with self._changed:
            self._calm = 0
            self._allowed = max((self._allowed or self._running) // 2, 1)
            if after_s is not None and after_s <= LONGEST_PAUSE_S:
                self._until = max(self._until, time.monotonic() + after_s)

    def well(self) -> None:
        """Record a reply without complaint.

        `_CALM` of them in a row allow one more request at a time.
        """
        if self._allowed is None:
            return
        with self._changed:
            self._calm += 1
            if self._calm >= _CALM and self._allowed is not None:
                self._calm = 0
                self._allowed += 1
                self._changed.notify()
