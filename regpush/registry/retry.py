"""When to try again: the one policy for every request (registry.md, Faults to survive)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    stop_after_attempt,
    wait_exponential,
    wait_random,
)

from regpush.cancel import Cancellation
from regpush.errors import TransientError
from regpush.events import Listener, Note

T = TypeVar("T")

RETRY_STATUSES = frozenset({408, 429, 499, 500, 502, 503, 504, 522})
"""Replies that may be another one next time; go-containerregistry's list."""

_WAIT_BUDGET_S = 180.0
_FIRST_WAIT_S = 0.25
_LONGEST_WAIT_S = 15.0
_BACK_OFF = wait_exponential(multiplier=_FIRST_WAIT_S, max=_LONGEST_WAIT_S) + wait_random(
    0, _FIRST_WAIT_S
)


class RetryableError(TransientError):
    """A failure that may pass: worth another attempt, and the message once all were made.

    `retry_after_s`: how long the server asked to be left alone, if it did.
    """

    def __init__(self, message: str, *, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class Retry:
    """Repeats what is interrupted: bounded in attempts, and in the time spent waiting.

    The time an attempt itself takes is bounded by its own time-outs: a long upload that
    fails near its end has as much right to a second attempt as a short one.
    """

    def __init__(self, times: int, notify: Listener, cancel: Cancellation) -> None:
        self._attempts = times + 1
        self._notify = notify
        self._cancel = cancel

    def call(self, attempt: Callable[[], T]) -> T:
        """`attempt()`, again after each RetryableError; the last one, if all attempts fail.

        Raises CancelledError soon after the run is cancelled.
        """
        return Retrying(
            retry=retry_if_exception_type(RetryableError),
            wait=_wait_s,
            stop=lambda state: stop_after_attempt(self._attempts)(state) or _over_budget(state),
            before_sleep=self._tell,
            sleep=self._cancel.wait,
            reraise=True,
        )(attempt)

    def _tell(self, state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        self._notify(Note(message=f"{error}; trying again in {state.upcoming_sleep:.1f} s"))


def _wait_s(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    asked = error.retry_after_s if isinstance(error, RetryableError) else None
    return max(_BACK_OFF(state), asked or 0.0)


def _over_budget(state: RetryCallState) -> bool:
    return state.idle_for + state.upcoming_sleep > _WAIT_BUDGET_S
