"""The client as the tests open it, and blobs to send with it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from regpush.concurrency import Cancellation
from regpush.digest import OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Descriptor, Digest
from regpush.events import Event
from regpush.options import RegistryOptions
from regpush.reference import Reference
from regpush.registry.client import Client
from regpush.registry.repository import Access, Repository
from regpush.settings import Settings
from tests.registry.servers import Registry


@dataclass
class Opened:
    client: Client
    repository: Repository
    cancel: Cancellation
    events: list[Event] = field(default_factory=list)

    def other(self, name: str, access: Access = Access.PUSH) -> Repository:
        registry = self.repository.name.registry
        return self.client.repository(Reference(registry=registry, repository=name), access)

    @property
    def messages(self) -> str:
        return "\n".join(getattr(event, "message", "") for event in self.events)


@contextmanager
def opened(
    host: str,
    name: str = "team/app",
    *,
    access: Access = Access.PUSH,
    auth_files: Sequence[str] = (),
    **options: object,
) -> Iterator[Opened]:
    """A repository of the registry at `host`, with two quick retries unless told."""
    options.setdefault("retry_times", 2)
    cancel = Cancellation()
    events: list[Event] = []
    made = RegistryOptions(**options)  # type: ignore[arg-type]  # keywords of the record
    settings = Settings(auth_files=tuple(auth_files))
    with Client(made, settings, notify=events.append, cancel=cancel) as client:
        repository = client.repository(Reference(registry=host, repository=name), access)
        yield Opened(client, repository, cancel, events)


class Stream:
    """A stream of `chunks`, as a layer being packed is one; `before` runs before each."""

    def __init__(self, chunks: Sequence[bytes], before: Callable[[int], None] = lambda _: None):
        self._chunks = chunks
        self._before = before
        self._sha = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        for index, chunk in enumerate(self._chunks):
            self._before(index)
            self._sha.update(chunk)
            self.size += len(chunk)
            yield chunk

    @property
    def digest(self) -> Digest:
        return Digest("sha256", self._sha.hexdigest())


def layer(data: bytes) -> Descriptor:
    return Descriptor.of(data, OCI_LAYER)


def put(repository: Repository, data: bytes) -> Descriptor:
    descriptor = layer(data)
    repository.put_blob(descriptor, lambda: iter((data,)))
    return descriptor


def send(repository: Repository, form: str, chunks: Sequence[bytes]) -> Descriptor:
    """Send a blob in one of the two forms, "put" or "stream"."""
    if form == "stream":
        return repository.stream_blob(OCI_LAYER, lambda: Stream(chunks))
    descriptor = layer(b"".join(chunks))
    repository.put_blob(descriptor, lambda: iter(chunks))
    return descriptor


def push_image(repository: Repository, content: bytes) -> bytes:
    """Send config and layer; the bytes of the manifest that names them, itself not sent."""
    config = b"{}"
    repository.put_blob(Descriptor.of(config, OCI_CONFIG), lambda: iter((config,)))
    first = put(repository, content)
    return (
        b'{"schemaVersion":2,"mediaType":"%b","config":{"mediaType":"%b","digest":"%b","size":2},'
        b'"layers":[{"mediaType":"%b","digest":"%b","size":%d}]}'
        % (
            OCI_MANIFEST.encode(),
            OCI_CONFIG.encode(),
            f"sha256:{hashlib.sha256(config).hexdigest()}".encode(),
            first.media_type.encode(),
            str(first.digest).encode(),
            first.size,
        )
    )


def open_sessions(registry: Registry, repository: str) -> list[str]:
    """Uploads that docker-registry still holds bytes of; it leaves empty folders behind."""
    uploads = registry.storage / "docker/registry/v2/repositories" / repository / "_uploads"
    return [str(path) for path in uploads.glob("*/data")]
