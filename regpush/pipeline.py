"""The whole flow on one screen: target, closure, plan, layers, image, registry.

`push` and `plan` are what the command line and library users call. Both may run in any
thread, report by events, and stop within moments of `Cancellation.cancel`.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from regpush.archive import RECIPE_VERSION
from regpush.budget import check_budget
from regpush.cancel import Cancellation
from regpush.closure import Identity
from regpush.comparison import Comparison, with_target
from regpush.digest import OCI_MANIFEST, Digest
from regpush.errors import SourceError, UsageError
from regpush.events import Action, Listener, Note, Warned, ignore
from regpush.image import Image, Layer, build, check_options
from regpush.index import Index
from regpush.layers import Spool
from regpush.options import Compression, PushOptions, Reuse
from regpush.packer import Packer
from regpush.prepare import Identify, Prepared, Run, prepare, tags_to_move
from regpush.publish import (
    Tagged,
    digests_of_tags,
    move_tags,
    push_config,
    push_manifest,
    send_config,
    verify,
)
from regpush.reference import Reference
from regpush.registry.client import Access, Client, MissingBlobsError
from regpush.report import LayerReport, PushResult, Tense
from regpush.reuse import BlobStore, DryRun, Placed, lacks_recipes
from regpush.settings import Settings
from regpush.sources import Stats, forget, remember
from regpush.tags import TagRule
from regpush.transfer import (
    Transfer,
    Wanted,
    by_content,
    find_layers,
    place_layers,
    send_again,
)

HEALS = 2
"""Times that blobs are sent again which a registry said it had and then missed."""


def push(
    target: str,
    *,
    to: str,
    options: PushOptions | None = None,
    settings: Settings | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> PushResult:
    """Put `target` into the registry as the image `to` and let its tags name it.

    `settings` are by default what the environment says. Raises a RegpushError; no tag was
    moved then, unless the error is about the tags themselves, which are moved last. With
    `max_upload` a push packs and hashes what it would send first, and raises
    BudgetExceededError before it has sent anything.
    """
    with _run(to, options, settings, notify, cancel) as run:
        prepared = prepare(target, run, Identify.WHERE_USEFUL)
        held = _held(prepared, run)
        run.rule.admit(run.repository.name, held)
        if run.rule.skips(held):
            return _skipped(prepared, held, run)
        identities: dict[str, Identity] = {}
        placed = _unchanged(prepared, run)
        if placed:
            image, new = _build([one.layer for one in placed], prepared), False
        else:
            with (
                _transfer(prepared, run, run.repository, identities) as transfer,
                _learning(prepared, run, transfer),
            ):
                if run.options.registry.max_upload is not None:
                    check_budget(_foreseen(prepared, run), run.options.registry.max_upload)
                placed, (image, new) = place_layers(
                    prepared.wanted,
                    transfer,
                    lambda layers: _assemble(layers, prepared.packed(transfer, run), run),
                )
        placed, image, tagged = _publish(placed, image, new, prepared, identities, held, run)
        # Only what this run made itself: what it reused is the word of others, and stays there.
        made = [one.layer for one in placed if one.action is Action.UPLOADED]
        run.index.remember(made, run.repository.name)
        return _result(image, prepared, placed, run, tagged=tagged)


def plan(
    target: str,
    *,
    to: str,
    options: PushOptions | None = None,
    settings: Settings | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
    exact: bool = False,
) -> PushResult:
    """What `push` would do, without sending anything.

    Layers that would be uploaded have estimated sizes and no digests; with `exact` they are
    packed to find out. Raises as `push` does, but leaves it to the caller to compare what
    would be sent with `max_upload`.
    """
    with _run(to, options, settings, notify, cancel) as run:
        prepared = prepare(target, run, Identify.ALWAYS)
        placed: list[Placed | None] = list(_unchanged(prepared, run))
        store = DryRun(run.repository, run.beside)
        if not placed:
            placed = find_layers(prepared.wanted, store, run.cancel)
        if exact:
            placed = [*_exactly(placed, prepared, run, store)]
        known = [one for one in placed if one]
        if len(known) < len(placed):
            return _result(None, prepared, placed, run, Tense.PLANNED)
        image = _build([one.layer for one in known], prepared)
        return _result(image, prepared, known, run, Tense.PLANNED)


def _held(prepared: Prepared, run: Run) -> dict[str, Digest | None]:
    """What the tags name before anything is sent, of which some may be known already."""
    if run.rule.conditional:
        return digests_of_tags(run.repository, run.tags)
    seen = prepared.past.manifests
    return {tag: seen[tag].digest if tag in seen else None for tag in run.tags}


def _publish(
    placed: list[Placed],
    image: Image,
    new: bool,
    prepared: Prepared,
    identities: dict[str, Identity],
    held: Mapping[str, Digest | None],
    run: Run,
) -> tuple[list[Placed], Image, Tagged]:
    """Manifest and tags, once every blob stands; what the registry has lost is sent again."""
    name = run.repository.name
    for heals_left in range(HEALS, -1, -1):
        digest = image.descriptor.digest
        # Before the manifest goes as well: what is refused in the end leaves less behind.
        run.rule.judge(name, digest, held)
        try:
            if new:
                push_manifest(image, run.repository)
            if new and not run.tags:
                verify(run.repository, str(digest), digest)
            run.cancel.check()
            now = digests_of_tags(run.repository, run.tags) if run.rule.conditional else held
            tagged = move_tags(image, run.repository, now, run.rule, run.notify)
            return placed, image, tagged
        except MissingBlobsError as error:
            if not heals_left:
                raise
            placed, image = _heal(error, placed, image, prepared, identities, run)
            new = True
    raise AssertionError  # the last turn of the loop returns or raises


def _heal(
    error: MissingBlobsError,
    placed: list[Placed],
    image: Image,
    prepared: Prepared,
    identities: dict[str, Identity],
    run: Run,
) -> tuple[list[Placed], Image]:
    """Send again what the registry says it lacks, or if it names nothing, what it has not got."""
    blobs = [one.layer.descriptor for one in placed] + [image.config_descriptor]
    lost = {blob.digest for blob in blobs} & set(error.digests)
    if not lost:
        lost = {blob.digest for blob in blobs if not run.repository.has_blob(blob)}
    lost = lost or {blob.digest for blob in blobs}
    run.notify(Warned(message=f"{error}; sending {len(lost)} blobs again"))
    with _transfer(prepared, run, run.repository, identities) as transfer:
        placed = send_again(prepared.wanted, placed, lost, transfer)
        image = _build([one.layer for one in placed], prepared.packed(transfer, run))
    send_config(image, run.repository)
    return placed, image


def _skipped(prepared: Prepared, held: Mapping[str, Digest | None], run: Run) -> PushResult:
    """All tags are there and stay as they are: the report is of what the first one names."""
    tag = run.tags[0]
    run.notify(Note(message=f"{run.repository.name}:{tag} is there and is left alone"))
    seen = prepared.past.manifests
    return PushResult(
        image=run.repository.name,
        tags=tuple(one for one in run.tags if held[one] == held[tag]),
        digest=held[tag],
        media_type=seen[tag].media_type if tag in seen else OCI_MANIFEST,
        platform=str(prepared.platform),
        changed=False,
        layers=(),
        uploaded_bytes=0,
        requests=run.client.requests,
        seconds=time.monotonic() - run.started,
    )


def explain(
    target: str,
    *,
    old: str,
    options: PushOptions | None = None,
    settings: Settings | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> Comparison:
    """What a push of `target` beside the image `old` would send, and which items make it.

    Sends nothing. Raises as `plan` does, and UsageError where there is no image `old`.
    """
    options = options or PushOptions()
    reference = Reference.parse(old)
    layers = replace(options.layers, reuse_from=(old, *options.layers.reuse_from))
    to = str(reference.with_tag(reference.tag or "latest"))
    with _run(to, replace(options, layers=layers), settings, notify, cancel) as run:
        prepared = prepare(target, run, Identify.ALWAYS)
        named = f"{reference.name}@{reference.digest}" if reference.digest else to
        images = [one.image for one in prepared.past.images if one.name == named]
        if not images:
            raise UsageError(f"no such image: {old}")
        placed = find_layers(prepared.wanted, DryRun(run.repository, run.beside), run.cancel)
        return with_target(
            [wanted.source.planned for wanted in prepared.wanted],
            [number for number, one in enumerate(placed) if one is None],
            images[0],
            prepared.wanted[0].source.archive,
        )


@contextmanager
def _learning(prepared: Prepared, run: Run, transfer: Transfer) -> Iterator[None]:
    """What packing shows of a directory's items goes into the stat index, or out of it."""
    try:
        yield
    except SourceError:
        forget(prepared.closure, run.stats)
        raise
    packed = prepared.closure.identified(transfer.identities)
    if packed != prepared.closure:
        remember(packed, run.stats, read_ns=run.started_ns)


def _assemble(layers: Sequence[Layer], prepared: Prepared, run: Run) -> tuple[Image, bool]:
    """The image of `layers`, whose config is sent, and whether its manifest must be too.

    An image that was seen in the repository stands there, config and all, if that is believed.
    """
    image = _build(layers, prepared)
    if prepared.holds(image, run.repository) and not (
        run.options.registry.check and not run.repository.has_blob(image.config_descriptor)
    ):
        return image, False
    push_config(image, run.repository)
    return image, True


@contextmanager
def _run(
    to: str,
    options: PushOptions | None,
    settings: Settings | None,
    notify: Listener,
    cancel: Cancellation | None,
) -> Iterator[Run]:
    options = options or PushOptions()
    settings = settings or Settings.from_environ(os.environ)
    reference = Reference.parse(to)
    tags = tags_to_move(reference, options)
    rule = TagRule.of(options.registry)
    if options.image.created is None:
        image = replace(options.image, created=settings.source_date_epoch)
        options = replace(options, image=image)
    check_options(options.image)
    stop = Cancellation(cancel)
    with (
        Client(options.registry, settings, notify=notify, cancel=stop) as client,
        Index(settings.cache_dir if options.cache else None) as index,
    ):
        yield Run(
            reference=reference,
            tags=tags,
            rule=rule,
            options=options,
            settings=settings,
            client=client,
            repository=client.repository(reference, Access.PUSH),
            index=index,
            stats=Stats(settings.cache_dir if options.cache else None),
            notify=notify,
            cancel=stop,
        )


def _unchanged(prepared: Prepared, run: Run) -> list[Placed]:
    """All layers, where an image in the repository is exactly the one to be built.

    Nothing needs asking then: a registry holds the blobs of the manifests it serves.
    """
    if run.options.registry.check:
        return []
    for before in prepared.past.images:
        if before.repository != run.repository.name:
            continue
        found = [_of_image(before.name, wanted) for wanted in prepared.wanted]
        placed = [one for one in found if one]
        if len(placed) == len(found):
            image = _build([one.layer for one in placed], prepared)
            if image.manifest == before.image.manifest:
                return placed
    return []


def _of_image(name: str, wanted: Wanted) -> Placed | None:
    for candidate in wanted.candidates:
        if candidate.source == name:
            layer = wanted.source.described(candidate.layer)
            return Placed(layer=layer, action=Action.REUSED, why=f"as in {name}")
    return None


@contextmanager
def _transfer(
    prepared: Prepared, run: Run, store: BlobStore, identities: dict[str, Identity]
) -> Iterator[Transfer]:
    layers, images = run.options.layers, prepared.past.images
    derived = layers.reuse is Reuse.CONTENT or (
        layers.reuse is Reuse.RECIPE and lacks_recipes(images)
    )
    with Packer(layers.compression or Compression(), os.cpu_count() or 1) as packer:
        yield Transfer(
            repository=run.repository,
            store=store,
            content=images if derived else (),
            compression=layers.compression,
            jobs=run.options.registry.jobs,
            packer=packer,
            slots=threading.Semaphore(run.options.registry.jobs),
            spool=Spool(),
            identities=identities,
            notify=run.notify,
            cancel=run.cancel,
        )


def _build(layers: Sequence[Layer], prepared: Prepared) -> Image:
    return build(
        layers,
        prepared.image_options,
        prepared.platform,
        recipe_version=RECIPE_VERSION,
        learned=prepared.learned,
    )


def _foreseen(prepared: Prepared, run: Run) -> Sequence[Placed]:
    """What will become of each layer: packs and hashes what would be sent, and sends nothing."""
    store = DryRun(run.repository, run.beside)
    return _exactly(find_layers(prepared.wanted, store, run.cancel), prepared, run, store)


def _exactly(
    placed: Sequence[Placed | None], prepared: Prepared, run: Run, store: BlobStore
) -> Sequence[Placed]:
    with _transfer(prepared, run, store, {}) as transfer:
        pairs = zip(placed, prepared.wanted, strict=True)
        return [one or _packed(wanted, transfer) for one, wanted in pairs]


def _packed(wanted: Wanted, transfer: Transfer) -> Placed:
    """The layer as a push would make it, thrown away; and whether the registry has it."""
    if transfer.content and (placed := by_content(wanted, transfer)):
        return placed
    stream = wanted.source.open(transfer.packer, lambda _: transfer.cancel.check())
    for _ in stream:
        pass
    layer = stream.layer()
    if transfer.store.has_blob(layer.descriptor):
        return Placed(layer=layer, action=Action.REUSED, why="the registry has the same blob")
    return Placed(layer=layer, action=Action.UPLOADED, why=wanted.why)


def _result(
    image: Image | None,
    prepared: Prepared,
    placed: Sequence[Placed | None],
    run: Run,
    tense: Tense = Tense.DONE,
    tagged: Tagged | None = None,
) -> PushResult:
    """The report; `image` is None where layers were not packed, so that it has no digest yet.

    `tagged` is None where nothing was to be tagged: all tags are meant then.
    """
    descriptor = image.descriptor if image else None
    return PushResult(
        image=run.repository.name,
        tags=tagged.naming if tagged else run.tags,
        moved=tagged.moved if tagged else (),
        digest=descriptor.digest if descriptor else None,
        media_type=descriptor.media_type if descriptor else OCI_MANIFEST,
        platform=str(prepared.platform),
        changed=image is None or _changed(image, prepared, run, tagged),
        layers=tuple(
            _known(wanted, one) if one else _unknown(wanted)
            for wanted, one in zip(prepared.wanted, placed, strict=True)
        ),
        uploaded_bytes=run.client.bytes_uploaded,
        requests=run.client.requests,
        seconds=time.monotonic() - run.started,
        tense=tense,
        steps=prepared.planned.plan.steps,
        layout_from=prepared.planned.read,
    )


def _changed(image: Image, prepared: Prepared, run: Run, tagged: Tagged | None) -> bool:
    """Whether a tag moves, or without tags, whether the repository lacked the image."""
    if run.tags and tagged:
        return bool(tagged.moved)
    if run.tags:
        return not prepared.tags_of(image) >= set(run.tags)
    return not prepared.holds(image, run.repository)


def _known(wanted: Wanted, placed: Placed) -> LayerReport:
    layer = placed.layer
    return LayerReport(
        label=wanted.source.planned.label,
        items=layer.items,
        media_type=layer.descriptor.media_type,
        size=layer.descriptor.size,
        digest=layer.descriptor.digest,
        diff_id=layer.diff_id,
        uncompressed_size=layer.uncompressed_size,
        recipe=layer.recipe,
        action=placed.action,
        why=placed.why,
    )


def _unknown(wanted: Wanted) -> LayerReport:
    source = wanted.source
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
        why=wanted.why,
    )
