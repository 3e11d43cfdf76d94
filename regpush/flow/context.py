"""The context of a command that writes to registries: destinations, client, rules, options."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace

from msgspec import Struct, field

from regpush.concurrency import Cancellation
from regpush.events import Listener, Note, strictly
from regpush.history.cache import LayerIndex
from regpush.history.configs import NO_CONFIGS, Configs
from regpush.history.previous import Seen
from regpush.image.image import check_options
from regpush.options import PushOptions, RegistryOptions, Reuse
from regpush.reference import Reference
from regpush.registry.client import Client
from regpush.registry.repository import Access
from regpush.settings import Settings
from regpush.sources.stats import Stats
from regpush.sources.tools import Workshop
from regpush.transfer.destinations import Destination, places_of
from regpush.transfer.fanout import FanOut
from regpush.transfer.publish import TagRule


class Context(Struct, frozen=True, kw_only=True, eq=False):
    """What push, copy, rebase and index share: destinations and rules.

    `destinations`: the main one first. `rule`: which tags may be moved. `started` is of
    `time.monotonic`, `started_ns` of `time.time_ns`.
    """

    destinations: tuple[Destination, ...]
    rule: TagRule
    registry: RegistryOptions
    settings: Settings
    client: Client
    notify: Listener
    cancel: Cancellation
    started: float = field(default_factory=time.monotonic)
    started_ns: int = field(default_factory=time.time_ns)

    @property
    def main(self) -> Destination:
        """The destination that the user names first."""
        return self.destinations[0]

    @property
    def seconds(self) -> float:
        """Return the seconds since the command began."""
        return time.monotonic() - self.started


class Run(Context, frozen=True, kw_only=True, eq=False):
    """The context of one push, shared by all its steps.

    `fan`: all destinations together, for sending blobs.
    """

    fan: FanOut
    options: PushOptions
    index: LayerIndex
    configs: Configs
    stats: Stats
    workshop: Workshop

    def other(self, text: str) -> tuple[Seen, str]:
        """Open the repository of the image `text`; returns it with the tag or digest in `text`.

        Raises UsageError for a malformed reference.
        """
        reference = Reference.parse(text)
        version = str(reference.digest) if reference.digest else reference.tag or "latest"
        repository = self.client.repository(reference, Access.PULL)
        return Seen(repository, self.configs), version


@contextmanager
def writing(
    places: Sequence[tuple[Reference, tuple[str, ...]]],
    options: RegistryOptions,
    settings: Settings,
    notify: Listener,
    cancel: Cancellation | None,
    configs: Configs = NO_CONFIGS,
) -> Iterator[Context]:
    """Yield the context of a command that writes to `places`: references, each with tags to move.

    Options that are for one registry alone, such as --username, apply to the registry of the first
    place. `configs`: those that need not be read from a registry. Raises UsageError for a malformed
    option.
    """
    rule = TagRule.of(options)
    stop = Cancellation(cancel)
    with Client(options, settings, notify=notify, cancel=stop) as client:
        yield Context(
            destinations=tuple(Destination.of(*place, client, configs) for place in places),
            rule=rule,
            registry=options,
            settings=settings,
            client=client,
            notify=notify,
            cancel=stop,
        )


@contextmanager
def running(
    to: str,
    options: PushOptions,
    settings: Settings,
    notify: Listener,
    cancel: Cancellation | None,
) -> Iterator[Run]:
    """Yield the context of a push to the reference `to`. Raises UsageError for bad options."""
    if options.strict:
        notify = strictly(notify)
    if settings.cache_dir:
        own = (*options.source.own_state, settings.cache_dir)
        options = replace(options, source=replace(options.source, own_state=own))
    places = places_of(to, options.registry)
    if options.image.created is None:
        image = replace(options.image, created=settings.source_date_epoch)
        options = replace(options, image=image)
    check_options(options.image)
    if options.attach.vouches and options.layers.reuse is Reuse.RECIPE:
        notify(
            Note(
                message="--sign and --provenance imply --reuse content: every layer is packed and "
                "hashed here"
            )
        )
        options = replace(options, layers=replace(options.layers, reuse=Reuse.CONTENT))
    cache_dir = settings.cache_dir if options.cache else None
    configs = Configs(cache_dir)
    with (
        writing(places, options.registry, settings, notify, cancel, configs) as context,
        LayerIndex(cache_dir) as index,
        Workshop(notify, context.cancel) as workshop,
    ):
        run = Run(
            destinations=context.destinations,
            rule=context.rule,
            registry=options.registry,
            settings=settings,
            client=context.client,
            notify=notify,
            cancel=context.cancel,
            started=context.started,
            started_ns=context.started_ns,
            fan=FanOut([one.shelf for one in context.destinations], context.cancel),
            options=options,
            index=index,
            configs=configs,
            stats=Stats(cache_dir),
            workshop=workshop,
        )
        # A push that attaches something first looks for the program or library that it needs.
        with nullcontext() if options.attach.attaches else _reading_tags(run):
            yield run


@contextmanager
def _reading_tags(run: Run) -> Iterator[None]:
    """Begin to read the manifests at the tags to be moved, in other threads, and yield at once.

    `Destination.seen` keeps the manifests, and the errors, for the steps that ask for them. An
    error in the `with` block ends the requests.
    """

    def read(one: Destination) -> None:
        run.client.open_ahead(one.reference, max(len(one.tags), 1))
        for tag in one.tags:
            one.seen.get_manifest(tag)

    with ThreadPoolExecutor(len(run.destinations), thread_name_prefix="regpush") as pool:
        for one in run.destinations:
            pool.submit(read, one)
        try:
            yield
        except BaseException:
            run.cancel.cancel()
            raise
