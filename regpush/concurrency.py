"""Runs work in several threads that end together, and holds the flag that cancels the work."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from regpush.errors import CancelledError, UsageError

T = TypeVar("T")
R = TypeVar("R")

_LOOK_S = 0.1


class Cancellation:
    """A flag set once, by a signal handler or by a library user in another thread.

    A flag is also set when its `parent` is, but not the other way round. It uses no lock, since a
    signal handler may interrupt a thread that is just looking at it.
    """

    def __init__(self, parent: Cancellation | None = None) -> None:
        self._set = False
        self._parent = parent

    def cancel(self) -> None:
        """Ask all work under this flag to stop. May be called at any time, from any thread."""
        self._set = True

    @property
    def cancelled(self) -> bool:
        """Whether `cancel` was called on this flag or on a parent."""
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


def exhausted(error: BaseException) -> UsageError | None:
    """Return the UsageError for an `error` of too few threads or memory; None for other errors."""
    if isinstance(error, MemoryError) or str(error) == "can't start new thread":
        return UsageError(
            "the system gives this process no more threads or memory: lower --jobs, or raise "
            "the limit (ulimit -u, ulimit -v, or that of the container)"
        )
    return None


def parallel(
    count: int, things: Sequence[T], work: Callable[[T], R], cancel: Cancellation
) -> list[R]:
    """Call `work` on each of `things` in `count` threads; the results are in the order of `things`.

    The first error cancels the rest and is raised.
    """
    with workers(count, cancel) as pool:
        return results([pool.submit(work, thing) for thing in things])


@contextmanager
def workers(count: int, cancel: Cancellation) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `count` threads; the block ends only when all of its work has ended.

    A failure of the block cancels the work of the pool. Raises UsageError where the system refuses
    more threads or memory.
    """
    pool = ThreadPoolExecutor(count, thread_name_prefix="regpush")
    try:
        yield pool
    except BaseException as error:
        # The other workers must stop sending; they check `cancel` between two blocks.
        cancel.cancel()
        if told := exhausted(error):
            raise told from error
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def results(futures: Sequence[Future[R]]) -> list[R]:
    """Return the results of `futures` in order, or raise the first failure.

    A CancelledError that another failure caused is not raised in place of that failure.
    """
    failed = _failed(wait(futures, return_when=FIRST_EXCEPTION).done)
    if failed and all(isinstance(error, CancelledError) for error in failed):
        # A failure in a nested pool cancels the other futures before it arrives here.
        failed = _failed(wait(futures).done)
    if failed:
        raise next((one for one in failed if not isinstance(one, CancelledError)), failed[0])
    return [future.result() for future in futures]


def _failed(futures: Iterable[Future[R]]) -> list[BaseException]:
    return [error for future in futures if (error := future.exception())]
