"""`regpush rebase`: put the app layers of an image on another base image, without the app's files.

Only manifest and config are made anew. An image that regpush pushed on a base records which part of
its configuration is the app's. For other images, that part is where their configuration differs
from the old base's.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from regpush.concurrency import Cancellation
from regpush.digest import INDEXES, OCI_INDEX, OCI_LAYERS, Descriptor, Digest, canonical_json
from regpush.errors import RefusedError, UsageError, VerificationError, plural
from regpush.events import Action, LayersPlanned, Listener, Warned, ignore
from regpush.flow.context import Context, writing
from regpush.flow.reports import of_base, of_layer, of_tags_left
from regpush.flow.transaction import TagTransaction
from regpush.image.image import OWN, Base, Image, Layer, put_together
from regpush.image.inheritance import apart, over
from regpush.layering.labels import label_of_paths
from regpush.options import MAX_LAYERS, RegistryOptions
from regpush.pack.recipe import Placed
from regpush.reference import Reference
from regpush.registry.api import MissingBlobsError
from regpush.registry.images import IndexMember, listed, read_image
from regpush.registry.repository import Manifest, Repository
from regpush.report import ImageReport, PushResult, Tense
from regpush.settings import Settings
from regpush.transfer.base import BaseLayers, BaseRepository
from regpush.transfer.choice import find
from regpush.transfer.destinations import tags_to_keep
from regpush.transfer.publish import manifest_of, push_config, push_manifest


def rebased(image: Image, new: Base, old: Base | None) -> Image:
    """Return `image` with the layers of the base `new` in place of its present base's. Pure.

    `old`: the present base; if it is None, the image must record how many of its layers belong to
    its base. Raises UsageError if the lowest layers of `image` are not those of `old`, or if the
    new image would have too many layers.
    """
    count = _below(image, old) if old else image.base_layers
    kept = image.layers[count:]
    below = new.to_inherit(kept)
    if len(below.layers) + len(kept) > MAX_LAYERS:
        raise UsageError(
            f"on {new.name} the image would have {len(below.layers) + len(kept)} layers; the "
            f"maximum is {MAX_LAYERS}"
        )
    config = json.loads(image.config)
    run = config.get("config") or {}
    under = json.loads(old.image.config).get("config") or {} if old else {}
    own = apart(run, under) if old else config[OWN]
    annotations = json.loads(image.manifest).get("annotations") or {}
    return put_together(
        (*below.layers, *map(_as_kept, kept)),
        {
            **config,
            "config": over(own, below.config),
            "history": [*below.history, *_own_history(config, len(kept), old)],
            OWN: own,
        },
        {**annotations, **below.annotations},
    )


def _below(image: Image, old: Base) -> int:
    """Return how many of the lowest layers of `image` are layers of its base `old`.

    A push leaves out the layers of the base that the app's layers contain too; so an image may have
    fewer base layers than `old`. Raises UsageError if its lowest layers are not those of `old`.
    """
    says = isinstance(json.loads(image.config).get(OWN), Mapping)
    fewer = says and image.base_layers < len(old.image.layers)
    left_out = old.left_out(image.own_layers) if fewer else ()
    alone = [one for number, one in enumerate(old.image.layers) if number not in left_out]
    if _diff_ids(alone) != _diff_ids(image.layers[: len(alone)]):
        raise UsageError(
            f"the lowest layers are not those of {old.name}; name the image's present base by "
            "--old-base"
        )
    return len(alone)


def _diff_ids(layers: Sequence[Layer]) -> list[Digest]:
    return [layer.diff_id for layer in layers]


def _as_kept(layer: Layer) -> Layer:
    descriptor = layer.descriptor
    media_type = OCI_LAYERS.get(descriptor.media_type, descriptor.media_type)
    return replace(layer, descriptor=replace(descriptor, media_type=media_type))


def _own_history(config: Mapping[str, Any], kept: int, old: Base | None) -> Sequence[Any]:
    """Return the history entries in `config` that belong to the topmost `kept` layers.

    Entries without a layer that stand among or after them are included.
    """
    entries = config.get("history") or []
    before = (json.loads(old.image.config).get("history") or []) if old else []
    if before and entries[: len(before)] == before:
        return entries[len(before) :]
    left, start = kept, len(entries)
    while left and start:
        start -= 1
        left -= not entries[start].get("empty_layer")
    return entries[start:]


class _Rebased(Struct, frozen=True, kw_only=True):
    """One image before and after the rebase; `base_layers` sends the layers of its new base."""

    before: Image
    after: Image
    base_layers: BaseLayers

    @property
    def is_new(self) -> bool:
        """Whether the rebase changes the image's manifest."""
        return self.before.manifest != self.after.manifest


class _Bases(Struct, frozen=True, kw_only=True):
    """The new base for `reference`, and its old base if the user named that, else None.

    `slots`: limits how many layers are sent at a time.
    """

    reference: Reference
    new: BaseRepository
    old: BaseRepository | None
    slots: threading.Semaphore
    context: Context


def rebase(
    reference: str,
    *,
    onto: str | None = None,
    old: str | None = None,
    tense: Tense = Tense.DONE,
    settings: Settings,
    options: RegistryOptions | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> PushResult:
    """Put the image `reference` on the base `onto`, and move its tag to the new image.

    If `reference` is an index, all its images are rebased. `onto`: None stands for the newest image
    under the base's name in the image's annotations. `old`: the present base, for images whose
    annotations do not name it. With Tense.PLANNED nothing is sent. Raises a RegpushError; no tag
    was moved then, unless the error is about the tags themselves.
    """
    options = options or RegistryOptions()
    parsed = Reference.parse(reference)
    tags = tags_to_keep(parsed, replace(parsed, tag=None, digest=None), options)
    with writing([(parsed, tags)], options, settings, notify, cancel) as context:
        target = context.main.repository
        with ThreadPoolExecutor(1, thread_name_prefix="regpush") as pool:
            asking = pool.submit(TagTransaction.begin, context)
            found = find(parsed, target)
            contents = _contents(found, parsed, target)
            manifests = [one.manifest for one in contents if one.manifest] or [found]
            before = [read_image(one, target) for one in manifests]
            transaction = asking.result()
        if transaction.skips():
            return of_tags_left(transaction, found.media_type, context)
        bases = _Bases(
            reference=parsed,
            new=BaseRepository.of(onto or _named_base(before, parsed), context.client),
            old=BaseRepository.of(old, context.client, called="--old-base") if old else None,
            slots=threading.Semaphore(options.jobs),
            context=context,
        )
        images = _images(before, bases)
        whole = _whole(found, contents, images, notify)
        transaction.judge(whole)
        transaction.refuse_indexes(whole)
        delivery = _Delivery(images=images, whole=whole, transaction=transaction)
        if tense is Tense.PLANNED:
            placed = delivery.foresee()
            destinations = transaction.foreseen(whole.digest)
            moves = transaction.would_move(whole.digest)
        else:
            sent, tagged = transaction.carry_out(delivery)
            placed = sent.placed
            destinations = transaction.reported(whole.digest, tagged)
            moves = bool(destinations[0].moved)
        return PushResult(
            destinations=destinations,
            images=tuple(map(_report, images, placed)),
            media_type=whole.media_type,
            changed=moves if tags else any(one.is_new for one in images),
            uploaded_bytes=context.client.bytes_uploaded,
            requests=context.client.requests,
            seconds=context.seconds,
            tense=tense,
        )


class _Delivery(Struct, frozen=True, kw_only=True):
    """Rebased images; implements `flow.transaction.Delivery`.

    `whole`: the index of the images, or the manifest of the only one. `placed`: for each image, the
    action for each layer of its new base. `lost`: digests of blobs to send even if the registry
    claims to have them.
    """

    images: Sequence[_Rebased]
    whole: Manifest
    transaction: TagTransaction
    placed: Sequence[Sequence[Placed]] = ()
    lost: frozenset[Digest] = frozenset()

    @property
    def _blobs(self) -> list[Descriptor]:
        return [
            layer.descriptor for one in self.images for layer in one.base_layers.base.image.layers
        ]

    @property
    def _stands(self) -> bool:
        check = self.transaction.context.registry.check
        return not check and self.transaction.named_already(self.whole.digest)

    def foresee(self) -> Sequence[Sequence[Placed]]:
        """Return, for each image, the action that `send` would take for each layer of its base.

        Asks the registry which blobs it has; sends nothing.
        """
        if self._stands:
            return [one.base_layers.standing() for one in self.images]
        return [one.base_layers.foresee() for one in self.images]

    def send(self) -> _Delivery:
        """Send the new bases' layers, the configs and the manifests. Raises a RegpushError.

        Returns the delivery with `placed` filled in.
        """
        if self._stands:
            return replace(self, placed=[one.base_layers.standing() for one in self.images])
        context, target = self.transaction.context, self.transaction.context.main.repository
        if not self.lost:
            context.notify(
                LayersPlanned(
                    labels=tuple(blob.digest.short for blob in self._blobs),
                    sizes=tuple(blob.size for blob in self._blobs),
                    of_bases=len(self._blobs),
                )
            )
        placed: list[Sequence[Placed]] = []
        for one in self.images:
            if not one.is_new and not context.registry.check:
                placed.append(one.base_layers.standing())
                continue
            placed.append(one.base_layers.bring(self.lost))
            push_config(one.after, target)
            push_manifest(manifest_of(one.after), target)
        if self.whole.media_type in INDEXES:
            push_manifest(self.whole, target)
        return replace(self, placed=placed)

    def healed(self, lost: MissingBlobsError) -> _Delivery:
        """Return a delivery that sends the blobs of the bases in `lost` again.

        Raises `lost` if none of its blobs belongs to a base: others cannot be sent from here.
        """
        gone = {blob.digest for blob in self._blobs} & set(lost.digests)
        if not gone:
            raise lost from lost.__cause__
        message = f"{lost}; sending {plural(len(gone), 'blob')} again"
        self.transaction.context.notify(Warned(message=message))
        return replace(self, lost=frozenset(gone))


def _contents(found: Manifest, reference: Reference, repository: Repository) -> list[IndexMember]:
    """Return the entries of the index `found`; empty if `found` is the manifest of an image.

    Raises VerificationError for an index without images.
    """
    if found.media_type not in INDEXES:
        return []
    contents = listed(found, repository)
    if not any(one.manifest for one in contents):
        raise VerificationError(f"{reference} is an index without images")
    return contents


def _named_base(images: Sequence[Image], reference: Reference) -> str:
    """Return the reference, with a tag, of the base that the annotations of all `images` name.

    Raises UsageError if the annotations name no base or several bases, or name the base by digest
    alone, under which no newer image can be found.
    """
    names = list(dict.fromkeys(one.ancestor.name if one.ancestor else "" for one in images))
    if names == [""] or len(names) > 1:
        said = "names no base in its annotations" if len(names) == 1 else "names several bases"
        raise UsageError(f"{reference} {said}: name the new base by --from")
    if Reference.parse(names[0]).digest:
        raise UsageError(
            f"{reference} names its base {names[0]} by digest only, so no newer base can be "
            "looked up: name the new base by --from"
        )
    return names[0]


def _images(images: Sequence[Image], bases: _Bases) -> list[_Rebased]:
    """Put each of `images` on the new base for its platform. Sends nothing."""
    rebased_ones: list[_Rebased] = []
    first = 0
    for image in images:
        one = _one(image, first, bases)
        rebased_ones.append(one)
        first += len(one.base_layers.base.image.layers)
    return rebased_ones


def _one(image: Image, first: int, bases: _Bases) -> _Rebased:
    new = bases.new.read(image.platform)
    try:
        after = rebased(image, new, _old(image, bases))
    except UsageError as error:
        raise UsageError(f"{bases.reference}: {error}") from error
    base_layers = BaseLayers(
        base=new,
        source=bases.new.repository,
        targets=[bases.context.main.repository],
        first=first,
        slots=bases.slots,
        notify=bases.context.notify,
        cancel=bases.context.cancel,
    )
    return _Rebased(before=image, after=after, base_layers=base_layers)


def _old(image: Image, bases: _Bases) -> Base | None:
    """Read the present base of `image`; None if the image records all that a rebase needs.

    Images that regpush pushed record which configuration and layers are the app's. Raises
    UsageError if the annotations of another image name no base, RefusedError if the registry lacks
    the base that they name.
    """
    if bases.old:
        return bases.old.read(image.platform)
    if isinstance(json.loads(image.config).get(OWN), Mapping):
        return None
    ancestor = image.ancestor
    if ancestor is None:
        raise UsageError(
            "the image's annotations name no base: name its present base by --old-base"
        )
    name = Reference.parse(ancestor.name).with_digest(ancestor.digest)
    try:
        return BaseRepository.of(str(name), bases.context.client).read(image.platform)
    except RefusedError as error:
        raise RefusedError(
            f"{bases.reference} has the base {ancestor.name}@{ancestor.digest}, which the registry "
            "no longer has: name an image with the same layers by --old-base"
        ) from error


def _whole(
    found: Manifest, contents: Sequence[IndexMember], images: Sequence[_Rebased], notify: Listener
) -> Manifest:
    """Return the manifest of the rebased image, or the index `found` with its images rebased.

    The new index lists the images of inner indexes directly. It leaves out attestations and other
    artifacts, with a warning, since they describe the old images. If no image changed, returns
    `found`.
    """
    if found.media_type not in INDEXES:
        return manifest_of(images[0].after)
    if not any(one.is_new for one in images):
        return found
    kept = [one.entry for one in contents if one.manifest]
    if dropped := len(contents) - len(kept):
        notify(
            Warned(
                message="the new index leaves out entries of the old one that are not images, such "
                f"as attestations, since they describe the images before the rebase: {dropped}"
            )
        )
    entries = [
        {**entry.content, **one.after.descriptor.to_json()}
        for entry, one in zip(kept, images, strict=True)
    ]
    content = {**json.loads(found.data), "mediaType": OCI_INDEX, "manifests": entries}
    data = canonical_json(content)
    return Manifest(media_type=OCI_INDEX, data=data, digest=Digest.of(data))


def _report(one: _Rebased, placed: Sequence[Placed]) -> ImageReport:
    after = one.after
    return ImageReport(
        platform=str(after.platform),
        digest=after.descriptor.digest,
        layers=tuple(
            of_layer(
                label_of_paths(layer.contents),
                Placed(layer=layer, action=Action.REUSED, why="unchanged by the rebase"),
            )
            for layer in after.own_layers
        ),
        base=of_base(one.base_layers.base, placed, after),
    )
