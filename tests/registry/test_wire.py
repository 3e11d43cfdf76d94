"""The counting proxy itself: what it says must be what went over the connection."""

from __future__ import annotations

import http.client
import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.registry.api import Api, sha256
from tests.registry.wire import AfterCut, RequestReader

INNER = b"GET /inside/a/body HTTP/1.1\r\nHost: x\r\n\r\n"
UPWARD = (
    b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    + b"PUT /whole HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(INNER) + INNER
    + b"PATCH /chunked HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"%x\r\n%b\r\n" % (len(INNER), INNER) + b"1;x=y\r\n\n\r\n" + b"0\r\n\r\n"
    + b"DELETE /last HTTP/1.1\r\nX-A: b\r\n\r\n"
)  # fmt: skip


@given(st.lists(st.integers(0, len(UPWARD)), max_size=20))
def test_requests_are_found_however_the_bytes_are_cut(cuts):
    reader = RequestReader()
    found = []
    edges = [0, *sorted(cuts), len(UPWARD)]
    for start, end in itertools.pairwise(edges):
        found += [str(request) for request in reader.feed(UPWARD[start:end])]
    assert found == ["GET /v2/", "PUT /whole", "PATCH /chunked", "DELETE /last"]


def test_counts_what_crosses(registry, repository, wire):
    proxy = wire(registry)
    api = Api(proxy.host, repository)
    data = b"x" * 500_000
    digest = sha256(data)
    assert (
        api.finish(api.location(api.send("PATCH", api.start(), iter([data]))), digest).status == 201
    )
    stats = proxy.stats()
    assert [request.method for request in stats.requests] == ["POST", "PATCH", "PUT"]
    assert stats.requests[1].headers["transfer-encoding"] == "chunked"
    assert stats.connections == 3
    assert 500_000 < stats.bytes_up < 502_500
    proxy.reset()
    assert api.blob(digest).body == data
    stats = proxy.stats()
    assert [str(request) for request in stats.requests] == [f"GET {api.base}/blobs/{digest}"]
    assert stats.bytes_up < 500
    assert 500_000 < stats.bytes_down < 501_000


def test_cuts_once(registry, repository, wire):
    proxy = wire(registry, cut_after_up=100_000)
    api = Api(proxy.host, repository)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        api.put_blob(b"x" * 8_000_000)
    assert proxy.stats().bytes_up == 100_000
    assert api.put_blob(b"x" * 8_000_000)


def test_cuts_for_good(registry, repository, wire):
    proxy = wire(registry, cut_after_up=100_000, after_cut=AfterCut.STOP)
    api = Api(proxy.host, repository)
    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        api.put_blob(b"x" * 8_000_000)
    with pytest.raises(ConnectionRefusedError):
        api.send("GET", "/v2/")


def test_stop_resets_idle_connections(registry, wire):
    proxy = wire(registry)
    host, _, port = proxy.host.rpartition(":")
    with socket.create_connection((host, int(port))) as client:
        client.sendall(b"GET /v2/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = http.client.HTTPResponse(client)
        answer.begin()
        assert answer.status == 200
        answer.read()
        proxy.stop()
        with pytest.raises(ConnectionResetError):
            client.recv(100_000)


def test_upstream_that_is_gone(registry, wire, tmp_path):
    proxy = wire(registry)
    proxy._upstream = ("127.0.0.1", 1)
    with pytest.raises((ConnectionResetError, http.client.RemoteDisconnected)):
        Api(proxy.host, "x").send("GET", "/v2/")
