"""The report of what a run did, or would do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from regpush.digest import OCI_MANIFEST
from regpush.events import Action
from regpush.flow.context import Context, Run
from regpush.flow.prepare import Prepared
from regpush.flow.release import Release
from regpush.flow.transaction import TagTransaction
from regpush.image.image import Base, Image
from regpush.pack.recipe import Placed
from regpush.pack.stream import LayerSource
from regpush.report import (
    BaseReport,
    DestinationReport,
    ImageReport,
    LayerReport,
    PushResult,
)
from regpush.transfer.fanout import FanOut


def of_push(release: Release, destinations: Sequence[DestinationReport], run: Run) -> PushResult:
    """Return the report of a push; `destinations`: the outcome for the tags."""
    images = release.images
    moved = any(one.moved for one in destinations)
    new = any(one.name not in image.standing for image in images for one in run.destinations)
    return PushResult(
        destinations=tuple(destinations),
        images=tuple(
            of_image(one.prepared, one.placed, one.base, one.image, run.fan) for one in images
        ),
        media_type=release.whole.media_type,
        changed=moved if run.main.tags else new,
        uploaded_bytes=run.client.bytes_uploaded,
        requests=run.client.requests,
        seconds=run.seconds,
    )


def of_nothing(prepared: Sequence[Prepared], transaction: TagTransaction, run: Run) -> PushResult:
    """Return the report of a run without work: the tags exist, and none moves.

    The report is about the image that the first tag names.
    """
    seen = prepared[0].origin.pasts[run.main.name].manifests
    first = seen.get(run.main.tags[0])
    return of_tags_left(transaction, first.media_type if first else OCI_MANIFEST, run)


def of_tags_left(transaction: TagTransaction, media_type: str, context: Context) -> PushResult:
    """Return the report of a run in which no tag moves; the tags' images are not read."""
    return PushResult(
        destinations=transaction.left_alone(),
        images=(),
        media_type=media_type,
        changed=False,
        uploaded_bytes=0,
        requests=context.client.requests,
        seconds=context.seconds,
    )


def of_image(
    prepared: Prepared,
    placed: Sequence[Placed | None],
    base: Sequence[Placed],
    image: Image | None,
    fan: FanOut,
) -> ImageReport:
    """Return the report of the image of one platform; `image` is None before it is known.

    `placed`: its layers above the base, None for a layer that is not packed and would be uploaded.
    `base`: the layers of its base.
    """
    pairs = zip(prepared.wanted, placed, strict=True)
    copies = partial(_copies, fan=fan)
    return ImageReport(
        platform=str(prepared.origin.platform),
        digest=image.descriptor.digest if image else None,
        layers=tuple(
            of_layer(wanted.planned.label, one, copies(one)) if one else _unknown(wanted, fan)
            for wanted, one in pairs
        ),
        steps=prepared.plan.steps,
        layout_from=prepared.records.read if prepared.records else (),
        base=of_base(prepared.origin.base, base, image, copies) if prepared.origin.base else None,
    )


def once(placed: Placed) -> int:  # noqa: ARG001  whatever it is
    """Return 1: the default for `copies`, where each layer counts for one destination."""
    return 1


def of_base(
    base: Base,
    placed: Sequence[Placed],
    above: Image | None,
    copies: Callable[[Placed], int] = once,
) -> BaseReport:
    """Return the report of the layers of a base, without those that the image `above` has too.

    `copies`: returns to how many destinations a layer was, or would be, sent.
    """
    left_out = base.left_out(above.own_layers) if above else ()
    return BaseReport(
        name=base.name,
        digest=base.image.descriptor.digest,
        layers=tuple(
            of_layer(base.name, one, copies(one))
            for n, one in enumerate(placed)
            if n not in left_out
        ),
    )


def _copies(placed: Placed, fan: FanOut) -> int:
    sent = placed.action is Action.UPLOADED
    return fan.copies([placed.layer.descriptor]) if sent else len(fan.shelves)


def of_layer(label: str, placed: Placed, copies: int = 1) -> LayerReport:
    """Return the report of a layer that is known; `label` is for people."""
    layer = placed.layer
    return LayerReport(
        label=label,
        items=layer.items,
        media_type=layer.descriptor.media_type,
        size=layer.descriptor.size,
        digest=layer.descriptor.digest,
        diff_id=layer.diff_id,
        uncompressed_size=layer.uncompressed_size,
        recipe=layer.recipe,
        action=placed.action,
        why=placed.why,
        copies=copies,
    )


def _unknown(source: LayerSource, fan: FanOut) -> LayerReport:
    return LayerReport(
        label=source.planned.label,
        items=tuple(item.path for item in source.planned.items),
        media_type=source.media_type,
        size=source.size,
        digest=None,
        diff_id=None,
        uncompressed_size=None,
        recipe=source.recipe,
        action=Action.UPLOADED,
        why=source.why,
        copies=fan.copies([one.layer.descriptor for one in source.candidates]),
    )
