"""The schedule of a push: layers, config, manifest by digest, and tags when all else stands.

Nothing is tagged before every blob is in the registry and the manifest was read back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TypeVar

from regpush.cancel import Cancellation
from regpush.digest import Digest
from regpush.errors import CancelledError, VerificationError
from regpush.events import Action, LayerDone, LayerProgress, Listener, TagMoved
from regpush.image import Image
from regpush.layers import LayerSource, Progress, Spool, Spooled
from regpush.options import Compression
from regpush.registry.client import BlobStream, Repository
from regpush.reuse import (
    BlobStore,
    Candidate,
    Placed,
    PreviousImage,
    annotate,
    by_diff_id,
    place,
)

HEADS = 16
"""Blobs asked for at a time: an answer costs the registry little and a link its round trip."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A layer of the plan, what may already be it, and why it goes if nothing is."""

    source: LayerSource
    candidates: Sequence[Candidate]
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What the workers of one push share.

    `store`: where layers are looked for, `repository` or a dry run over it. `content`: the
    images to look for a layer's diff ID in, empty where recipes do.
    `compression`: what the user asked for, None where any will do.
    """

    repository: Repository
    store: BlobStore
    content: Sequence[PreviousImage]
    compression: Compression | None
    jobs: int
    spool: Spool
    notify: Listener
    cancel: Cancellation


def place_layers(wanted: Sequence[Wanted], transfer: Transfer) -> list[Placed]:
    """Bring every layer into the repository: by asking, by mounting, by sending.

    Asking comes first and for all layers at once; what must be sent is sent by `jobs`
    workers, the largest first. The first failure stops the others and is raised.
    """
    placed = find_layers(wanted, transfer.repository, transfer.cancel)
    for one, there in zip(wanted, placed, strict=True):
        if there:
            _tell(one, there, transfer)
    missing = [one for one, there in zip(wanted, placed, strict=True) if not there]
    missing.sort(key=lambda one: -one.source.size)
    sent = _parallel(transfer.jobs, missing, lambda one: _send(one, transfer), transfer.cancel)
    by_index = {one.source.index: there for one, there in zip(missing, sent, strict=True)}
    return [there or by_index[one.source.index] for one, there in zip(wanted, placed, strict=True)]


def find_layers(
    wanted: Sequence[Wanted], store: BlobStore, cancel: Cancellation
) -> list[Placed | None]:
    """Ask `store` for every layer's candidates, many at a time."""
    return _parallel(HEADS, wanted, lambda one: _find(one, store), cancel)


def push_image(image: Image, repository: Repository) -> None:
    """Send config and manifest, the latter by digest, and read it back.

    Raises VerificationError where the registry then holds anything else.
    """
    config = image.config_descriptor
    if not repository.has_blob(config):
        repository.put_blob(config, lambda: iter((image.config,)))
    digest = str(image.descriptor.digest)
    repository.put_manifest(image.manifest, image.descriptor.media_type, digest)
    verify(repository, digest, image.descriptor.digest)


def move_tags(
    image: Image,
    repository: Repository,
    tags: Sequence[str],
    there: Collection[str],
    notify: Listener,
) -> None:
    """Let `tags` name `image`, but those of `there`, which do already; read each back.

    Raises CancelledError naming the tags that may have moved.
    """
    digest = image.descriptor.digest
    begun: list[str] = []
    for tag in tags:
        if tag not in there:
            begun.append(tag)
            try:
                repository.put_manifest(image.manifest, image.descriptor.media_type, tag)
                verify(repository, tag, digest)
            except CancelledError as error:
                raise CancelledError(
                    f"cancelled while tags were moved: {', '.join(begun)} may name {digest}"
                ) from error
        changed = tag in begun
        notify(TagMoved(image=repository.name, tag=tag, digest=str(digest), changed=changed))


def verify(repository: Repository, reference: str, digest: Digest) -> None:
    """Raise VerificationError unless `reference` is `digest` in the registry."""
    got = repository.head_manifest(reference)
    if got != digest:
        raise VerificationError(
            f"{repository.name}: {reference} reads back as {got or 'nothing'} after {digest} "
            "was pushed; did someone else push the same tag?"
        )


def _find(one: Wanted, store: BlobStore) -> Placed | None:
    placed = place(one.candidates, store)
    return placed and _annotated(one, placed, placed.layer.uncompressed_size)


def _annotated(one: Wanted, placed: Placed, size: int | None) -> Placed:
    layer = annotate(placed.layer, one.source.planned.items, one.source.recipe, size)
    return replace(placed, layer=layer)


def _send(one: Wanted, transfer: Transfer) -> Placed:
    placed = by_content(one, transfer) if transfer.content else None
    placed = placed or _anew(one, transfer)
    _tell(one, placed, transfer)
    return placed


def by_content(one: Wanted, transfer: Transfer) -> Placed | None:
    """Read the layer once and look for an equal one: neither compressed nor sent."""
    diff_id, size = one.source.diff_id(_progress(one.source, transfer))
    candidates = by_diff_id(diff_id, transfer.content, transfer.compression)
    placed = place(candidates, transfer.store)
    if not placed:
        return None
    why = f"same content as in {candidates[0].source}"
    return _annotated(one, replace(placed, why=why), size)


def _anew(one: Wanted, transfer: Transfer) -> Placed:
    """Pack, compress and hash the layer, and send what the registry turns out not to hold."""
    source, repository = one.source, transfer.repository
    progress = _progress(source, transfer)
    with Spooled(source.open(progress), transfer.spool) as spooled:
        if not spooled.whole:
            if not transfer.content:
                return _stream(one, spooled, progress, transfer)
            # Likely there under another name: reading it again is cheaper than sending it.
            for _ in spooled:
                pass
        layer = spooled.stream.layer()
        if repository.has_blob(layer.descriptor):
            return Placed(layer=layer, action=Action.REUSED, why="the registry has the same blob")
        chunks = spooled.chunks
        if spooled.whole:
            repository.put_blob(layer.descriptor, lambda: iter(chunks))
        else:
            repository.put_blob(layer.descriptor, lambda: iter(source.open(progress)))
    return Placed(layer=layer, action=Action.UPLOADED, why=one.why)


def _stream(one: Wanted, spooled: Spooled, progress: Progress, transfer: Transfer) -> Placed:
    """Send a layer that is larger than memory: its digest is known when it has gone."""
    source = one.source
    last = spooled.stream
    attempts: list[BlobStream] = [spooled]

    def open_stream() -> BlobStream:
        nonlocal last
        if attempts:
            return attempts.pop()
        last = source.open(progress)
        return last

    transfer.repository.stream_blob(source.media_type, open_stream)
    return Placed(layer=last.layer(), action=Action.UPLOADED, why=one.why)


def _tell(one: Wanted, placed: Placed, transfer: Transfer) -> None:
    transfer.notify(
        LayerDone(
            index=one.source.index,
            action=placed.action,
            size=placed.layer.descriptor.size,
            why=placed.why,
        )
    )


def _progress(source: LayerSource, transfer: Transfer) -> Progress:
    total = source.size

    def progress(read: int) -> None:
        transfer.cancel.check()
        transfer.notify(LayerProgress(index=source.index, read=read, total=max(total, read)))

    return progress


def _parallel(
    workers: int, things: Sequence[T], work: Callable[[T], R], cancel: Cancellation
) -> list[R]:
    """`work` on every thing, in order of results; the first error ends it all and is raised."""
    if not things:
        return []
    pool = ThreadPoolExecutor(max(1, min(workers, len(things))), thread_name_prefix="regpush")
    try:
        futures = [pool.submit(work, thing) for thing in things]
        _wait(futures)
        return [future.result() for future in futures]
    except BaseException:
        # The others must not go on sending; `cancel` reaches them between two blocks.
        cancel.cancel()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _wait(futures: Sequence[Future[R]]) -> None:
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()
