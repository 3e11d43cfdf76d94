"""The schedule of a push: layers, config, manifest by digest, and tags when all else stands.

Nothing is tagged before every blob is in the registry and the manifest was read back from it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from regpush.cancel import Cancellation
from regpush.digest import Digest
from regpush.errors import CancelledError, VerificationError
from regpush.events import Action, LayerDone, LayerProgress, Listener, TagMoved
from regpush.image import Image
from regpush.layers import LayerSource, Progress, Spool, Spooled
from regpush.options import Compression
from regpush.packer import Packer
from regpush.registry.client import BlobStream, Repository, Upload
from regpush.reuse import (
    BlobStore,
    Candidate,
    Placed,
    PreviousImage,
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
    packer: Packer
    spool: Spool
    notify: Listener
    cancel: Cancellation


def place_layers(wanted: Sequence[Wanted], transfer: Transfer) -> list[Placed]:
    """Bring every layer into the repository: by asking, by mounting, by sending.

    What nobody can know is sent at once, by `jobs` workers, the largest first, while the
    registry is asked for all the others. The first failure stops everything and is raised.
    """
    with (
        _workers(transfer.jobs, transfer.cancel) as senders,
        _workers(HEADS, transfer.cancel) as askers,
    ):

        def find_or_send(one: Wanted) -> Placed:
            if there := _find(one, transfer.repository):
                _tell(one, there, transfer)
                return there
            return senders.submit(_send, one, transfer).result()

        placing: dict[int, Future[Placed]] = {}
        for one in sorted(wanted, key=lambda one: -one.source.size):
            index = one.source.index
            if one.candidates:
                placing[index] = askers.submit(find_or_send, one)
            else:
                placing[index] = senders.submit(_send, one, transfer)
        return _results([placing[one.source.index] for one in wanted])


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
    return placed and replace(placed, layer=one.source.described(placed.layer))


def _send(one: Wanted, transfer: Transfer) -> Placed:
    placed = by_content(one, transfer) if transfer.content else None
    placed = placed or _anew(one, transfer)
    _tell(one, placed, transfer)
    return placed


def by_content(one: Wanted, transfer: Transfer) -> Placed | None:
    """Read the layer once and look for an equal one: neither compressed nor sent."""
    stream = one.source.open(transfer.packer, _progress(one.source, transfer))
    stream.read()
    candidates = by_diff_id(stream.diff_id, transfer.content, transfer.compression)
    placed = place(candidates, transfer.store)
    if not placed:
        return None
    why = f"same content as in {candidates[0].source}"
    return replace(placed, layer=stream.as_read(placed.layer), why=why)


def _anew(one: Wanted, transfer: Transfer) -> Placed:
    """Pack, compress and hash the layer, and send what the registry turns out not to hold."""
    source, repository = one.source, transfer.repository
    progress = _progress(source, transfer)
    with (
        repository.upload() as upload,
        Spooled(source.open(transfer.packer, progress), transfer.spool) as spooled,
    ):
        if not spooled.whole:
            if not transfer.content:
                return _stream(one, upload, spooled, progress, transfer)
            # Likely there under another name: reading it again is cheaper than sending it.
            for _ in spooled:
                pass
        layer = spooled.stream.layer()
        if repository.has_blob(layer.descriptor):
            return Placed(layer=layer, action=Action.REUSED, why="the registry has the same blob")
        chunks = spooled.chunks
        if spooled.whole:
            upload.put(layer.descriptor, lambda: iter(chunks))
        else:
            upload.put(layer.descriptor, lambda: iter(source.open(transfer.packer, progress)))
    return Placed(layer=layer, action=Action.UPLOADED, why=one.why)


def _stream(
    one: Wanted, upload: Upload, spooled: Spooled, progress: Progress, transfer: Transfer
) -> Placed:
    """Send a layer that is larger than memory: its digest is known when it has gone."""
    source = one.source
    last = spooled.stream
    attempts: list[BlobStream] = [spooled]

    def open_stream() -> BlobStream:
        nonlocal last
        if attempts:
            return attempts.pop()
        last = source.open(transfer.packer, progress)
        return last

    upload.stream(source.media_type, open_stream)
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
    with _workers(workers, cancel) as pool:
        return _results([pool.submit(work, thing) for thing in things])


@contextmanager
def _workers(count: int, cancel: Cancellation) -> Iterator[ThreadPoolExecutor]:
    """A pool whose work ends before the block does, early if the block fails."""
    pool = ThreadPoolExecutor(count, thread_name_prefix="regpush")
    try:
        yield pool
    except BaseException:
        # The others must not go on sending; `cancel` reaches them between two blocks.
        cancel.cancel()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _results(futures: Sequence[Future[R]]) -> list[R]:
    """All results, or the first failure."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()
    return [future.result() for future in futures]
