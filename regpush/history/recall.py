"""The records of earlier images, and the plan of a strategy that learns from them.

An image without records, because another strategy planned it or because they are damaged, is known
by its recipes: those of layers whose items are in the closure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

from msgspec import Struct, field
from msgspec.structs import replace

from regpush.closure import Closure, Identity
from regpush.digest import Descriptor, Digest
from regpush.errors import UsageError, VerificationError
from regpush.events import Listener, Note
from regpush.history import layout
from regpush.history.layout import Carried
from regpush.image.image import Image, Layer, Learned
from regpush.layering import strategies
from regpush.layering.memory import Laid, Layout, Memory, first, keys_of
from regpush.layering.plan import Plan, PlanContext, Strategy
from regpush.options import LayerOptions
from regpush.pack.recipe import BlobStore, Candidate, PreviousImage, recipe
from regpush.pack.tar import ArchiveOptions
from regpush.reference import RepositoryName

_HEADS = 16
"""HEAD requests for blobs at a time."""


class Recalled(Struct, frozen=True, kw_only=True, eq=False):
    """The history for a plan.

    `memories`: the records in the repository's own images, nearest first. `others`: layouts of
    images in other repositories. `earlier`: layers that only records name, whose blobs the registry
    may have deleted. `learned`: the records of each image, by the digest of its manifest. `blobs`:
    the layers in all layouts, by digest.
    """

    memories: tuple[Memory, ...] = ()
    others: tuple[Layout, ...] = ()
    earlier: tuple[Candidate, ...] = ()
    learned: Mapping[Digest, Learned | None] = field(default_factory=dict)
    blobs: Mapping[Digest, Layer] = field(default_factory=dict)

    def doubtful(self, closure: Closure) -> list[Descriptor]:
        """Return the blobs that a plan of `closure` may use but no manifest that was read names.

        The registry may have deleted such a blob. A blob is left out if all its items are in layers
        that manifests name too, since the plan gains nothing by it.
        """
        here = frozenset((keys_of(closure.items) or {}).values())
        own = [layer.keys for memory in self.memories for layer in memory.own.layers]
        vouched = frozenset(chain.from_iterable(keys for keys in own if keys <= here))
        wanted = {
            layer.blob
            for memory in self.memories
            for one in memory.layouts
            for layer in one.layers
            if layer.keys <= here and not layer.keys <= vouched
        }
        return [
            candidate.layer.descriptor
            for candidate in self.earlier
            if candidate.layer.descriptor.digest in wanted
        ]

    def without(self, lost: Sequence[Descriptor]) -> frozenset[Digest]:
        """Return the digests of the blobs in the history, without those that are `lost`."""
        return frozenset(self.blobs) - {descriptor.digest for descriptor in lost}

    def to_write(self, plan: Plan, notify: Listener) -> Learned | None:
        """Return the records to write into the image of `plan`.

        An unchanged image gets exactly the records that it had. None if the strategy of the plan
        does not learn.
        """
        memory = plan.memory
        if memory is None:
            return None
        if memory.manifest is not None:
            return self.learned.get(memory.manifest)
        written = layout.write(memory, self.blobs)
        for told in _left_out(written):
            notify(Note(message=told))
        return written.learned


class PlanRecords(Struct, frozen=True, kw_only=True, eq=False):
    """The records that go with a plan of a strategy that learns.

    `learned`: those to write into the image. `read`: digests of the manifests that `--layout-from`
    needs to make this plan again. `earlier`: layers that only the records of earlier images name.
    `early`: the plan was made before all identities were known; such a plan uses no history.
    """

    learned: Learned | None
    read: tuple[Digest, ...]
    earlier: tuple[Candidate, ...]
    early: bool

    def once_known(
        self, plan: Plan, identities: Mapping[str, Identity], notify: Listener
    ) -> PlanRecords:
        """Return the records of `plan` after packing, which has found all identities."""
        if not self.early:
            return self
        groups = [
            [
                dataclasses.replace(one, identity=one.identity or identities.get(one.path))
                for one in layer.items
            ]
            for layer in plan.layers
        ]
        learned = Recalled().to_write(replace(plan, memory=first(groups)), notify)
        return replace(self, learned=learned, early=False)


def layout_places(options: LayerOptions) -> list[str]:
    """Read the digests of `--layout-from`. Raises UsageError for a malformed one."""
    try:
        return [str(Digest.parse(text)) for text in options.layout_from]
    except VerificationError as error:
        raise UsageError(f"bad --layout-from: {error}") from error


def plan_with_records(
    closure: Closure,
    strategy: Strategy,
    options: LayerOptions,
    archive: ArchiveOptions,
    images: Sequence[PreviousImage],
    store: BlobStore,
    notify: Listener,
) -> tuple[Plan, PlanRecords]:
    """Plan `closure` by a strategy that learns from the records of earlier `images`.

    `store`: the repository to push to. Raises what the strategy raises, and UsageError where
    `--layout-from` names an unknown image.
    """
    looked_at = _replayed(images, options.layout_from, store.name)
    recalled = recall(looked_at, store.name, closure, archive, notify)
    context = PlanContext(
        max_layers=options.max_layers,
        past=recalled.memories,
        others=recalled.others,
        available=recalled.without(_lost(recalled, closure, store)),
    )
    plan = strategies.carry_out(strategy, closure, context)
    for step in plan.steps:
        notify(Note(message=step))
    memory = plan.memory
    read = (memory.manifest,) if memory and memory.manifest else memory.read if memory else ()
    learned = recalled.to_write(plan, notify)
    early = memory is None
    return plan, PlanRecords(learned=learned, read=read, earlier=recalled.earlier, early=early)


def _replayed(
    images: Sequence[PreviousImage], digests: Sequence[str], repository: RepositoryName
) -> Sequence[PreviousImage]:
    """Select the images to plan from.

    Without `digests` all of `images`. With them, the images of these digests in their order, and
    the images of other repositories.
    """
    if not digests:
        return images
    own = {
        str(before.image.descriptor.digest): before
        for before in images
        if before.repository == repository
    }
    for digest in digests:
        if digest not in own:
            raise UsageError(f"--layout-from {digest}: no such image in {repository}")
    others = [before for before in images if before.repository != repository]
    return [*(own[digest] for digest in digests), *others]


def _lost(recalled: Recalled, closure: Closure, store: BlobStore) -> list[Descriptor]:
    """Find the blobs that the plan would use and that the registry has deleted.

    Empty where the plan reuses no blob whose existence is in doubt; the registry is not asked then.
    """
    asked = recalled.doubtful(closure)
    if not asked:
        return []
    with ThreadPoolExecutor(_HEADS, thread_name_prefix="regpush") as pool:
        there = list(pool.map(store.has_blob, asked))
    return [blob for blob, found in zip(asked, there, strict=True) if not found]


def recall(
    images: Sequence[PreviousImage],
    repository: RepositoryName,
    closure: Closure,
    archive: ArchiveOptions,
    notify: Listener,
) -> Recalled:
    """Read the records of `images` for a plan to push to `repository`.

    Damaged records, and those of an unknown version, give a note, and the layers of that image are
    known by their recipes alone.
    """
    own: list[tuple[PreviousImage, Carried]] = []
    elsewhere: list[Carried] = []
    for before in images:
        try:
            carried = layout.read(before.image)
        except VerificationError as error:
            notify(Note(message=f"{before.name}: {error}; its layers are known by recipe alone"))
            carried = None
        carried = carried or _by_recipes(before.image, closure, archive)
        if before.repository == repository:
            own.append((before, carried))
        elif before.repository.is_beside(repository):
            elsewhere.append(carried)  # of another registry nothing can be mounted
    every = [*(carried for _, carried in own), *elsewhere]
    return Recalled(
        memories=tuple(carried.memory for _, carried in own),
        others=tuple(carried.memory.own for carried in elsewhere),
        earlier=tuple(_earlier(images, own)),
        learned={before.image.descriptor.digest: carried.learned for before, carried in own},
        blobs={digest: layer for one in every for digest, layer in one.blobs.items()},
    )


def _by_recipes(image: Image, closure: Closure, archive: ArchiveOptions) -> Carried:
    keys = keys_of(closure.items) or {}
    laid: list[Laid] = []
    blobs: dict[Digest, Layer] = {}
    for layer in image.own_layers:
        items = [closure[path] for path in layer.items if path in closure]
        known = [(item.path, item.identity) for item in items if item.identity]
        whole = layer.items and len(known) == len(layer.items)
        if whole and recipe(known, archive) == layer.recipe:
            members = frozenset(keys[path] for path in layer.items if path in keys)
            laid.append(Laid(members, layer.descriptor.digest))
            blobs[layer.descriptor.digest] = layer
    memory = Memory(
        layouts=(Layout(serial=0, layers=tuple(laid)),), manifest=image.descriptor.digest
    )
    return Carried(memory=memory, blobs=blobs, learned=None)


def _earlier(
    images: Sequence[PreviousImage], own: Sequence[tuple[PreviousImage, Carried]]
) -> Iterator[Candidate]:
    seen = {layer.descriptor.digest for before in images for layer in before.image.layers}
    for before, carried in own:
        for digest, layer in carried.blobs.items():
            if digest not in seen:
                seen.add(digest)
                source = f"an image before {before.name}"
                yield Candidate(layer=layer, repository=before.repository, source=source)


def _left_out(written: layout.Written) -> Iterator[str]:
    limit = f"{layout.LIMIT >> 10} KiB"
    if written.learned is None:
        yield f"the layout takes more than {limit}: the image will carry no history"
        return
    if written.forgotten:
        yield f"the history takes more than {limit}: {written.forgotten} of its layouts left out"
    if not written.habits:
        yield f"the history takes more than {limit}: how often items changed is left out"
