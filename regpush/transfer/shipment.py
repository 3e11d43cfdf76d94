"""Copying an image or index from one repository to another, with everything it names.

Blobs are sent first, then documents by digest, children before parents.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from typing import Self

from msgspec import Struct, field
from msgspec.structs import replace

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Descriptor, Digest
from regpush.events import Action, LayerDone, LayerSent, LayersPlanned, Listener, Warned
from regpush.registry.api import MissingBlobsError
from regpush.registry.repository import Manifest, Repository
from regpush.transfer.blobs import Passage, bring, send
from regpush.transfer.graph import ImageGraph, follow
from regpush.transfer.publish import push_manifest

_AT_ONCE = 12


class Route(Struct, frozen=True, kw_only=True):
    """The repositories that documents are copied from and to.

    `jobs`: blobs sent at a time. `check`: whether the target is doubted, so that each blob of a
    document that it holds is asked for.
    """

    source: Repository
    target: Repository
    jobs: int
    check: bool
    notify: Listener
    cancel: Cancellation

    def bring(self, blobs: Sequence[Descriptor], lost: Collection[Digest]) -> Sequence[Action]:
        """Bring every blob, the largest first; `lost` ones are sent without asking the target.

        The actions are in the order of `blobs`. Raises VerificationError where the source's bytes
        are not those of a descriptor, and what both repositories raise.
        """
        number = {blob.digest: index for index, blob in enumerate(blobs)}
        self.notify(
            LayersPlanned(
                labels=tuple(blob.digest.short for blob in blobs),
                sizes=tuple(blob.size for blob in blobs),
            )
        )

        def progress(blob: Descriptor, passed: int) -> None:
            self.notify(LayerSent(index=number[blob.digest], sent=passed, size=blob.size))

        passage = Passage(
            source=self.source,
            target=self.target,
            slots=threading.Semaphore(self.jobs),
            cancel=self.cancel,
            progress=progress,
        )

        def place(blob: Descriptor) -> Action:
            action = (send if blob.digest in lost else bring)(blob, passage)
            self.notify(
                LayerDone(
                    index=number[blob.digest],
                    action=action,
                    size=blob.size,
                    why=f"part of {self.source.name}",
                )
            )
            return action

        # The small ones are begun last: the end does not wait for a large one.
        largest_first = sorted(blobs, key=lambda blob: -blob.size)
        actions = parallel(_AT_ONCE, largest_first, place, self.cancel)
        done = {blob.digest: action for blob, action in zip(largest_first, actions, strict=True)}
        return [done[blob.digest] for blob in blobs]


class Copied(Struct, frozen=True):
    """A blob that the target holds, and the action that this took."""

    blob: Descriptor
    action: Action


class Freight(Struct):
    """What a copy has sent so far: documents, and blobs with the action for each.

    Every shipment adds to it, also a shipment that failed and was sent again.
    """

    documents: dict[Digest, Manifest] = field(default_factory=dict)
    blobs: dict[Digest, Copied] = field(default_factory=dict)


class Shipment(Struct, frozen=True, kw_only=True):
    """A manifest or index, with everything that it names, to copy from one repository to another.

    Implements `flow.transaction.Delivery`. `top`: the manifest or index. `route`: the two
    repositories. `freight`: records what is sent. `held`: digests of manifests and indexes that the
    target is known to hold. `graph` and `lost` are set after the target refused a manifest because
    it had lost blobs: everything that `top` names, and the digests of blobs to send without asking
    the target.
    """

    top: Manifest
    route: Route
    freight: Freight
    held: Collection[Digest] = ()
    graph: ImageGraph | None = None
    lost: frozenset[Digest] = frozenset()

    @property
    def whole(self) -> Manifest:
        """The image or index that tags may name once it was sent."""
        return self.top

    def send(self) -> Self:
        """Send everything to the target, unless the target holds `top`. Raises a RegpushError."""
        route = self.route
        if self.graph is None and not route.check and self._stands(self.top.digest):
            return self
        there = _never if route.check else self._stands
        graph = self.graph or follow(self.top, route.source, there, route.cancel)
        for blob, action in zip(graph.blobs, route.bring(graph.blobs, self.lost), strict=True):
            before = self.freight.blobs.get(blob.digest)
            if before is None or before.action is not Action.UPLOADED:
                self.freight.blobs[blob.digest] = Copied(blob, action)
        for document in graph.documents:
            route.cancel.check()
            push_manifest(document, route.target)
            self.freight.documents[document.digest] = document
        return self

    def healed(self, lost: MissingBlobsError) -> Self:
        """Return a shipment of everything that sends the blobs that are `lost` again.

        Raises `lost` where no document of this shipment was refused.
        """
        route = self.route
        graph = follow(self.top, route.source, _never, route.cancel)
        if lost.document not in [document.data for document in graph.documents]:
            raise lost from lost.__cause__
        route.notify(Warned(message=f"{lost}; sending again what it lacks"))
        gone = lost.digests or [blob.digest for blob in graph.blobs]
        return replace(self, graph=graph, lost=frozenset(gone))

    def _stands(self, digest: Digest) -> bool:
        there = self.route.target.head_manifest
        return digest in self.held or there(str(digest)) == digest


def _never(digest: Digest) -> bool:  # noqa: ARG001  stands in for a look at the target
    return False
