"""Registries behind proxies that change what they answer, though not what they hold."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest

from regpush.digest import Descriptor
from regpush.errors import VerificationError
from tests.flow.test_push_directory import app
from tests.program import push, regpush
from tests.registry.servers import Registry
from tests.registry_client.front import Answer, Asked, Behaviour, front, pass_on
from tests.registry_client.opening import opened, put

__all__ = ["app"]


def packing(host: str) -> Behaviour:
    """All that is read is packed, digests and sizes being of what it was."""
    behind = pass_on(host)

    def behaviour(asked: Asked) -> Answer:
        answer = behind(asked)
        if asked.method in ("GET", "HEAD") and answer.status == 200:
            headers = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
            answer.headers = {**headers, "Content-Encoding": "gzip"}
            answer.body = gzip.compress(answer.body)
            if asked.method == "HEAD":
                answer.headers["Content-Length"] = "17"
        return answer

    return behaviour


def test_a_push_through_a_proxy_that_packs_what_is_read(
    docker_registry: Registry, repository: str, app: Path
) -> None:
    with front(packing(docker_registry.host)) as proxy:
        to = f"{proxy.host}/{repository}"
        push(app, f"{to}:v1").ok()
        assert not push(app, f"{to}:v1").ok().report["changed"]
        push(app, f"{to}:v2", "--root-dir", "/other", "--from", f"{to}:v1").ok()
        regpush("verify", f"{to}:v2").ok()
        regpush("copy", f"{to}:v2", f"{docker_registry.host}/{repository}-copy:v2").ok()


def test_a_blob_that_says_gzip_and_is_one_is_not_unpacked(
    docker_registry: Registry, repository: str
) -> None:
    """Stores keep the encoding as a property of a file: the bytes are then the blob itself."""
    behind = pass_on(docker_registry.host)

    def behaviour(asked: Asked) -> Answer:
        answer = behind(asked)
        if asked.method == "GET" and "/blobs/" in asked.target:
            answer.headers["Content-Encoding"] = "gzip"
        return answer

    data = gzip.compress(b"layer" * 1000)
    with front(behaviour) as proxy, opened(proxy.host, repository) as at:
        blob = put(at.repository, data)
        assert b"".join(at.repository.read_blob(blob)) == data
        assert at.repository.get_blob(blob) == data


def test_a_reply_that_unpacks_to_more_than_it_should(repository: str) -> None:
    bomb = gzip.compress(bytes(50 << 20))

    def behaviour(asked: Asked) -> Answer:
        return Answer(200, {"Content-Encoding": "gzip"}, bomb)

    with front(behaviour) as server, opened(server.host, repository) as at:
        blob = Descriptor.of(bytes(1000), "application/octet-stream")
        with pytest.raises(VerificationError, match="larger than"):
            at.repository.get_manifest("v1")
        with pytest.raises(VerificationError, match="1000 bytes"):
            at.repository.get_blob(blob)
        with pytest.raises(VerificationError, match="more than the 1000 bytes"):
            list(at.repository.read_blob(blob))


@pytest.mark.parametrize("length", ["chunked", "other"])
def test_a_blob_whose_length_is_not_said_is_there(
    docker_registry: Registry, repository: str, length: str
) -> None:
    behind = pass_on(docker_registry.host)

    def behaviour(asked: Asked) -> Answer:
        answer = behind(asked)
        if asked.method == "HEAD" and "/blobs/" in asked.target and answer.status == 200:
            said: dict[str, Any] = {"chunked": {"Transfer-Encoding": "chunked"}}
            given = {k: v for k, v in answer.headers.items() if k.lower() != "content-length"}
            answer.headers = {**given, **said.get(length, {})}
            if length == "other":
                answer.headers["Content-Length"] = "17"
        return answer

    with front(behaviour) as proxy, opened(proxy.host, repository) as at:
        blob = put(at.repository, b"there" * 100)
        assert at.repository.has_blob(blob) == (length != "other")
        assert not at.repository.has_blob(Descriptor.of(b"not there", blob.media_type))
