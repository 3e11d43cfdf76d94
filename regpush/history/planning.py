"""Plan the layers of a closure, and say why each must be sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from regpush.closure import Closure, Identity, Item
from regpush.digest import Digest
from regpush.errors import UsageError, VerificationError
from regpush.events import Listener
from regpush.history.causes import causes
from regpush.image.image import Learned
from regpush.layering import strategies
from regpush.layering.memory import first
from regpush.layering.plan import Plan, PlanContext, Strategy
from regpush.options import LayerOptions, Reuse
from regpush.pack.recipe import BlobStore, Candidate, PreviousImage
from regpush.pack.tar import ArchiveOptions


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Planned:
    """A plan, and what a strategy that learns adds to it.

    `learned`: the records to write into the image. `earlier`: layers that only the records of
    earlier images name. `early`: the plan was made before all identities were known; such a plan
    uses no history.
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
        from regpush.history.recall import Recalled  # only `--layers auto` learns

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
    if options.strategy == strategies.LEARNING and not closure.stacked:
        from regpush.history.recall import plan_with_memory  # only `--layers auto` learns

        return plan_with_memory(closure, strategy, options, archive, images, store, notify)
    context = PlanContext(max_layers=options.max_layers)
    return Planned(plan=strategies.carry_out(strategy, closure, context))


def layout_places(options: LayerOptions) -> list[str]:
    """Read the digests of `--layout-from`. Raises UsageError for a malformed one."""
    try:
        return [str(Digest.parse(text)) for text in options.layout_from]
    except VerificationError as error:
        raise UsageError(f"bad --layout-from: {error}") from error


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
