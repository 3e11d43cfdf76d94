"""Connections to hosts with several addresses, and to names that nothing resolves."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import httpcore
import pytest

from regpush.concurrency import Cancellation
from regpush.errors import CancelledError
from regpush.http.ahead import Ahead
from regpush.http.race import connect
from tests.patience import HANG_S

HOST = "registry.test"


@pytest.fixture
def live() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


@pytest.fixture
def dead() -> Iterator[socket.socket]:
    """A server whose queue of connections is full, so that the kernel answers no further one."""
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening


@pytest.fixture
def patient() -> Iterator[Cancellation]:
    """A cancellation that ends a test which hangs."""
    cancel = Cancellation()
    timer = threading.Timer(HANG_S, cancel.cancel)
    timer.start()
    yield cancel
    timer.cancel()


@pytest.fixture
def gone() -> tuple[str, int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        host, port = listening.getsockname()
    return host, port


def resolves(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Let every name resolve to `addresses`, in this order."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_an_address_that_does_not_answer_is_no_reason_to_wait(
    live: socket.socket,
    dead: socket.socket,
    patient: Cancellation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolves(monkeypatch, dead.getsockname(), live.getsockname())
    with connect(HOST, 443, None, patient) as found:
        assert found.getpeername() == live.getsockname()


def test_a_connection_begun_to_an_address_that_does_not_answer_is_not_waited_for(
    live: socket.socket,
    dead: socket.socket,
    patient: Cancellation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resolves(monkeypatch, dead.getsockname(), live.getsockname())
    ahead = Ahead()
    ahead.open(HOST, 443, 1, patient.check)
    begun = ahead.take(HOST, 443, patient.check)
    assert begun
    with connect(HOST, 443, None, patient, begun) as found:
        assert found.getpeername() == live.getsockname()
    assert begun.sock.fileno() == -1


def test_no_handshake_waits_for_an_address_that_does_not_answer(
    live: socket.socket,
    dead: socket.socket,
    patient: Cancellation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its connection stays in the race with the host's further addresses, as without TLS."""
    resolves(monkeypatch, dead.getsockname(), live.getsockname())
    secured: list[socket.socket] = []

    def secure(sock: socket.socket) -> socket.socket:
        secured.append(sock)
        return sock

    ahead = Ahead()
    ahead.begin(HOST, 443, secure)
    begun = ahead.take(HOST, 443, patient.check)
    assert begun
    with connect(HOST, 443, None, patient, begun) as found:
        assert found.getpeername() == live.getsockname()
    assert not secured


def test_an_address_that_refuses_is_followed_by_the_next(
    live: socket.socket, gone: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves(monkeypatch, gone, live.getsockname())
    with connect(HOST, 443, HANG_S, Cancellation()) as found:
        assert found.getpeername() == live.getsockname()


def test_the_first_address_is_used_where_both_answer(
    live: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        resolves(monkeypatch, live.getsockname(), other.getsockname())
        with connect(HOST, 443, HANG_S, Cancellation()) as found:
            assert found.getpeername() == live.getsockname()


def test_each_address_has_the_time_out(
    dead: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolves(monkeypatch, dead.getsockname())
    with pytest.raises(httpcore.ConnectTimeout, match=r"no connection within 0\.1 s"):
        connect(HOST, 443, 0.1, Cancellation())


def test_a_refusal_is_named(gone: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    resolves(monkeypatch, gone, gone)
    with pytest.raises(httpcore.ConnectError, match="connection refused"):
        connect(HOST, 443, HANG_S, Cancellation())


@pytest.mark.usefixtures("silent_name_servers")
def test_a_name_that_no_server_resolves_is_not_waited_for_after_a_cancellation() -> None:
    cancel = Cancellation()
    cancel.cancel()
    with pytest.raises(CancelledError):
        connect(HOST, 443, HANG_S, cancel)
