"""Blobs, manifests and tags, in and out of real registries."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from regpush.digest import OCI_LAYER, OCI_MANIFEST, Descriptor, Digest
from regpush.errors import RefusedError, SourceError, VerificationError
from regpush.registry.repository import Access
from tests.patience import wait_until
from tests.registry.servers import Registry
from tests.registry.wire import StartProxy
from tests.registry_client.opening import (
    Stream,
    layer,
    open_sessions,
    opened,
    push_image,
    put,
)
from tests.registry_client.raw import raw, reply

MIB = 1 << 20


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 17])
def test_a_blob_goes_in_and_comes_out(registry: Registry, repository: str, size: int) -> None:
    data = os.urandom(size)
    with opened(registry.host, repository) as at:
        descriptor = layer(data)
        assert not at.repository.has_blob(descriptor)
        at.repository.put_blob(
            descriptor, lambda: iter([data[i : i + MIB] for i in range(0, size, MIB)])
        )
        assert at.repository.has_blob(descriptor)
        assert at.repository.get_blob(descriptor) == data
        assert at.client.bytes_uploaded == size


@pytest.mark.parametrize("size", [0, 1, 3 * MIB + 17])
def test_a_stream_goes_in(registry: Registry, repository: str, size: int) -> None:
    data = os.urandom(size)
    chunks = [data[i : i + MIB] for i in range(0, size, MIB)]
    with opened(registry.host, repository) as at:
        descriptor = at.repository.stream_blob(OCI_LAYER, lambda: Stream([*chunks, b""]))
        assert descriptor == layer(data)
        assert str(descriptor.digest) == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert at.repository.get_blob(descriptor) == data
        assert at.client.bytes_uploaded == size


def test_what_crosses_the_wire(
    docker_registry: Registry, repository: str, wire: StartProxy
) -> None:
    proxy = wire(docker_registry)
    with opened(proxy.host, repository) as at:
        put(at.repository, b"one")
        at.repository.stream_blob(OCI_LAYER, lambda: Stream([b"t", b"wo"]))
    sent = proxy.stats().requests
    assert [r.method for r in sent] == ["POST", "PUT", "POST", "PATCH", "PUT"]
    post, put_, _, patch, last = (r.headers for r in sent)
    assert post["content-length"] == "0"
    assert put_["content-length"] == "3"
    assert "transfer-encoding" not in put_
    assert patch["transfer-encoding"] == "chunked"
    assert "content-range" not in patch
    assert last["content-length"] == "0"
    for headers in (post, put_, patch, last):
        assert headers["host"] == proxy.host
        assert headers["user-agent"].startswith("regpush/")
        assert not {"cookie", "authorization", "accept"} & headers.keys() - {"accept"}
    assert proxy.stats().connections == 1


def test_a_wrong_size_is_an_absent_blob(registry: Registry, repository: str) -> None:
    with opened(registry.host, repository) as at:
        descriptor = put(at.repository, b"content")
        assert not at.repository.has_blob(replace(descriptor, size=6))


def test_a_blob_under_a_wrong_digest_is_no_blob(registry: Registry, repository: str) -> None:
    wrong = Descriptor(media_type=OCI_LAYER, digest=Digest.of(b"other"), size=7)
    opens = []
    with opened(registry.host, repository) as at:
        # The first attempt trusts the caller; after the registry's no, we look ourselves.
        with pytest.raises(SourceError, match="its bytes have another digest now"):
            at.repository.put_blob(wrong, lambda: opens.append(1) or iter([b"content"]))
        assert len(opens) == 2
        assert not at.repository.has_blob(wrong)


@pytest.mark.parametrize("chunks", [[b"four"], [b"sev", b"en."], [b"too", b" long"]])
def test_a_body_of_another_length(registry: Registry, repository: str, chunks: list[bytes]) -> None:
    said = Descriptor(media_type=OCI_LAYER, digest=Digest.of(b"x"), size=5)
    with opened(registry.host, repository) as at, pytest.raises(SourceError, match="changed"):
        at.repository.put_blob(said, lambda: iter(chunks))


@pytest.mark.parametrize("at_chunk", [0, 2])
def test_an_error_of_the_source_comes_out_as_it_is(
    registry: Registry, repository: str, at_chunk: int
) -> None:
    error = SourceError("the file grew")

    def fail(index: int) -> None:
        if index == at_chunk:
            raise error

    opens = []
    with opened(registry.host, repository) as at:
        with pytest.raises(SourceError) as caught:
            at.repository.stream_blob(
                OCI_LAYER, lambda: opens.append(1) or Stream([b"x" * MIB] * 3, fail)
            )
        assert caught.value is error
        assert len(opens) == 1


def test_blobs_are_mounted_where_they_are_known(registry: Registry, repository: str) -> None:
    with opened(registry.host, repository) as at:
        descriptor = put(at.repository, b"shared")
        other = at.other(f"{repository}-other")
        assert other.mount_blob(descriptor, repository)
        assert other.has_blob(descriptor)
        assert other.get_blob(descriptor) == b"shared"
        missing = layer(b"nowhere")
        assert not other.mount_blob(missing, repository)
        assert not other.mount_blob(missing, "no/such/repository")
        other.put_blob(missing, lambda: iter([b"nowhere"]))


def test_the_upload_that_a_mount_became_is_used(
    docker_registry: Registry, repository: str, wire: StartProxy
) -> None:
    proxy = wire(docker_registry)
    with opened(proxy.host, repository) as at:
        assert not at.repository.mount_blob(layer(b"nowhere"), "no/such/repository")
        put(at.repository, b"nowhere")
    assert [request.method for request in proxy.stats().requests] == ["POST", "PUT"]


def test_no_session_is_left_after_a_mount_that_was_not_one(
    docker_registry: Registry, repository: str
) -> None:
    with opened(docker_registry.host, repository) as at:
        assert not at.repository.mount_blob(layer(b"nowhere"), "no/such/repository")
    assert open_sessions(docker_registry, repository) == []


def test_manifests_and_tags(registry: Registry, repository: str) -> None:
    with opened(registry.host, repository) as at:
        to = at.repository
        assert to.get_manifest("latest") is None
        assert to.head_manifest("latest") is None
        assert to.list_tags() == ()
        data = push_image(to, b"a layer")
        digest = Digest("sha256", hashlib.sha256(data).hexdigest())
        to.put_manifest(data, OCI_MANIFEST, str(digest))
        assert to.list_tags() == ()
        to.put_manifest(data, OCI_MANIFEST, "v1")
        to.put_manifest(data, OCI_MANIFEST, "v2")
        assert sorted(to.list_tags()) == ["v1", "v2"]
        for reference in ("v1", str(digest)):
            assert to.head_manifest(reference) == digest
            found = to.get_manifest(reference)
            assert found is not None
            assert (found.media_type, found.data, found.digest) == (OCI_MANIFEST, data, digest)
        assert to.get_manifest(f"sha256:{'0' * 64}") is None


def test_manifests_that_registries_do_not_take(registry: Registry, repository: str) -> None:
    with opened(registry.host, repository) as at:
        with pytest.raises(RefusedError, match="pushing the manifest latest failed"):
            at.repository.put_manifest(b"no JSON", OCI_MANIFEST, "latest")
        with pytest.raises(RefusedError, match="take 4194304 at most"):
            at.repository.put_manifest(b"x" * (4 * MIB + 1), OCI_MANIFEST, "latest")


def test_blobs_that_are_not_what_a_manifest_says(registry: Registry, repository: str) -> None:
    with opened(registry.host, repository) as at:
        descriptor = put(at.repository, b"content")
        for size in (6, 8, 17 * MIB):
            with pytest.raises(VerificationError):
                at.repository.get_blob(replace(descriptor, size=size))
        with pytest.raises(VerificationError, match="is missing in the registry"):
            at.repository.get_blob(layer(b"absent"))


def test_many_workers_share_one_client(registry: Registry, repository: str) -> None:
    blobs = [os.urandom(200_000) for _ in range(24)]
    with opened(registry.host, repository) as at, ThreadPoolExecutor(12) as pool:
        descriptors = list(pool.map(lambda data: put(at.repository, data), blobs))
        assert all(pool.map(at.repository.has_blob, descriptors))
        assert at.client.bytes_uploaded == sum(map(len, blobs))
        assert at.client.requests == 3 * len(blobs)
        assert threading.active_count() > 1


def test_a_repository_is_made_once(registry: Registry, repository: str) -> None:
    with opened(registry.host, repository) as at:
        assert at.other(repository) is at.repository
        assert at.other(repository, Access.PULL) is not at.repository
        assert str(at.repository.name) == f"{registry.host}/{repository}"


def test_bytes_that_the_kernel_still_holds_have_not_gone_out() -> None:
    told: list[int] = []
    halfway: list[int] = []
    data = os.urandom(8 << 20)

    def receive(connection: socket.socket, count: int) -> None:
        while count:
            count -= len(connection.recv(min(count, 65536)))

    def answer(connection: socket.socket, head: str) -> None:
        if head.startswith("PUT"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
            receive(connection, 1 << 20)
            wait_until(lambda: told, "the first word of what went out")
            time.sleep(0.5)  # what fits into buffers is in them by then
            halfway.append(told[-1])
            receive(connection, len(data) - (1 << 20))
            connection.sendall(reply("201 Created"))
        elif head.startswith("POST"):
            connection.sendall(reply("202 Accepted", "Location: /v2/upload"))
        else:
            connection.sendall(reply("404 Not Found"))

    descriptor = Descriptor(media_type=OCI_LAYER, digest=Digest.of(data), size=len(data))
    with raw(answer) as server, opened(server.host) as here:
        pieces = [data[at : at + (1 << 20)] for at in range(0, len(data), 1 << 20)]
        here.repository.put_blob(
            descriptor, lambda: iter(pieces), lambda sent, _: told.append(sent)
        )
    assert halfway[0] < 3 << 20
    assert told == sorted(told)
    assert told[-1] == len(data)
