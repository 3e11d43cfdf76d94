"""What stays the same from the beginning of a push to its end, and where it goes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

from regpush.concurrency import Cancellation
from regpush.errors import UsageError, printable
from regpush.events import Listener, Note, strictly
from regpush.history.cache import Index
from regpush.history.previous import Seen
from regpush.image.image import check_options
from regpush.options import PushOptions, RegistryOptions, Reuse
from regpush.pack.recipe import DryRun
from regpush.reference import Reference, RepositoryName
from regpush.registry.client import Access, Client, Repository
from regpush.settings import Settings
from regpush.sources.stats import Stats
from regpush.sources.tools import Workshop
from regpush.transfer.base import Foundation
from regpush.transfer.fanout import FanOut, Shelf
from regpush.transfer.tags import TagRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A repository that is pushed to; `tags` are those to move, none for a push by digest.

    `shelf`: the blobs in it; `seen`: what it held before.
    """

    reference: Reference
    tags: tuple[str, ...]
    shelf: Shelf
    seen: Seen

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""
        return self.reference.name

    @property
    def repository(self) -> Repository:
        """The repository itself."""
        return self.shelf.repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Everything the stations of one push share.

    `destinations`: the main one first; `fan`: all of them, as one to send blobs to. `started` is
    of `time.monotonic`, `started_ns` of `time.time_ns`.
    """

    destinations: tuple[Destination, ...]
    fan: FanOut
    rule: TagRule
    options: PushOptions
    settings: Settings
    client: Client
    index: Index
    stats: Stats
    workshop: Workshop
    notify: Listener
    cancel: Cancellation
    started: float = field(default_factory=time.monotonic)
    started_ns: int = field(default_factory=time.time_ns)

    @property
    def main(self) -> Destination:
        """The destination that `--to` names."""
        return self.destinations[0]

    @property
    def seconds(self) -> float:
        """How long it has been going on."""
        return time.monotonic() - self.started

    @property
    def dry_stores(self) -> list[DryRun]:
        """All destinations, where nothing must be sent."""

        def beside(registry: str, path: str) -> Repository:
            reference = Reference(registry=registry, repository=path)
            return self.client.repository(reference, Access.PULL)

        return [
            DryRun(one.shelf, partial(beside, one.reference.registry)) for one in self.destinations
        ]

    def other(self, text: str) -> tuple[Seen, str]:
        """A repository to look back at, and the tag or digest in it. Raises UsageError."""
        reference = Reference.parse(text)
        version = str(reference.digest) if reference.digest else reference.tag or "latest"
        return Seen(self.client.repository(reference, Access.PULL)), version


@contextmanager
def running(
    to: str,
    options: PushOptions,
    settings: Settings,
    notify: Listener,
    cancel: Cancellation | None,
) -> Iterator[Run]:
    """A run to the reference `to`. Raises UsageError for what no push can be told."""
    if options.strict:
        notify = strictly(notify)
    if settings.cache_dir:
        own = (*options.source.own_state, settings.cache_dir)
        options = replace(options, source=replace(options.source, own_state=own))
    places = places_of(to, options.registry)
    rule = TagRule.of(options.registry)
    if options.image.created is None:
        image = replace(options.image, created=settings.source_date_epoch)
        options = replace(options, image=image)
    check_options(options.image)
    if options.attach.vouches and options.layers.reuse is Reuse.RECIPE:
        notify(
            Note(
                message="what is signed or stated is packed and hashed by this push itself: "
                "--reuse content"
            )
        )
        options = replace(options, layers=replace(options.layers, reuse=Reuse.CONTENT))
    stop = Cancellation(cancel)
    with (
        Client(options.registry, settings, notify=notify, cancel=stop) as client,
        Index(settings.cache_dir if options.cache else None) as index,
        Workshop(notify, stop) as workshop,
    ):

        def destination(reference: Reference, tags: tuple[str, ...]) -> Destination:
            repository = client.repository(reference, Access.PUSH)
            return Destination(
                reference=reference, tags=tags, shelf=Shelf(repository), seen=Seen(repository)
            )

        # The main one first: it is its registry that most of the options are for.
        destinations = tuple(destination(*place) for place in places)
        yield Run(
            destinations=destinations,
            fan=FanOut([one.shelf for one in destinations], stop),
            rule=rule,
            options=options,
            settings=settings,
            client=client,
            index=index,
            stats=Stats(settings.cache_dir if options.cache else None),
            workshop=workshop,
            notify=notify,
            cancel=stop,
        )


def foundation(base: str, client: Client, *, called: str = "--from") -> Foundation:
    """Where the image `base` is, which the flag `called` names. Raises UsageError."""
    reference = Reference.parse(base)
    repository = client.repository(reference, Access.PULL)
    return Foundation(
        reference=reference,
        repository=repository,
        seen=Seen(repository),
        called=called,
    )


def places_of(to: str, options: RegistryOptions) -> list[tuple[Reference, tuple[str, ...]]]:
    """Where an image goes, `to` first, and which tags are to be moved there.

    Those of `to`, where another place names none of its own. Raises UsageError.
    """
    main = Reference.parse(to)
    tags = tags_to_move(main, options)
    places = {main.name: (main, tags)}
    for text in options.also_to:
        reference = Reference.parse(text)
        if reference.name in places:
            raise UsageError(
                f"--also-to {printable(text)}: {reference.name} is pushed to already; "
                "further tags are named with -t"
            )
        own = tags_to_move(reference, replace(options, tags=()))
        places[reference.name] = (reference, own if reference.tag else tags)
    return list(places.values())


def tags_to_move(reference: Reference, options: RegistryOptions) -> tuple[str, ...]:
    """The tags asked for, the reference's own first. Raises UsageError."""
    if reference.digest:
        raise UsageError(f"cannot push to a digest: {reference}; leave out what follows '@'")
    if options.by_digest:
        if options.tags or reference.tag:
            raise UsageError("--by-digest moves no tag: leave out -t and the reference's tag")
        return ()
    named = (reference.tag,) if reference.tag else ()
    tags = tuple(dict.fromkeys((*named, *options.tags))) or ("latest",)
    for tag in tags:
        reference.with_tag(tag)
    return tags


def tags_to_keep(
    origin: Reference, destination: Reference, options: RegistryOptions
) -> tuple[str, ...]:
    """The tags to move to what `origin` names, which has its tag where nobody names one.

    Raises UsageError.
    """
    if not (destination.tag or destination.digest or options.tags or options.by_digest):
        if origin.tag is None and origin.digest:
            raise UsageError(
                f"under which tag? {origin} has none to be kept: name one with -t, or say "
                "--by-digest"
            )
        destination = destination.with_tag(origin.tag or "latest")
    return tags_to_move(destination, options)
