"""Blobs, manifests and tags against real registries: docker-registry and our own."""

from __future__ import annotations

import hashlib
import json
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from regpush.digest import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, Descriptor, Digest
from regpush.errors import SourceError, TransientError, VerificationError
from regpush.registry.client import Access
from tests.client.conftest import Connect
from tests.client.streams import Stream, content, descriptor_of, pieces
from tests.registry.servers import Registry


def fetch(registry: Registry, path: str, accept: str = "*/*") -> bytes:
    """What anybody else gets from the registry."""
    request = urllib.request.Request(f"{registry.url}/v2/{path}", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=10) as reply:
        data: bytes = reply.read()
        return data


def manifest_of(config: Descriptor, *layers: Descriptor) -> bytes:
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": config.to_json(),
            "layers": [layer.to_json() for layer in layers],
        }
    ).encode()


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_put_blob(connect: Connect, registry: Registry, repository: str, size: int) -> None:
    connection = connect()
    repo = connection.repository(f"{registry.host}/{repository}")
    data = content(size)
    descriptor = descriptor_of(data)
    assert not repo.has_blob(descriptor)
    repo.put_blob(descriptor, lambda: pieces(data))
    assert repo.has_blob(descriptor)
    assert fetch(registry, f"{repository}/blobs/{descriptor.digest}") == data
    assert repo.get_blob(descriptor) == data
    assert connection.client.bytes_uploaded == size
    assert connection.client.requests == 5  # HEAD, POST, PUT, HEAD, GET: no ping


@pytest.mark.parametrize("size", [0, 1, 3_000_000])
def test_stream_blob(connect: Connect, registry: Registry, repository: str, size: int) -> None:
    connection = connect()
    repo = connection.repository(f"{registry.host}/{repository}")
    data = content(size)
    descriptor = repo.stream_blob("application/x", lambda: Stream(data))
    assert descriptor == Descriptor(
        media_type="application/x",
        digest=Digest("sha256", hashlib.sha256(data).hexdigest()),
        size=size,
    )
    assert fetch(registry, f"{repository}/blobs/{descriptor.digest}") == data
    assert connection.client.bytes_uploaded == size
    assert connection.client.requests == 3


def test_has_blob_wants_the_size_too(connect: Connect, registry: Registry, repository: str) -> None:
    repo = connect().repository(f"{registry.host}/{repository}")
    data = content(100)
    repo.put_blob(descriptor_of(data), lambda: pieces(data))
    wrong = Descriptor(media_type="x", digest=Digest.of(data), size=99)
    assert not repo.has_blob(wrong)
    with pytest.raises(VerificationError):
        repo.get_blob(wrong)


def test_get_blob_refuses_what_is_too_large(connect: Connect, repository: str) -> None:
    repo = connect().repository(f"127.0.0.1:9/{repository}")
    with pytest.raises(VerificationError, match="16777216"):
        repo.get_blob(Descriptor(media_type="x", digest=Digest.of(b""), size=16 * 2**20 + 1))


def test_wrong_digest_is_tried_once_more_and_no_further(
    connect: Connect, registry: Registry, repository: str
) -> None:
    connection = connect()
    repo = connection.repository(f"{registry.host}/{repository}")
    opened = 0

    def body() -> Iterator[bytes]:
        nonlocal opened
        opened += 1
        return pieces(content(1000))

    wrong = Descriptor(media_type="x", digest=Digest.of(b"something else"), size=1000)
    with pytest.raises(VerificationError, match=str(wrong.digest)):
        repo.put_blob(wrong, body)
    assert opened == 2
    assert not repo.has_blob(wrong)


def test_a_stream_that_lies_about_its_digest(
    connect: Connect, registry: Registry, repository: str
) -> None:
    repo = connect().repository(f"{registry.host}/{repository}")

    class Liar(Stream):
        @property
        def digest(self) -> Digest:
            return Digest.of(b"lies")

    with pytest.raises(VerificationError):
        repo.stream_blob("x", lambda: Liar(content(1000)))


@pytest.mark.parametrize("size", [999, 1001])
def test_a_body_of_another_size(
    connect: Connect, registry: Registry, repository: str, size: int
) -> None:
    repo = connect().repository(f"{registry.host}/{repository}")
    with pytest.raises(SourceError):
        repo.put_blob(descriptor_of(content(1000)), lambda: pieces(content(size)))


def test_mount(connect: Connect, registry: Registry, repository: str) -> None:
    connection = connect()
    source = connection.repository(f"{registry.host}/{repository}-source")
    target = connection.repository(f"{registry.host}/{repository}-target")
    data = content(5000)
    descriptor = descriptor_of(data)
    assert not target.mount_blob(descriptor, f"{repository}-source")
    source.put_blob(descriptor, lambda: pieces(data))
    uploaded = connection.client.bytes_uploaded
    assert target.mount_blob(descriptor, f"{repository}-source")
    assert connection.client.bytes_uploaded == uploaded
    assert fetch(registry, f"{repository}-target/blobs/{descriptor.digest}") == data


def test_manifests_and_tags(connect: Connect, registry: Registry, repository: str) -> None:
    repo = connect().repository(f"{registry.host}/{repository}")
    assert repo.get_manifest("v1") is None
    assert repo.head_manifest("v1") is None
    assert repo.list_tags() == ()
    config = b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":[]}}'
    repo.put_blob(Descriptor.of(config, OCI_CONFIG), lambda: iter([config]))
    data = manifest_of(Descriptor.of(config, OCI_CONFIG))
    digest = Digest.of(data)
    repo.put_manifest(data, OCI_MANIFEST, str(digest))
    assert repo.list_tags() == ()
    repo.put_manifest(data, OCI_MANIFEST, "v1")
    repo.put_manifest(data, OCI_MANIFEST, "v2")
    assert fetch(registry, f"{repository}/manifests/v1", OCI_MANIFEST) == data
    for reference in ("v1", str(digest)):
        manifest = repo.get_manifest(reference)
        assert manifest is not None
        assert (manifest.data, manifest.media_type, manifest.digest) == (data, OCI_MANIFEST, digest)
        assert repo.head_manifest(reference) == digest
    assert sorted(repo.list_tags()) == ["v1", "v2"]
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [Descriptor.of(data, OCI_MANIFEST).to_json()],
        }
    ).encode()
    repo.put_manifest(index, OCI_INDEX, "multi")
    found = repo.get_manifest("multi")
    assert found is not None
    assert (found.data, found.media_type) == (index, OCI_INDEX)


def test_a_manifest_whose_blob_is_missing(
    connect: Connect, registry: Registry, repository: str
) -> None:
    repo = connect().repository(f"{registry.host}/{repository}")
    data = manifest_of(descriptor_of(content(10)))
    with pytest.raises(TransientError, match="blob"):
        repo.put_manifest(data, OCI_MANIFEST, "v1")
    assert repo.list_tags() == ()


def test_a_manifest_under_a_digest_that_is_not_its_own(
    connect: Connect, registry: Registry, repository: str
) -> None:
    repo = connect().repository(f"{registry.host}/{repository}")
    config = b"{}"
    repo.put_blob(Descriptor.of(config, OCI_CONFIG), lambda: iter([config]))
    data = manifest_of(Descriptor.of(config, OCI_CONFIG))
    with pytest.raises(VerificationError):
        repo.put_manifest(data, OCI_MANIFEST, str(Digest.of(b"another")))


def test_many_uploads_at_once(connect: Connect, registry: Registry, repository: str) -> None:
    connection = connect()
    repo = connection.repository(f"{registry.host}/{repository}", Access.PUSH)
    blobs = [content(200_000, seed) for seed in range(24)]
    with ThreadPoolExecutor(12) as workers:
        list(workers.map(lambda b: repo.put_blob(descriptor_of(b), lambda: pieces(b)), blobs))
        assert all(workers.map(lambda b: repo.has_blob(descriptor_of(b)), blobs))
    assert connection.client.bytes_uploaded == 24 * 200_000
    assert connection.client.requests == 24 * 3
