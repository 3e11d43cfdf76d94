"""Connections that are begun before a request needs them."""

import socket
from collections.abc import Iterator

import pytest

from regpush.http import ahead
from regpush.http.ahead import Ahead
from tests.patience import HANG_S


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections stay fresh, however long a busy machine takes to use them."""
    monkeypatch.setattr(ahead, "_FRESH_S", HANG_S)


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(HANG_S)
        yield listening


def place(server: socket.socket) -> tuple[str, int]:
    host, port = server.getsockname()
    return host, port


def test_what_was_begun_early_belongs_to_the_first_who_asks(server: socket.socket) -> None:
    ahead.begin(*place(server))
    first, second = ahead.handed_over(), ahead.handed_over()
    accepted, _ = server.accept()
    taken = first.take(*place(server))
    assert taken
    assert taken.getsockname() == accepted.getpeername()
    assert second.take(*place(server)) is None
    for one in (taken, accepted):
        one.close()


def test_connections_that_are_there_are_not_begun_again(server: socket.socket) -> None:
    begun = Ahead()
    for _ in range(2):
        begun.open(*place(server), 3)
    taken = [begun.take(*place(server)) for _ in range(4)]
    assert [one is not None for one in taken] == [True, True, True, False]
    for one in taken:
        if one:
            one.close()


def test_a_connection_that_the_server_closed_is_not_taken(server: socket.socket) -> None:
    begun = Ahead()
    begun.open(*place(server), 1)
    accepted, address = server.accept()
    accepted.close()
    (waiting,) = begun._begun[place(server)]
    waiting.sock.setblocking(True)
    assert waiting.sock.recv(1, socket.MSG_PEEK) == b""  # the end has arrived
    assert begun.take(*place(server)) is None
    assert address


def test_a_server_that_is_not_there_is_no_error_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nowhere = place(gone)
    begun = Ahead()
    begun.begin(*nowhere)
    if taken := begun.take(*nowhere):  # the refusal may be known, or not yet
        taken.close()
    begun.begin("name.invalid", 443)
    assert begun.take("name.invalid", 443) is None


def test_what_nobody_took_is_closed(server: socket.socket) -> None:
    begun = Ahead()
    begun.open(*place(server), 1)
    accepted, _ = server.accept()
    accepted.settimeout(HANG_S)
    begun.close()
    assert accepted.recv(1) == b""
    accepted.close()
