"""The one policy of trying again: what may be tried, how long between, when to stop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import tenacity

from regpush.cancel import Cancellation
from regpush.errors import RegpushError
from regpush.events import Listener, Note

FIRST_WAIT_S = 0.3
LONGEST_WAIT_S = 20.0
BUDGET_S = 180.0
"""Waiting between the attempts of one operation, in all; the attempts themselves not counted."""

T = TypeVar("T")


class RetryableError(Exception):
    """An attempt failed, and another may not: `error` is what to raise if it does.

    `after_s`: seconds the registry asked to wait. With `once`, this is tried again however
    few attempts are allowed, but a second one with an `error` of the same class ends it.
    """

    def __init__(
        self, error: RegpushError, *, after_s: float | None = None, once: bool = False
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.after_s = after_s
        self.once = once


class Policy:
    """Up to `times` further attempts after the first. Thread-safe."""

    def __init__(self, times: int, *, notify: Listener, cancel: Cancellation) -> None:
        self._times = times
        self._notify = notify
        self._cancel = cancel

    def run(self, work: Callable[[], T]) -> T:
        """Call `work` until it returns, or raises anything but RetryableError.

        Raises the error inside the last RetryableError, or CancelledError from the wait.
        """
        seen: set[type[RegpushError]] = set()

        def stop(state: tenacity.RetryCallState) -> bool:
            failure = _failure(state)
            if state.idle_for + state.upcoming_sleep > BUDGET_S:
                return True
            if not failure.once:
                return state.attempt_number - len(seen) > self._times
            again = type(failure.error) in seen
            seen.add(type(failure.error))
            return again

        attempts = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(RetryableError),
            wait=_wait,
            stop=stop,
            sleep=self._cancel.wait,
            before_sleep=self._tell,
            reraise=True,
        )
        try:
            return attempts(work)
        except RetryableError as failure:
            raise failure.error from failure.__cause__

    def _tell(self, state: tenacity.RetryCallState) -> None:
        failure = _failure(state)
        self._notify(Note(message=f"{failure.error} (again in {state.upcoming_sleep:.1f} s)"))


def _failure(state: tenacity.RetryCallState) -> RetryableError:
    failure = state.outcome.exception() if state.outcome else None
    if not isinstance(failure, RetryableError):
        raise TypeError(f"retrying after {failure!r}")
    return failure


_exponential = tenacity.wait_exponential(
    multiplier=FIRST_WAIT_S, max=LONGEST_WAIT_S
) + tenacity.wait_random(0, FIRST_WAIT_S)


def _wait(state: tenacity.RetryCallState) -> float:
    return max(_exponential(state), _failure(state).after_s or 0.0)
