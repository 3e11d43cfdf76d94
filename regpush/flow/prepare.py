"""Plan the layers of each platform, from its source and its earlier images."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from regpush.closure import Identity
from regpush.errors import printable
from regpush.events import Event, InputWarned, LayersPlanned, Note
from regpush.flow.context import Run
from regpush.flow.gather import Gathered, Identify, Overflow, Reach, gather, images_of, look_at_past
from regpush.history.causes import reasons
from regpush.history.previous import Past, Seen
from regpush.image.image import Base, Image
from regpush.layering import strategies
from regpush.layering.plan import Plan, PlanContext, Strategy
from regpush.options import (
    MAX_LAYERS,
    Compression,
    LayerOptions,
    Reuse,
)
from regpush.pack.recipe import Candidate, PreviousImage, by_recipe, remembered
from regpush.pack.stream import LayerSource
from regpush.platform import Platform
from regpush.reference import RepositoryName
from regpush.sources.platforms import aims
from regpush.transfer.destinations import Destination
from regpush.transfer.publish import refuse_index, warn_of_lost_platforms

if TYPE_CHECKING:
    from regpush.history.recall import PlanRecords


class Prepared(Struct, frozen=True, kw_only=True, eq=False):
    """The plan for one platform, with the source and the earlier images that it was made from.

    `wanted`: the layers of `plan`. `records`: None unless the strategy learns from earlier images.
    `first_of_base`: the number, in events, of the lowest layer of the base.
    """

    origin: Gathered
    plan: Plan
    records: PlanRecords | None
    wanted: tuple[LayerSource, ...]
    first_of_base: int = 0

    def packed(self, identities: Mapping[str, Identity], run: Run) -> Prepared:
        """Return this plan with its records complete; `identities`: found by packing, by path."""
        if self.records is None:
            return self
        return replace(self, records=self.records.once_known(self.plan, identities, run.notify))

    def following(self, placed: Sequence[Candidate]) -> Prepared:
        """Return this plan with `placed`, layers of earlier platforms, as the first candidates."""

        def knowing(one: LayerSource) -> LayerSource:
            there = remembered(one.recipe, placed, None) if one.recipe else []
            return replace(one, candidates=(*there, *one.candidates))

        return replace(self, wanted=tuple(map(knowing, self.wanted)))

    def holds(self, image: Image, destination: Destination) -> bool:
        """Whether `destination` holds `image`: its manifest was read there, under any tag.

        The config may have been stored on this machine; the destination is then asked for it.
        """
        was_read = any(
            before.repository == destination.name and before.image.manifest == image.manifest
            for before in self.origin.images
        )
        return was_read and destination.has_config(image.config_descriptor)


def prepare(
    targets: Sequence[str], run: Run, identify: Identify, overflow: Overflow
) -> list[Prepared]:
    """Read the source and, in parallel, the earlier images; one result for each platform.

    The results are in the order of the request. Raises what `resolve` and `look_back` raise, the
    source's errors first, UsageError, and TagConflictError where a tag names several platforms'
    images and this push makes a single one.
    """
    layers = run.options.layers
    strategy = strategies.named(layers.strategy, layers.max_layers)
    others = [run.other(text) for text in layers.reuse_from]
    if layers.layout_from:
        from regpush.history.recall import layout_places  # few pushes repeat an earlier plan

        others += [(run.main.seen, digest) for digest in layout_places(layers)]
    found = aims(targets, run.options.image)
    if len(found) > 1:
        # A layer that platforms share is sent once, so identities are needed before packing.
        identify = Identify.ALWAYS
    prepared: list[Prepared] = []
    for aim in found:
        origin = gather(aim, run, identify, overflow, others)
        if not prepared:
            _check_tags(origin.pasts, [one.platform for one in found], run)
        before = sum(len(one.wanted) for one in prepared)
        prepared.append(_planned(origin, others, strategy, run, before))
    _tell_layers(prepared, run)
    return _numbered(prepared)


def _planned(
    origin: Gathered, others: Sequence[tuple[Seen, str]], strategy: Strategy, run: Run, first: int
) -> Prepared:
    """Plan from the images at the tags to be moved if they hold every layer, else from all images.

    In events the layers are numbered from `first`.
    """
    if all(past.whole for past in origin.pasts.values()):
        return _plan(origin, strategy, run, first)
    said: list[Event] = []
    near = _plan(origin, strategy, replace(run, notify=said.append), first)
    if not all(one.candidates for one in near.wanted):
        beyond = _with_all_images(origin, others, run)
        if beyond.images != origin.images:
            return _plan(beyond, strategy, run, first)
        near = replace(near, origin=beyond)
    for event in said:
        run.notify(event)
    return near


def _with_all_images(origin: Gathered, others: Sequence[tuple[Seen, str]], run: Run) -> Gathered:
    """Return `origin` with all earlier images, which are read for it."""
    pasts = look_at_past(run, others, lambda: origin.platform, Reach.WHOLE)
    return replace(origin, pasts=pasts, images=images_of(pasts))


def _numbered(prepared: Sequence[Prepared]) -> list[Prepared]:
    """Return all `prepared`, with the layers of bases numbered after all others."""
    number = sum(len(one.wanted) for one in prepared)
    numbered = []
    for one in prepared:
        numbered.append(replace(one, first_of_base=number))
        number += len(one.origin.base.image.layers) if one.origin.base else 0
    return numbered


def tell_unused(prepared: Sequence[Prepared], run: Run) -> None:
    """Warn about rules for owners and modes that matched nothing on any platform."""
    unused = [one.origin.rules.unused() for one in prepared]
    for rule in unused[0]:
        if all(rule in others for others in unused):
            run.notify(InputWarned(message=f"{printable(rule)} matched nothing in the image"))


def _check_tags(
    pasts: Mapping[RepositoryName, Past], coming: Sequence[Platform | None], run: Run
) -> None:
    """Compare the platforms that the tags have now with the platforms `coming`.

    Raises TagConflictError where a single image would replace an index, unless the user permits
    it. Warns where an index would lose platforms.
    """
    for destination in run.destinations:
        for tag in destination.tags:
            name = f"{destination.name}:{tag}"
            there = pasts[destination.name].manifests.get(tag)
            if len(coming) > 1:
                warn_of_lost_platforms(name, there, coming, run.notify)
            elif not run.registry.replace_index:
                refuse_index(name, there)


def _plan(origin: Gathered, strategy: Strategy, run: Run, first: int) -> Prepared:
    """Plan the layers; in events they are numbered from `first`.

    Raises what the strategy raises, and UsageError where `--layout-from` names an unknown image.
    """
    layers, closure, images = run.options.layers, origin.closure, origin.images
    archive, layers = origin.archive, _above_base(origin.base, layers, run)
    records: PlanRecords | None = None
    if layers.strategy == strategies.LEARNING and not closure.stacked:
        from regpush.history.recall import plan_with_records  # only `--layers auto` learns

        # A destination without earlier images gets the plan of one that has some.
        pasts = (one for one in run.destinations if origin.pasts[one.name].images)
        store = next(pasts, run.main).shelf
        plan, records = plan_with_records(
            closure, strategy, layers, archive, images, store, run.notify
        )
    else:
        context = PlanContext(max_layers=layers.max_layers)
        plan = strategies.carry_out(strategy, closure, context)
    compression = layers.compression or Compression()
    why = reasons(closure, archive, images, layers.reuse)

    def wanted(source: LayerSource) -> LayerSource:
        candidates = _candidates(source, records.earlier if records else (), images, run)
        known = any(candidate.layer.recipe == source.recipe for candidate in candidates)
        return replace(
            source,
            candidates=candidates,
            why=why(source.planned.items, known),
            placed=origin.shipped.get(source.planned.items[0].path),
        )

    sources_of = (
        LayerSource.of(index, one, archive, compression)
        for index, one in enumerate(plan.layers, first)
    )
    return Prepared(
        origin=origin, plan=plan, records=records, wanted=tuple(map(wanted, sources_of))
    )


def _above_base(base: Base | None, options: LayerOptions, run: Run) -> LayerOptions:
    """Lower `max_layers` of `options` to the number that the base leaves, and tell the user."""
    left = MAX_LAYERS - len(base.image.layers) if base else MAX_LAYERS
    if base and left < options.max_layers:
        run.notify(
            Note(
                message=f"{base.name} has {len(base.image.layers)} layers, and an image may have "
                f"{MAX_LAYERS}: --max-layers is lowered to {left}"
            )
        )
    return dataclasses.replace(options, max_layers=min(options.max_layers, left))


def _candidates(
    source: LayerSource,
    earlier: Sequence[Candidate],
    images: Sequence[PreviousImage],
    run: Run,
) -> list[Candidate]:
    layers = run.options.layers
    if layers.reuse is not Reuse.RECIPE or source.recipe is None:
        return []
    return [
        *by_recipe(source.recipe, images, layers.compression),
        *remembered(source.recipe, earlier, layers.compression),
        *run.index.recall(source.recipe, run.main.name, layers.compression),
    ]


def _tell_layers(prepared: Sequence[Prepared], run: Run) -> None:
    """Report the plan: the layers of all platforms in order, then those of bases."""
    labelled = [
        (one.origin.platform, wanted.planned.label, wanted.size)
        for one in prepared
        for wanted in one.wanted
    ]
    bases = [(one.origin.platform, base) for one in prepared if (base := one.origin.base)]
    below = [
        (platform, f"{base.name} ({layer.descriptor.digest.short})", layer.descriptor.size)
        for platform, base in bases
        for layer in base.image.layers
    ]
    labelled += below
    several = len(prepared) > 1
    run.notify(
        LayersPlanned(
            labels=tuple(
                f"{label} ({platform})" if several else label for platform, label, _ in labelled
            ),
            sizes=tuple(size for _, _, size in labelled),
            of_bases=len(below),
        )
    )
