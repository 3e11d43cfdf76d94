"""A gzip that nobody asked for, as proxies send it."""

import gzip
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regpush.http.encoding import is_gzip, unpacked
from regpush.http.wire import UnansweredError


@settings(deadline=None)
@given(
    st.lists(st.binary(max_size=2000), min_size=1, max_size=3), st.integers(1, 700), st.booleans()
)
def test_whatever_gzip_packs_is_unpacked(members, step, large):
    contents = [member * (400 if large else 1) for member in members]
    data = b"".join(map(gzip.compress, contents))
    parts = [data[start : start + step] for start in range(0, len(data), step)]
    assert b"".join(unpacked(iter(parts))) == b"".join(contents)


def test_an_empty_body_is_empty():
    assert list(unpacked(iter([]))) == []


@pytest.mark.parametrize(
    "data",
    [b"not gzip", gzip.compress(b"x" * 1000)[:-9], b"\x1f"],
    ids=["other", "truncated", "short"],
)
def test_what_is_no_gzip_or_no_whole_one(data):
    with pytest.raises(UnansweredError, match="gzip"):
        list(unpacked(iter([data])))


def test_a_bomb_is_unpacked_in_bounded_pieces():
    bomb = gzip.compress(bytes(200 << 20), 1)
    tracemalloc.start()
    try:
        total = sum(len(piece) for piece in unpacked(iter([bomb])))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 200 << 20
    assert peak < 4 << 20


def test_which_encodings_are_gzip():
    assert is_gzip(" GZIP ")
    assert is_gzip("x-gzip")
    assert not any(map(is_gzip, ("", "identity", "br", "gzip, gzip")))
