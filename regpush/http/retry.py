"""The retry policy: what may be tried again, how long to wait between attempts, when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from regpush.concurrency import Cancellation
from regpush.errors import RegpushError
from regpush.events import Listener, Note

FIRST_WAIT_S = 0.3
LONGEST_WAIT_S = 20.0
BUDGET_S = 180.0
"""Seconds of waiting between the attempts of one operation, in total; the attempts not counted."""

LESSONS = 16
"""Attempts of one operation that failed only because of the form of the request, at most."""

STEP = 4 << 20
"""So many acknowledged bytes since the last failure reset the count of attempts."""

T = TypeVar("T")


class RetryableError(Exception):
    """An attempt failed and another may succeed; `error` is raised when no attempt is left.

    `after_s`: seconds the registry asked to wait. `once`: one more attempt is made even where none
    are allowed, and a second failure of the same class ends the operation. `learned`: the next
    attempt is made in another form, at once, and is not counted.
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
    """Up to `times` further attempts after the first. Thread-safe."""

    def __init__(self, times: int, *, notify: Listener, cancel: Cancellation) -> None:
        self._times = times
        self._notify = notify
        self._cancel = cancel
        self._told: set[str] = set()

    def run(self, work: Callable[[], T], progress: Callable[[], int] = lambda: 0) -> T:
        """Call `work` until it returns, or raises anything but RetryableError.

        `progress` gives the number of acknowledged bytes: each further `STEP` of them allows all
        attempts, and the whole waiting time, again. Raises the error inside the last
        RetryableError, or CancelledError.
        """
        tally = _Tally(self._times, progress)
        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(RetryableError),
            wait=_wait,
            stop=tally.ends,
            sleep=self._cancel.wait,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return attempts(work)
        except RetryableError as failure:
            raise failure.error from failure.__cause__

    def _tell(self, state: tenacity.RetryCallState) -> None:
        reason, wait = str(_failure(state).error), f"{state.upcoming_sleep:.1f} s"
        if reason in self._told:
            attempt = f"{state.attempt_number + 1} of {self._times + 1}"
            self._notify(Note(message=f"retrying ({attempt}) in {wait}"))
            return
        self._told.add(reason)
        self._notify(Note(message=f"{reason} (again in {wait})"))


class _Tally:
    """The failures of one operation so far, and whether another attempt is allowed."""

    def __init__(self, times: int, progress: Callable[[], int]) -> None:
        self._times = times
        self._progress = progress
        self._seen: set[type[RegpushError]] = set()
        self._lessons = 0
        self._failures = 0
        self._waited_s = 0.0
        self._safe = 0

    def ends(self, state: tenacity.RetryCallState) -> bool:
        """Count the failure of `state`; returns whether to give up."""
        failure = _failure(state)
        if failure.learned:
            self._lessons += 1
            return self._lessons > LESSONS
        if (safe := self._progress()) >= self._safe + STEP:
            self._safe, self._failures, self._waited_s = safe, 0, 0.0
        self._waited_s += state.upcoming_sleep
        if self._waited_s > BUDGET_S:
            return True
        if failure.once:
            again = type(failure.error) in self._seen
            self._seen.add(type(failure.error))
            return again
        self._failures += 1
        return self._failures > self._times


def _failure(state: tenacity.RetryCallState) -> RetryableError:
    failure = state.outcome.exception() if state.outcome else None
    if not isinstance(failure, RetryableError):
        raise TypeError(f"retrying after {failure!r}")
    return failure


_exponential = tenacity.wait_exponential(
    multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S
) + tenacity.wait_random(0, FIRST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    failure = _failure(state)
    return 0.0 if failure.learned else max(_exponential(state), failure.after_s or 0.0)
