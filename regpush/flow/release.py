"""Send manifests, an index and attachments, once all destinations have all blobs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from regpush.digest import OCI_INDEX, Digest
from regpush.events import Warned
from regpush.flow.assemble import Assembled, heal
from regpush.flow.context import Run
from regpush.image.image import Image
from regpush.image.index import IndexEntry, build_index
from regpush.reference import RepositoryName
from regpush.registry.api import MissingBlobsError
from regpush.registry.repository import Manifest
from regpush.transfer.destinations import Destination
from regpush.transfer.publish import manifest_of, push_manifest, verify

if TYPE_CHECKING:
    from regpush.flow.attachments import Attachments


def whole_of(images: Sequence[Image], run: Run) -> Manifest:
    """Return what tags will name: the image, or an index of several in the order of the request."""
    if len(images) == 1:
        return manifest_of(images[0])
    children = [IndexEntry.of(image.descriptor, image.platform) for image in images]
    data = build_index(children, run.options.image)
    return Manifest(media_type=OCI_INDEX, data=data, digest=Digest.of(data))


class Release(Struct, frozen=True, kw_only=True, eq=False):
    """Images whose blobs all destinations hold; a `flow.transaction.Delivery`.

    `whole`: what the tags will name. `doubted`: names of the destinations that turned out to lack a
    blob they had claimed to have.
    """

    images: Sequence[Assembled]
    whole: Manifest
    attachments: Attachments | None
    run: Run
    doubted: frozenset[RepositoryName] = frozenset()

    @classmethod
    def of(cls, images: Sequence[Assembled], attachments: Attachments | None, run: Run) -> Release:
        """Make the delivery of `images` and their attachments."""
        whole = whole_of([one.image for one in images], run)
        return cls(images=images, whole=whole, attachments=attachments, run=run)

    def send(self) -> Release:
        """Send manifests, and then attachments, to every destination. Raises a RegpushError."""
        for one in self.run.destinations:
            self._push_manifests(one)
        if self.attachments:
            self.attachments.attach(self.images, self.whole, self.run)
        return self

    def healed(self, lost: MissingBlobsError) -> Release:
        """Return a release that sends again what `lost` names; its blobs are sent at once."""
        run = self.run
        at = next(one for one in run.destinations if one.name == lost.repository)
        doubted = self.doubted | {at.name}
        images = list(self.images)
        for number, one in enumerate(images):
            if one.image.manifest == lost.document:
                images[number] = heal(one, lost, at, run)
                healed = Release.of(images, self.attachments, run)
                return replace(healed, doubted=doubted)
        if lost.document != self.whole.data:
            raise lost from lost.__cause__
        run.notify(Warned(message=f"{lost}; sending the manifests again"))
        return replace(self, doubted=doubted)

    def _push_manifests(self, to: Destination) -> None:
        """Send every image's manifest, and the index, unless the destination holds them."""
        sent = False
        for one in self.images:
            if to.name in one.standing and to.name not in self.doubted:
                continue
            manifest, sent = manifest_of(one.image), True
            push_manifest(manifest, to.repository)
            if len(self.images) > 1:
                verify(to.repository, str(manifest.digest), manifest.digest)
        if len(self.images) > 1 and (sent or not self._was_seen(to)):
            sent = True
            push_manifest(self.whole, to.repository)
        if sent and not to.tags:
            verify(to.repository, str(self.whole.digest), self.whole.digest)

    def _was_seen(self, at: Destination) -> bool:
        seen = self.images[0].prepared.origin.pasts[at.name].manifests.values()
        return any(manifest.data == self.whole.data for manifest in seen)
