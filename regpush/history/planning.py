"""From a closure and the images of the past to a plan: asks what only the registry knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from regpush.closure import Closure, Identity, Item
from regpush.digest import Descriptor, Digest
from regpush.errors import UsageError, VerificationError
from regpush.events import Listener, Note
from regpush.history.causes import causes
from regpush.history.recall import Recalled, recall
from regpush.image.image import Learned
from regpush.layering import strategies
from regpush.layering.memory import first
from regpush.layering.plan import Plan, PlanContext, Strategy
from regpush.options import LayerOptions, Reuse
from regpush.pack.recipe import BlobStore, Candidate, PreviousImage
from regpush.pack.tar import ArchiveOptions
from regpush.reference import RepositoryName

_HEADS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A plan, what its image will carry, and layers that only the past remembers.

    `early`: made before it was known what the items are, by a strategy that learns. Such a
    plan rests on no past.
    """

    plan: Plan
    learned: Learned | None = None
    earlier: tuple[Candidate, ...] = ()
    early: bool = False

    @property
    def read(self) -> tuple[Digest, ...]:
        """The manifests that `--layout-from` needs for the same plan."""
        memory = self.plan.memory
        if memory is None:
            return ()
        return (memory.manifest,) if memory.manifest else memory.read

    def once_known(self, identities: Mapping[str, Identity], notify: Listener) -> Planned:
        """The same when packing has told what items are, by path: now it can be written down."""
        if not self.early:
            return self
        groups = [
            [replace(one, identity=one.identity or identities.get(one.path)) for one in layer.items]
            for layer in self.plan.layers
        ]
        plan = replace(self.plan, memory=first(groups))
        return replace(self, plan=plan, learned=Recalled().to_write(plan, notify), early=False)


def plan_layers(
    closure: Closure,
    strategy: Strategy,
    options: LayerOptions,
    archive: ArchiveOptions,
    images: Sequence[PreviousImage],
    store: BlobStore,
    notify: Listener,
) -> Planned:
    """Plan `closure`; `images` are those found, and `store` the repository that it goes to.

    Raises what the strategy raises, and UsageError where `--layout-from` names no image.
    """
    context = PlanContext(max_layers=options.max_layers)
    if options.strategy != strategies.LEARNING or closure.stacked:
        return Planned(plan=strategies.carry_out(strategy, closure, context))
    looked_at = _replayed(images, options.layout_from, store.name)
    recalled = recall(looked_at, store.name, closure, archive, notify)
    context = replace(
        context,
        past=recalled.memories,
        others=recalled.others,
        available=recalled.without(_lost(recalled, closure, store)),
    )
    plan = strategies.carry_out(strategy, closure, context)
    for step in plan.steps:
        notify(Note(message=step))
    learned = recalled.to_write(plan, notify)
    early = plan.memory is None
    return Planned(plan=plan, learned=learned, earlier=recalled.earlier, early=early)


def layout_places(options: LayerOptions) -> list[str]:
    """The digests of `--layout-from`. Raises UsageError for what is none."""
    try:
        return [str(Digest.parse(text)) for text in options.layout_from]
    except VerificationError as error:
        raise UsageError(f"bad --layout-from: {error}") from error


def _replayed(
    images: Sequence[PreviousImage], digests: Sequence[str], repository: RepositoryName
) -> Sequence[PreviousImage]:
    """The images to plan from: all, or those of `digests` in their order, and others' ones."""
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
    """The blobs that the plan would count on and the registry has deleted with their images."""
    asked = recalled.doubtful(closure)
    if not asked:
        return []
    with ThreadPoolExecutor(_HEADS, thread_name_prefix="regpush") as pool:
        there = list(pool.map(store.has_blob, asked))
    return [blob for blob, found in zip(asked, there, strict=True) if not found]


def reasons(
    closure: Closure, archive: ArchiveOptions, images: Sequence[PreviousImage], reuse: Reuse
) -> Callable[[Sequence[Item], bool], str]:
    """Why a layer must go, if it must, for people: called with its items.

    And with whether an earlier image has it, so that only the registry can have lost it.
    """
    found = causes(closure, [before.image for before in images], archive) if images else None

    def why(items: Sequence[Item], known: bool) -> str:
        if reuse is Reuse.NONE:
            return "nothing is to be reused"
        if found is None:
            return "no previous image"
        return "the registry has lost it" if known else found.why(items)

    return why
