"""Connections that are kept for later requests, and what looking for one of them costs."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from regpush.digest import OCI_LAYER, Descriptor, Digest
from regpush.http.wire import _Connection
from tests.patience import HANG_S
from tests.registry_client.front import Answer, Asked, front
from tests.registry_client.opening import opened

_MANY = 12


def test_a_request_looks_at_its_own_connection_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """httpcore's pool asks the system about all of its connections, twice for each request."""
    together = threading.Barrier(_MANY)
    concurrent = True
    looked: list[_Connection] = []
    look = _Connection.get_extra_info

    def looking(connection: _Connection, info: str) -> Any:
        if info == "is_readable":
            looked.append(connection)
        return look(connection, info)

    def behaviour(asked: Asked) -> Answer:
        if concurrent:
            together.wait(HANG_S)
        return Answer(404)

    monkeypatch.setattr(_Connection, "get_extra_info", looking)
    blobs = [
        Descriptor(media_type=OCI_LAYER, digest=Digest.of(bytes([number])), size=1)
        for number in range(_MANY)
    ]
    with front(behaviour) as server, opened(server.host, "app") as at:
        concurrent = False
        assert not at.repository.has_blob(blobs[0])  # settles that the server speaks http
        concurrent = True
        with ThreadPoolExecutor(_MANY) as pool:
            assert not any(pool.map(at.repository.has_blob, blobs))
        concurrent = False
        looked.clear()
        for blob in blobs:
            assert not at.repository.has_blob(blob)
    assert len(looked) <= 2 * _MANY
    assert len(set(looked)) == 1  # the connection that was used last is used again
