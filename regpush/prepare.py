"""Everything that is known before the first layer is looked for: source, past, plan."""

from __future__ import annotations

import platform as machine
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from enum import Enum

from regpush import sources, strategies
from regpush.archive import ArchiveOptions
from regpush.cancel import Cancellation
from regpush.closure import Closure
from regpush.digest import INDEXES
from regpush.errors import CancelledError, TagConflictError, UsageError, printable
from regpush.events import LayersPlanned, Listener, Note
from regpush.generated import customise
from regpush.image import Image, Learned, Platform
from regpush.index import Index
from regpush.layers import LayerSource
from regpush.options import Compression, ImageOptions, PushOptions, Reuse
from regpush.planning import Planned, layout_places, plan_layers, reasons
from regpush.previous import Past, look_at_tags, look_back
from regpush.reference import Reference
from regpush.registry.client import Access, Client, Repository
from regpush.reuse import Candidate, by_recipe, remembered
from regpush.settings import Settings
from regpush.sources import Stats, resolve
from regpush.tags import TagRule
from regpush.transfer import Transfer, Wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What stays the same from the beginning of a push to its end.

    `tags` are those to move, none for a push by digest. `started` is of `time.monotonic`,
    `started_ns` of `time.time_ns`.
    """

    reference: Reference
    tags: tuple[str, ...]
    rule: TagRule
    options: PushOptions
    settings: Settings
    client: Client
    repository: Repository
    index: Index
    stats: Stats
    notify: Listener
    cancel: Cancellation
    started: float = field(default_factory=time.monotonic)
    started_ns: int = field(default_factory=time.time_ns)

    def beside(self, path: str) -> Repository:
        """The repository `path` of the same registry, to read from."""
        reference = Reference(registry=self.reference.registry, repository=path)
        return self.client.repository(reference, Access.PULL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A target made ready: `wanted` are the layers of the plan, bottom first."""

    image_options: ImageOptions
    platform: Platform
    closure: Closure
    past: Past
    planned: Planned
    wanted: tuple[Wanted, ...]

    @property
    def learned(self) -> Learned | None:
        """What the image will carry for the plan of the next one."""
        return self.planned.learned

    def packed(self, transfer: Transfer, run: Run) -> Prepared:
        """The same when all layers were packed or found: what the items are is known."""
        return replace(self, planned=self.planned.once_known(transfer.identities, run.notify))

    def tags_of(self, image: Image) -> frozenset[str]:
        """The tags that name exactly `image` already."""
        return frozenset(
            tag for tag, got in self.past.manifests.items() if got.data == image.manifest
        )

    def holds(self, image: Image, repository: Repository) -> bool:
        """Whether `repository` was seen to hold `image`, config and all, under whatever tag."""
        return any(
            before.repository == repository.name and before.image.manifest == image.manifest
            for before in self.past.images
        )


def tags_to_move(reference: Reference, options: PushOptions) -> tuple[str, ...]:
    """The tags asked for, the reference's own first. Raises UsageError."""
    if reference.digest:
        raise UsageError(f"cannot push to a digest: {reference}; leave out what follows '@'")
    if options.registry.by_digest:
        if options.registry.tags or reference.tag:
            raise UsageError("--by-digest moves no tag: leave out -t and the reference's tag")
        return ()
    named = (reference.tag,) if reference.tag else ()
    tags = tuple(dict.fromkeys((*named, *options.registry.tags))) or ("latest",)
    for tag in tags:
        reference.with_tag(tag)
    return tags


class Identify(Enum):
    """Whether the files of a directory are read before anything is planned.

    WHERE_USEFUL: not where nothing was pushed before that they could be like: then packing
    them, which reads them anyway, tells what they are.
    """

    ALWAYS = "always"
    WHERE_USEFUL = "where useful"


def prepare(target: str, run: Run, identify: Identify) -> Prepared:
    """Read the source and, at the same time, the images that were pushed before.

    Raises what `resolve` and `look_back` raise, the source's errors first, UsageError, and
    TagConflictError where a tag holds an image for several platforms.
    """
    options = run.options
    strategy = strategies.named(options.layers.strategy, options.layers.max_layers)
    others = [_other(text, run) for text in options.layers.reuse_from]
    others += [(run.repository, digest) for digest in layout_places(options.layers)]
    platform: Future[Platform] = Future()

    known_here = run.index.knows(run.reference.registry)
    useless = Cancellation(run.cancel)

    def read() -> tuple[Closure, ImageOptions]:
        closure = resolve(
            target, options.source, run.settings.stores, notify=run.notify, cancel=run.cancel
        )
        platform.set_result(_platform(options.image, closure))
        try:
            closure = sources.identify(closure, run.stats, useless, now_ns=run.started_ns)
        except CancelledError:
            run.cancel.check()
        made = customise(closure, _absolute(options.image, closure))
        if made.skipped:
            paths = printable(" ".join(made.skipped))
            run.notify(Note(message=f"links that were asked for take the place of {paths}"))
        return made.closure, made.options

    def look() -> Past:
        run.client.open_ahead(run.reference)
        if options.layers.reuse is Reuse.NONE:
            past = look_at_tags(run.repository, run.tags)
        else:
            past = look_back(run.repository, run.tags, others, platform.result, run.notify)
        if identify is Identify.WHERE_USEFUL and not (past.images or known_here):
            useless.cancel()
        return past

    (closure, image_options), past = _both(read, look, platform, run.cancel)
    _refuse_indexes(past, run)
    planned = plan_layers(
        closure, strategy, options.layers, past.images, run.repository, run.notify
    )
    return Prepared(
        image_options=image_options,
        platform=platform.result(),
        closure=closure,
        past=past,
        planned=planned,
        wanted=_wanted(closure, planned, past, run),
    )


def _both(
    read: Callable[[], tuple[Closure, ImageOptions]],
    look: Callable[[], Past],
    platform: Future[Platform],
    cancel: Cancellation,
) -> tuple[tuple[Closure, ImageOptions], Past]:
    """Look back in a thread while the source is read in this one; either's failure ends both."""
    with ThreadPoolExecutor(1, thread_name_prefix="regpush") as pool:
        looking = pool.submit(look)
        looking.add_done_callback(lambda done: cancel.cancel() if done.exception() else None)
        try:
            return read(), looking.result()
        except BaseException as error:
            cancel.cancel()
            if not platform.done():
                platform.set_exception(error)
            if isinstance(error, CancelledError):
                looking.result()  # raises what the reading was cancelled for, if it was
            raise


def _other(text: str, run: Run) -> tuple[Repository, str]:
    reference = Reference.parse(text)
    version = str(reference.digest) if reference.digest else reference.tag or "latest"
    return run.client.repository(reference, Access.PULL), version


def _platform(options: ImageOptions, closure: Closure) -> Platform:
    if options.platform:
        return Platform.parse(options.platform)
    system = closure.system or f"{machine.machine()}-{machine.system().lower()}"
    said = Platform.of_system(system)
    if said is None:
        raise UsageError(
            f"what should the image run on? not {printable(system)}: say --platform linux/amd64"
        )
    return said


def _absolute(options: ImageOptions, closure: Closure) -> ImageOptions:
    """An entry point such as `bin/app` is one of the directory or profile that was asked for."""
    program = options.entrypoint[0] if options.entrypoint else "/"
    if program.startswith("/") or "/" not in program:
        return options
    path = f"{closure.roots[0].rstrip('/')}/{program.removeprefix('./')}"
    return replace(options, entrypoint=(path, *options.entrypoint[1:]))


def _refuse_indexes(past: Past, run: Run) -> None:
    if run.options.registry.replace_index:
        return
    for tag in run.tags:
        if tag in past.manifests and past.manifests[tag].media_type in INDEXES:
            raise TagConflictError(
                f"{run.repository.name}:{tag} is an image for several platforms; "
                "--replace-index lets this one take its place"
            )


def _wanted(closure: Closure, made: Planned, past: Past, run: Run) -> tuple[Wanted, ...]:
    layers, planned = run.options.layers, made.plan.layers
    archive = ArchiveOptions(profile=closure.profile)
    compression = layers.compression or Compression()
    sources = [
        LayerSource.of(index, one, archive, compression) for index, one in enumerate(planned)
    ]
    run.notify(
        LayersPlanned(
            labels=tuple(one.label for one in planned),
            sizes=tuple(source.size for source in sources),
        )
    )
    why = reasons(closure, past.images, layers.reuse)

    def wanted(source: LayerSource) -> Wanted:
        candidates = _candidates(source, made.earlier, past, run)
        known = any(candidate.layer.recipe == source.recipe for candidate in candidates)
        return Wanted(source=source, candidates=candidates, why=why(source.planned.items, known))

    return tuple(map(wanted, sources))


def _candidates(
    source: LayerSource, earlier: Sequence[Candidate], past: Past, run: Run
) -> list[Candidate]:
    layers = run.options.layers
    if layers.reuse is not Reuse.RECIPE or source.recipe is None:
        return []
    return [
        *by_recipe(source.recipe, past.images, layers.compression),
        *remembered(source.recipe, earlier, layers.compression),
        *run.index.recall(source.recipe, run.repository.name, layers.compression),
    ]
