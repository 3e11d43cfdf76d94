"""When a blob waits for its name, and when it goes without one."""

from collections.abc import Generator

import pytest

from regpush.pack.stream import Spool, Spooled


class Chunks:
    """As much of a layer's stream as a spool has to do with."""

    expected = 60

    def __iter__(self) -> Generator[bytes, None, None]:
        for number in range(6):
            yield b"%d" % number * 10


def spooled(spool: Spool) -> tuple[bool, list[bytes]]:
    with Spooled(Chunks(), spool) as one:  # type: ignore[arg-type]  all of it that is asked for
        whole, waiting = one.whole, list(one.chunks)
        assert b"".join(one.chunks if whole else one) == b"".join(Chunks())
    return whole, waiting


def test_where_nothing_goes_a_blob_does_not_wait() -> None:
    whole, waiting = spooled(Spool(budget=1000, rush=25))
    assert not whole
    assert waiting == [b"0" * 10, b"1" * 10, b"2" * 10]


def test_a_small_one_does() -> None:
    assert spooled(Spool(budget=1000, rush=61))[0]


def test_while_another_goes_it_waits_and_is_asked_for() -> None:
    spool = Spool(budget=1000, rush=25)
    with spool.going(), spool.going():
        assert spooled(spool)[0]
    assert not spooled(spool)[0]


def test_what_may_be_there_already_waits() -> None:
    assert spooled(Spool(budget=1000, rush=None))[0]


@pytest.mark.parametrize("budget", [59, 21])
def test_the_memory_is_bounded_and_given_back(budget: int) -> None:
    spool = Spool(budget=budget, rush=None)
    assert not spooled(spool)[0]
    assert spool.take(budget)
    assert not spool.take(1)
