"""The form in which a host takes uploads, learned from its refusals. Pure but for `HostMemory`.

The forms are tried in this order: one PUT, then one streamed PATCH, then chunks
(docs/internals/registries.md section 1). A refusal that says something about the form of a request
leads to the next form, for every later upload too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import Enum, auto

from msgspec import Struct
from msgspec.structs import replace

from regpush.registry.protocol import Outcome, classify
from regpush.registry.quirks import (
    CHUNK,
    RANGED_CHUNK,
    wants_a_length,
    wants_no_whole_upload,
    wants_smaller_ranges,
)

SMALLEST = 64 << 10
"""Bytes of the smallest chunk that is tried; a host that refuses it as too large takes no blobs."""

LARGEST = 64 << 20
"""Bytes of the largest chunk; chunks are held in memory, so no host may ask for larger ones."""


class Form(Enum):
    """The form of the requests that send a blob's bytes into an upload session."""

    WHOLE = auto()
    """One PUT with Content-Length and the digest."""
    STREAMED = auto()
    """One PATCH of unknown length, then an empty PUT."""
    CHUNKED = auto()
    """PATCHes with Content-Length and Content-Range, the last bytes in the PUT."""


class Limits(Struct, frozen=True):
    """The least and the greatest size of a chunk, in bytes, that an upload's reply asks for.

    `most` is None without a limit, and otherwise holds for every body.
    """

    least: int = 1
    most: int | None = None

    @classmethod
    def stated(cls, least: str, most: str) -> Limits:
        """Read the headers `OCI-Chunk-Min-Length` and `OCI-Chunk-Max-Length`.

        Hostile values are brought within `SMALLEST` and `LARGEST`.
        """
        lower = min(_number(least) or 1, LARGEST)
        upper = _number(most)
        return cls(lower, max(upper, lower, SMALLEST) if upper else None)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


class Lessons(Struct, frozen=True, kw_only=True):
    """What was learned in this run about the uploads that a host takes.

    `too_large`: bytes of the smallest body that was refused for its size. `chunk`: bytes of the
    chunks that the host gets. `whole`, `streamed`, `closing_chunk`: whether it takes a PUT with a
    whole blob, a PATCH without a length, a PUT with the last chunk. `ranges`: whether the Range in
    its replies can be true. `mounts`: whether asking for mounts makes sense.
    """

    too_large: int | None = None
    chunk: int = CHUNK
    whole: bool = True
    streamed: bool = True
    closing_chunk: bool = True
    ranges: bool = True
    mounts: bool = True

    def form(self, size: int | None, limits: Limits) -> Form:
        """Return the form in which to send a blob of `size` bytes; None for an unknown size."""
        if size is not None and self.whole:
            taken = self.too_large is None or size < self.too_large
            if taken and (limits.most is None or size <= limits.most):
                return Form.WHOLE
        boundless = self.too_large is None and limits.most is None
        return Form.STREAMED if self.streamed and boundless else Form.CHUNKED

    def chunk_size(self, limits: Limits) -> int:
        """Return the size in bytes of every chunk but the last."""
        return max(min(self.chunk, limits.most or LARGEST), limits.least)


class Refusal(Struct, frozen=True, kw_only=True):
    """A reply that refuses a request of an upload: the request's form, the status and error code.

    `length`: bytes of the request's body, None for a streamed one; `closing`: whether the request
    was a PUT.
    """

    form: Form
    status: int
    code: str
    length: int | None
    closing: bool = False


def learn(lessons: Lessons, refusal: Refusal) -> Lessons | None:
    """Return `lessons` changed by `refusal`; None if that is not about the form of the request.

    The result equals `lessons` where another worker was refused before for the same reason; the
    caller may then try again too.
    """
    length, form = refusal.length, refusal.form
    outcome = classify(refusal.status, refusal.code)
    if outcome is Outcome.TOO_LARGE:
        if length is not None and length <= SMALLEST:
            return None
        half = max((length or 2 * lessons.chunk) // 2, SMALLEST)
        known = min(length, lessons.too_large or length) if length else lessons.too_large
        return replace(lessons, too_large=known or CHUNK, chunk=min(lessons.chunk, half))
    match form:
        case Form.WHOLE if wants_no_whole_upload(refusal.status, refusal.code):
            return replace(lessons, whole=False)
        case Form.STREAMED if wants_a_length(refusal.status):
            return replace(lessons, streamed=False)
        case Form.CHUNKED if wants_smaller_ranges(refusal.status, length or 0):
            return replace(lessons, chunk=min(lessons.chunk, RANGED_CHUNK))
        case Form.CHUNKED if _wants_no_closing_chunk(lessons, refusal):
            return replace(lessons, closing_chunk=False)
    return None


def _wants_no_closing_chunk(lessons: Lessons, refusal: Refusal) -> bool:
    bad_digest = classify(refusal.status, refusal.code) is Outcome.BAD_DIGEST
    form = refusal.status in (400, 405, 416) and not bad_digest
    return bool(lessons.closing_chunk and refusal.closing and refusal.length and form)


class HostMemory:
    """Holds the current `Lessons` of one host, for one run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lessons = Lessons()

    @property
    def lessons(self) -> Lessons:
        """The current `Lessons` of the host."""
        return self._lessons

    def take(self, refusal: Refusal) -> bool:
        """Learn from a refusal; returns whether another attempt, in another form, makes sense."""
        with self._lock:
            learned = learn(self._lessons, refusal)
            self._lessons = learned or self._lessons
            return learned is not None

    def change(self, lesson: Callable[[Lessons], Lessons]) -> None:
        """Replace the current lessons by the result of `lesson`."""
        with self._lock:
            self._lessons = lesson(self._lessons)

    def distrust_ranges(self) -> None:
        """Ignore the Range header of this host's replies from now on."""
        self.change(lambda lessons: replace(lessons, ranges=False))

    def give_up_mounts(self) -> None:
        """Do not ask this host for mounts any more."""
        self.change(lambda lessons: replace(lessons, mounts=False))
