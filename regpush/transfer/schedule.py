"""Ask for, pack and send the layers of a push: what happens in which thread, and when."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future
from contextlib import ExitStack, contextmanager
from enum import Enum
from functools import partial
from itertools import zip_longest
from typing import Generic, TypeVar

from msgspec import Struct
from msgspec.structs import replace

from regpush.closure import Identity
from regpush.concurrency import Cancellation, parallel, results, workers
from regpush.digest import Descriptor, Digest
from regpush.events import Action, LayerDone, LayerProgress, LayerSent, Listener
from regpush.image.image import Layer
from regpush.options import Compression
from regpush.pack.packer import Packer
from regpush.pack.recipe import (
    BlobStore,
    Placed,
    PreviousImage,
    by_diff_id,
    place,
)
from regpush.pack.stream import LayerSource, LayerStream, Progress, Spool, Spooled
from regpush.registry.uploads.ladder import BlobStream, Told
from regpush.transfer.fanout import FanOut, FanUpload

HEADS = 40
"""HEAD requests at a time: an answer costs the registry little, and a link its round trip."""

_HEAD_START_S = 0.2
"""Seconds that HEAD requests wait at most until the first sessions are requested: mostly 0.001."""

PACKERS_PER_JOB = 2
"""Layers packed or waiting for each one that is sent: packing fills the round trips."""

_OWN_REQUESTS = 4
"""Requests beside the questions about layers: a session and a question for a layer that is new, and
for the config."""

T = TypeVar("T")


def connections_for(layers: int) -> int:
    """Return how many connections placing so many layers uses at a time."""
    return min(layers, HEADS) + _OWN_REQUESTS


class Naming(Enum):
    """Whether a blob too large for the memory is packed twice: to look it up, and to send it.

    IF_LIKELY: only where the registry is likely to have a blob of the same content.
    """

    ALWAYS = "always"
    IF_LIKELY = "if likely"


class Transfer(Struct, frozen=True, kw_only=True, eq=False):
    """The context of the workers of one push.

    `stores`: where layers are looked for: the shelves of `fan`, or dry runs over them. `content`:
    images in which layers of equal diff ID are looked for, empty where recipes decide.
    `compression`: what the user asked for, None for any. `slots`: one for each layer that is sent
    at a time. `identities`: the identities of items that packing computed, by path.
    """

    fan: FanOut
    stores: Sequence[BlobStore]
    content: Sequence[PreviousImage]
    compression: Compression | None
    jobs: int
    slots: threading.Semaphore
    packer: Packer
    naming: Naming
    spool: Spool
    identities: dict[str, Identity]
    notify: Listener
    cancel: Cancellation

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one of the slots that limit how many layers are sent at a time."""
        with self.slots, self.spool.going():
            yield


def place_layers(
    wanted: Sequence[LayerSource], transfer: Transfer, then: Callable[[Sequence[Layer]], T]
) -> tuple[list[Placed], T]:
    """Bring every layer to all repositories: found in a repository, mounted, or sent.

    Layers without candidates are packed and sent at once, the largest first, while the registry is
    asked for all others. `then` is called, in another thread, as soon as all layers are known,
    lowest first, and again if a layer turned out to be another one; its last result is returned
    too. The first failure ends everything and is raised.
    """
    with (
        workers(PACKERS_PER_JOB * transfer.jobs, transfer.cancel) as senders,
        workers(HEADS, transfer.cancel) as askers,
        ExitStack() as begun,
    ):
        roll = _Roll(len(wanted), lambda layers: senders.submit(then, layers))

        def find_or_send(one: LayerSource) -> Placed:
            if there := _find(one, transfer.stores):
                _tell_done(one, there, transfer)
                return there
            return senders.submit(_send, one, transfer, roll).result()

        placing: dict[int, Future[Placed]] = {}
        largest_first = sorted(wanted, key=lambda one: -one.size)
        fresh = [one for one in largest_first if not (one.placed or one.candidates)]
        # The first upload sessions are requested before HEAD requests take the connections.
        begin_now = [] if transfer.content else fresh[: transfer.jobs]
        uploads = [_begin_upload(one, transfer) for one in begin_now]
        for upload in uploads:
            begun.push(upload)
        for one, upload in zip_longest(fresh, uploads):
            placing[one.index] = senders.submit(_send, one, transfer, roll, upload)
        for upload in uploads:
            upload.wait_until_asked(_HEAD_START_S)
        for one in largest_first:
            if one.placed:
                roll.note(one.index, one.placed.layer)
                placing[one.index] = _finished(one.placed)
            elif one.candidates:
                roll.note(one.index, one.described(one.candidates[0].layer))
                placing[one.index] = askers.submit(find_or_send, one)
        placed = results([placing[one.index] for one in wanted])
        return placed, roll.settle([one.layer for one in placed]).result()


def place_alone(one: LayerSource, transfer: Transfer) -> Placed:
    """Bring a layer, which is looked up first, to all repositories before others are known."""
    placed = _find(one, transfer.stores)
    if placed is None:
        with _begin_upload(one, transfer) as upload:
            placed = _pack_and_send(one, transfer, upload, lambda _: None)
    _tell_done(one, placed, transfer)
    return placed


def _finished(placed: Placed) -> Future[Placed]:
    future: Future[Placed] = Future()
    future.set_result(placed)
    return future


def send_again(
    wanted: Sequence[LayerSource],
    placed: Sequence[Placed],
    lost: Collection[Digest],
    transfer: Transfer,
) -> list[Placed]:
    """Pack the layers whose blobs are `lost` again, and send them without asking for them.

    A layer that was taken from another image may get a blob of another digest with an equal diff
    ID.
    """

    def place_again(pair: tuple[LayerSource, Placed]) -> Placed:
        one, before = pair
        if before.layer.descriptor.digest not in lost:
            return before
        sent = _send_lost(one, transfer)
        _tell_done(one, sent, transfer)
        return sent

    pairs = list(zip(wanted, placed, strict=True))
    return parallel(transfer.jobs, pairs, place_again, transfer.cancel)


def _send_lost(one: LayerSource, transfer: Transfer) -> Placed:
    with transfer.fan.upload(_sent_listener(one, transfer)) as upload:
        layer = _stream(one, upload, transfer, lambda _: None)
    return Placed(layer=layer, action=Action.UPLOADED, why="the registry had lost the blob")


class _Roll(Generic[T]):
    """Collects the layers as they become known, and calls `then` once all are known."""

    def __init__(self, count: int, then: Callable[[Sequence[Layer]], Future[T]]) -> None:
        self._lock = threading.Lock()
        self._count = count
        self._then = then
        self._layers: dict[int, Layer] = {}
        self._begun: tuple[Sequence[Layer], Future[T]] | None = None

    def note(self, index: int, layer: Layer) -> None:
        """Record that the layer numbered `index` is, or will probably be, `layer`.

        After the last layer is recorded, `then` is called with all layers, once.
        """
        with self._lock:
            self._layers[index] = layer
            if len(self._layers) < self._count or self._begun:
                return
            layers = [self._layers[index] for index in sorted(self._layers)]
            self._begun = layers, self._then(layers)

    def settle(self, layers: Sequence[Layer]) -> Future[T]:
        """Return the pending result of `then` for `layers`.

        The work that started early is used if it was for equal layers.
        """
        if self._begun and self._begun[0] == layers:
            return self._begun[1]
        return self._then(layers)


def find_layers(
    wanted: Sequence[LayerSource], stores: Sequence[BlobStore], cancel: Cancellation
) -> list[Placed | None]:
    """Ask `stores` for every layer's candidates, many at a time."""
    return parallel(HEADS, wanted, lambda one: _find(one, stores), cancel)


def _find(one: LayerSource, stores: Sequence[BlobStore]) -> Placed | None:
    placed = place(one.candidates, stores)
    return placed and replace(placed, layer=one.described(placed.layer))


def _begin_upload(one: LayerSource, transfer: Transfer) -> FanUpload:
    """Begin the upload of a layer before it is packed."""
    likely = [candidate.layer.descriptor for candidate in one.candidates]
    return transfer.fan.upload(_sent_listener(one, transfer), likely)


def _send(
    one: LayerSource, transfer: Transfer, roll: _Roll[T], begun: FanUpload | None = None
) -> Placed:
    placed = by_content(one, transfer) if transfer.content else None
    if placed is None:
        with begun or _begin_upload(one, transfer) as upload:
            known = partial(roll.note, one.index)
            placed = _pack_and_send(one, transfer, upload, known)
    _tell_done(one, placed, transfer)
    return placed


def by_content(one: LayerSource, transfer: Transfer) -> Placed | None:
    """Pack the layer only as far as its diff ID, and find a layer that has an equal one.

    Nothing is compressed or sent.
    """
    stream = one.open(transfer.packer, _progress_listener(one, transfer))
    stream.read()
    candidates = by_diff_id(stream.diff_id, transfer.content, transfer.compression)
    placed = place(candidates, transfer.stores)
    if not placed:
        return None
    why = f"same content as in {candidates[0].source}"
    return replace(placed, layer=stream.as_read(placed.layer), why=why)


def _pack_and_send(
    one: LayerSource, transfer: Transfer, upload: FanUpload, known: Callable[[Layer], None]
) -> Placed:
    """Pack, compress and hash the layer, and send it where the registry turns out to lack it.

    `known` is called with the layer as soon as its last byte is packed, mostly before it is sent.
    """
    fan = transfer.fan
    progress = _progress_listener(one, transfer)
    likely = [candidate.layer.descriptor for candidate in one.candidates]

    def again() -> LayerStream:
        return one.open(transfer.packer, progress)

    with transfer.packer.room(one.size), Spooled(again(), transfer.spool) as spooled:
        if not spooled.whole:
            if transfer.naming is Naming.IF_LIKELY and not transfer.content:
                why = _why(one, likely, fan)
                with transfer.turn():
                    layer = _stream(one, upload, transfer, known, begun=spooled)
                return Placed(layer=layer, action=Action.UPLOADED, why=why)
            # The registry is likely to have the blob: reading it again is cheaper than sending it.
            for _ in spooled:
                pass
        layer = spooled.stream.layer()
        transfer.identities.update(spooled.stream.identities)
        known(layer)
        if fan.has_blob(layer.descriptor):
            return Placed(
                layer=layer, action=Action.REUSED, why="the registry already has this blob"
            )
        why = _why(one, [layer.descriptor], fan)
        with transfer.turn():
            chunks = spooled.chunks if spooled.whole else None
            upload.put(layer.descriptor, lambda: iter(again() if chunks is None else chunks))
    return Placed(layer=layer, action=Action.UPLOADED, why=why)


def _why(one: LayerSource, likely: Sequence[Descriptor], fan: FanOut) -> str:
    """Return why the layer is sent; if only some repositories lacked it, with their names."""
    lacking = fan.lacking(likely)
    if len(lacking) == len(fan.shelves):
        return one.why
    return f"{', '.join(str(shelf.name) for shelf in lacking)} lacked the blob"


def _stream(
    one: LayerSource,
    upload: FanUpload,
    transfer: Transfer,
    known: Callable[[Layer], None],
    *,
    begun: Spooled | None = None,
) -> Layer:
    """Send a layer whose digest is known after its last byte; `begun`: its first attempt.

    `known` is called with the layer as soon as its last byte was read.
    """
    progress = _progress_listener(one, transfer)
    attempts: list[LayerStream] = []

    def read(stream: LayerStream) -> None:
        transfer.identities.update(stream.identities)
        known(stream.layer())

    def open_stream() -> BlobStream:
        if begun and not attempts:
            attempts.append(begun.stream)
            return _Announced(begun, partial(read, begun.stream))
        stream = one.open(transfer.packer, progress)
        attempts.append(stream)
        return _Announced(stream, partial(read, stream))

    sent = upload.stream(one.media_type, open_stream)
    # The latest is not always the one that succeeded: one of several registries may be slow.
    whole = next(stream for stream in reversed(attempts) if stream.digest == sent.digest)
    transfer.identities.update(whole.identities)
    return whole.layer()


class _Announced(Struct, frozen=True, eq=False):
    """The bytes of `blob`, after the last of which `read` is called; implements `BlobStream`."""

    blob: BlobStream
    read: Callable[[], None]

    def __iter__(self) -> Iterator[bytes]:
        yield from self.blob
        self.read()

    @property
    def digest(self) -> Digest:
        return self.blob.digest

    @property
    def size(self) -> int:
        return self.blob.size


def _tell_done(one: LayerSource, placed: Placed, transfer: Transfer) -> None:
    transfer.notify(
        LayerDone(
            index=one.index,
            action=placed.action,
            size=placed.layer.descriptor.size,
            why=placed.why,
        )
    )


def _progress_listener(source: LayerSource, transfer: Transfer) -> Progress:
    total = source.size

    def progress(read: int, packed: int) -> None:
        transfer.cancel.check()
        transfer.notify(
            LayerProgress(index=source.index, read=read, total=max(total, read), packed=packed)
        )

    return progress


def _sent_listener(source: LayerSource, transfer: Transfer) -> Told:
    def told(sent: int, size: int | None) -> None:
        transfer.notify(LayerSent(index=source.index, sent=sent, size=size))

    return told
