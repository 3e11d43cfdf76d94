"""Repeats an operation after its first failure: how long to wait between attempts, when to stop.

The loop is tenacity's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from regpush.errors import RegpushError
from regpush.http.retry import RetryableError

FIRST_WAIT_S = 0.3
LONGEST_WAIT_S = 20.0
BUDGET_S = 180.0
"""Seconds that one operation waits between its attempts at most, in total.

The attempts themselves are not counted.
"""

LESSONS = 16
"""Attempts of one operation, at most, that failed only because of the form of the request.

For example, a whole blob was sent where the registry takes chunks.
"""

STEP = 4 << 20
"""The number of acknowledged bytes since the last failure that resets the count of attempts."""

T = TypeVar("T")

Tell = Callable[[RetryableError, int, float], None]
"""Called with a failure, the number of the attempt that follows, and the seconds until then."""


def after(
    failure: RetryableError,
    work: Callable[[], T],
    *,
    times: int,
    progress: Callable[[], int],
    wait: Callable[[float], None],
    tell: Tell,
) -> T:
    """Call `work`, which just raised `failure`, again until it returns; returns its result.

    `work` is called `times` times at most; `progress` returns the bytes acknowledged so far, and
    `STEP` more of them reset the count. `wait` sleeps for a number of seconds between the calls.
    Raises the last RetryableError, and any other error of `work` at once.
    """
    first: list[RetryableError] = [failure]

    def attempt() -> T:
        if first:
            raise first.pop()
        return work()

    def told(state: tenacity.RetryCallState) -> None:
        tell(_failure(state), state.attempt_number + 1, state.upcoming_sleep)

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(RetryableError),
        wait=_wait,
        stop=_Tally(times, progress).ends,
        sleep=wait,
        before_sleep=told,
        reraise=True,
    )
    return attempts(attempt)


class _Tally:
    """Counts the failures of one operation, and decides whether another attempt is allowed."""

    def __init__(self, times: int, progress: Callable[[], int]) -> None:
        self._times = times
        self._progress = progress
        self._seen: set[type[RegpushError]] = set()
        self._lessons = 0
        self._failures = 0
        self._waited_s = 0.0
        self._safe = 0

    def ends(self, state: tenacity.RetryCallState) -> bool:
        """Count the failure of `state`; returns whether no further attempt is allowed."""
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
