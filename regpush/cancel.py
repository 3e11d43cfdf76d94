"""Stopping from outside: one flag that every worker looks at between two blocks."""

from __future__ import annotations

import time

from regpush.errors import CancelledError

_LOOK_S = 0.1


class Cancellation:
    """A flag set once, by a signal handler or by a library user in another thread.

    A flag with a `parent` is set as well when its parent is, but not the other way round.
    No lock is behind it: a signal handler may interrupt anyone who looks at it.
    """

    def __init__(self, parent: Cancellation | None = None) -> None:
        self._set = False
        self._parent = parent

    def cancel(self) -> None:
        """Ask everything that works under this flag to stop. Safe to call at any time."""
        self._set = True

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called here or on a parent."""
        return self._set or (self._parent is not None and self._parent.cancelled)

    def check(self) -> None:
        """Raise CancelledError if `cancelled`."""
        if self.cancelled:
            raise CancelledError("cancelled: no tag was moved; running again continues")

    def wait(self, seconds: float) -> None:
        """Sleep `seconds`; raise CancelledError soon after `cancel` is called."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0 and not self.cancelled:
            time.sleep(min(left, _LOOK_S))
        self.check()
