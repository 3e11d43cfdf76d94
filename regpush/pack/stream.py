"""Turns a planned layer into a stream of compressed bytes and computes its digests."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Self

from msgspec import Struct

from regpush.closure import Identity
from regpush.digest import Descriptor, Digest
from regpush.errors import RegpushError
from regpush.image.image import Layer
from regpush.layering.plan import PlannedLayer
from regpush.options import Algorithm, Compression
from regpush.pack.compression import MEDIA_TYPE
from regpush.pack.packer import Packer
from regpush.pack.recipe import Candidate, Placed, annotate, recipe
from regpush.pack.tar import Archive, ArchiveOptions

Progress = Callable[[int, int], None]
"""Called with the bytes read and the compressed bytes made so far; may raise to stop."""


class LayerSource(Struct, frozen=True, kw_only=True, eq=False):
    """A planned layer, before it is packed or found in a registry.

    `archive` and `compression` decide its bytes, which `open` gives any number of times. `recipe`:
    None where it is known only after the items were read. `candidates`: existing layers that may be
    reused in its place. `why`: the reason for sending it if none of them can. `placed`: set where
    the layer was sent before the plan was made.
    """

    index: int
    planned: PlannedLayer
    recipe: Digest | None
    archive: ArchiveOptions
    compression: Compression
    candidates: Sequence[Candidate] = ()
    why: str = ""
    placed: Placed | None = None

    @classmethod
    def of(
        cls, index: int, planned: PlannedLayer, archive: ArchiveOptions, compression: Compression
    ) -> LayerSource:
        """Make the source of `planned`, which is layer number `index` of the push."""
        known = [(item.path, item.identity) for item in planned.items if item.identity]
        return cls(
            index=index,
            planned=planned,
            recipe=recipe(known, archive) if len(known) == len(planned.items) else None,
            archive=archive,
            compression=compression,
        )

    @property
    def size(self) -> int:
        """The estimated uncompressed bytes of the layer: the sum of its items' sizes."""
        return sum(item.size for item in self.planned.items)

    @property
    def media_type(self) -> str:
        """The media type that the layer has if regpush packs it."""
        return MEDIA_TYPE[self.compression.algorithm]

    def open(self, packer: Packer, progress: Progress) -> LayerStream:
        """Start one pass over the layer, which packs it from the beginning."""
        for item in self.planned.items:
            if item.ahead:
                item.ahead()
        return LayerStream(self, packer, progress)

    def described(self, layer: Layer) -> Layer:
        """Return `layer`, found in a registry, with annotations for the items of this source.

        Only for a source whose recipe is known before anything is read. Raises RegpushError, a bug.
        """
        if self.recipe is None:
            raise RegpushError(f"layer {self.index} is known without a recipe: report this bug")
        return annotate(layer, self.planned.items, self.recipe, layer.uncompressed_size)


class LayerStream:
    """One pass over a layer: packed, compressed, and hashed before and after compression.

    Iterating gives the blob's bytes, once. After the last, `digest` and `size` are those of the
    blob, `diff_id` and `uncompressed_size` those of the archive in it.
    """

    def __init__(self, source: LayerSource, packer: Packer, progress: Progress) -> None:
        self._source = source
        self._packer = packer
        # The rank is taken when the layer is opened, not when its first byte is asked for: a layer
        # that is sent waits for its upload session first, and those kept in memory do not.
        self._rank = packer.rank()
        self._progress = progress
        self._items = Archive(source.planned.items, source.archive, packer.codec.takes)
        self._archive = hashlib.sha256()
        stored = source.compression.algorithm is Algorithm.NONE
        self._blob = self._archive if stored else hashlib.sha256()
        self.size = 0
        self.uncompressed_size = 0

    def __iter__(self) -> Generator[bytes, None, None]:
        with closing(self._packer.pieces(self._items, self._rank)) as pieces:
            for piece in pieces:
                self._archive.update(piece.block)
                self.uncompressed_size += len(piece.block)
                self._progress(self.uncompressed_size, self.size)
                chunk = piece.chunk()
                self.size += len(chunk)
                if self._blob is not self._archive:
                    self._blob.update(chunk)
                yield chunk

    def read(self) -> None:
        """Read the archive without compressing it, to compute the diff ID alone."""
        for block in self._packer.blocks(self._items, self._rank):
            self._archive.update(block)
            self.uncompressed_size += len(block)
            self._progress(self.uncompressed_size, 0)

    @property
    def expected(self) -> int:
        """The estimated uncompressed bytes of the layer: the sum of its items' sizes."""
        return self._source.size

    @property
    def digest(self) -> Digest:
        """The digest of the blob; valid after the last byte."""
        return Digest("sha256", self._blob.hexdigest())

    @property
    def diff_id(self) -> Digest:
        """The digest of the uncompressed archive; valid after the last byte."""
        return Digest("sha256", self._archive.hexdigest())

    @property
    def identities(self) -> tuple[tuple[str, Identity], ...]:
        """The path and identity of each item; known only after the last byte was read."""
        return self._items.identities

    def layer(self) -> Layer:
        """Return the record of the packed layer; call this only after the last byte was read."""
        media_type = self._source.media_type
        return self.as_read(
            Layer(
                descriptor=Descriptor(media_type=media_type, digest=self.digest, size=self.size),
                diff_id=self.diff_id,
            )
        )

    def as_read(self, layer: Layer) -> Layer:
        """Return `layer`, which has the diff ID of this stream, with annotations for its items.

        Call this only after the last byte was read.
        """
        source = self._source
        found = recipe(self.identities, source.archive)
        return annotate(layer, source.planned.items, found, self.uncompressed_size)


class Spool:
    """The memory in which all workers together keep blobs whose digests are not known yet.

    For a blob that is kept until its digest is known, the registry can be asked whether it has it.
    But an idle link is lost time: where nothing else is being sent, a blob is sent as soon as
    `rush` bytes of it are ready. With None, blobs always wait. `budget`: bytes in all.
    """

    def __init__(self, budget: int = 20 << 20, rush: int | None = 8 << 20) -> None:
        self._left = budget
        self._rush = rush
        self._going = 0
        self._lock = threading.Lock()

    @contextmanager
    def going(self) -> Iterator[None]:
        """Count a blob as being sent until the `with` block ends."""
        with self._lock:
            self._going += 1
        try:
            yield
        finally:
            with self._lock:
                self._going -= 1

    def rushes(self, size: int) -> bool:
        """Whether a blob of which `size` bytes are ready should be sent at once."""
        return self._rush is not None and size >= self._rush and not self._going

    def suits(self, size: int) -> bool:
        """Whether a blob of `size` uncompressed bytes might fit; if not, it is sent at once.

        Few archives are compressed to less than a third.
        """
        return size <= 3 * self._left

    def take(self, size: int) -> bool:
        """Reserve `size` bytes of the budget; returns False, without waiting, if fewer are left."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give_back(self, size: int) -> None:
        """Return `size` bytes that were reserved."""
        with self._lock:
            self._left += size


class Spooled:
    """The beginning of a layer's stream, kept in memory as far as the spool allows.

    A context manager that returns its memory to the spool. If `whole`, `chunks` has the whole blob.
    Iterating gives the blob's bytes once: the chunks, each freed after it, and then the rest of the
    stream. It is a `BlobStream`.
    """

    def __init__(self, stream: LayerStream, spool: Spool) -> None:
        self.stream = stream
        self.chunks: list[bytes] = []
        self.whole = False
        self._spool = spool
        self._rest = iter(stream)
        self._next = b""

    def __enter__(self) -> Self:
        if not self._spool.suits(self.stream.expected):
            return self
        size = 0
        for chunk in self._rest:
            if not self._spool.take(len(chunk)):
                self._next = chunk
                return self
            self.chunks.append(chunk)
            size += len(chunk)
            if self._spool.rushes(size):
                return self
        self.whole = True
        return self

    def __exit__(self, *_: object) -> None:
        self._rest.close()
        self._spool.give_back(sum(map(len, self.chunks)))
        # Emptied, because another reference to the list must not keep its megabytes.
        self.chunks.clear()

    def __iter__(self) -> Iterator[bytes]:
        while self.chunks:
            chunk = self.chunks.pop(0)
            self._spool.give_back(len(chunk))
            yield chunk
        if self._next:
            yield self._next
        yield from self._rest

    @property
    def digest(self) -> Digest:
        """The digest of the blob; valid after the last byte."""
        return self.stream.digest

    @property
    def size(self) -> int:
        """The bytes of the blob; valid after the last byte."""
        return self.stream.size
