"""One upload session: sends a blob's bytes, counts those acknowledged, and ends the session.

OCI distribution-spec, "Pushing blobs"; docs/internals/registries.md section 2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self

from msgspec import Struct

from regpush.digest import Descriptor
from regpush.errors import RefusedError, RegpushError, TransientError, VerificationError
from regpush.events import Listener, Warned
from regpush.http.address import upload_location
from regpush.http.exchange import COMMIT_PATIENCE, Reply
from regpush.http.retry import RetryableError
from regpush.http.wire import watching
from regpush.registry.api import Api, Call
from regpush.registry.hints import too_large
from regpush.registry.protocol import Outcome, parse_problem, with_digest
from regpush.registry.uploads.body import Piece
from regpush.registry.uploads.lessons import Form, HostMemory, Limits, Refusal
from regpush.registry.uploads.resume import acknowledged, resume_at

_OCTETS = {"Content-Type": "application/octet-stream"}
_MAY_BE_THERE = (Outcome.ABSENT, Outcome.BUSY, Outcome.FAILED, Outcome.UPLOAD_LOST, Outcome.REFUSED)
_TELL = 128 << 10
"""Bytes between two reports of progress, because a fast link writes often."""
_MAY_GO_ON = (Outcome.BUSY, Outcome.FAILED)


class BodyPart(Struct, frozen=True, kw_only=True, eq=False):
    """Bytes of a blob from position `at`: `size` of them, None if unknown until they end.

    With `ranged`, a Content-Range tells the registry their position. `told` is called repeatedly
    with the number of the blob's bytes that the other side's TCP has acknowledged.
    """

    form: Form
    at: int
    pieces: Iterable[Piece]
    size: int | None
    told: Callable[[int], None]
    ranged: bool = False

    @property
    def headers(self) -> dict[str, str]:
        """Return the headers of a request with these bytes.

        Content-Range is `a-b`, without a unit.
        """
        if not self.ranged or not self.size:
            return _OCTETS
        return {**_OCTETS, "Content-Range": f"{self.at}-{self.at + self.size - 1}"}


class Session:
    """One upload session. A context manager that deletes the session unless it was committed.

    `acked`: bytes that the registry confirmed; `sent`: bytes that it may have.
    """

    def __init__(
        self,
        api: Api,
        opened: Reply,
        doing: str,
        *,
        there: Callable[[Descriptor], bool],
        count: Callable[[int], None],
        memory: HostMemory,
        notify: Listener,
    ) -> None:
        self._api = api
        self._doing = doing
        self._there = there
        self._count = count
        self._memory = memory
        self._notify = notify
        self.limits = Limits.stated(
            opened.header("oci-chunk-min-length"), opened.header("oci-chunk-max-length")
        )
        self.acked = 0
        self.sent = 0
        self._committed = False
        self._broken = False
        self._in_doubt = False
        self._resumed_at: int | None = None
        self._redirected: dict[str, str] = {}
        self._going_elsewhere = False
        self._warned = False
        if not opened.header("location"):
            raise RefusedError(
                f"{api.name}: {doing} failed: the registry opened an upload without a Location"
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
        self.give_up()

    def give_up(self) -> None:
        """Delete the session, unless it was committed."""
        if not self._committed:
            self._api.abandon(self._url)

    @property
    def resumable(self) -> bool:
        """Whether the upload broke in such a way that the registry may hold a part of it.

        `resume` then asks how much.
        """
        return self._going_elsewhere or (self._broken and self._memory.lessons.ranges)

    def resume(self) -> int | None:
        """Return the position at which a broken session continues; None where it cannot continue.

        After a redirect the session continues where the redirected request began. Raises
        RetryableError where the registry is busy or does not answer.
        """
        if self._going_elsewhere:
            self._going_elsewhere = False
            return self.acked
        reply = self._api.send(Call(doing=self._doing, method="GET", url=self._url))
        if self._api.outcome(reply) is Outcome.BUSY:
            raise self._api.failure(reply, self._doing)
        if reply.status not in (200, 204):
            return None
        at = resume_at(self.acked, self.sent, reply.header("range"))
        if at is None or at == self._resumed_at:
            return None
        self._move(reply)
        self._broken, self._in_doubt = False, True
        self.acked = self.sent = self._resumed_at = at
        return at

    def append(self, part: BodyPart) -> None:
        """Send `part` by PATCH; afterwards `acked` counts the bytes that the registry has.

        Where reading the part's bytes raises, the request is still ended in order, so that the
        session can be deleted.
        """
        broken: list[Exception] = []
        body = _until_broken(self._going(part), broken)
        call = Call(
            doing=self._doing,
            method="PATCH",
            url=self._redirected.get("PATCH", self._url),
            headers=part.headers,
            body=body,
            body_size=part.size,
        )
        try:
            reply = self._send(call, part)
        except (RetryableError, RegpushError):
            if broken:
                raise broken[0] from broken[0].__cause__
            raise
        if broken:
            if 200 <= reply.status < 300:
                self._move(reply)
            raise broken[0] from broken[0].__cause__
        self._follow(reply)
        if not 200 <= reply.status < 300:
            raise self._failure(reply, part, closing=False)
        if next(body, None) is not None:
            raise RetryableError(
                VerificationError(
                    f"{self._api.name}: {self._doing} failed: the registry answered "
                    f"{reply.status} before it had read all bytes"
                ),
                once=True,
            )
        self._move(reply)
        self._acknowledge(part.at, reply)

    def _acknowledge(self, before: int, reply: Reply) -> None:
        if not self._memory.lessons.ranges:
            self.acked = self.sent
            return
        receipt = acknowledged(before, self.sent, reply.header("range"))
        self.acked = receipt.stored
        if not receipt.credible:
            self._memory.distrust_ranges()
        if not receipt.credible or self.acked < self.sent:
            self._in_doubt = True

    def commit(self, descriptor: Descriptor, part: BodyPart) -> None:
        """Send the bytes of `part`, the last of the blob, and the digest.

        Returns when the registry has the blob. Raises RetryableError where another attempt may
        succeed, else the error for the refusal.
        """
        body = self._going(part)
        call = Call(
            doing=self._doing,
            method="PUT",
            url=self._redirected.get("PUT") or with_digest(self._url, descriptor.digest),
            headers=part.headers,
            body=body if part.size else b"",
            body_size=part.size,
            patience=COMMIT_PATIENCE,
        )
        try:
            reply = self._send(call, part)
        except RetryableError:
            self._committed = self._there(descriptor)
            if self._committed:
                return
            raise
        self._follow(reply)
        # After a resume or a doubtful count, a HEAD checks the blob: some registries check none.
        created = reply.status == 201 and next(body, None) is None
        self._committed = created and not self._in_doubt
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
        if outcome is Outcome.BAD_DIGEST and self._in_doubt:
            self._memory.distrust_ranges()
        raise self._failure(reply, part, closing=True)

    def _going(self, part: BodyPart) -> Iterator[bytes]:
        """Yield the bytes of `part` for the request, and count in `sent` those that were taken."""
        self.sent = part.at
        for piece in part.pieces:
            self.sent += len(piece)
            yield bytes(piece)
            self._count(len(piece))

    def _send(self, call: Call, part: BodyPart) -> Reply:
        told = part.at

        def hear(queued: int) -> None:
            nonlocal told
            gone = max(self.sent - queued, part.at)
            if gone - told >= _TELL or told < gone == self.sent:
                told = gone
                part.told(gone)

        try:
            with watching(hear):
                reply = self._api.send(call)
            if 200 <= reply.status < 300:
                hear(0)
        except RetryableError:
            self._broken = True
            raise
        self._broken = self._api.outcome(reply) in _MAY_GO_ON
        return reply

    def _follow(self, reply: Reply) -> None:
        """Arrange that a request with a body is sent again, where `reply` redirects it.

        Raises RetryableError for the first redirect of a method (RFC 9110, 15.4.8 and 15.4.9), and
        RefusedError where the bytes must not be sent to that URL.
        """
        location = reply.header("location")
        if reply.status not in (307, 308) or not location or reply.method in self._redirected:
            return
        moved = upload_location(reply.url, location, self._api.origin)
        self._redirected[reply.method] = moved.url
        self._going_elsewhere = True
        failure = self._api.failure(reply, self._doing)
        error = failure.error if isinstance(failure, RetryableError) else failure
        raise RetryableError(error, learned=True)

    def _failure(
        self, reply: Reply, part: BodyPart, *, closing: bool
    ) -> RegpushError | RetryableError:
        failure = self._api.failure(reply, self._doing)
        refusal = Refusal(
            form=part.form,
            status=reply.status,
            code=parse_problem(reply.body).code,
            length=part.size,
            closing=closing,
        )
        if self._memory.take(refusal):
            error = failure.error if isinstance(failure, RetryableError) else failure
            return RetryableError(error, learned=True)
        if self._api.outcome(reply) is Outcome.TOO_LARGE and part.size:
            return RefusedError(f"{failure}; {too_large(part.size)}")
        if self._api.outcome(reply) is Outcome.ABSENT:
            # A 404 inside a session means that the session is gone.
            return RetryableError(TransientError(str(failure)))
        return failure

    def _move(self, reply: Reply) -> None:
        self._redirected.clear()
        location = reply.header("location")
        if not location:
            return
        moved = upload_location(reply.url, location, self._api.origin)
        self._url = moved.url
        if moved.upgraded and not self._warned:
            self._warned = True
            self._notify(
                Warned(
                    message=f"{self._api.name}: the registry names http addresses for uploads; "
                    "https is used instead (the registry does not know that its proxy has TLS)"
                )
            )


def _until_broken(body: Iterator[bytes], broken: list[Exception]) -> Iterator[bytes]:
    """Yield `body` until reading it raises an error, which is added to `broken`."""
    try:
        yield from body
    except Exception as error:  # whatever it is, it is raised again by the caller
        broken.append(error)
