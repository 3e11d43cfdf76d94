"""Read the source and the earlier images of one platform, both at the same time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, suppress
from enum import Enum
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from regpush.closure import Closure, Item
from regpush.concurrency import Cancellation
from regpush.digest import INDEXES
from regpush.entry import Profile
from regpush.errors import CancelledError, RegpushError, printable
from regpush.events import InputWarned, Note
from regpush.flow.context import Run
from regpush.flow.image_options import base_of, customised
from regpush.flow.transaction import Held
from regpush.history.previous import Past, Seen, look_at_tags, look_back, look_near
from regpush.image.image import Base, parse_manifest
from regpush.image.runnable import Below, doubts
from regpush.options import (
    ImageOptions,
    LayerOptions,
    Reuse,
)
from regpush.ownership import Rules
from regpush.pack.recipe import Placed, PreviousImage, lacks
from regpush.pack.tar import ArchiveOptions, Parents
from regpush.platform import Platform
from regpush.reference import RepositoryName
from regpush.registry.images import read_image
from regpush.sources.identity import identify as identified
from regpush.sources.links import Customisation
from regpush.sources.platforms import Aim, platform_of
from regpush.sources.programs import run_on
from regpush.sources.surroundings import Surroundings
from regpush.sources.targets import resolve
from regpush.transfer.destinations import Destination
from regpush.transfer.schedule import connections_for

if TYPE_CHECKING:
    from regpush.flow.shipping import Shipping
    from regpush.transfer.base import BaseRepository, Bases


class Gathered(Struct, frozen=True, kw_only=True, eq=False):
    """The source, the earlier images and the base, as read for one platform.

    `rules`: the rules that gave owners and modes to items of `closure`. `archive`: how its layers
    are written. `pasts`: what was read at each destination; `images`: the earlier images in them,
    those of the main destination first. `base` and `base_repository`: None without a base.
    `shipped`: layers that were sent while the source was read, by their items' paths.
    """

    image_options: ImageOptions
    platform: Platform
    closure: Closure
    rules: Rules
    archive: ArchiveOptions
    pasts: Mapping[RepositoryName, Past]
    images: tuple[PreviousImage, ...]
    base: Base | None = None
    base_repository: BaseRepository | None = None
    shipped: Mapping[str, Placed] = field(default_factory=dict)

    def tags_seen(self, at: Destination) -> Held:
        """Return the digests that the tags of `at` named when its earlier images were read.

        None for a tag that did not exist.
        """
        seen = self.pasts[at.name].manifests
        return {at.name: {tag: seen[tag].digest if tag in seen else None for tag in at.tags}}


class Identify(Enum):
    """Whether the files of a directory are read before the plan is made.

    WHERE_USEFUL: only if an earlier image could hold them. Otherwise packing, which reads the files
    anyway, computes their identities.
    """

    ALWAYS = "always"
    WHERE_USEFUL = "where useful"


class Overflow(Enum):
    """What is done about layers of an archive that is too large to be kept while it is read.

    SENT: they are sent to the registry. FORGOTTEN: they will not be read. REFUSED: the plan needs
    all of them, so the archive must be a file.
    """

    SENT = "sent"
    FORGOTTEN = "forgotten"
    REFUSED = "refused"


class Reach(Enum):
    """How many earlier images are read.

    NEAR: only the images at the tags to be moved, if each tag has one. WHOLE: also the images at
    `latest`, at other tags, and in the repositories that the user names.
    """

    NEAR = "near"
    WHOLE = "whole"


def gather(
    aim: Aim, run: Run, identify: Identify, overflow: Overflow, others: Sequence[tuple[Seen, str]]
) -> Gathered:
    """Read the source that `aim` names and, in another thread, the images that were pushed before.

    `others`: further repositories whose images are read, each with a tag or digest in it.
    `overflow`: what is done with layers of an archive that is too large to be kept. Raises a
    RegpushError; an error of the source takes precedence over an error of the registry.
    """
    reading = _Gathering(
        aim=aim,
        run=run,
        identify=identify,
        overflow=overflow,
        others=others,
        # Asked here: the index is for one thread.
        known_here=any(run.index.knows(one.reference.registry) for one in run.destinations),
        useless=Cancellation(run.cancel),
    )
    made, (pasts, base) = _both(reading)
    sight = reading.sight.result()
    _tell_doubts(made, sight.platform, base, run)
    return Gathered(
        image_options=made.options,
        platform=sight.platform,
        closure=made.closure,
        rules=made.rules,
        archive=_archive_of(made.closure.profile, base),
        pasts=pasts,
        images=images_of(pasts),
        base=base,
        base_repository=sight.base_repository,
        shipped=reading.shipped,
    )


class _Sight(Struct, frozen=True, kw_only=True, eq=False):
    """The platform of the image and the repository of its base; None without a base."""

    platform: Platform
    base_repository: BaseRepository | None


class _Gathering(Struct, frozen=True, kw_only=True, eq=False, dict=True):  # keeps its properties
    """The source and the earlier images of one platform, while both are read at the same time.

    `known_here`: whether the local index knows a registry that is pushed to. `useless`: cancelled
    where reading the files of a directory cannot save anything. `sight`: set as soon as the source
    has told the platform and the base. `until_sent`: ends when all layers that are sent early have
    been sent; `shipped` holds them, by their items' paths.
    """

    aim: Aim
    run: Run
    identify: Identify
    overflow: Overflow
    others: Sequence[tuple[Seen, str]]
    known_here: bool
    useless: Cancellation
    sight: Future[_Sight] = field(default_factory=Future)
    until_sent: ExitStack = field(default_factory=ExitStack)
    shipped: dict[str, Placed] = field(default_factory=dict)

    @cached_property
    def bases(self) -> Bases:
        """The base images of this platform, each read once."""
        from regpush.transfer.base import Bases  # most images have no base

        return Bases(self.run.client, self.run.options.source.base, self.run.configs)

    @cached_property
    def shipping(self) -> Shipping:
        """Sends layers of an archive before the plan is made."""
        from regpush.flow.shipping import Shipping  # most targets are no archive

        archive = _archive_of(Profile.TREE, self.run.options.source.base)
        ship = Shipping(self.run, archive, self.overflow, self.shipped)
        return self.until_sent.enter_context(closing(ship))

    def source(self, helpers: Executor) -> Customisation:
        """Read the source; returns its closure with all that the image holds besides.

        Threads of `helpers` begin connections as soon as the source shows that the push will send
        something.
        """
        run, options = self.run, self.run.options
        with self.until_sent:
            closure = self._closure()
        _tell_strategy(closure, options.layers, run)
        found = run_on(closure, run.stats, now_ns=run.started_ns)
        platform = platform_of(self.aim, closure, found, run.notify)
        base = base_of(closure, options.source)
        base_repository = self.bases.base_repository(base) if base else None
        self.sight.set_result(_Sight(platform=platform, base_repository=base_repository))
        if closure.wishes.unsaid and options.image.entrypoint is None and not options.image.cmd:
            run.notify(InputWarned(message=closure.wishes.unsaid))
        made = customised(closure, options.source, options.image)
        _tell_customised(made, run)
        try:
            closure = identified(
                made.closure,
                run.stats,
                self.useless,
                now_ns=run.started_ns,
                changed=lambda: helpers.submit(self._connect_for, made.closure),
                own_read=lambda known: helpers.submit(
                    self._connect_if_new, known, _archive_of(made.closure.profile, base)
                ),
            )
        except CancelledError:
            run.cancel.check()
            return made
        return replace(made, closure=closure)

    def _closure(self) -> Closure:
        run, options = self.run, self.run.options
        return resolve(
            self.aim.targets,
            options.source,
            run.settings.stores,
            platform=self.aim.platform,
            workshop=run.workshop,
            surroundings=Surroundings(
                settings=run.settings,
                registry=run.registry,
                cache=options.cache,
                base=lambda reference, platform: self.bases.facts(reference, platform),
                most_layers=_most_layers(options.layers),
                ship=lambda number, item: self.shipping.ship(number, item),
            ),
        )

    def past(self) -> tuple[dict[RepositoryName, Past], Base | None]:
        """Read the images that were pushed before, by destination, and the base."""
        run = self.run
        with ThreadPoolExecutor(2, thread_name_prefix="regpush") as pool:
            reading = pool.submit(self._base)
            pool.submit(self._connect)
            pasts = look_at_past(run, self.others, lambda: self.sight.result().platform, Reach.NEAR)
            base = reading.result()
        found_nothing = not (self.known_here or any(past.images for past in pasts.values()))
        if self.identify is Identify.WHERE_USEFUL and found_nothing:
            self.useless.cancel()
        return pasts, base

    def _connect(self) -> None:
        """Begin connections to each destination where a tag turns out to be new.

        Such a push most likely sends layers, and the connections are made while earlier images
        are read. Elsewhere the push may turn out to change nothing, which takes a single
        connection.
        """
        for one in self.run.destinations:
            with suppress(RegpushError):  # raised again where the images are read
                if all(map(one.seen.get_manifest, one.tags)):
                    continue
                asks = self.run.options.layers.reuse is not Reuse.NONE
                near = one.seen.get_manifest("latest") if asks else None
                layers = len(parse_manifest(near.data)["layers"]) if near else 0
                self.run.client.open_ahead(one.reference, connections_for(layers))

    def _connect_for(self, closure: Closure) -> None:
        """Begin connections to each destination for a push of `closure` that will send something.

        How many layers the earlier image has is not known yet: at most one for each item.
        """
        layers = min(len(closure.items), self.run.options.layers.max_layers)
        for one in self.run.destinations:
            self.run.client.open_ahead(one.reference, connections_for(layers))

    def _connect_if_new(self, known: Sequence[Item], archive: ArchiveOptions) -> None:
        """Begin connections to each destination with an image that lacks one of the items `known`.

        The push will then send at least one layer there. `archive`: how layers are written.
        """
        for one in self.run.destinations:
            with suppress(RegpushError):  # raised again where the images are read
                for tag in one.tags:
                    found = one.seen.get_manifest(tag)
                    if found is None or found.media_type in INDEXES:
                        continue
                    image = read_image(found, one.seen)
                    if lacks(image, known, archive):
                        layers = connections_for(len(image.layers))
                        self.run.client.open_ahead(one.reference, layers)
                        break

    def _base(self) -> Base | None:
        sight = self.sight.result()
        at = sight.base_repository
        return self.bases.read(at, sight.platform) if at else None


def _both(
    reading: _Gathering,
) -> tuple[Customisation, tuple[dict[RepositoryName, Past], Base | None]]:
    """Read the earlier images in a thread and the source in this one; a failure ends both."""
    cancel = reading.run.cancel
    with ThreadPoolExecutor(2, thread_name_prefix="regpush") as pool:
        looking = pool.submit(reading.past)
        looking.add_done_callback(lambda done: cancel.cancel() if done.exception() else None)
        try:
            return reading.source(pool), looking.result()
        except BaseException as error:
            cancel.cancel()
            if not reading.sight.done():
                reading.sight.set_exception(error)
            if isinstance(error, CancelledError):
                looking.result()  # raises the registry's error, if that was the cause
            raise


def look_at_past(
    run: Run,
    others: Sequence[tuple[Seen, str]],
    platform: Callable[[], Platform],
    reach: Reach,
) -> dict[RepositoryName, Past]:
    """Read the earlier images of each destination, as many as `reach` says.

    `platform` may block, so it is called last. Raises what `look_back` raises.
    """
    reuse = run.options.layers.reuse

    def look(destination: Destination) -> Past:
        if reuse is Reuse.NONE:
            return look_at_tags(destination.seen, destination.tags)
        # Where layers are reused by content, only packing them tells whether they are there.
        if reach is Reach.NEAR and reuse is Reuse.RECIPE:
            near = look_near(destination.seen, destination.tags, platform, run.notify)
            if near:
                return near
        named = others if destination is run.main else ()
        return look_back(destination.seen, destination.tags, named, platform, run.notify)

    if len(run.destinations) == 1:
        return {run.main.name: look(run.main)}
    with ThreadPoolExecutor(len(run.destinations), thread_name_prefix="regpush") as pool:
        found = pool.map(look, run.destinations)
        return {one.name: past for one, past in zip(run.destinations, found, strict=True)}


def images_of(pasts: Mapping[RepositoryName, Past]) -> tuple[PreviousImage, ...]:
    """Return the earlier images of all destinations, in the order of `pasts`."""
    return tuple(image for past in pasts.values() for image in past.images)


def _tell_strategy(closure: Closure, options: LayerOptions, run: Run) -> None:
    """Tell the user where `--layers` has no effect: on an archive.

    An archive was cut into layers while it was read.
    """
    if closure.stacked and options.strategy not in (LayerOptions().strategy, "single"):
        message = (
            f"--layers {printable(options.strategy)} has no effect on an archive, which is cut "
            "into layers while it is read; --layers single makes one layer of it"
        )
        run.notify(Note(message=message))


def _tell_customised(made: Customisation, run: Run) -> None:
    """Say which links replace defaults, and warn of users and groups that no file names."""
    if made.skipped:
        paths = printable(" ".join(made.skipped))
        run.notify(Note(message=f"--symlink replaces the default {paths}"))
    if made.unknown:
        names = printable(" and ".join(made.unknown))
        run.notify(
            InputWarned(
                message=f"--user: no /etc/passwd or /etc/group in the image names {names}, so "
                "no runtime starts it; give numbers, such as 1000:1000"
            )
        )


def _tell_doubts(made: Customisation, platform: Platform, base: Base | None, run: Run) -> None:
    """Warn of reasons why the image will not run, before anything is sent.

    Without files of the image on this machine, nothing is checked.
    """
    closure, options = made.closure, made.options
    inside = closure.inside
    if inside is None and closure[closure.roots[0]].in_store:
        from regpush.sources.store_programs import inside_store  # a directory has told already

        inside = inside_store(closure)
    if inside is None:
        return
    below = Below.of(base.to_inherit().config, base.image.layers) if base else None
    for message in doubts(inside, options, platform, below):
        if not closure.wishes.unsaid or options.entrypoint is not None or options.cmd:
            run.notify(InputWarned(message=message))


def _archive_of(profile: Profile, base: object) -> ArchiveOptions:
    """Return the rules of the archives: above a base, no entries for folders above the items."""
    return ArchiveOptions(profile=profile, parents=Parents.OMITTED if base else Parents.WRITTEN)


def _most_layers(options: LayerOptions) -> int:
    """Return the number of layers that an archive is cut into, at most.

    One of `--max-layers` stays free for what regpush adds, such as links: an archive is cut before
    it is known whether anything is added.
    """
    return 1 if options.strategy == "single" else max(options.max_layers - 1, 1)
