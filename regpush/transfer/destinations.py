"""Where an image is pushed to, and which tags will name it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from msgspec import Struct

from regpush.digest import Descriptor
from regpush.errors import UsageError, printable
from regpush.history.configs import Configs
from regpush.history.previous import Seen
from regpush.options import RegistryOptions
from regpush.reference import Reference, RepositoryName
from regpush.registry.client import Client
from regpush.registry.repository import Access, Repository
from regpush.transfer.fanout import Shelf


class Destination(Struct, frozen=True, kw_only=True, eq=False):
    """A repository that is written to; `tags`: the tags to move, none for a push by digest.

    `shelf`: sends blobs to it; `seen`: reads the manifests that it held before.
    """

    reference: Reference
    tags: tuple[str, ...]
    shelf: Shelf
    seen: Seen

    @classmethod
    def of(
        cls, reference: Reference, tags: Sequence[str], client: Client, configs: Configs
    ) -> Destination:
        """Open the repository of `reference` for writing; `configs`: those on this machine."""
        repository = client.repository(reference, Access.PUSH)
        return cls(
            reference=reference,
            tags=tuple(tags),
            shelf=Shelf(repository),
            seen=Seen(repository, configs),
        )

    @property
    def name(self) -> RepositoryName:
        """The repository and its registry."""
        return self.reference.name

    def has_config(self, config: Descriptor) -> bool:
        """Whether the repository holds the config, which it is asked for unless it was read there.

        A repository that cannot tell counts as one that lacks the config.
        """
        return self.seen.served(config.digest) or self.shelf.has_blob(config)

    @property
    def repository(self) -> Repository:
        """The repository itself."""
        return self.shelf.repository


def places_of(to: str, options: RegistryOptions) -> list[tuple[Reference, tuple[str, ...]]]:
    """Return the destinations, `to` first, with the tags to move at each.

    A destination without a tag of its own gets those of `to`. Raises UsageError for a malformed
    reference, for a repository that is given twice, and the errors of `tags_to_move`.
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
    """Return the tags asked for, the reference's own first; without any, `latest`.

    Empty with --by-digest. Raises UsageError for a reference with a digest, for tags beside
    --by-digest, and for a malformed tag.
    """
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
    """Return the tags to move: those asked for, by default the tag of `origin`.

    Raises UsageError if `origin` has a digest and no tag to keep, and the errors of `tags_to_move`.
    """
    if not (destination.tag or destination.digest or options.tags or options.by_digest):
        if origin.tag is None and origin.digest:
            raise UsageError(
                f"{origin} has no tag to keep: name a tag with -t, or push by --by-digest"
            )
        destination = destination.with_tag(origin.tag or "latest")
    return tags_to_move(destination, options)
