"""`regpush index`: push one index of images that lie in registries already.

In CI, each job pushes the image of one platform by digest; a last job joins them in an index.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from msgspec import Struct

from regpush.commands.copy import route_from
from regpush.concurrency import Cancellation, parallel
from regpush.digest import INDEXES, OCI_INDEX, Digest
from regpush.errors import UsageError, VerificationError
from regpush.events import Action, Listener, Warned, ignore
from regpush.flow.context import Context, writing
from regpush.flow.reports import of_layer, of_tags_left
from regpush.flow.transaction import TagTransaction, healing
from regpush.image.image import Image, Layer
from regpush.image.index import IndexEntry, build_index
from regpush.layering.labels import label_of_paths
from regpush.options import ImageOptions, RegistryOptions
from regpush.pack.recipe import Placed
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.api import MissingBlobsError
from regpush.registry.images import IndexMember, listed, read_image
from regpush.registry.repository import Access, Manifest, Repository
from regpush.report import ImageReport, PushResult
from regpush.settings import Settings
from regpush.transfer.choice import find
from regpush.transfer.destinations import tags_to_move
from regpush.transfer.publish import manifest_of, push_manifest, verify, warn_of_lost_platforms
from regpush.transfer.shipment import Freight, Shipment

_AT_ONCE = 12
_BARE = re.compile(r"@?(?P<digest>(?:sha256|sha512):.*)|:?(?P<tag>[^/:@]+)")


class IndexImage(Struct, frozen=True, kw_only=True):
    """An image to list in the new index, with the reference by which the user named it.

    `entry`: the image's entry in the new index. `attestations`: entries of attestations about the
    image, taken over from the index that listed it before.
    """

    reference: Reference
    image: Image
    entry: IndexEntry
    attestations: tuple[IndexEntry, ...] = ()

    @property
    def platform(self) -> Platform:
        """The platform that the image's config states."""
        return self.image.platform

    @property
    def place(self) -> Reference:
        """The repository of `reference`, with the digest of the image in place of a tag."""
        return self.reference.with_digest(self.image.descriptor.digest)


def unite(
    reference: str,
    members: Sequence[str],
    *,
    annotations: Sequence[tuple[str, str]] = (),
    settings: Settings,
    options: RegistryOptions | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> PushResult:
    """Push an index of the images `members`, in this order, and move the tags of `reference` to it.

    A member is a reference, or a digest or tag in the repository of `reference`; a member that is
    an index adds all its images. Images of other repositories are copied, byte for byte. Raises
    UsageError if two images are for one platform, RefusedError if an image is missing, or another
    RegpushError; no tag was moved then, unless the error is about the tags themselves.
    """
    options = options or RegistryOptions()
    destination = Reference.parse(reference)
    places = [(destination, tags_to_move(destination, options))]
    named = [name_member(text, destination) for text in members]
    with writing(places, options, settings, notify, cancel) as context:
        with ThreadPoolExecutor(1, thread_name_prefix="regpush") as pool:
            asking = pool.submit(TagTransaction.begin, context)
            found = _find_all(named, context)
            transaction = asking.result()
        whole = _whole(found, annotations, settings)
        if transaction.skips():
            return of_tags_left(transaction, OCI_INDEX, context)
        transaction.judge(whole)
        _warn(whole, found, transaction)
        union = _Union.of(whole, found, transaction)
        union, tagged = transaction.carry_out(union)
        destinations = transaction.reported(whole.digest, tagged)
        moved = destinations[0].moved if context.main.tags else not union.standing
        return PushResult(
            destinations=destinations,
            images=tuple(_report(one, union.shipments) for one in found),
            media_type=OCI_INDEX,
            changed=bool(moved),
            uploaded_bytes=context.client.bytes_uploaded,
            requests=context.client.requests,
            seconds=context.seconds,
        )


def name_member(text: str, destination: Reference) -> Reference:
    """Parse a member of an index: a reference, or a digest or tag alone.

    A digest or tag alone lies in the repository of `destination`. Raises UsageError for malformed
    text.
    """
    bare = _BARE.fullmatch(text)
    if bare is None:
        return Reference.parse(text)
    if bare["tag"]:
        return destination.with_tag(bare["tag"])
    try:
        return destination.with_digest(Digest.parse(bare["digest"]))
    except VerificationError as error:
        raise UsageError(f"bad image: {error}") from error


def _find_all(named: Sequence[Reference], context: Context) -> list[IndexImage]:
    """Read the images that `named` refers to; of equal images, one is kept.

    Raises UsageError if two images are for one platform, and the errors of `unite`.
    """
    groups = parallel(_AT_ONCE, named, lambda one: _find(one, context), context.cancel)
    members: dict[Platform, IndexImage] = {}
    for one in (member for group in groups for member in group):
        other = members.setdefault(one.platform.normal, one)
        if other.image.descriptor.digest != one.image.descriptor.digest:
            raise UsageError(
                f"two images are for {one.platform}: {other.place} and {one.place}; "
                "leave one of them out"
            )
        if one.attestations and not other.attestations:
            members[one.platform.normal] = one
    return list(members.values())


def _find(reference: Reference, context: Context) -> list[IndexImage]:
    repository = context.client.repository(reference, Access.PULL)
    if repository.name == context.main.name:
        repository = context.main.repository  # its token, which allows pushing, allows reading too
    top = find(reference, repository)
    try:
        if top.media_type not in INDEXES:
            image = read_image(top, repository)
            entry = IndexEntry.of(image.descriptor, image.platform)
            return [IndexImage(reference=reference, image=image, entry=entry)]
        return _members_of(listed(top, repository), reference, repository, context)
    except VerificationError as error:
        raise VerificationError(f"{reference}: {error}") from error


def _members_of(
    contents: Sequence[IndexMember], reference: Reference, repository: Repository, context: Context
) -> list[IndexImage]:
    """Read the images of an index with the entries `contents`, each with its attestations.

    Other entries are left out; a warning tells their number.
    """
    members = []
    for one in contents:
        if one.manifest is None:
            continue
        image = read_image(one.manifest, repository)
        digest = image.descriptor.digest
        members.append(
            IndexImage(
                reference=reference,
                image=image,
                entry=one.entry.saying(image.platform),
                attestations=tuple(x.entry for x in contents if x.entry.attested == digest),
            )
        )
    if not members:
        raise UsageError(f"{reference} is an index without an image for any platform")
    kept = sum(1 + len(member.attestations) for member in members)
    if dropped := len(contents) - kept:
        message = (
            f"the new index leaves out entries of the index {reference} that are neither images "
            f"nor attestations about these images: {dropped}"
        )
        context.notify(Warned(message=message))
    return members


def _whole(
    found: Sequence[IndexImage], annotations: Sequence[tuple[str, str]], settings: Settings
) -> Manifest:
    said = ImageOptions(annotations=tuple(annotations), created=settings.source_date_epoch)
    attestations = [entry for one in found for entry in one.attestations]
    data = build_index([*(one.entry for one in found), *attestations], said)
    return Manifest(media_type=OCI_INDEX, data=data, digest=Digest.of(data))


def _warn(whole: Manifest, found: Sequence[IndexImage], transaction: TagTransaction) -> None:
    coming = [one.platform for one in found]
    main, notify = transaction.context.main, transaction.context.notify
    for tag, digest in transaction.held[main.name].items():
        if digest and digest != whole.digest:
            there = main.repository.get_manifest(str(digest))
            warn_of_lost_platforms(f"{main.name}:{tag}", there, coming, notify)


class _Union(Struct, frozen=True, kw_only=True):
    """An index and its images; implements `flow.transaction.Delivery`.

    `whole`: the index. `shipments`: images and attestations to copy from other repositories, by
    digest. `standing`: whether the repository already has the index.
    """

    whole: Manifest
    shipments: Mapping[Digest, Shipment]
    standing: bool
    context: Context

    @classmethod
    def of(
        cls, whole: Manifest, found: Sequence[IndexImage], transaction: TagTransaction
    ) -> _Union:
        """Make the delivery of the index `whole`. Asks the registry whether it has that index."""
        context = transaction.context
        target = context.main.repository
        standing = transaction.named_already(whole.digest) or (
            target.head_manifest(str(whole.digest)) == whole.digest
        )
        return cls(
            whole=whole,
            shipments=dict(_shipments(found, context)),
            standing=standing,
            context=context,
        )

    def send(self) -> _Union:
        """Copy images of other repositories, then push the index. Raises a RegpushError."""
        for shipment in self.shipments.values():
            healing(shipment, Shipment.send)
        if self.standing and not self.context.registry.check:
            return self
        main = self.context.main
        push_manifest(self.whole, main.repository)
        if not main.tags:
            verify(main.repository, str(self.whole.digest), self.whole.digest)
        return self

    def healed(self, lost: MissingBlobsError) -> _Union:
        """Raise `lost`: regpush has no source from which to send the lost blobs again."""
        raise lost from lost.__cause__


def _shipments(found: Sequence[IndexImage], context: Context) -> Iterator[tuple[Digest, Shipment]]:
    """Yield what must be copied from other repositories, as pairs of digest and shipment.

    These are the images there, and the attestations about them.
    """
    for one in found:
        if one.reference.name == context.main.name:
            continue
        source = context.client.repository(one.reference, Access.PULL)
        route = route_from(source, context)
        attestations = (entry.descriptor.digest for entry in one.attestations)
        others = (find(one.reference.with_digest(digest), source) for digest in attestations)
        for top in (manifest_of(one.image), *others):
            yield top.digest, Shipment(top=top, route=route, freight=Freight())


def _report(member: IndexImage, shipments: Mapping[Digest, Shipment]) -> ImageReport:
    image = member.image
    shipment = shipments.get(image.descriptor.digest)
    copied = shipment.freight.blobs if shipment else {}
    name = member.reference.name
    why = f"part of {name}" if shipment else "the repository already has this image"

    def placed(layer: Layer) -> Placed:
        sent = copied.get(layer.descriptor.digest)
        return Placed(layer=layer, action=sent.action if sent else Action.REUSED, why=why)

    return ImageReport(
        platform=str(image.platform),
        digest=image.descriptor.digest,
        layers=tuple(
            of_layer(label_of_paths(layer.contents), placed(layer)) for layer in image.layers
        ),
    )
