"""Downloads a blob: block by block, verified, resumed after a broken connection.

OCI distribution-spec, "Pulling blobs"; RFC 9110, "Range Requests". Only one block is in memory, and
the last one is given only after size and digest were found to be right.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Generator
from types import TracebackType
from typing import Self

from regpush.digest import Descriptor
from regpush.errors import TransientError, VerificationError
from regpush.http.exchange import Reply, ReplyBody
from regpush.http.headers import content_length
from regpush.http.retry import Policy, RetryableError
from regpush.http.wire import UnansweredError
from regpush.registry.api import Api, Call

BLOCK = 1 << 20
"""Bytes of a block, 1 MiB. Retries are counted anew for each block."""

_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)", re.ASCII)


def blocks(api: Api, retry: Policy, descriptor: Descriptor) -> Generator[bytes, None, None]:
    """Yield the bytes of a blob, `BLOCK` bytes at a time.

    Raises VerificationError, before the last block, where the bytes are not those of `descriptor`.
    """
    sha, left = hashlib.new(descriptor.digest.algorithm), descriptor.size
    with _Reading(api, descriptor) as reading:
        while True:
            block = retry.run(reading.block)
            sha.update(block)
            left -= len(block)
            if not left:
                break
            yield block
        if sha.hexdigest() != descriptor.digest.hex:
            raise reading.wrong("is damaged: the bytes that the registry sent have another digest")
        if block:
            yield block


class _Reading:
    """The download of one blob; a reply that breaks off is continued by a range request.

    A context manager.
    """

    def __init__(self, api: Api, descriptor: Descriptor) -> None:
        self._api = api
        self._descriptor = descriptor
        self._doing = f"reading blob {descriptor.digest.short} ({descriptor.size} bytes)"
        self._rest: ReplyBody | None = None
        self._given = 0
        self._block = bytearray()
        self._ranges = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._let_go()

    def block(self) -> bytes:
        """Return the next bytes of the blob, fewer than `BLOCK` only at its end.

        May be called again after a RetryableError: bytes that arrived before the error are kept.
        """
        wanted = min(BLOCK, self._descriptor.size - self._given)
        try:
            rest = self._rest or self._open(self._given + len(self._block))
            while len(self._block) < wanted:
                self._block += self._next(rest)
            if self._given + wanted == self._descriptor.size:
                self._end(rest, len(self._block) - wanted)
        except (RetryableError, UnansweredError) as error:
            self._let_go()
            if isinstance(error, RetryableError):
                raise
            raise self._broken(str(error)) from error
        block = bytes(self._block[:wanted])
        del self._block[:wanted]
        self._given += wanted
        return block

    def wrong(self, what: str) -> VerificationError:
        """Return the error for a blob that differs from its descriptor; `what` ends the message."""
        return VerificationError(f"{self._api.name}: blob {self._descriptor.digest} {what}")

    def _next(self, rest: ReplyBody) -> bytes:
        if part := rest.next():
            return part
        # Without a Content-Length, a connection that broke looks like the end.
        here = self._given + len(self._block)
        raise self._broken(f"the reply ended after {here} bytes")

    def _end(self, rest: ReplyBody, over: int) -> None:
        """Check that no byte follows the blob's last one.

        Reading to the end also frees the connection for the next request.
        """
        if over or rest.next():
            raise self.wrong(f"has more than the {self._descriptor.size} bytes that were stated")

    def _open(self, at: int) -> ReplyBody:
        """Request the blob from byte `at`: by a range, or by discarding the bytes before it.

        Returns the body, which begins at that byte.
        """
        ranged = at > 0 and self._ranges
        call = Call(
            doing=self._doing,
            method="GET",
            path=f"/blobs/{self._descriptor.digest}",
            headers={"Range": f"bytes={at}-"} if ranged else {},
            limit=None,
            expected=self._descriptor.size,
        )
        reply = self._api.expect(call, 404, 416)
        if reply.status == 404:
            raise self.wrong("is missing in the registry, though a manifest names it")
        self._rest = rest = reply.rest  # stored first: `_let_go` closes it if a check below fails
        size = self._descriptor.size
        if rest and reply.status == 200:
            said = content_length(reply.status, reply.headers)
            if said not in (None, size):
                raise self.wrong(f"has {said} bytes instead of {size}")
            self._pass_over(rest, at)
            return rest
        if rest and reply.status == 206 and ranged and _begins_at(reply, at, size):
            return rest
        self._let_go()
        return self._open_whole(at, ranged, reply)

    def _open_whole(self, at: int, ranged: bool, reply: Reply) -> ReplyBody:
        """Request the whole blob, after a reply that is not the range asked for.

        Returns the body from byte `at`.
        """
        if not ranged:
            raise self._broken(f"the registry answered {reply.status} to a plain GET")
        self._ranges = False
        return self._open(at)

    def _pass_over(self, rest: ReplyBody, count: int) -> None:
        while count > 0:
            part = self._next(rest)
            self._block += part[count:]
            count -= len(part)

    def _broken(self, why: str) -> RetryableError:
        return RetryableError(TransientError(f"{self._api.name}: {self._doing} failed: {why}"))

    def _let_go(self) -> None:
        rest, self._rest = self._rest, None
        if rest:
            rest.close()


def _begins_at(reply: Reply, at: int, size: int) -> bool:
    match = _RANGE.fullmatch(reply.header("content-range").strip())
    return match is not None and int(match[1]) == at and match[2] in ("*", str(size))
