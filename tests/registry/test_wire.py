"""The proxy counts what a client sent, whatever the bodies hold, and cuts where it is told."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.registry.servers import DockerRegistry
from tests.registry.wire import AfterCut, RequestReader, StartProxy

DISGUISED = b"GET /inside HTTP/1.1\r\nHost: x\r\n\r\n"
STREAM = b"".join(
    [
        b"GET /first HTTP/1.1\r\nHost: x\r\nX-Two: a\r\n\r\n",
        b"PUT /length HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(DISGUISED),
        DISGUISED,
        b"PATCH /chunked HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n",
        b"%x;extension=1\r\n" % len(DISGUISED) + DISGUISED + b"\r\n1\r\n\r\r\n0\r\n\r\n",
        b"POST /empty HTTP/1.1\r\ncontent-length: 0\r\n\r\n",
        b"HEAD /last HTTP/1.1\r\n\r\n",
    ]
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=8).map(sorted))
def test_requests_are_found_however_the_bytes_arrive(cuts: list[int]) -> None:
    reader = RequestReader()
    edges = [0, *cuts, len(STREAM)]
    pieces = [STREAM[a:b] for a, b in pairwise(edges)]
    found = [str(request) for piece in pieces for request in reader.feed(piece)]
    assert found == ["GET /first", "PUT /length", "PATCH /chunked", "POST /empty", "HEAD /last"]


def test_counts(docker_registry: DockerRegistry, wire: StartProxy, repository: str) -> None:
    proxy = wire(docker_registry)
    head = f"GET /v2/{repository}/tags/list HTTP/1.1\r\nHost: {proxy.host}\r\n\r\n".encode()
    received = b""
    for _ in range(2):
        with socket.create_connection(address(proxy.host)) as client:
            client.sendall(head)
            while b"NAME_UNKNOWN" not in received:
                received += client.recv(65536)
            size = len(received)
            received = b""
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass
    stats = proxy.stats()
    assert stats.connections == 2
    assert [str(r) for r in proxy.requests] == [f"GET /v2/{repository}/tags/list"] * 2
    assert stats.bytes_up == 2 * len(head)
    assert stats.bytes_down == 2 * size
    proxy.reset()
    assert proxy.requests == []
    assert proxy.stats().bytes_up == 0


def test_an_upload(docker_registry: DockerRegistry, wire: StartProxy, repository: str) -> None:
    proxy = wire(docker_registry)
    connection = http.client.HTTPConnection(proxy.host)
    location = start_upload(connection, repository)
    assert location.startswith(f"http://{proxy.host}/")  # the client stays on the proxy
    body = os.urandom(1_000_000)
    connection.request("PATCH", location, iter([body]), {"Transfer-Encoding": "chunked"},
                       encode_chunked=True)  # fmt: skip
    assert connection.getresponse().status == 202
    connection.close()
    assert [request.method for request in proxy.requests] == ["POST", "PATCH"]
    assert len(body) < proxy.stats().bytes_up < len(body) + 2000


@pytest.mark.parametrize("after_cut", AfterCut)
def test_cut(
    docker_registry: DockerRegistry, wire: StartProxy, repository: str, after_cut: AfterCut
) -> None:
    proxy = wire(docker_registry, cut_after_up=500_000, after_cut=after_cut)
    connection = http.client.HTTPConnection(proxy.host)
    location = start_upload(connection, repository)

    def upload() -> None:
        connection.request("PATCH", location, os.urandom(5_000_000))
        connection.getresponse()

    with pytest.raises((ConnectionResetError, BrokenPipeError)):
        upload()
    connection.close()
    assert proxy.stats().bytes_up == 500_000
    if after_cut is AfterCut.SERVE:
        assert start_upload(connection, repository)
        connection.close()
    else:
        with pytest.raises(ConnectionRefusedError):
            connection.connect()


def test_tls_is_passed_on(docker_registry_tls: DockerRegistry, wire: StartProxy) -> None:
    proxy = wire(docker_registry_tls)
    trust = ssl.create_default_context(cafile=str(docker_registry_tls.ca_file))
    connection = http.client.HTTPSConnection(proxy.host, context=trust)
    connection.request("GET", "/v2/")
    assert connection.getresponse().status == 200
    connection.close()
    assert proxy.requests == []
    assert proxy.stats().connections == 1
    assert proxy.stats().bytes_up > 100


def test_nothing_behind_it(tmp_path: Path, wire: StartProxy) -> None:
    registry = DockerRegistry(tmp_path)
    with registry:
        proxy = wire(registry)
    connection = http.client.HTTPConnection(proxy.host)

    def ask() -> None:
        connection.request("GET", "/v2/")
        connection.getresponse()

    with pytest.raises(ConnectionResetError):
        ask()
    connection.close()


def address(host: str) -> tuple[str, int]:
    name, _, port = host.partition(":")
    return name, int(port)


def start_upload(connection: http.client.HTTPConnection, repository: str) -> str:
    connection.request("POST", f"/v2/{repository}/blobs/uploads/", headers={"Content-Length": "0"})
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 202
    return answer.headers["Location"]
