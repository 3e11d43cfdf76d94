"""Threads that work at the same time, and end together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from regpush.cancel import Cancellation
from regpush.errors import CancelledError

T = TypeVar("T")
R = TypeVar("R")


def parallel(
    count: int, things: Sequence[T], work: Callable[[T], R], cancel: Cancellation
) -> list[R]:
    """`work` on every thing, in order of results; the first error ends it all and is raised."""
    with workers(count, cancel) as pool:
        return results([pool.submit(work, thing) for thing in things])


@contextmanager
def workers(count: int, cancel: Cancellation) -> Iterator[ThreadPoolExecutor]:
    """A pool whose work ends before the block does, early if the block fails."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="regpush")
    try:
        yield pool
    except BaseException:
        # The others must not go on sending; `cancel` reaches them between two blocks.
        cancel.cancel()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def results(futures: Sequence[Future[R]]) -> list[R]:
    """All results, or the first failure; a cancellation only where it is not for another's."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    failures = _failures(done)
    if failures and all(isinstance(failure, CancelledError) for failure in failures):
        # What all was cancelled for may still be on its way: workers within workers end first.
        failures = _failures(wait(futures).done)
        failures.sort(key=lambda failure: isinstance(failure, CancelledError))
    if failures:
        raise failures[0]
    return [future.result() for future in futures]


def _failures(done: Iterable[Future[R]]) -> list[BaseException]:
    return [failure for future in done if (failure := future.exception())]
