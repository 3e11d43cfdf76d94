"""A plan from a closure and earlier images, with the questions that only the registry answers."""

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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Planned:
    """A plan, the records for its image, and layers known from memories alone.

    `early`: a strategy that learns made it before all identities were known; such a plan uses no
    history.
    """

    plan: Plan
    learned: Learned | None = None
    earlier: tuple[Candidate, ...] = ()
    early: bool = False

    @property
    def read(self) -> tuple[Digest, ...]:
        """Return the digests of manifests that `--layout-from` needs to make this plan again."""
        memory = self.plan.memory
        if memory is None:
            return ()
        return (memory.manifest,) if memory.manifest else memory.read

    def once_known(self, identities: Mapping[str, Identity], notify: Listener) -> Planned:
        """Return the plan with its records, written after packing has found all identities."""
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
    """Plan `closure`; `images` are earlier ones, `store` is the repository to push to.

    Raises what the strategy raises, and UsageError where `--layout-from` names an unknown image.
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
    """Read the digests of `--layout-from`. Raises UsageError for a malformed one."""
    try:
        return [str(Digest.parse(text)) for text in options.layout_from]
    except VerificationError as error:
        raise UsageError(f"bad --layout-from: {error}") from error


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
    """Find the blobs that the plan would use and that the registry has deleted."""
    asked = recalled.doubtful(closure)
    if not asked:
        return []
    with ThreadPoolExecutor(_HEADS, thread_name_prefix="regpush") as pool:
        there = list(pool.map(store.has_blob, asked))
    return [blob for blob, found in zip(asked, there, strict=True) if not found]


def reasons(
    closure: Closure, archive: ArchiveOptions, images: Sequence[PreviousImage], reuse: Reuse
) -> Callable[[Sequence[Item], bool], str]:
    """Return a function that says, for people, why a layer of given items must be sent.

    Its second argument: whether an earlier image has the layer, so that only the registry can have
    lost it.
    """
    found = causes(closure, [before.image for before in images], archive) if images else None

    def why(items: Sequence[Item], known: bool) -> str:
        if reuse is Reuse.NONE:
            return "nothing is to be reused"
        if found is None:
            return "no previous image"
        return "the registry has lost it" if known else found.why(items)

    return why
