"""A blob's way into a repository: an upload session, and what is sent through it.

OCI distribution-spec, "Pushing blobs"; registry.md sections 1 and 2. Every attempt is a new
session and a body opened anew. After a failure that leaves open whether the registry has the
blob, it is asked before anything is sent again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from regpush.digest import Descriptor, Digest
from regpush.errors import (
    RefusedError,
    RegpushError,
    SourceError,
    TransientError,
    VerificationError,
)
from regpush.events import Listener, Warned
from regpush.registry.api import Api, Call
from regpush.registry.exchange import COMMIT_S, Reply
from regpush.registry.protocol import Outcome, upload_location, with_digest
from regpush.registry.retry import Policy, RetryableError

_OCTETS = {"Content-Type": "application/octet-stream"}
_MAY_BE_THERE = (Outcome.ABSENT, Outcome.BUSY, Outcome.FAILED, Outcome.UPLOAD_LOST, Outcome.REFUSED)


class BlobStream(Protocol):
    """A blob whose digest is known when all of it has been read."""

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, once. What this raises comes out of the upload as it is."""

    @property
    def digest(self) -> Digest:
        """The digest of the bytes; after the last."""

    @property
    def size(self) -> int:
        """How many they were; after the last."""


Opened: TypeAlias = "Callable[[], Session | None]"
"""Gives a session that was opened ahead, once; for further attempts nothing."""


def _not_opened() -> None:
    return None


class Upload:
    """One blob's way into a repository, the first session of which is asked for at once.

    A context manager that gives the session up if it was not used.
    """

    def __init__(self, uploads: Uploads, ahead: Executor) -> None:
        self._uploads = uploads
        self._ahead = ahead
        self._opening: Future[Session] | None = ahead.submit(uploads.open)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opening, self._opening = self._opening, None
        if opening and not opening.cancel():
            self._ahead.submit(_give_up, opening)

    def put(self, descriptor: Descriptor, open_body: Callable[[], Iterator[bytes]]) -> None:
        """As `Repository.put_blob`."""
        self._uploads.put(descriptor, open_body, self._opened)

    def stream(self, media_type: str, open_stream: Callable[[], BlobStream]) -> Descriptor:
        """As `Repository.stream_blob`."""
        return self._uploads.stream(media_type, open_stream, self._opened)

    def _opened(self) -> Session | None:
        opening, self._opening = self._opening, None
        return opening.result() if opening else None


def _give_up(opening: Future[Session]) -> None:
    # One that could not be opened has nothing to give up.
    with suppress(RetryableError, RegpushError), opening.result():
        pass


class Uploads:
    """Uploads to one repository. Thread-safe.

    `exists` asks for a blob, once; `count` is told of body bytes as they are sent.
    """

    def __init__(
        self,
        api: Api,
        retry: Policy,
        *,
        exists: Callable[[Descriptor], bool],
        count: Callable[[int], None],
        notify: Listener,
    ) -> None:
        self._api = api
        self._retry = retry
        self._exists = exists
        self._count = count
        self._notify = notify

    def put(
        self,
        descriptor: Descriptor,
        open_body: Callable[[], Iterator[bytes]],
        opened: Opened = _not_opened,
    ) -> None:
        """Send a blob whose digest is known: POST, then one PUT."""
        doing = f"uploading blob {descriptor.digest.short} ({descriptor.size} bytes)"
        sent = False

        def once() -> None:
            nonlocal sent
            if sent and self._there(descriptor):
                return
            with opened() or self.open(doing) as session:
                # Hashing costs half a second a gigabyte: only once something went wrong.
                body = self._checked(open_body(), descriptor, rehash=sent)
                sent = True
                session.commit(descriptor, body, descriptor.size)

        self._retry.run(once)

    def stream(
        self,
        media_type: str,
        open_stream: Callable[[], BlobStream],
        opened: Opened = _not_opened,
    ) -> Descriptor:
        """Send a blob whose digest is not known yet: POST, one streamed PATCH, empty PUT."""
        sent: Descriptor | None = None

        def once() -> Descriptor:
            nonlocal sent
            if sent and self._there(sent):
                return sent
            sent = None
            with opened() or self.open() as session:
                stream = open_stream()
                session.append(self._counted(stream))
                sent = Descriptor(media_type=media_type, digest=stream.digest, size=stream.size)
                session.commit(sent, b"", 0)
            return sent

        return self._retry.run(once)

    def open(self, doing: str = "uploading a layer") -> Session:
        """Open an upload session, once. Raises RetryableError too."""
        reply = self._api.send(Call(doing=doing, method="POST", path="/blobs/uploads/"))
        if reply.status == 404:
            said = self._api.failure(reply, doing)
            raise RefusedError(
                f"{said}; if the repository does not exist, this registry wants it created first"
            )
        if not 200 <= reply.status < 300:
            raise self._api.failure(reply, doing)
        return Session(self._api, reply, doing, there=self._there, notify=self._notify)

    def _there(self, descriptor: Descriptor) -> bool:
        """Whether the registry has the blob after all; not knowing is no."""
        try:
            return self._exists(descriptor)
        except (RetryableError, RefusedError):
            return False

    def _counted(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            if chunk:
                yield chunk
                self._count(len(chunk))

    def _checked(
        self, chunks: Iterator[bytes], descriptor: Descriptor, *, rehash: bool
    ) -> Iterator[bytes]:
        changed = f"blob {descriptor.digest} changed while it was sent"
        sha, sent = hashlib.new(descriptor.digest.algorithm), 0
        for chunk in self._counted(chunks):
            sent += len(chunk)
            if rehash:
                sha.update(chunk)
            if sent > descriptor.size:
                raise SourceError(f"{changed}: it has more than {descriptor.size} bytes")
            if sent == descriptor.size and rehash and sha.hexdigest() != descriptor.digest.hex:
                raise SourceError(f"{changed}: it has another digest now")
            yield chunk
        if sent != descriptor.size:
            raise SourceError(f"{changed}: {sent} bytes instead of {descriptor.size}")


class Session:
    """One upload session. A context manager that gives it up unless it was committed."""

    def __init__(
        self,
        api: Api,
        opened: Reply,
        doing: str,
        *,
        there: Callable[[Descriptor], bool],
        notify: Listener,
    ) -> None:
        self._api = api
        self._doing = doing
        self._there = there
        self._notify = notify
        self._committed = False
        self._warned = False
        if not opened.header("location"):
            raise RefusedError(
                f"{api.name}: {doing} failed: the registry opened an upload and did not say where"
            )
        self._url = ""
        self._move(opened)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._committed:
            self._api.abandon(self._url)

    def append(self, body: Iterator[bytes]) -> None:
        """Send `body` to the session's end, chunked: what `docker push` does, so all take it.

        Where `body` raises, the request ends in order, so that the session can be deleted.
        """
        broken: list[Exception] = []
        call = Call(
            doing=self._doing,
            method="PATCH",
            url=self._url,
            headers=_OCTETS,
            body=_until_broken(body, broken),
        )
        try:
            reply = self._api.send(call)
        except (RetryableError, RegpushError):
            if broken:
                raise broken[0] from broken[0].__cause__
            raise
        if broken:
            if 200 <= reply.status < 300:
                self._move(reply)
            raise broken[0] from broken[0].__cause__
        if not 200 <= reply.status < 300:
            raise self._failure(reply)
        if next(body, None) is not None:
            raise RetryableError(
                VerificationError(
                    f"{self._api.name}: {self._doing} failed: the registry answered "
                    f"{reply.status} before it had everything"
                ),
                once=True,
            )
        self._move(reply)

    def commit(self, descriptor: Descriptor, body: bytes | Iterator[bytes], size: int) -> None:
        """Send the last of the bytes and name the whole. Returns when the registry has it."""
        call = Call(
            doing=self._doing,
            method="PUT",
            url=with_digest(self._url, descriptor.digest),
            headers=_OCTETS,
            body=body,
            body_size=size,
            read_s=COMMIT_S,
        )
        try:
            reply = self._api.send(call)
        except RetryableError:
            self._committed = self._there(descriptor)
            if self._committed:
                return
            raise
        self._committed = reply.status == 201 and _exhausted(body)
        if self._committed:
            return
        outcome = self._api.outcome(reply)
        if outcome is Outcome.OK or outcome in _MAY_BE_THERE:
            self._committed = self._there(descriptor)
        if self._committed:
            return
        if outcome is Outcome.OK:
            raise RetryableError(
                VerificationError(
                    f"{self._api.name}: {self._doing} failed: the registry answered "
                    f"{reply.status}, but does not have the blob"
                ),
                once=True,
            )
        raise self._failure(reply)

    def _failure(self, reply: Reply) -> RegpushError | RetryableError:
        failure = self._api.failure(reply, self._doing)
        if self._api.outcome(reply) is Outcome.ABSENT:
            # Inside a session, that means that the session is gone.
            return RetryableError(TransientError(str(failure)))
        return failure

    def _move(self, reply: Reply) -> None:
        location = reply.header("location")
        if not location:
            return
        moved = upload_location(reply.url, location, self._api.origin)
        self._url = moved.url
        if moved.upgraded and not self._warned:
            self._warned = True
            self._notify(
                Warned(
                    message=f"{self._api.name}: the registry sends uploads to plain http; "
                    "https is used instead (a proxy before it hides that it has TLS)"
                )
            )


def _until_broken(body: Iterator[bytes], broken: list[Exception]) -> Iterator[bytes]:
    """`body` up to where it raises; what it raised goes into `broken`."""
    try:
        yield from body
    except Exception as error:  # whatever it is, it is raised again by the caller
        broken.append(error)


def _exhausted(body: bytes | Iterator[bytes]) -> bool:
    return isinstance(body, bytes) or next(body, None) is None
