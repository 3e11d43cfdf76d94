"""The images of a push: their layers placed, their configs sent, their manifests made."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from regpush.closure import Identity
from regpush.concurrency import workers
from regpush.digest import Descriptor
from regpush.errors import CancelledError, SourceError, plural
from regpush.events import Action, Warned
from regpush.flow.context import Run
from regpush.flow.prepare import Prepared
from regpush.image.image import Image, Layer, build
from regpush.options import Compression, Reuse
from regpush.pack.packer import Packer
from regpush.pack.recipe import RECIPE_VERSION, BlobStore, Candidate, Placed, lacks_recipes
from regpush.pack.stream import LayerSource, Spool
from regpush.reference import RepositoryName
from regpush.registry.api import MissingBlobsError
from regpush.registry.repository import Repository
from regpush.sources.identity import forget, remember
from regpush.transfer.destinations import Destination
from regpush.transfer.fanout import FanOut, Shelf
from regpush.transfer.publish import push_config, send_config
from regpush.transfer.schedule import (
    Naming,
    Transfer,
    connections_for,
    place_layers,
    send_again,
)

if TYPE_CHECKING:
    from regpush.transfer.base import BaseLayers


class Assembled(Struct, frozen=True, kw_only=True, eq=False):
    """An image of which every destination holds every blob.

    `placed`: the layers above the base, lowest first. `standing`: names of the destinations known
    to hold its manifest too. `identities`: the identities of items that packing computed, by path.
    `base`: the layers of the base.
    """

    prepared: Prepared
    placed: Sequence[Placed]
    image: Image
    standing: frozenset[RepositoryName]
    identities: dict[str, Identity] = field(default_factory=dict)
    base: Sequence[Placed] = ()

    @property
    def candidates(self) -> list[Candidate]:
        """Return the layers as candidates for reuse in the images of further platforms."""
        return [
            Candidate(
                layer=one.layer,
                repository=next(iter(self.prepared.origin.pasts)),
                source=str(self.prepared.origin.platform),
            )
            for one in self.placed
        ]


def assemble(prepared: Sequence[Prepared], run: Run) -> list[Assembled]:
    """Bring every layer and config of the images to all destinations, platform after platform.

    Layers of earlier platforms are candidates for later ones. Raises a RegpushError.
    """
    images: list[Assembled] = []
    for one in prepared:
        placed = [candidate for image in images for candidate in image.candidates]
        images.append(_image(one.following(placed) if placed else one, run))
    return images


def _image(prepared: Prepared, run: Run) -> Assembled:
    if found := unchanged(prepared, run):
        return found
    below = prepared.origin.base.image.layers if prepared.origin.base else ()
    layers = len(prepared.wanted) + len(below)
    for one in run.destinations:
        run.client.open_ahead(one.reference, connections_for(layers))
    identities: dict[str, Identity] = {}
    with (
        transferring(prepared, run, run.fan, run.fan.shelves, identities) as transfer,
        _learning(prepared, run, transfer),
        _bringing_base(base_layers(prepared, run, transfer.slots), run) as base,
    ):
        placed, (image, standing) = place_layers(
            prepared.wanted,
            transfer,
            lambda layers: _with_config(layers, prepared.packed(identities, run), run),
        )
    return Assembled(
        prepared=prepared,
        placed=placed,
        image=image,
        standing=standing,
        identities=identities,
        base=base(),
    )


def base_layers(
    prepared: Prepared,
    run: Run,
    slots: threading.Semaphore | None = None,
    targets: Sequence[Repository] = (),
) -> BaseLayers | None:
    """Return what brings the base's layers to `targets`, by default to all destinations.

    None for an image without a base. `slots` limits how many layers are sent at a time.
    """
    origin = prepared.origin
    if origin.base is None or origin.base_repository is None:
        return None
    from regpush.transfer.base import BaseLayers  # most images have no base

    return BaseLayers(
        base=origin.base,
        source=origin.base_repository.repository,
        targets=targets or [one.repository for one in run.destinations],
        first=prepared.first_of_base,
        slots=slots or threading.Semaphore(run.options.registry.jobs),
        notify=run.notify,
        cancel=run.cancel,
    )


@contextmanager
def _bringing_base(layers: BaseLayers | None, run: Run) -> Iterator[Callable[[], Sequence[Placed]]]:
    """Bring the layers of the base, if there is a base, while the app's layers are placed.

    Yields a function that waits for the layers and returns them. A failure of either ends both.
    """
    if layers is None:
        yield tuple
        return
    with workers(1, run.cancel) as pool:
        bringing = pool.submit(layers.bring)
        bringing.add_done_callback(lambda done: run.cancel.cancel() if done.exception() else None)
        try:
            yield bringing.result
        except CancelledError:
            bringing.result()  # raises the base's error, if that was the cause
            raise


def unchanged(prepared: Prepared, run: Run) -> Assembled | None:
    """Return the image if every destination holds its manifest already; None otherwise.

    Its layers are those of an image that was pushed to the main repository before. No blob is
    looked up, because a registry holds the blobs of the manifests that it serves. None also with
    `--check`, which asks for every blob.
    """
    if run.options.registry.check:
        return None
    for before in prepared.origin.images:
        if before.repository != run.main.name:
            continue
        found = [_of_image(before.name, wanted) for wanted in prepared.wanted]
        placed = [one for one in found if one]
        if len(placed) < len(found):
            continue
        image = build_image([one.layer for one in placed], prepared)
        standing = frozenset(one.name for one in run.destinations if prepared.holds(image, one))
        if len(standing) == len(run.destinations):
            below = base_layers(prepared, run)
            return Assembled(
                prepared=prepared,
                placed=placed,
                image=image,
                standing=standing,
                base=below.standing() if below else (),
            )
    return None


def _of_image(name: str, wanted: LayerSource) -> Placed | None:
    for candidate in wanted.candidates:
        if candidate.source == name:
            layer = wanted.described(candidate.layer)
            return Placed(layer=layer, action=Action.REUSED, why=f"same as in {name}")
    return None


def build_image(layers: Sequence[Layer], prepared: Prepared) -> Image:
    """Make config and manifest of the image that has `layers` above its base. Pure."""
    return build(
        layers,
        prepared.origin.image_options,
        prepared.origin.platform,
        recipe_version=RECIPE_VERSION,
        base=prepared.origin.base,
        learned=prepared.records.learned if prepared.records else None,
    )


def _with_config(
    layers: Sequence[Layer], prepared: Prepared, run: Run
) -> tuple[Image, frozenset[RepositoryName]]:
    """Make the image of `layers` and send its config to each destination that lacks it.

    Also returns the destinations that hold the manifest. A destination from which this image was
    read has its config, unless the user doubts the registry (`--check`); then the destination is
    asked.
    """
    image = build_image(layers, prepared)
    standing: set[RepositoryName] = set()
    for one in run.destinations:
        doubted = run.options.registry.check and not one.repository.has_blob(
            image.config_descriptor
        )
        if prepared.holds(image, one) and not doubted:
            standing.add(one.name)
        else:
            push_config(image, one.repository)
            run.configs.remember(image.config)
    return image, frozenset(standing)


def heal(
    assembled: Assembled, error: MissingBlobsError, destination: Destination, run: Run
) -> Assembled:
    """Send again the blobs that `destination` reported as missing.

    If the report named none, send all that it lacks.
    """
    prepared, image, repository = assembled.prepared, assembled.image, destination.repository
    placed_before = [*assembled.base, *assembled.placed]
    blobs = [one.layer.descriptor for one in placed_before] + [image.config_descriptor]
    lost = {blob.digest for blob in blobs} & set(error.digests)
    if not lost:
        lost = {blob.digest for blob in blobs if not repository.has_blob(blob)}
    lost = lost or {blob.digest for blob in blobs}
    run.notify(Warned(message=f"{error}; sending {plural(len(lost), 'blob')} again"))
    identities = dict(assembled.identities)
    fan = FanOut([Shelf(repository)], run.cancel)
    with transferring(prepared, run, fan, fan.shelves, identities) as transfer:
        placed = send_again(prepared.wanted, assembled.placed, lost, transfer)
        below = base_layers(prepared, run, transfer.slots, [repository])
        if below and lost & {one.layer.descriptor.digest for one in assembled.base}:
            below.bring(lost)
    image = build_image([one.layer for one in placed], prepared.packed(identities, run))
    send_config(image, repository)
    now = [*(one.layer.descriptor for one in placed), image.config_descriptor]
    _pass_on([blob for blob in now if blob not in blobs], destination, run)
    return replace(
        assembled, placed=placed, image=image, standing=frozenset(), identities=identities
    )


def _pass_on(blobs: Sequence[Descriptor], source: Destination, run: Run) -> None:
    """Copy `blobs`, which were packed again and only `source` holds, to all other destinations."""
    from regpush.transfer.blobs import Passage, bring  # registries seldom lose blobs

    for one in run.destinations:
        if one is not source:
            passage = Passage(
                source=source.repository,
                target=one.repository,
                slots=threading.Semaphore(),
                cancel=run.cancel,
                progress=lambda blob, passed: None,  # noqa: ARG005  too rare to be shown
            )
            for blob in blobs:
                bring(blob, passage)


@contextmanager
def transferring(
    prepared: Prepared,
    run: Run,
    fan: FanOut,
    stores: Sequence[BlobStore],
    identities: dict[str, Identity],
) -> Iterator[Transfer]:
    """Yield the context of the workers that pack and send the layers of `prepared`.

    `stores`: repositories in which layers are looked for. Packing adds the identities of items to
    `identities`, by path.
    """
    layers, images = run.options.layers, prepared.origin.images
    derived = layers.reuse is Reuse.CONTENT or (
        layers.reuse is Reuse.RECIPE and lacks_recipes(images)
    )
    with Packer(layers.compression or Compression(), os.cpu_count() or 1) as packer:
        yield Transfer(
            fan=fan,
            stores=stores,
            content=images if derived else (),
            compression=layers.compression,
            jobs=run.options.registry.jobs,
            packer=packer,
            naming=Naming.IF_LIKELY,
            slots=threading.Semaphore(run.options.registry.jobs),
            # The registry is likely to have a layer of the same content: it is asked once packing
            # has told the digest.
            spool=Spool(rush=None) if derived else Spool(),
            identities=identities,
            notify=run.notify,
            cancel=run.cancel,
        )


@contextmanager
def _learning(prepared: Prepared, run: Run, transfer: Transfer) -> Iterator[None]:
    """Record in the stat index the identities that packing found for a directory's items."""
    closure = prepared.origin.closure
    try:
        yield
    except SourceError:
        forget(closure, run.stats)
        raise
    packed = closure.identified(transfer.identities)
    if packed != closure:
        remember(packed, run.stats, read_ns=run.started_ns)
