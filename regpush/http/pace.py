"""How fast one registry is asked: a pause that all workers share, and fewer requests at a time.

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
"""After so many successful replies in a row, one more request at a time is allowed."""


class Pace:
    """Limits how fast one registry is asked. Thread-safe; no limit before it complains."""

    def __init__(self, cancel: Cancellation) -> None:
        self._cancel = cancel
        self._changed = threading.Condition()
        self._until = 0.0
        self._running = 0
        self._allowed: int | None = None
        self._calm = 0

    @property
    def allowed(self) -> int | None:
        """Requests at a time, None for any number."""
        return self._allowed

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait until a request may be sent; inside the block the request is counted.

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
        """Halve the number of parallel requests and pause for `after_s`, after a complaint.

        `after_s` is in seconds, None for no pause. A wait longer than the retry policy allows is
        left out: the caller reads `after_s` and ends.
        """
        with self._changed:
            self._calm = 0
            self._allowed = max((self._allowed or self._running) // 2, 1)
            if after_s is not None and after_s <= LONGEST_PAUSE_S:
                self._until = max(self._until, time.monotonic() + after_s)

    def well(self) -> None:
        """Record that the registry answered without complaint."""
        if self._allowed is None:
            return
        with self._changed:
            self._calm += 1
            if self._calm >= _CALM and self._allowed is not None:
                self._calm = 0
                self._allowed += 1
                self._changed.notify()
