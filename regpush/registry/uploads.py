"""Uploading a blob: sessions from their POST to their end (distribution-spec, Pushing blobs).

Each attempt is a session of its own, from byte 0 of a body opened anew: the way that every
registry supports (registry.md, Decisions).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from types import TracebackType
from typing import Protocol, Self, TypeVar

from regpush.digest import Descriptor, Digest
from regpush.errors import RefusedError, RegpushError, VerificationError
from regpush.registry.api import RepositoryApi
from regpush.registry.protocol import upload_url, with_digest
from regpush.registry.retry import RetryableError
from regpush.registry.transport import COMMIT_TIMEOUT_S, Body, Call, Reply

T = TypeVar("T")

_OCTETS = (("Content-Type", "application/octet-stream"),)


class BlobStream(Protocol):
    """A blob that is made while it is sent; digest and size stand once it is exhausted."""

    def __iter__(self) -> Iterator[bytes]:
        """The blob in pieces, about 1 MiB each."""

    @property
    def digest(self) -> Digest:
        """Of all pieces."""

    @property
    def size(self) -> int:
        """Bytes in all pieces."""


def has_blob(api: RepositoryApi, descriptor: Descriptor) -> bool:
    """Ask once, by HEAD. Existence is only an optimisation: an unclear answer is a no.

    Raises RetryableError, TransientError or RefusedError where the registry fails or forbids.
    """
    doing = f"look for {descriptor.digest}"
    reply = api.send(api.call("HEAD", f"blobs/{descriptor.digest}"))
    if reply.status == 403:  # a reply to HEAD has no words in it
        asked = api.send(api.call("GET", f"blobs/{descriptor.digest}", max_reply=descriptor.size))
        reply = reply if asked.ok else asked
    if reply.ok:
        return bool(reply.headers.get("content-length") == str(descriptor.size))
    error = api.failure(reply, doing)
    if isinstance(error, RetryableError) or reply.status == 403 or reply.status >= 500:
        raise error
    return False


def put(
    api: RepositoryApi, descriptor: Descriptor, open_body: Callable[[], Iterator[bytes]]
) -> None:
    """POST, and one PUT with Content-Length. See `Repository.put_blob`."""
    body = Body(open_body, descriptor.size)
    doing = f"upload {descriptor.digest} ({descriptor.size} bytes)"
    sent = False

    def attempt() -> None:
        nonlocal sent
        if sent and has_blob(api, descriptor):
            return  # it was the reply that got lost, not the blob
        with _Session(api, doing) as session:
            sent = True
            session.commit(descriptor, body)

    _twice_if_damaged(api, attempt)


def stream(
    api: RepositoryApi, media_type: str, open_stream: Callable[[], BlobStream]
) -> Descriptor:
    """POST, one streamed PATCH, and an empty PUT. See `Repository.stream_blob`."""
    doing = "upload a layer"

    def attempt() -> Descriptor:
        with _Session(api, doing) as session:
            made = session.append(open_stream)
            descriptor = Descriptor(media_type=media_type, digest=made.digest, size=made.size)
            try:
                session.commit(descriptor, Body.of(b""))
            except RetryableError:
                if not has_blob(api, descriptor):
                    raise
            return descriptor

    return _twice_if_damaged(api, attempt)


def abandon(api: RepositoryApi, reply: Reply) -> None:
    """Give up the session that `reply` offers."""
    url = upload_url(reply.url, reply.headers.get("location"), api.endpoint.api)
    api.farewell(_call(api, "DELETE", url))


def _twice_if_damaged(api: RepositoryApi, attempt: Callable[[], T]) -> T:
    """`attempt` with all its retries; once more where the registry received something else."""
    try:
        return api.endpoint.retry.call(attempt)
    except VerificationError:
        return api.endpoint.retry.call(attempt)


def _call(api: RepositoryApi, method: str, url: str) -> Call:
    """A request within a session, which may lie at another origin."""
    return replace(api.call(method, ""), url=url)


class _Session:
    """An upload session: begun on entry, deleted where anything fails inside it."""

    def __init__(self, api: RepositoryApi, doing: str) -> None:
        self._api = api
        self._doing = doing
        self._url = ""

    def __enter__(self) -> Self:
        begin = replace(self._api.call("POST", "blobs/uploads/"), body=Body.of(b""))
        reply = self._api.send(begin)
        if reply.status != 202:
            raise self._api.failure(reply, self._doing)
        self._moved_by(reply)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self._api.farewell(_call(self._api, "DELETE", self._url))

    def append(self, open_stream: Callable[[], BlobStream]) -> BlobStream:
        """Send a stream by one PATCH without Content-Range, and give it back exhausted."""
        made: list[BlobStream] = []

        def open_body() -> Iterator[bytes]:
            made.append(open_stream())
            return iter(made[-1])

        call = _call(self._api, "PATCH", self._url)
        reply = self._api.send(replace(call, headers=_OCTETS, body=Body(open_body, None)))
        if not reply.ok:
            raise self._failure(reply)
        self._moved_by(reply)
        return made[-1]

    def commit(self, descriptor: Descriptor, rest: Body) -> None:
        """Send what is missing by PUT, which makes the session a blob."""
        call = replace(
            _call(self._api, "PUT", with_digest(self._url, descriptor.digest)),
            headers=_OCTETS,
            body=rest,
            read_timeout_s=COMMIT_TIMEOUT_S,
        )
        reply = self._api.send(call)
        if reply.status == 201:
            return
        # Unclear, or another pusher of the same blob was faster (Nexus says 400 then).
        unclear = reply.ok or reply.status in (400, 404, 409, 416)
        if unclear and has_blob(self._api, descriptor):
            return
        raise self._failure(reply)

    def _moved_by(self, reply: Reply) -> None:
        """Go on where `reply` says; only the reply to a PATCH may leave that unsaid."""
        location = reply.headers.get("location")
        if location or not self._url:
            self._url = upload_url(reply.url, location, self._api.endpoint.api)

    def _failure(self, reply: Reply) -> RegpushError:
        error = self._api.failure(reply, self._doing)
        if reply.status in (404, 416) and isinstance(error, RefusedError):
            return RetryableError(str(error))  # the session is gone; a new one may do
        return error
