"""Which form an upload takes, where it goes on, how fast a host is asked: without any I/O."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regpush.concurrency import Cancellation
from regpush.errors import CancelledError
from regpush.http.attempts import LESSONS
from regpush.http.pace import Pace
from regpush.registry.quirks import CHUNK, RANGED_CHUNK
from regpush.registry.uploads.body import Body
from regpush.registry.uploads.lessons import (
    LARGEST,
    SMALLEST,
    Form,
    HostMemory,
    Lessons,
    Limits,
    Refusal,
    learn,
)
from regpush.registry.uploads.resume import Receipt, acknowledged, resume_at, stored

MIB = 1 << 20
NO_LIMITS = Limits()


# Forms.


@pytest.mark.parametrize(
    ("lessons", "size", "limits", "form"),
    [
        (Lessons(), 0, NO_LIMITS, Form.WHOLE),
        (Lessons(), 10**12, NO_LIMITS, Form.WHOLE),
        (Lessons(), None, NO_LIMITS, Form.STREAMED),
        (Lessons(whole=False), 5, NO_LIMITS, Form.STREAMED),
        (Lessons(streamed=False), None, NO_LIMITS, Form.CHUNKED),
        (Lessons(whole=False, streamed=False), 5, NO_LIMITS, Form.CHUNKED),
        (Lessons(too_large=9 * MIB), 9 * MIB, NO_LIMITS, Form.CHUNKED),
        (Lessons(too_large=9 * MIB), 9 * MIB - 1, NO_LIMITS, Form.WHOLE),
        (Lessons(too_large=9 * MIB), None, NO_LIMITS, Form.CHUNKED),
        (Lessons(too_large=90 * MIB), 80 * MIB, NO_LIMITS, Form.WHOLE),
        (Lessons(), 7 * MIB, Limits(1, 6 * MIB), Form.CHUNKED),
        (Lessons(), 6 * MIB, Limits(1, 6 * MIB), Form.WHOLE),
        (Lessons(), None, Limits(1, 6 * MIB), Form.CHUNKED),
        (Lessons(whole=False), 5, Limits(1, 6 * MIB), Form.CHUNKED),
    ],
)
def test_forms(lessons: Lessons, size: int | None, limits: Limits, form: Form) -> None:
    assert lessons.form(size, limits) is form


@pytest.mark.parametrize(
    ("least", "most", "limits"),
    [
        ("", "", NO_LIMITS),
        ("5242880", "", Limits(5 * MIB)),
        ("5242880", "6291456", Limits(5 * MIB, 6 * MIB)),
        ("", "1", Limits(1, SMALLEST)),
        ("9" * 18, "9" * 18, Limits(LARGEST, int("9" * 18))),
        ("9" * 40, "-1", NO_LIMITS),
        ("0", "0", NO_LIMITS),
        ("10485760", "5242880", Limits(10 * MIB, 10 * MIB)),
        ("1.5", "\u0665", NO_LIMITS),
    ],
)
def test_limits_of_an_upload(least: str, most: str, limits: Limits) -> None:
    assert Limits.stated(least, most) == limits


@given(st.text(), st.text(), st.integers(1, LARGEST))
def test_no_limits_make_a_chunk_that_memory_does_not_hold(least: str, most: str, own: int) -> None:
    limits = Limits.stated(least, most)
    assert 1 <= limits.least <= (limits.most or LARGEST)
    assert limits.most is None or limits.most >= SMALLEST
    assert limits.least <= Lessons(chunk=own).chunk_size(limits) <= LARGEST


def refused(form: Form, status: int, length: int | None, code: str = "", **more: bool) -> Refusal:
    return Refusal(form=form, status=status, code=code, length=length, **more)


@pytest.mark.parametrize(
    ("before", "refusal", "after"),
    [
        # 413: smaller, and smaller again.
        (
            Lessons(),
            refused(Form.WHOLE, 413, 100 * MIB),
            Lessons(too_large=100 * MIB, chunk=CHUNK),
        ),
        (Lessons(), refused(Form.WHOLE, 413, 6 * MIB), Lessons(too_large=6 * MIB, chunk=3 * MIB)),
        (Lessons(), refused(Form.STREAMED, 413, None), Lessons(too_large=CHUNK)),
        (
            Lessons(too_large=100 * MIB),
            refused(Form.CHUNKED, 413, 8 * MIB),
            Lessons(too_large=8 * MIB, chunk=4 * MIB),
        ),
        # Another worker's refusal of what is not sent any more teaches nothing new.
        (
            Lessons(too_large=8 * MIB, chunk=4 * MIB),
            refused(Form.CHUNKED, 413, 8 * MIB),
            Lessons(too_large=8 * MIB, chunk=4 * MIB),
        ),
        (Lessons(), refused(Form.CHUNKED, 413, SMALLEST), None),
        (Lessons(), refused(Form.WHOLE, 413, 5), None),
        (
            Lessons(),
            refused(Form.WHOLE, 413, SMALLEST + 1),
            Lessons(too_large=SMALLEST + 1, chunk=SMALLEST),
        ),
        # Artifactory of old, and others without the one form.
        (Lessons(), refused(Form.WHOLE, 404, 5, "BLOB_UNKNOWN"), Lessons(whole=False)),
        (Lessons(), refused(Form.WHOLE, 405, 5), Lessons(whole=False)),
        (Lessons(), refused(Form.WHOLE, 404, 5, "BLOB_UPLOAD_UNKNOWN"), None),
        (Lessons(), refused(Form.STREAMED, 411, None), Lessons(streamed=False)),
        (Lessons(), refused(Form.STREAMED, 501, None), Lessons(streamed=False)),
        (Lessons(), refused(Form.STREAMED, 416, None), None),
        (Lessons(), refused(Form.STREAMED, 500, None), None),
        # GHCR, and registries that want the last chunk by PATCH as well.
        (Lessons(), refused(Form.CHUNKED, 416, 8 * MIB), Lessons(chunk=RANGED_CHUNK)),
        (Lessons(chunk=MIB), refused(Form.CHUNKED, 416, 8 * MIB), Lessons(chunk=MIB)),
        (Lessons(), refused(Form.CHUNKED, 416, MIB), None),
        (Lessons(), refused(Form.CHUNKED, 416, 5, closing=True), Lessons(closing_chunk=False)),
        (Lessons(), refused(Form.CHUNKED, 400, 5, closing=True), Lessons(closing_chunk=False)),
        (Lessons(), refused(Form.CHUNKED, 400, 5, "DIGEST_INVALID", closing=True), None),
        (Lessons(), refused(Form.CHUNKED, 400, 0, closing=True), None),
        (Lessons(closing_chunk=False), refused(Form.CHUNKED, 416, 5, closing=True), None),
        (Lessons(), refused(Form.CHUNKED, 403, 5), None),
    ],
)  # fmt: skip
def test_lessons(before: Lessons, refusal: Refusal, after: Lessons | None) -> None:
    assert learn(before, refusal) == after


@given(st.integers(0, 200 * MIB), st.one_of(st.none(), st.integers(1, 10**10)), st.booleans())
def test_the_ladder_ends(cap: int, size: int | None, streamable: bool) -> None:
    """Against a host that refuses every body over `cap`: within the lessons an operation has,
    either a form fits or nothing more is to be learned."""
    lessons = Lessons(streamed=streamable)
    for _ in range(LESSONS):
        form = lessons.form(size, NO_LIMITS)
        length = {
            Form.WHOLE: size,
            Form.STREAMED: None,
            Form.CHUNKED: min(lessons.chunk_size(NO_LIMITS), size or 10**12),
        }[form]
        if (length if length is not None else size or 10**12) <= cap:
            return
        learned = learn(lessons, refused(form, 413, length))
        if learned is None:
            assert length is not None
            assert length <= SMALLEST
            return
        lessons = learned
    raise AssertionError(f"still refused: {lessons}")


def test_a_memory_is_of_all_workers() -> None:
    memory = HostMemory()
    assert memory.take(refused(Form.WHOLE, 405, 5))
    assert memory.take(refused(Form.WHOLE, 405, 5))
    assert not memory.take(refused(Form.WHOLE, 403, 5))
    memory.distrust_ranges()
    memory.give_up_mounts()
    assert memory.lessons == Lessons(whole=False, ranges=False, mounts=False)


# Positions.


@pytest.mark.parametrize(
    ("header", "sent", "expected"),
    [
        ("0-99", 100, 100),
        ("bytes=0-99", 100, 100),
        ("0--1", 100, 0),
        ("0-0", 0, 0),
        ("0-0", 1, None),
        ("0-0", 2, 0),
        (" 0-99 ", 100, 100),
        ("0-999999", 100, 1_000_000),
        ("1-99", 100, None),
        ("0-", 100, None),
        ("0--2", 100, None),
        ("bytes 0-99/100", 100, None),
        ("0-" + "9" * 40, 100, None),
        ("0-\u0665", 100, None),
        ("", 100, None),
    ],
)
def test_what_a_range_says(header: str, sent: int, expected: int | None) -> None:
    assert stored(header, sent) == expected


@pytest.mark.parametrize(
    ("before", "sent", "header", "receipt"),
    [
        (0, 100, "0-99", Receipt(100, credible=True)),
        (0, 100, "", Receipt(100, credible=True)),
        (0, 100, "nonsense", Receipt(100, credible=True)),
        (0, 100, "0-49", Receipt(50, credible=True)),
        (50, 100, "0-59", Receipt(60, credible=True)),
        (50, 100, "0-49", Receipt(100, credible=False)),
        (50, 100, "0-9", Receipt(100, credible=False)),
        (50, 100, "0-0", Receipt(100, credible=False)),
        (0, 100, "0-0", Receipt(100, credible=False)),
        (0, 100, "0-100", Receipt(100, credible=False)),
        (0, 1, "0-0", Receipt(1, credible=True)),
        (0, 0, "0-0", Receipt(0, credible=True)),
    ],
)
def test_receipts(before: int, sent: int, header: str, receipt: Receipt) -> None:
    assert acknowledged(before, sent, header) == receipt


@pytest.mark.parametrize(
    ("acked", "sent", "header", "expected"),
    [
        (0, 100, "0-59", 60),
        (50, 100, "0-59", 60),
        (50, 100, "0-49", 50),
        (50, 100, "0-99", 100),
        (0, 100, "0--1", 0),
        (0, 100, "0-0", 0),
        (50, 100, "0-9", 50),
        (50, 100, "0-100", 50),
        (50, 100, "", 50),
        (0, 100, "", None),
        (0, 100, "0-100", None),
        (0, 1, "0-0", None),
        # Quay counts one too high: what was acknowledged is certain.
        (50, 100, "bytes=0-60", 50),
        (0, 100, "bytes=0-60", None),
    ],
)
def test_where_an_upload_goes_on(acked: int, sent: int, header: str, expected: int | None) -> None:
    assert resume_at(acked, sent, header) == expected


positions = st.integers(0, 10**6)
ranges = st.one_of(
    st.text(max_size=40),
    st.builds("0-{}".format, st.integers(-2, 10**7)),
    st.builds("bytes=0-{}".format, st.integers(-2, 10**7)),
    st.text("0123456789-b=ytes \u0660", max_size=20),
)


@given(positions, positions, ranges)
def test_no_range_leads_out_of_what_was_sent(acked: int, more: int, header: str) -> None:
    sent = acked + more
    at = resume_at(acked, sent, header)
    assert at is None or acked <= at <= sent
    receipt = acknowledged(acked, sent, header)
    assert acked <= receipt.stored <= sent
    assert receipt.stored > acked or sent == acked


# Bodies.


def bodies() -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.binary(max_size=30), max_size=12)


@given(bodies(), st.data())
def test_a_body_is_the_same_wherever_it_is_read_from(
    pieces: list[bytes], data: st.DataObject
) -> None:
    whole = b"".join(pieces)
    opened = 0

    def open_bytes() -> Iterator[bytes]:
        nonlocal opened
        opened += 1
        yield from pieces

    body = Body(open_bytes)
    for _ in range(data.draw(st.integers(0, 8))):
        at = data.draw(st.integers(0, len(whole)))
        body.seek(at)
        assert body.position == at
        match data.draw(st.sampled_from(["take", "rest", "some"])):
            case "take":
                size = data.draw(st.integers(1, 40))
                chunk = body.take(size)
                assert b"".join(chunk.pieces) == whole[at : at + size]
                assert (chunk.start, chunk.size) == (at, len(whole[at : at + size]))
                assert chunk.last == (at + size >= len(whole))
            case "rest":
                assert b"".join(body.rest()) == whole[at:]
                assert body.position == len(whole)
            case "some":
                rest = body.rest()
                came = next(rest, b"")
                assert whole[at:].startswith(came)
                assert body.position == at + len(came)
    body.close()


def test_a_chunk_in_hand_is_not_read_again() -> None:
    opened = []

    def open_bytes() -> Iterator[bytes]:
        opened.append(1)
        yield from (b"abc", b"defgh", b"ij")

    body = Body(open_bytes)
    assert b"".join(body.take(4).pieces) == b"abcd"
    for at in (1, 3, 4):
        body.seek(at)
        assert b"".join(body.take(4 - at or 4).pieces) == (b"abcd"[at:] or b"efgh")
    assert len(opened) == 1
    body.seek(2)
    assert b"".join(body.rest()) == b"cdefghij"
    assert len(opened) == 2


# Pace.


def test_nobody_waits_for_a_registry_without_complaints() -> None:
    pace = Pace(Cancellation())
    with pace.turn(), pace.turn(), pace.turn():
        assert pace.allowed is None


def test_complaints_halve_and_calm_adds_one() -> None:
    pace = Pace(Cancellation())
    with pace.turn(), pace.turn(), pace.turn(), pace.turn():
        pace.slower(None)
    assert pace.allowed == 2
    pace.slower(0)
    pace.slower(0)
    assert pace.allowed == 1
    for _ in range(16):
        pace.well()
    assert pace.allowed == 3


def test_no_more_than_are_allowed_go_at_once() -> None:
    pace = Pace(Cancellation())
    pace.slower(None)
    inside, most, lock = 0, 0, threading.Lock()

    def work() -> None:
        nonlocal inside, most
        with pace.turn():
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.005)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == 1


def test_a_pause_holds_all_and_ends_by_cancellation() -> None:
    cancel = Cancellation()
    pace = Pace(cancel)
    pace.slower(170)
    threading.Timer(0.1, cancel.cancel).start()
    with pytest.raises(CancelledError), pace.turn():
        pass


def test_a_pause_beyond_patience_is_left_to_who_was_told() -> None:
    pace = Pace(Cancellation())
    pace.slower(3600)
    with pace.turn():
        pass
