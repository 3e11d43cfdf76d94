"""One reading of a blob's bytes for several uploads."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator

from regpush.digest import Digest
from regpush.errors import RegpushError
from regpush.registry.uploads.ladder import BlobStream

AHEAD = 4
"""Chunks that may wait for each reader: so far the fastest may be ahead of the slowest."""


class Relay:
    """A blob that `open_stream` makes once and that `readers` read in step.

    The slowest reader sets the pace. A reader that must start again no longer takes part, and makes
    the blob for itself.
    """

    def __init__(self, readers: int, open_stream: Callable[[], BlobStream]) -> None:
        self._open = open_stream
        self._changed = threading.Condition()
        self._waiting: dict[int, deque[bytes]] = {index: deque() for index in range(readers)}
        self._stream: BlobStream | None = None
        self._failure: BaseException | None = None
        self._ended = False

    def run(self) -> None:
        """Make the bytes, as long as any reader is left. An error is raised in all readers."""
        try:
            self._stream = self._open()
            chunks = iter(self._stream)
            try:
                for chunk in chunks:
                    if not self._hand_out(chunk):
                        break
            finally:
                # Generators of layers end their threads by this.
                if close := getattr(chunks, "close", None):
                    close()
        except BaseException as error:
            self.stop(error)
            raise
        self.stop(None)

    def stop(self, failure: BaseException | None) -> None:
        """End all readers, or raise `failure` in them. The first call counts."""
        with self._changed:
            if not self._ended:
                self._ended, self._failure = True, failure
                self._changed.notify_all()

    def opener(self, index: int) -> Callable[[], BlobStream]:
        """Return how reader `index` opens the blob: shared at first, then alone."""
        shared: list[BlobStream] = [_Share(self, index)]
        return lambda: shared.pop() if shared else self._open()

    def let_go(self, index: int) -> None:
        """Make the other readers no longer wait for reader `index`."""
        with self._changed:
            self._waiting.pop(index, None)
            self._changed.notify_all()

    def chunks(self, index: int) -> Iterator[bytes]:
        """Yield the bytes for reader `index`, until that reader closes the iterator."""
        try:
            while (chunk := self._next(index)) is not None:
                yield chunk
        finally:
            self.let_go(index)

    @property
    def stream(self) -> BlobStream:
        """Return the stream that the bytes came from, after the last byte."""
        if self._stream is None:
            raise RegpushError("a blob is described before it was made: report this bug")
        return self._stream

    def _hand_out(self, chunk: bytes) -> bool:
        """Wait until all readers have room for `chunk`; False without readers, or after `stop`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._ended or all(len(chunks) < AHEAD for chunks in self._waiting.values())
            )
            if self._ended:
                return False
            for chunks in self._waiting.values():
                chunks.append(chunk)
            self._changed.notify_all()
            return bool(self._waiting)

    def _next(self, index: int) -> bytes | None:
        """Return the next chunk, None after the last."""
        with self._changed:
            chunks = self._waiting[index]
            self._changed.wait_for(lambda: chunks or self._ended)
            if self._failure:
                raise self._failure
            if not chunks:
                return None
            self._changed.notify_all()
            return chunks.popleft()


class _Share:
    """A blob whose bytes other readers get too; implements `BlobStream`."""

    def __init__(self, relay: Relay, index: int) -> None:
        self._relay = relay
        self._index = index

    def __iter__(self) -> Iterator[bytes]:
        return self._relay.chunks(self._index)

    @property
    def digest(self) -> Digest:
        return self._relay.stream.digest

    @property
    def size(self) -> int:
        return self._relay.stream.size
