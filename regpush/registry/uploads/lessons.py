"""How a host wants its uploads, learned from its refusals: the ladder. Pure but for `HostMemory`.

One PUT, then one streamed PATCH, then chunks (docs/internals/registries.md section 1). A refusal
that says something about the form of a request leads to the next form for every later upload too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum, auto

from regpush.registry.protocol import Outcome, classify
from regpush.registry.quirks import (
    CHUNK,
    RANGED_CHUNK,
    wants_a_length,
    wants_no_whole_upload,
    wants_smaller_ranges,
)

SMALLEST = 64 << 10
"""A host that refuses a body as small as this for its size takes no blobs."""

LARGEST = 64 << 20
"""Chunks are held in memory, so no host may ask for larger ones."""


class Form(Enum):
    """How the bytes of a blob go into an upload session."""

    WHOLE = auto()
    """One PUT with Content-Length and the digest."""
    STREAMED = auto()
    """One PATCH of unknown length, then an empty PUT."""
    CHUNKED = auto()
    """PATCHes with Content-Length and Content-Range, the last bytes in the PUT."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The least and the greatest size of a chunk that the headers of an upload ask for.

    `most` is None without a limit, and otherwise holds for every body.
    """

    least: int = 1
    most: int | None = None

    @classmethod
    def stated(cls, least: str, most: str) -> Limits:
        """Read `OCI-Chunk-Min-Length` and `OCI-Chunk-Max-Length`, which may be hostile."""
        lower = min(_number(least) or 1, LARGEST)
        upper = _number(most)
        return cls(lower, max(upper, lower, SMALLEST) if upper else None)


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lessons:
    """What a host has taught so far.

    `too_large`: a body of so many bytes was refused for its size. `chunk`: bytes of the
    chunks it gets. `whole`, `streamed`, `closing_chunk`: whether it takes a PUT with a whole
    blob, a PATCH without a length, a PUT with the last chunk. `ranges`: whether the Range in
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
        """Choose the form in which to send a blob of `size` bytes, None if its size is unknown."""
        if size is not None and self.whole:
            taken = self.too_large is None or size < self.too_large
            if taken and (limits.most is None or size <= limits.most):
                return Form.WHOLE
        boundless = self.too_large is None and limits.most is None
        return Form.STREAMED if self.streamed and boundless else Form.CHUNKED

    def chunk_size(self, limits: Limits) -> int:
        """Return the bytes of every chunk but the last."""
        return max(min(self.chunk, limits.most or LARGEST), limits.least)


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A reply that refuses: the form of the refused request, its status and error code.

    `length`: bytes of the request's body, None for a streamed one; `closing`: the request was a
    PUT.
    """

    form: Form
    status: int
    code: str
    length: int | None
    closing: bool = False


def learn(lessons: Lessons, refusal: Refusal) -> Lessons | None:
    """Return the lessons after a refusal; None where it does not concern the request's form.

    Of two workers that are refused for one reason, the second learns nothing new, but may try again
    too.
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
    """The lessons of one host, kept for one run. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lessons = Lessons()

    @property
    def lessons(self) -> Lessons:
        """The lessons so far."""
        return self._lessons

    def take(self, refusal: Refusal) -> bool:
        """Learn from a refusal; returns whether another attempt makes sense."""
        with self._lock:
            learned = learn(self._lessons, refusal)
            self._lessons = learned or self._lessons
            return learned is not None

    def change(self, lesson: Callable[[Lessons], Lessons]) -> None:
        """Replace the lessons by the result of `lesson`."""
        with self._lock:
            self._lessons = lesson(self._lessons)

    def distrust_ranges(self) -> None:
        """Never believe this host's Range again."""
        self.change(lambda lessons: replace(lessons, ranges=False))

    def give_up_mounts(self) -> None:
        """Ask this host for no further mounts."""
        self.change(lambda lessons: replace(lessons, mounts=False))
