"""Fixtures for tests of connections."""

import socket
import threading
from collections.abc import Iterator

import pytest

from tests.patience import HANG_S


@pytest.fixture
def silent_name_servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let no name resolve: the name servers do not answer before the test ends."""
    ended = threading.Event()

    def resolve(*_: object, **__: object) -> None:
        ended.wait(HANG_S)
        raise socket.gaierror(socket.EAI_AGAIN, "no name server answered")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield
    ended.set()
