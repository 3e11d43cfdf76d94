"""Stopping from outside: one flag that every worker looks at between two blocks."""

from __future__ import annotations

import threading

from regpush.errors import CancelledError


class Cancellation:
    """A flag set once, by a signal handler or by a library user in another thread."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask everything that works under this flag to stop. Safe to call at any time."""
        self._event.set()

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise CancelledError if `cancel` was called."""
        if self._event.is_set():
            raise CancelledError("cancelled: no tag was moved; running again continues")

    def wait(self, seconds: float) -> None:
        """Sleep up to `seconds`; raise CancelledError as soon as `cancel` is called."""
        self._event.wait(seconds)
        self.check()
