"""The end of a push: manifests by digest, an index over several, and tags when all stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from regpush.digest import OCI_INDEX, Digest
from regpush.errors import RegpushError
from regpush.events import Warned
from regpush.flow.assemble import Assembled, heal
from regpush.flow.attachments import Attachments
from regpush.flow.context import Destination, Run
from regpush.history.previous import Past
from regpush.image.image import Image
from regpush.image.index import Entry, build_index
from regpush.reference import RepositoryName
from regpush.registry.client import Manifest, MissingBlobsError
from regpush.transfer.publish import (
    Tagged,
    digests_of_tags,
    manifest_of,
    move_tags,
    push_manifest,
    verify,
)

HEALS = 2
"""Times that blobs are sent again which a registry said it had and then missed."""

Held = Mapping[RepositoryName, Mapping[str, Digest | None]]
"""What tags name, by destination."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """What was pushed: `whole` is what the tags name; `tagged` is by destination."""

    images: Sequence[Assembled]
    whole: Manifest
    tagged: Mapping[RepositoryName, Tagged]


def held_by_tags(pasts: Mapping[RepositoryName, Past], run: Run) -> Held:
    """What the tags name before anything is sent, of which some may be known already."""
    held: dict[RepositoryName, Mapping[str, Digest | None]] = {}
    for one in run.destinations:
        seen = pasts[one.name].manifests
        held[one.name] = (
            digests_of_tags(one.repository, one.tags)
            if run.rule.conditional
            else {tag: seen[tag].digest if tag in seen else None for tag in one.tags}
        )
    return held


def whole_of(images: Sequence[Image], run: Run) -> Manifest:
    """What tags will name: the image, or the index of several in the order asked for."""
    if len(images) == 1:
        return manifest_of(images[0])
    children = [Entry.of(image.descriptor, image.platform) for image in images]
    data = build_index(children, run.options.image)
    return Manifest(media_type=OCI_INDEX, data=data, digest=Digest.of(data))


def release(
    images: Sequence[Assembled], held: Held, attachments: Attachments, run: Run
) -> Released:
    """Push manifests and what refers to them, then move tags.

    At no destination before all others hold everything. What a registry has lost is sent
    again. Raises a RegpushError; TagConflictError before any manifest is sent.
    """
    images, doubted = list(images), set[RepositoryName]()
    for heals_left in range(HEALS, -1, -1):
        whole = whole_of([one.image for one in images], run)
        for one in run.destinations:
            # Before the manifests go as well: what is refused in the end leaves less behind.
            run.rule.judge(one.name, whole.digest, held[one.name])
        try:
            for one in run.destinations:
                _push_manifests(images, whole, one, doubted=one.name in doubted)
            attachments.attach(images, whole, run)
            run.cancel.check()
            return Released(images=images, whole=whole, tagged=_move(images, whole, held, run))
        except _LostError as lost:
            if not heals_left:
                raise lost.error from lost.error.__cause__
            doubted.add(lost.destination.name)
            if lost.number is None:
                run.notify(Warned(message=f"{lost.error}; sending the manifests again"))
            else:
                damaged = images[lost.number]
                images[lost.number] = heal(damaged, lost.error, lost.destination, run)
    raise AssertionError  # the last turn of the loop returns or raises


class _LostError(Exception):
    """`destination` misses blobs of image `number`, or if None, manifests of the whole."""

    def __init__(
        self, error: MissingBlobsError, destination: Destination, number: int | None
    ) -> None:
        super().__init__(str(error))
        self.error = error
        self.destination = destination
        self.number = number


@contextmanager
def _losing(destination: Destination, number: int | None) -> Iterator[None]:
    try:
        yield
    except MissingBlobsError as error:
        raise _LostError(error, destination, number) from error


def _push_manifests(
    images: Sequence[Assembled], whole: Manifest, to: Destination, *, doubted: bool
) -> None:
    """Every image's manifest, and the index over several, unless they were seen there."""
    sent = False
    for number, one in enumerate(images):
        if to.name in one.standing and not doubted:
            continue
        manifest, sent = manifest_of(one.image), True
        with _losing(to, number):
            push_manifest(manifest, to.repository)
        if len(images) > 1:
            verify(to.repository, str(manifest.digest), manifest.digest)
    if len(images) > 1 and (sent or not _was_seen(whole, images[0], to)):
        sent = True
        with _losing(to, None):
            push_manifest(whole, to.repository)
    if sent and not to.tags:
        verify(to.repository, str(whole.digest), whole.digest)


def _was_seen(whole: Manifest, image: Assembled, at: Destination) -> bool:
    seen = image.prepared.origin.pasts[at.name].manifests.values()
    return any(manifest.data == whole.data for manifest in seen)


def _move(
    images: Sequence[Assembled], whole: Manifest, held: Held, run: Run
) -> Mapping[RepositoryName, Tagged]:
    """Let the tags name `whole`, at every destination in turn, once all are known to allow it."""
    if run.rule.conditional:
        held = {one.name: digests_of_tags(one.repository, one.tags) for one in run.destinations}
    for one in run.destinations:
        run.rule.judge(one.name, whole.digest, held[one.name])
    tagged: dict[RepositoryName, Tagged] = {}
    for one in run.destinations:
        with _telling(tagged), _losing(one, 0 if len(images) == 1 else None):
            tagged[one.name] = move_tags(
                whole, one.repository, held[one.name], run.rule, run.notify
            )
    return tagged


@contextmanager
def _telling(before: Mapping[RepositoryName, Tagged]) -> Iterator[None]:
    """Add to an error which tags of other destinations were moved before it."""
    moved = [f"{name}:{tag}" for name, tagged in before.items() for tag in tagged.moved]
    try:
        yield
    except RegpushError as error:
        if not moved or isinstance(error, MissingBlobsError):
            raise
        raise type(error)(f"{error}; moved before that: {', '.join(moved)}") from error
