"""`regpush copy`: copy an image, or an index with all its images, to another repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from regpush.concurrency import Cancellation, parallel
from regpush.digest import Digest
from regpush.errors import VerificationError
from regpush.events import Action, Listener, Warned, ignore
from regpush.flow.context import Context, writing
from regpush.flow.transaction import TagTransaction, healing
from regpush.options import RegistryOptions
from regpush.platform import Platform
from regpush.reference import Reference
from regpush.registry.api import MissingBlobsError
from regpush.registry.images import read_image
from regpush.registry.referrers import enlist, list_referrers
from regpush.registry.repository import Access, Manifest, Repository
from regpush.report import DestinationReport
from regpush.settings import Settings
from regpush.transfer.choice import check_platform, choose, find
from regpush.transfer.destinations import tags_to_keep
from regpush.transfer.graph import follow
from regpush.transfer.shipment import Copied, Freight, Route, Shipment

_AT_ONCE = 12
_COSIGN_KINDS = ("sig", "att", "sbom")  # suffixes of cosign's tags (cosign, pkg/oci/remote)
_CHAIN = 4  # maximum depth of referrers of referrers; the signature of an SBOM has depth 2


class CopyResult(Struct, frozen=True, kw_only=True):
    """The outcome of a copy.

    `source`: `registry/repository@digest` of the image or index that was copied. `documents`: the
    manifests and indexes that were sent. `blobs`: the blobs that these name, each with the action
    taken. Both are empty if the destination had everything. `changed`: False if all tags named the
    image before. `uploaded_bytes`: bytes of all request bodies.
    """

    source: str
    destination: DestinationReport
    media_type: str
    changed: bool
    documents: tuple[Digest, ...]
    blobs: tuple[Copied, ...]
    uploaded_bytes: int
    requests: int
    seconds: float

    @property
    def ref(self) -> str:
        """`registry/repository@digest` of the copy."""
        return self.destination.ref

    @property
    def digest(self) -> Digest | None:
        """The digest of the copied image or index; source and copy have the same digest."""
        return self.destination.digest

    def bytes_of(self, action: Action) -> int:
        """Return the total size in bytes of the blobs with the given `action`."""
        return sum(one.blob.size for one in self.blobs if one.action is action)

    def to_json(self) -> Mapping[str, Any]:
        """Return the JSON report of `regpush copy` (docs/reference/report.md), schema 1."""
        return {
            "schema": 1,
            "ref": self.ref,
            "digest": str(self.digest),
            "media_type": self.media_type,
            "changed": self.changed,
            "source": self.source,
            "destinations": [self.destination.to_json()],
            "manifests": [str(digest) for digest in self.documents],
            "blobs": [
                {
                    "digest": str(one.blob.digest),
                    "media_type": one.blob.media_type,
                    "size": one.blob.size,
                    "action": one.action.value,
                }
                for one in self.blobs
            ],
            "bytes": {
                "uploaded": self.uploaded_bytes,
                "reused": self.bytes_of(Action.REUSED),
                "mounted": self.bytes_of(Action.MOUNTED),
            },
            "requests": self.requests,
            "seconds": round(self.seconds, 3),
        }


class Along(Enum):
    """What is copied along with an image: nothing, or its referrers (signatures, SBOMs).

    COSIGN_TAGS also copies the signatures that cosign before version 3 stored at tags.
    """

    NOTHING = "nothing"
    REFERRERS = "referrers"
    COSIGN_TAGS = "referrers and cosign's tags"


def copy(
    source: str,
    *,
    to: str,
    platform: str | None = None,
    along: Along = Along.NOTHING,
    settings: Settings,
    options: RegistryOptions | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> CopyResult:
    """Copy the image or index `source` to the repository `to`, and move tags to the copy.

    `platform`: of an index, copy the image for this platform only. `along`: with
    Along.REFERRERS, referrers of the index and of its images are copied before tags move; a warning
    names tags of cosign that are not copied. If neither `to` nor `options` name a tag, the copy
    gets the source's tag. Credentials in `options` are for the destination alone; the source is
    read with stored logins. Raises a RegpushError; no tag was moved then, unless the error is about
    the tags themselves.
    """
    options = options or RegistryOptions()
    origin, destination = Reference.parse(source), Reference.parse(to)
    wanted = Platform.parse(platform) if platform else None
    places = [(destination, tags_to_keep(origin, destination, options))]
    with writing(places, options, settings, notify, cancel) as context:
        repository = context.client.repository(origin, Access.PULL)
        with ThreadPoolExecutor(1, thread_name_prefix="regpush") as pool:
            reading = pool.submit(_top, origin, repository, wanted)
            transaction = TagTransaction.begin(context)
            top = reading.result()
        route, freight = route_from(repository, context), Freight()
        if transaction.skips():
            (left,) = transaction.left_alone()
            return _result(context, route, top, freight, left)
        transaction.judge(top)
        transaction.refuse_indexes(top)
        held = [digest for digest in transaction.held[context.main.name].values() if digest]
        shipment = Shipment(top=top, route=route, freight=freight, held=held)
        _, tagged = transaction.carry_out(_Copy(shipment=shipment, along=along))
        (done,) = transaction.reported(top.digest, tagged)
        return _result(context, route, top, freight, done)


def route_from(source: Repository, context: Context) -> Route:
    """Return the route by which blobs are copied from `source` to `context`'s main destination."""
    return Route(
        source=source,
        target=context.main.repository,
        jobs=context.registry.jobs,
        check=context.registry.check,
        notify=context.notify,
        cancel=context.cancel,
    )


def _top(origin: Reference, source: Repository, platform: Platform | None) -> Manifest:
    """Read the manifest or index to copy: `origin`, or the image for `platform` in it.

    Raises RefusedError if the registry lacks the manifest, UsageError if there is no image for
    `platform`, VerificationError if the chosen artifact is no image.
    """
    found = find(origin, source)
    if platform is None:
        return found
    chosen = choose(found, origin, platform, source)
    check_platform(read_image(chosen, source), origin, platform)
    return chosen


class _Copy(Struct, frozen=True, kw_only=True):
    """An image or index and its referrers; implements `flow.transaction.Delivery`."""

    shipment: Shipment
    along: Along

    @property
    def whole(self) -> Manifest:
        """The manifest or index that the tags will name."""
        return self.shipment.whole

    def send(self) -> _Copy:
        """Send the image or index, then its referrers. Raises a RegpushError."""
        self.shipment.send()
        if self.along is not Along.NOTHING:
            self._send_referrers()
        return self

    def healed(self, lost: MissingBlobsError) -> _Copy:
        """Return the copy to send again after the registry reported the blobs `lost` as missing.

        See `Shipment.healed`.
        """
        return replace(self, shipment=self.shipment.healed(lost))

    def _send_referrers(self) -> None:
        """Send the referrers of the index and its images, and the referrers of these referrers."""
        route = self.shipment.route
        everything = follow(self.whole, route.source, lambda _: False, route.cancel)
        subjects = [one.digest for one in everything.documents]
        self._send_cosign_tags(subjects)
        seen = set(subjects)
        for _ in range(_CHAIN):
            if not subjects:
                break
            listed = parallel(
                _AT_ONCE,
                subjects,
                lambda subject: list_referrers(route.source, subject),
                route.cancel,
            )
            following: list[Digest] = []
            for subject, referrers in zip(subjects, listed, strict=True):
                for digest in (one.descriptor.digest for one in referrers):
                    if digest not in seen:
                        seen.add(digest)
                        following.append(digest)
                        self._send_also(_referrer(digest, route.source))
                if referrers:
                    enlist(route.target, subject, referrers, cancel=route.cancel)
            subjects = following

    def _send_cosign_tags(self, subjects: Sequence[Digest]) -> None:
        """Copy the manifests at the tags in which old cosign stores signatures of `subjects`.

        If `along` is not COSIGN_TAGS, copies nothing, and warns if such tags exist.
        """
        route = self.shipment.route
        tags = [f"{one.algorithm}-{one.hex}.{kind}" for one in subjects for kind in _COSIGN_KINDS]
        found = parallel(_AT_ONCE, tags, route.source.get_manifest, route.cancel)
        held = {tag: manifest for tag, manifest in zip(tags, found, strict=True) if manifest}
        if held and self.along is not Along.COSIGN_TAGS:
            first, more = next(iter(held)), len(held) - 1
            others = f" and {more} more" if more else ""
            said = f"{route.source.name} has tags of cosign for this image ({first}{others})"
            route.notify(Warned(message=f"{said}, which are not copied; --cosign-tags copies them"))
            return
        for tag, manifest in held.items():
            there = route.target.head_manifest(tag)
            if there not in (None, manifest.digest):
                said = f"{route.target.name}:{tag} holds other signatures and is not overwritten"
                route.notify(Warned(message=said))
                continue
            self._send_also(manifest)
            route.target.put_manifest(manifest.data, manifest.media_type, tag)

    def _send_also(self, document: Manifest) -> None:
        route, freight = self.shipment.route, self.shipment.freight
        healing(Shipment(top=document, route=route, freight=freight), Shipment.send)


def _referrer(digest: Digest, source: Repository) -> Manifest:
    found = source.get_manifest(str(digest))
    if found is None:
        raise VerificationError(
            f"{source.name} lists the referrer {digest} but lacks its manifest; "
            "without --referrers, regpush copies the image alone"
        )
    return found


def _result(
    context: Context, route: Route, top: Manifest, freight: Freight, destination: DestinationReport
) -> CopyResult:
    moved = destination.moved if context.main.tags else freight.documents
    return CopyResult(
        source=f"{route.source.name}@{top.digest}",
        destination=destination,
        media_type=top.media_type,
        changed=bool(moved),
        documents=tuple(freight.documents),
        blobs=tuple(freight.blobs.values()),
        uploaded_bytes=context.client.bytes_uploaded,
        requests=context.client.requests,
        seconds=context.seconds,
    )
