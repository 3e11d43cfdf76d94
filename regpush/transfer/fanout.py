"""Several repositories that are pushed to together: each layer is packed once for all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Self, TypeAlias, TypeVar

from msgspec import Struct

from regpush.concurrency import Cancellation, results, workers
from regpush.digest import Descriptor, Digest
from regpush.errors import SourceError
from regpush.reference import RepositoryName
from regpush.registry.repository import Repository
from regpush.registry.uploads.ladder import BlobStream, Told, Upload

Opener: TypeAlias = Callable[[], BlobStream]

R = TypeVar("R")


class Shelf:
    """A repository that is pushed to, with the blobs known in it; implements `BlobStore`."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self._seen: set[Digest] = set()

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""
        return self.repository.name

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether the repository holds the blob, in the size that the descriptor states.

        A positive answer is kept, so that the registry is not asked again.
        """
        if descriptor.digest not in self._seen and self.repository.has_blob(descriptor):
            self._seen.add(descriptor.digest)
        return descriptor.digest in self._seen

    def mount_blob(self, descriptor: Descriptor, source: str) -> bool:
        """Mount the blob from the repository at the path `source` of this registry.

        False where the registry refuses; the blob must then be uploaded.
        """
        if self.repository.mount_blob(descriptor, source):
            self._seen.add(descriptor.digest)
        return descriptor.digest in self._seen

    def showed(self, descriptors: Sequence[Descriptor]) -> bool:
        """Whether the repository is known to hold one of `descriptors`; sends no request."""
        return any(descriptor.digest in self._seen for descriptor in descriptors)


class FanOut:
    """Repositories to which each blob is sent together. Thread-safe."""

    def __init__(self, shelves: Sequence[Shelf], cancel: Cancellation) -> None:
        self.shelves = tuple(shelves)
        self.cancel = cancel
        self._mounts_failed: set[str] = set()

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Whether all repositories hold the blob.

        Every repository is asked, even after one lacks it, so that all that lack it are known.
        """
        answers = [shelf.has_blob(descriptor) for shelf in self.shelves]
        return all(answers)

    def lacking(self, likely: Sequence[Descriptor]) -> list[Shelf]:
        """Return the repositories not known to hold one of `likely`; all if each holds one."""
        return [one for one in self.shelves if not one.showed(likely)] or list(self.shelves)

    def first_of(self, shelves: Sequence[Shelf]) -> list[Shelf]:
        """Return the first repository of `shelves` in each registry; the others mount from it.

        Where mounts failed in a registry, return all its repositories.
        """
        first = {shelf.name.registry: shelf for shelf in reversed(shelves)}
        return [
            shelf
            for shelf in shelves
            if shelf is first[shelf.name.registry] or shelf.name.registry in self._mounts_failed
        ]

    def copies(self, likely: Sequence[Descriptor]) -> int:
        """Return how many times a blob must be sent that may be one of `likely`."""
        return len(self.first_of(self.lacking(likely)))

    def upload(self, told: Told, likely: Sequence[Descriptor] = ()) -> FanUpload:
        """Start the upload of a blob before its bytes exist.

        `told` gets the progress of the slowest upload. `likely`: descriptors that the blob may
        have. A repository known to hold one of them gets the blob once its digest is known.
        """
        return FanUpload(self, self.first_of(self.lacking(likely)), told)

    def mount(self, descriptor: Descriptor, shelf: Shelf, holders: Sequence[Shelf]) -> bool:
        """Mount the blob on `shelf` from one of `holders` in its registry; returns the success."""
        for holder in holders:
            if holder is shelf or not holder.name.is_beside(shelf.name):
                continue
            if shelf.mount_blob(descriptor, holder.name.path):
                return True
            self._mounts_failed.add(shelf.name.registry)
        return False


class FanUpload:
    """Uploads one blob to all repositories that lack it; sessions are requested at once.

    A context manager that deletes the sessions that were not used.
    """

    def __init__(self, fan: FanOut, shelves: Sequence[Shelf], told: Told) -> None:
        self._fan = fan
        tellers = _slowest(told, len(shelves))
        self._uploads = {
            shelf: shelf.repository.upload(teller)
            for shelf, teller in zip(shelves, tellers, strict=True)
        }
        self._open = ExitStack()
        for upload in self._uploads.values():
            self._open.enter_context(upload)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._open.__exit__(kind, error, trace)

    def wait_until_asked(self, seconds: float) -> None:
        """Wait until the requests for the first sessions have left, `seconds` each at most."""
        for upload in self._uploads.values():
            upload.wait_until_asked(seconds)

    def put(self, descriptor: Descriptor, open_body: Callable[[], Iterator[bytes]]) -> None:
        """Send a blob to all repositories not known to hold it.

        Raises the errors of `Repository.put_blob`.
        """

        def way(shelf: Shelf) -> Callable[[Opener], None]:
            put = self._uploads[shelf].put if shelf in self._uploads else shelf.repository.put_blob
            return lambda opener: put(descriptor, lambda: iter(opener()))

        lacking = self._fan.lacking([descriptor])
        first = self._fan.first_of(lacking)
        self._send([way(shelf) for shelf in first], lambda: _DescribedBlob(descriptor, open_body))
        for shelf in lacking:
            if shelf not in first and not self._fan.mount(descriptor, shelf, first):
                shelf.repository.put_blob(descriptor, open_body)

    def stream(self, media_type: str, open_stream: Opener) -> Descriptor:
        """Send a blob whose digest is known after its last byte.

        Raises the errors of `Repository.stream_blob`, and SourceError where a second reading of the
        blob gave other bytes.
        """

        def way(upload: Upload) -> Callable[[Opener], Descriptor]:
            return lambda opener: upload.stream(media_type, opener)

        sent = self._send([way(upload) for upload in self._uploads.values()], open_stream)
        if len(set(sent)) > 1:
            raise SourceError(
                f"a layer changed while it was sent; its digest was {sent[0].digest} at first"
            )
        first = list(self._uploads)
        for shelf in self._fan.shelves:
            if (
                shelf not in first
                and not shelf.has_blob(sent[0])
                and not self._fan.mount(sent[0], shelf, first)
            ):
                shelf.repository.put_blob(sent[0], lambda: iter(open_stream()))
        return sent[0]

    def _send(self, ways: Sequence[Callable[[Opener], R]], open_stream: Opener) -> list[R]:
        """Send by all `ways`, one for each repository, with one reading of the blob.

        Where one fails, the blob is made again for that repository alone.
        """
        if len(ways) == 1:
            return [ways[0](open_stream)]
        from regpush.transfer.relay import Relay  # most pushes are to one repository

        relay = Relay(len(ways), open_stream)

        def go(index: int) -> R:
            try:
                return ways[index](relay.opener(index))
            except BaseException as error:
                relay.stop(error)  # ends the other uploads, which wait for bytes
                raise
            finally:
                relay.let_go(index)

        with workers(len(ways) + 1, self._fan.cancel) as pool:
            sent = [pool.submit(go, index) for index in range(len(ways))]
            made = pool.submit(relay.run)
            done = results(sent)
            made.result()
            return done


def _slowest(told: Told, count: int) -> list[Told]:
    """Return a listener for each of `count` uploads; `told` hears the slowest's progress."""
    if count == 1:
        return [told]
    sent: dict[int, int] = {}

    def tell(index: int, so_far: int, size: int | None) -> None:
        sent[index] = so_far
        told(min(tuple(sent.values())), size)

    return [partial(tell, index) for index in range(count)]


class _DescribedBlob(Struct, frozen=True, eq=False):
    """A blob whose descriptor is known before it is read; implements `BlobStream`."""

    descriptor: Descriptor
    open_body: Callable[[], Iterator[bytes]]

    def __iter__(self) -> Iterator[bytes]:
        return self.open_body()

    @property
    def digest(self) -> Digest:
        return self.descriptor.digest

    @property
    def size(self) -> int:
        return self.descriptor.size
