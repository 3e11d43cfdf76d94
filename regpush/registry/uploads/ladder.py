"""Uploads a blob: chooses the form of the requests, and continues after a failure.

OCI distribution-spec, "Pushing blobs"; docs/internals/registries.md sections 1 and 2. `lessons`
chooses the form, `resume` the position to continue at. After a failure that leaves open whether the
registry has the blob, HEAD asks before anything is sent again.
"""

from __future__ import annotations

import hashlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import suppress
from types import TracebackType
from typing import Protocol, Self, TypeAlias

from regpush.digest import Descriptor, Digest
from regpush.errors import RefusedError, RegpushError, SourceError, TransientError
from regpush.events import Listener
from regpush.http.exchange import Reply
from regpush.http.retry import Policy, RetryableError
from regpush.http.wire import NoConnectionError, UnansweredError, watching
from regpush.reference import RepositoryName
from regpush.registry.api import Api, Call
from regpush.registry.hints import missing_repository
from regpush.registry.uploads.body import Body
from regpush.registry.uploads.lessons import Form, HostMemory
from regpush.registry.uploads.session import BodyPart, Session


class BlobStream(Protocol):
    """A blob whose digest and size are known once all of its bytes were read."""

    def __iter__(self) -> Iterator[bytes]:
        """Yield the bytes of the blob, once.

        An error raised here ends the upload and is raised there.
        """

    @property
    def digest(self) -> Digest:
        """The digest of the blob; valid after its last byte was read."""

    @property
    def size(self) -> int:
        """The number of bytes of the blob; valid after its last byte was read."""


Opened: TypeAlias = Callable[[], Session | None]
"""Returns the session that was opened in advance, at its first call; None at later calls."""

Told: TypeAlias = Callable[[int, int | None], None]
"""Called repeatedly during an upload with the number of bytes sent so far, without those that the
kernel still queues, and with the blob's size, None until it is known. The first number falls when
the upload starts again."""


def untold(sent: int, size: int | None) -> None:
    """Ignore the progress of an upload, for callers that do not want it; a `Told`."""


class Upload:
    """The upload of one blob. A context manager that leaves no session open.

    `ahead`: a thread pool in which the session is requested at once; None to request it later.
    """

    def __init__(self, uploads: Uploads, told: Told, ahead: Executor | None = None) -> None:
        self._uploads = uploads
        self._ahead = ahead
        self._told = told
        self._asked = threading.Event()
        self._opening: Future[Session] | None = ahead.submit(self._open) if ahead else None

    def _open(self) -> Session:
        try:
            with watching(lambda _: self._asked.set()):
                return self._uploads.open()
        finally:
            self._asked.set()

    def wait_until_asked(self, seconds: float) -> None:
        """Wait until the request for the upload session was sent, `seconds` at most."""
        self._asked.wait(seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        opening, self._opening = self._opening, None
        if self._ahead and opening and not opening.cancel():
            self._ahead.submit(_give_up, opening)

    def put(self, descriptor: Descriptor, open_body: Callable[[], Iterator[bytes]]) -> None:
        """Send the blob `descriptor`, whose bytes `open_body` gives.

        Raises the errors of `Repository.put_blob`.
        """
        passes = 0

        def checked() -> Iterator[bytes]:
            nonlocal passes
            passes += 1
            # Hashing costs half a second a gigabyte: only once something went wrong.
            return _checked(open_body(), descriptor, rehash=passes > 1)

        doing = f"uploading blob {descriptor.digest.short} ({descriptor.size} bytes)"
        self._send(Body(checked), lambda: descriptor, doing)

    def stream(self, media_type: str, open_stream: Callable[[], BlobStream]) -> Descriptor:
        """Send a blob whose digest is not known before it is read; returns its descriptor.

        `open_stream` must give equal bytes at each call. Raises the errors of
        `Repository.stream_blob`.
        """
        described: Descriptor | None = None

        def reading() -> Iterator[bytes]:
            nonlocal described
            stream = open_stream()
            if described is not None:
                yield from _checked(iter(stream), described, rehash=True)
                return
            yield from stream
            described = Descriptor(media_type=media_type, digest=stream.digest, size=stream.size)

        return self._send(Body(reading), lambda: described, "uploading a layer")

    def _send(
        self, body: Body, describe: Callable[[], Descriptor | None], doing: str
    ) -> Descriptor:
        with _Passage(self._uploads, self._opened, body, describe, doing, self._told) as passage:
            return self._uploads.retry.run(passage.attempt, progress=lambda: passage.safe)

    def _opened(self) -> Session | None:
        opening, self._opening = self._opening, None
        return opening.result() if opening else None


def _give_up(opening: Future[Session]) -> None:
    # A session that could not be opened needs no deletion.
    with suppress(RetryableError, RegpushError), opening.result():
        pass


class Uploads:
    """Uploads to one repository. Thread-safe.

    `retry` is the policy of each upload. `exists` asks the registry for a blob by one request;
    `count` is called with the bytes of bodies as they are sent; `memory` holds what was learned of
    the host.
    """

    def __init__(
        self,
        api: Api,
        retry: Policy,
        *,
        exists: Callable[[Descriptor], bool],
        count: Callable[[int], None],
        memory: HostMemory,
        notify: Listener,
    ) -> None:
        self._api = api
        self.retry = retry
        self._exists = exists
        self._count = count
        self._notify = notify
        self._spare: deque[Session] = deque()
        self.memory = memory

    def keep(self, opened: Reply) -> None:
        """Keep an upload session for the next blob.

        `opened`: the registry's reply that opened the session in place of a mount.
        """
        self._spare.append(self._session(opened, "uploading a layer"))

    def close(self) -> None:
        """Delete the kept sessions that no blob used."""
        while self._spare:
            self._spare.pop().give_up()

    def open(self, doing: str = "uploading a layer") -> Session:
        """Return a kept session, or open a new one by a single request.

        `doing` names the upload in messages. Raises RetryableError where another attempt may
        succeed.
        """
        with suppress(IndexError):
            return self._spare.popleft()
        try:
            reply = self._api.send(Call(doing=doing, method="POST", path="/blobs/uploads/"))
        except RetryableError as error:
            raise _hung_up(error, self._api.name) from error.__cause__
        if reply.status == 404:
            raise RefusedError(str(self._api.failure(reply, doing)))
        if not 200 <= reply.status < 300:
            raise self._api.failure(reply, doing)
        return self._session(reply, doing)

    def _session(self, opened: Reply, doing: str) -> Session:
        return Session(
            self._api,
            opened,
            doing,
            there=self.there,
            count=self._count,
            memory=self.memory,
            notify=self._notify,
        )

    def there(self, descriptor: Descriptor) -> bool:
        """Whether the registry has the blob, after a failed upload; False if it cannot tell."""
        try:
            return self._exists(descriptor)
        except (RetryableError, RefusedError):
            return False


def _hung_up(error: RetryableError, name: RepositoryName) -> RetryableError:
    """Return `error` with a hint, if the registry ended the connection without a reply.

    ECR does so where the repository is missing.
    """
    cause = error.__cause__
    if not isinstance(cause, UnansweredError) or isinstance(cause, NoConnectionError):
        return error
    return RetryableError(
        TransientError(f"{error}; {missing_repository(name)}"), after_s=error.after_s
    )


class _Passage:
    """The attempts to send one blob, and the open session that one attempt leaves to the next.

    `describe` gives the descriptor, None until it is known. `safe`: the greatest number of bytes
    that the registry has acknowledged. A context manager: in the end no session stays open.
    """

    def __init__(
        self,
        uploads: Uploads,
        opened: Opened,
        body: Body,
        describe: Callable[[], Descriptor | None],
        doing: str,
        told: Told,
    ) -> None:
        self._uploads = uploads
        self._opened = opened
        self._told = told
        self._body = body
        self._describe = describe
        self._doing = doing
        self._tried = False
        self._session: Session | None = None
        self.safe = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._drop()
        self._body.close()

    def attempt(self) -> Descriptor:
        """Continue the open session, or start a new one; returns the descriptor of the stored blob.

        Raises RetryableError where another attempt makes sense.
        """
        known = self._describe()
        if self._tried and known and self._uploads.there(known):
            return known
        session = self._resumed() or self._new()
        self._tried = True
        try:
            return self._send(session)
        except RetryableError:
            if not session.resumable:
                self._drop()
            raise

    def _resumed(self) -> Session | None:
        if self._session is None:
            return None
        at = self._session.resume()
        if at is None:
            self._drop()
            return None
        self._note(at)
        self._body.seek(at)
        return self._session

    def _new(self) -> Session:
        self._session = self._opened() or self._uploads.open(self._doing)
        self._body.seek(0)
        return self._session

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session:
            session.give_up()

    def _note(self, safe: int) -> None:
        self.safe = max(self.safe, safe)

    def _going(self, sent: int) -> None:
        known = self._describe()
        self._told(sent, known.size if known else None)

    def _send(self, session: Session) -> Descriptor:
        known, at = self._describe(), self._body.position
        form = self._uploads.memory.lessons.form(known.size if known else None, session.limits)
        if form is Form.WHOLE and known:
            rest = self._body.rest()
            size = known.size - at
            part = BodyPart(
                form=form, at=at, pieces=rest, size=size, told=self._going, ranged=at > 0
            )
            session.commit(known, part)
            return known
        # A stream cannot state its position, because Content-Range needs an end: it starts at 0.
        if form is Form.STREAMED and at == 0:
            pieces = self._body.rest()
            session.append(BodyPart(form=form, at=0, pieces=pieces, size=None, told=self._going))
            self._body.seek(session.acked)
            self._note(session.acked)
        return self._send_chunks(session)

    def _send_chunks(self, session: Session) -> Descriptor:
        """Send the bytes of the blob that the registry lacks in chunks, the last chunk in the PUT.

        If the registry has all bytes, the PUT is empty.
        """
        memory = self._uploads.memory
        while True:
            chunk = self._body.take(memory.lessons.chunk_size(session.limits))
            part = BodyPart(
                form=Form.CHUNKED,
                at=chunk.start,
                pieces=chunk.pieces,
                size=chunk.size,
                told=self._going,
                ranged=True,
            )
            known = self._describe()
            if known and chunk.last and (memory.lessons.closing_chunk or not chunk.size):
                session.commit(known, part)
                return known
            session.append(part)
            self._note(session.acked)
            self._body.seek(session.acked)


def _checked(chunks: Iterator[bytes], descriptor: Descriptor, *, rehash: bool) -> Iterator[bytes]:
    changed = f"blob {descriptor.digest} changed while it was sent"
    sha, sent = hashlib.new(descriptor.digest.algorithm), 0
    for chunk in chunks:
        sent += len(chunk)
        if rehash:
            sha.update(chunk)
        if sent > descriptor.size:
            raise SourceError(f"{changed}: it has more than {descriptor.size} bytes")
        if sent == descriptor.size and rehash and sha.hexdigest() != descriptor.digest.hex:
            raise SourceError(f"{changed}: its bytes have another digest now")
        yield chunk
    if sent != descriptor.size:
        raise SourceError(f"{changed}: it has {sent} bytes instead of {descriptor.size}")
