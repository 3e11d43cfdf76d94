"""The end of every command that moves tags: push, copy, tag, rebase and index.

A registry has no transaction over several requests, so the order is what protects a tag: what
the tags hold is read and judged, everything they will name is sent (and sent again where a
registry had lost it), what they hold is read once more where that matters, and only then they
move, at no destination before all destinations have everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol, Self, TypeVar

from msgspec import Struct

from regpush.digest import INDEXES, Digest
from regpush.errors import RegpushError
from regpush.events import Note
from regpush.flow.context import Context
from regpush.reference import RepositoryName
from regpush.registry.api import MissingBlobsError
from regpush.registry.repository import Manifest
from regpush.report import DestinationReport
from regpush.transfer.destinations import Destination
from regpush.transfer.publish import Tagged, digests_of_tags, move_tags, refuse_index

HEALS = 2
"""How many times blobs are sent again that a registry said it had and then lacked."""

Held = Mapping[RepositoryName, Mapping[str, Digest | None]]
"""What tags name, by destination; None for a tag that does not exist."""


class Delivery(Protocol):
    """The image or index that tags will name, with all its parts, to be sent everywhere."""

    @property
    def whole(self) -> Manifest:
        """The manifest or index that the tags will name."""

    def send(self) -> Self:
        """Send everything but the tags to every destination; returns a result for the report.

        Raises MissingBlobsError where a registry lacks what it said it had.
        """

    def healed(self, lost: MissingBlobsError) -> Self:
        """Return a delivery that sends the blobs of `lost` again.

        Raises `lost` where it is about no document of this delivery.
        """


D = TypeVar("D", bound=Delivery)
R = TypeVar("R")


def healing(delivery: D, work: Callable[[D], R]) -> R:
    """Call `work` on `delivery`; after MissingBlobsError, call it on the healed delivery.

    At most `HEALS` deliveries are healed.
    """
    for heals_left in range(HEALS, -1, -1):
        try:
            return work(delivery)
        except MissingBlobsError as lost:
            if not heals_left:
                raise
            delivery = delivery.healed(lost)
    raise AssertionError  # the last turn of the loop returns or raises


class TagTransaction(Struct, frozen=True, kw_only=True, eq=False):
    """The tags of one command; `held`: the digests that they named when it began."""

    context: Context
    held: Held

    @classmethod
    def begin(cls, context: Context, seen: Callable[[Destination], Held] | None = None) -> Self:
        """Read the digests that the tags name, at all destinations.

        `seen`: returns the digests that were read earlier at a destination. They are used in place
        of a request where the rule for tags has no condition on what tags name.
        """
        held: dict[RepositoryName, Mapping[str, Digest | None]] = {}
        for one in context.destinations:
            if seen and not context.rule.conditional:
                held |= seen(one)
            else:
                held[one.name] = digests_of_tags(one.repository, one.tags)
        return cls(context=context, held=held)

    def skips(self) -> bool:
        """Whether all tags exist and, by `--if-exists skip`, none moves whatever the image is.

        Raises TagConflictError where the rule permits no image at all.
        """
        rule = self.context.rule
        if not rule.conditional:
            return False
        for name, tags in self.held.items():
            rule.admit(name, tags)
        return all(rule.skips(tags) for tags in self.held.values())

    def left_alone(self) -> tuple[DestinationReport, ...]:
        """Return the report where `skips` lets no tag move, with a note for each destination.

        The digest reported for a destination is the one that its first tag names.
        """
        reports = []
        for one in self.context.destinations:
            tags, names = one.tags, self.held[one.name]
            self.context.notify(
                Note(message=f"{one.name}:{tags[0]} already exists; not moved (--if-exists skip)")
            )
            same = tuple(tag for tag in tags if names[tag] == names[tags[0]])
            reports.append(DestinationReport(image=str(one.name), tags=same, digest=names[tags[0]]))
        return tuple(reports)

    def named_already(self, digest: Digest) -> bool:
        """Whether a tag of the main destination names `digest`."""
        return digest in self.held[self.context.main.name].values()

    def would_move(self, digest: Digest) -> bool:
        """Whether any tag does not exist or names something other than `digest`."""
        return any(there != digest for tags in self.held.values() for there in tags.values())

    def judge(self, whole: Manifest) -> None:
        """Raise TagConflictError, naming the tag, where a tag must not move to `whole`."""
        for name, tags in self.held.items():
            self.context.rule.judge(name, whole.digest, tags)

    def refuse_indexes(self, whole: Manifest) -> None:
        """Raise TagConflictError where a tag would move from several images to one image.

        Reads the manifests that such tags name, unless the user permitted the move.
        """
        if self.context.registry.replace_index or whole.media_type in INDEXES:
            return
        for one in self.context.destinations:
            for tag, digest in self.held[one.name].items():
                if digest not in (None, whole.digest):
                    refuse_index(f"{one.name}:{tag}", one.repository.get_manifest(str(digest)))

    def carry_out(self, delivery: D) -> tuple[D, Mapping[RepositoryName, Tagged]]:
        """Send `delivery`, then move the tags; returns what was sent, and the tags by destination.

        Raises TagConflictError before anything is sent where a tag must not move, and before any
        tag is moved where another push has moved a tag meanwhile. If any other error is raised
        before the tags move, no tag was moved; an error that is raised later says which tags were
        moved.
        """

        def attempt(delivery: D) -> tuple[D, Mapping[RepositoryName, Tagged]]:
            # Judged before manifests are sent too: a push that is refused leaves less behind.
            self.judge(delivery.whole)
            sent = delivery.send()
            self.context.cancel.check()
            return sent, self._move(sent.whole)

        return healing(delivery, attempt)

    def _move(self, whole: Manifest) -> Mapping[RepositoryName, Tagged]:
        """Move the tags to `whole` at each destination in turn, once the rule permits all."""
        context = self.context
        now = TagTransaction.begin(context) if context.rule.conditional else self
        now.judge(whole)
        tagged: dict[RepositoryName, Tagged] = {}
        for one in context.destinations:
            with _telling(tagged):
                tagged[one.name] = move_tags(
                    whole, one.repository, now.held[one.name], context.rule, context.notify
                )
        return tagged

    def reported(
        self, digest: Digest, tagged: Mapping[RepositoryName, Tagged]
    ) -> tuple[DestinationReport, ...]:
        """Return the report of every destination, to which `digest` was sent."""
        return tuple(
            DestinationReport(
                image=str(one.name),
                tags=tagged[one.name].naming,
                moved=tagged[one.name].moved,
                digest=digest,
            )
            for one in self.context.destinations
        )

    def foreseen(self, digest: Digest) -> tuple[DestinationReport, ...]:
        """Return the report of a dry run, after which every tag would name `digest`."""
        return tuple(
            DestinationReport(image=str(one.name), tags=one.tags, digest=digest)
            for one in self.context.destinations
        )


@contextmanager
def _telling(before: Mapping[RepositoryName, Tagged]) -> Iterator[None]:
    """Add to an error which tags of other destinations were moved before it was raised."""
    moved = [f"{name}:{tag}" for name, tagged in before.items() for tag in tagged.moved]
    try:
        yield
    except RegpushError as error:
        if not moved or isinstance(error, MissingBlobsError):
            raise
        raise type(error)(f"{error}; tags moved before that: {', '.join(moved)}") from error
