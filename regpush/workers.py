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
    """All results, or the first failure; the cancellation it brought about is not one."""
    failed = _failed(wait(futures, return_when=FIRST_EXCEPTION).done)
    if failed and all(isinstance(error, CancelledError) for error in failed):
        # What fails in a pool inside one of them cancels the others before it gets here.
        failed = _failed(wait(futures).done)
    if failed:
        raise next((one for one in failed if not isinstance(one, CancelledError)), failed[0])
    return [future.result() for future in futures]


def _failed(futures: Iterable[Future[R]]) -> list[BaseException]:
    return [error for future in futures if (error := future.exception())]
