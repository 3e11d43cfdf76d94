"""What a push would send: `regpush plan`, and the check of `--max-upload` before a push."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from regpush.digest import OCI_INDEX, OCI_MANIFEST, Digest
from regpush.events import Action
from regpush.flow.assemble import base_layers, build_image, transferring, unchanged
from regpush.flow.context import Run
from regpush.flow.gather import Identify, Overflow
from regpush.flow.prepare import Prepared, prepare, tell_unused
from regpush.flow.release import whole_of
from regpush.flow.reports import of_image
from regpush.image.image import Image
from regpush.pack.recipe import DryRun, Placed
from regpush.pack.stream import LayerSource
from regpush.reference import Reference
from regpush.registry.repository import Access, Manifest, Repository
from regpush.report import (
    DestinationReport,
    ImageReport,
    LayerReport,
    PushResult,
    Tense,
    check_budget,
)
from regpush.transfer.schedule import Transfer, by_content, find_layers


def forecast(targets: Sequence[str], run: Run, *, exact: bool) -> PushResult:
    """Predict the report of a push of `targets`.

    Layers that would be uploaded have estimated sizes and no digests; with `exact` they are packed
    to find these out. Raises the errors of `pipeline.push`.
    """
    overflow = Overflow.REFUSED if exact else Overflow.FORGOTTEN
    prepared = prepare(targets, run, Identify.ALWAYS, overflow)
    look = _layers_exactly if exact else _layers
    layers = [look(one, run) for one in prepared]
    tell_unused(prepared, run)
    bases = [_layers_of_base(one, run) for one in prepared]
    images = [_built(*pair) for pair in zip(prepared, layers, strict=True)]
    known = [image for image in images if image]
    whole = whole_of(known, run) if len(known) == len(images) else None
    reports = [
        of_image(one, placed, base, image, run.fan)
        for one, placed, base, image in zip(prepared, layers, bases, images, strict=True)
    ]
    return PushResult(
        destinations=tuple(
            DestinationReport(
                image=str(one.name), tags=one.tags, digest=whole.digest if whole else None
            )
            for one in run.destinations
        ),
        images=tuple(_sharing(reports)),
        media_type=OCI_MANIFEST if len(images) == 1 else OCI_INDEX,
        changed=whole is None or _would_change(prepared, known, whole, run),
        uploaded_bytes=run.client.bytes_uploaded,
        requests=run.client.requests,
        seconds=run.seconds,
        tense=Tense.PLANNED,
    )


def check_upload(prepared: Sequence[Prepared], run: Run, limit: int) -> None:
    """Raise BudgetExceededError where layers of more than `limit` bytes must be uploaded.

    The layers that must be uploaded are packed to find out their sizes. A layer that several
    platforms share counts once, and as often as it is sent to destinations.
    """
    placed = [
        layer
        for one in prepared
        for layer in (*_layers_of_base(one, run), *_layers_exactly(one, run))
    ]
    sent = {one.layer.descriptor for one in placed if one.action is Action.UPLOADED}
    check_budget(sum(blob.size * run.fan.copies([blob]) for blob in sent), limit)


def _built(prepared: Prepared, placed: Sequence[Placed | None]) -> Image | None:
    """Make the image of `placed`; None where a layer is not known yet."""
    known = [one.layer for one in placed if one]
    return build_image(known, prepared) if len(known) == len(placed) else None


def _would_change(
    prepared: Sequence[Prepared], images: Sequence[Image], whole: Manifest, run: Run
) -> bool:
    """Whether a tag would move, or without tags, whether a repository lacks an image."""
    for one in run.destinations:
        seen = prepared[0].origin.pasts[one.name].manifests
        if any(tag not in seen or seen[tag].data != whole.data for tag in one.tags):
            return True
        pairs = zip(prepared, images, strict=True)
        if not one.tags and not all(of.holds(image, one) for of, image in pairs):
            return True
    return False


def _sharing(images: Sequence[ImageReport]) -> list[ImageReport]:
    """Count a layer that an earlier platform brings as reused in the reports of later ones."""
    brought: dict[Digest, str] = {}

    def following(layer: LayerReport) -> LayerReport:
        key = layer.recipe or layer.digest
        if layer.action is Action.UPLOADED and key in brought:
            return replace(layer, action=Action.REUSED, why=f"same as in {brought[key]}")
        return layer

    shared = []
    for image in images:
        shared.append(replace(image, layers=tuple(map(following, image.layers))))
        brought |= {
            key: image.platform
            for layer in image.layers
            if (key := layer.recipe or layer.digest) and key not in brought
        }
    return shared


def _layers(prepared: Prepared, run: Run) -> list[Placed | None]:
    """Predict what a push would do about each layer, as far as HEAD requests tell.

    None stands for a layer that would be packed and uploaded.
    """
    if found := unchanged(prepared, run):
        return list(found.placed)
    return find_layers(prepared.wanted, _dry_stores(run), run.cancel)


def _layers_exactly(prepared: Prepared, run: Run) -> list[Placed]:
    """Predict what a push would do about each layer, by packing those that would be sent."""
    pairs = zip(_layers(prepared, run), prepared.wanted, strict=True)
    with transferring(prepared, run, run.fan, _dry_stores(run), {}) as transfer:
        return [one or _packed(wanted, transfer) for one, wanted in pairs]


def _layers_of_base(prepared: Prepared, run: Run) -> Sequence[Placed]:
    """Predict what a push would do about each layer of the base."""
    if found := unchanged(prepared, run):
        return found.base
    below = base_layers(prepared, run)
    placed = below.foresee() if below else ()
    for one in placed:
        if one.action is Action.UPLOADED:
            # `FanOut.copies` then knows the repositories that lack the layer.
            run.fan.has_blob(one.layer.descriptor)
    return placed


def _packed(wanted: LayerSource, transfer: Transfer) -> Placed:
    """Pack the layer as a push would, without sending it, and look it up in the registry."""
    if transfer.content and (placed := by_content(wanted, transfer)):
        return placed
    stream = wanted.open(transfer.packer, lambda *_: transfer.cancel.check())
    for _ in stream:
        pass
    layer = stream.layer()
    if transfer.fan.has_blob(layer.descriptor):
        return Placed(layer=layer, action=Action.REUSED, why="the registry already has this blob")
    return Placed(layer=layer, action=Action.UPLOADED, why=wanted.why)


def _dry_stores(run: Run) -> list[DryRun]:
    """Return all destinations as stores that look up a mount but do not make it."""

    def beside(registry: str, path: str) -> Repository:
        return run.client.repository(Reference(registry=registry, repository=path), Access.PULL)

    return [DryRun(one.shelf, partial(beside, one.reference.registry)) for one in run.destinations]
