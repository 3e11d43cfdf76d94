"""Pools inside pools: whose failure is told."""

import threading

import pytest

from regpush.concurrency import Cancellation, parallel, workers
from regpush.errors import CancelledError, RefusedError
from tests.patience import HANG_S


def test_the_failure_is_told_and_not_that_others_were_cancelled_for_it() -> None:
    """What fails in an inner pool cancels all before the pool, which waits, gives it on."""
    cancel = Cancellation()
    others_ended = threading.Event()

    def fail() -> None:
        raise RefusedError("no")

    def work(inner: bool) -> None:
        if inner:
            with workers(2, cancel) as pool:
                pool.submit(others_ended.wait, HANG_S)
                pool.submit(fail).result()
        try:
            cancel.wait(HANG_S)
        finally:
            others_ended.set()

    with pytest.raises(RefusedError, match="no"):
        parallel(2, [True, False], work, cancel)


def test_what_is_cancelled_from_outside_is_cancelled() -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(CancelledError):
        parallel(2, [1, 2, 3], lambda _: cancel.check(), cancel)
