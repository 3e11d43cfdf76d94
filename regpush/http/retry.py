"""What may be tried again after a failure, and the policy of a run."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from regpush.concurrency import Cancellation
from regpush.errors import RegpushError
from regpush.events import Listener, Note

T = TypeVar("T")


class RetryableError(Exception):
    """An attempt failed and another may succeed; `error` is raised when no attempt is left.

    `after_s`: seconds the registry asked to wait. `once`: one more attempt is made even where none
    are allowed, and a second failure of the same class ends the operation. `learned`: the next
    attempt sends the request in another form, without a wait, and is not counted.
    """

    def __init__(
        self,
        error: RegpushError,
        *,
        after_s: float | None = None,
        once: bool = False,
        learned: bool = False,
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s
        self.once = once
        self.learned = learned


class Policy:
    """Repeats an operation up to `times` times after a first failure. Thread-safe."""

    def __init__(self, times: int, *, notify: Listener, cancel: Cancellation) -> None:
        self._times = times
        self._notify = notify
        self._cancel = cancel
        self._told: set[str] = set()

    def run(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call `work` until it returns, or raises anything but RetryableError.

        `progress` gives the number of acknowledged bytes: each further `attempts.STEP` of them
        allow all attempts, and the whole waiting time, again. Raises the error inside the last
        RetryableError, or CancelledError.
        """
        try:
            return work()
        except RetryableError as failure:
            first = failure
        from regpush.http import attempts  # tenacity, which a push without a failure does without

        try:
            return attempts.after(
                first,
                work,
                times=self._times,
                progress=progress,
                wait=self._cancel.wait,
                tell=self._tell,
            )
        except RetryableError as failure:
            raise failure.error from failure.__cause__

    def _tell(self, failure: RetryableError, attempt: int, wait_s: float) -> None:
        reason, wait = str(failure.error), f"{wait_s:.1f} s"
        if reason in self._told:
            self._notify(Note(message=f"retrying ({attempt} of {self._times + 1}) in {wait}"))
            return
        self._told.add(reason)
        self._notify(Note(message=f"{reason} (retrying in {wait})"))
