"""Connections that are begun before a request needs them."""

import os
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import trustme

from regpush.concurrency import Cancellation
from regpush.errors import CancelledError
from regpush.http import ahead
from regpush.http.ahead import Ahead
from regpush.http.trust import secured
from tests.patience import HANG_S, wait_until


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


def taken_from(begun: Ahead, where: tuple[str, int]) -> socket.socket | None:
    found = begun.take(*where, Cancellation().check)
    return found.sock if found else None


def test_what_was_begun_early_belongs_to_the_first_who_asks(server: socket.socket) -> None:
    with ahead.begun(*place(server)):
        first, second = ahead.handed_over(), ahead.handed_over()
        accepted, _ = server.accept()
        taken = taken_from(first, place(server))
    assert taken
    assert taken.getsockname() == accepted.getpeername()
    assert taken_from(second, place(server)) is None
    for one in (taken, accepted):
        one.close()


def test_what_was_begun_before_the_command_line_is_read_is_not_begun_again(
    server: socket.socket,
) -> None:
    ahead.begin(*place(server))
    with ahead.begun(*place(server)):
        taken = taken_from(ahead.handed_over(), place(server))
        accepted, _ = server.accept()
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()
    assert taken
    assert taken.getsockname() == accepted.getpeername()
    for one in (taken, accepted):
        one.close()


def test_a_connection_that_nobody_took_over_is_closed(server: socket.socket) -> None:
    with ahead.begun(*place(server)):
        accepted, _ = server.accept()
    accepted.settimeout(HANG_S)
    assert accepted.recv(1) == b""
    accepted.close()


def test_nothing_is_begun_after_the_end(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving, resolved = threading.Event(), threading.Event()
    real = ahead.addresses

    def slow(*asked: Any) -> list[ahead.Address]:
        resolving.set()
        assert resolved.wait(HANG_S)
        return real(*asked)

    monkeypatch.setattr(ahead, "addresses", slow)
    begun = Ahead()
    begun.begin(*place(server))
    assert resolving.wait(HANG_S)
    begun.close()
    resolved.set()
    assert taken_from(begun, place(server)) is None


def test_connections_that_are_there_are_not_begun_again(server: socket.socket) -> None:
    begun = Ahead()
    for _ in range(2):
        begun.open(*place(server), 3, Cancellation().check)
    taken = [taken_from(begun, place(server)) for _ in range(4)]
    assert [one is not None for one in taken] == [True, True, True, False]
    for one in taken:
        if one:
            one.close()


def test_connections_leave_file_descriptors_for_files(
    server: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Several registries together get a quarter; Python cannot import modules without any."""
    monkeypatch.setattr(os, "sysconf", {"SC_OPEN_MAX": 16}.__getitem__)
    with socket.create_server(("127.0.0.1", 0)) as other:
        begun = Ahead()
        begun.open(*place(server), 3, Cancellation().check)
        begun.open(*place(other), 3, Cancellation().check)
        found = [taken_from(begun, place(where)) for where in [server] * 3 + [other] * 2]
    assert [one is not None for one in found] == [True, True, True, True, False]
    for one in found:
        if one:
            one.close()


def test_a_connection_that_the_server_closed_is_not_taken(server: socket.socket) -> None:
    begun = Ahead()
    begun.open(*place(server), 1, Cancellation().check)
    accepted, address = server.accept()
    accepted.close()
    (waiting,) = begun._begun[place(server)]
    waiting.sock.setblocking(True)
    assert waiting.sock.recv(1, socket.MSG_PEEK) == b""  # the end has arrived
    assert taken_from(begun, place(server)) is None
    assert address


def test_a_server_that_is_not_there_is_no_error_here() -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        nowhere = place(gone)
    begun = Ahead()
    begun.begin(*nowhere)
    if taken := taken_from(begun, nowhere):  # the refusal may be known, or not yet
        taken.close()
    begun.begin("name.invalid", 443)
    assert taken_from(begun, ("name.invalid", 443)) is None


def test_what_nobody_took_is_closed(server: socket.socket) -> None:
    begun = Ahead()
    begun.open(*place(server), 1, Cancellation().check)
    accepted, _ = server.accept()
    accepted.settimeout(HANG_S)
    begun.close()
    assert accepted.recv(1) == b""
    accepted.close()


@pytest.mark.usefixtures("silent_name_servers")
def test_a_name_that_no_server_resolves_is_not_waited_for_after_a_cancellation() -> None:
    begun, cancel = Ahead(), Cancellation()
    begun.begin("registry.test", 443)
    cancel.cancel()
    with pytest.raises(CancelledError):
        begun.take("registry.test", 443, cancel.check)
    with pytest.raises(CancelledError):
        begun.open("registry.test", 443, 1, cancel.check)


def test_a_name_is_resolved_once(server: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where names are not cached on the machine, resolving one takes a round trip or more."""
    asked: list[str] = []
    real = ahead.addresses

    def counted(host: str, *more: Any) -> list[ahead.Address]:
        asked.append(host)
        return real(host, *more)

    monkeypatch.setattr(ahead, "addresses", counted)
    begun = Ahead()
    for count in (1, 1, 3):
        begun.open(*place(server), count, Cancellation().check)
    accepted = [server.accept()[0] for _ in range(3)]
    begun.close()
    for one in accepted:
        one.close()
    assert asked == ["127.0.0.1"]


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def secure(authority: trustme.CA) -> ahead.Secure:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return lambda sock: secured(sock, context, "127.0.0.1", HANG_S)


def _serve_tls(server: socket.socket, authority: trustme.CA) -> ssl.SSLSocket:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    accepted, _ = server.accept()
    accepted.settimeout(HANG_S)
    return context.wrap_socket(accepted, server_side=True)


def test_tls_is_begun_before_a_request_needs_it(
    server: socket.socket, authority: trustme.CA, secure: ahead.Secure
) -> None:
    with ahead.begun(*place(server), secure):
        begun = ahead.handed_over()
        secured_there = _serve_tls(server, authority)
        # The server's session tickets are nothing that a connection would be discarded for.
        taken = taken_from(begun, place(server))
        assert isinstance(taken, ssl.SSLSocket)
        secured_there.sendall(b"!")
        taken.settimeout(HANG_S)
        assert taken.recv(1) == b"!"
    for one in (taken, secured_there):
        one.close()


def test_a_secured_connection_that_the_server_closed_is_not_taken(
    server: socket.socket, authority: trustme.CA, secure: ahead.Secure
) -> None:
    begun = Ahead()
    begun.begin(*place(server), secure)
    _serve_tls(server, authority).close()
    begun.open(*place(server), 0, Cancellation().check)  # waits for the handshake
    (there,) = begun._begun[place(server)]
    wait_until(lambda: not there.is_fresh(), "the end of the connection")
    assert taken_from(begun, place(server)) is None


def test_a_handshake_that_fails_is_left_to_the_request(
    server: socket.socket, secure: ahead.Secure
) -> None:
    """The request makes a connection of its own, and reports what is wrong with the certificate."""
    begun = Ahead()
    begun.begin(*place(server), secure)
    with suppress(ssl.SSLError):
        _serve_tls(server, trustme.CA())
    assert taken_from(begun, place(server)) is None


def test_counting_connections_touches_none(
    server: socket.socket,
    authority: trustme.CA,
    secure: ahead.Secure,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Another thread may have taken one meanwhile, and OpenSSL crashes if two use it."""
    touched: list[socket.socket] = []
    begun = Ahead()
    begun.begin(*place(server), secure)
    secured_there = _serve_tls(server, authority)
    with monkeypatch.context() as patch:
        patch.setattr(ahead, "is_silent", lambda sock: bool(touched.append(sock)))
        begun.open(*place(server), 1, Cancellation().check)
    assert touched == []
    taken = taken_from(begun, place(server))
    assert isinstance(taken, ssl.SSLSocket)
    assert taken_from(begun, place(server)) is None
    for one in (taken, secured_there):
        one.close()
