"""The steps of a push, from its target to its tags."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from regpush.events import Action
from regpush.flow import reports
from regpush.flow.assemble import Assembled, assemble
from regpush.flow.context import Run
from regpush.flow.gather import Identify, Overflow
from regpush.flow.prepare import prepare, tell_unused
from regpush.flow.release import Release
from regpush.flow.transaction import TagTransaction
from regpush.report import PushResult

if TYPE_CHECKING:
    from regpush.flow.attachments import Attachments


def push(targets: Sequence[str], run: Run) -> PushResult:
    """Push `targets` as one image, and move its tags. Raises what `pipeline.push` raises."""
    limit = run.registry.max_upload
    attachments = _attachments(run)
    overflow = Overflow.SENT if limit is None else Overflow.REFUSED
    prepared = prepare(targets, run, Identify.WHERE_USEFUL, overflow)
    transaction = TagTransaction.begin(run, prepared[0].origin.tags_seen)
    if transaction.skips():
        return reports.of_nothing(prepared, transaction, run)
    if limit is not None:
        from regpush.flow.forecast import check_upload  # few pushes have a limit

        check_upload(prepared, run, limit)
    images = assemble(prepared, run)
    tell_unused(prepared, run)
    release, tagged = transaction.carry_out(Release.of(images, attachments, run))
    _remember(release.images, run)
    return reports.of_push(release, transaction.reported(release.whole.digest, tagged), run)


def _attachments(run: Run) -> Attachments | None:
    """Prepare what is to be attached to the images; None if nothing is.

    Raises UsageError where a program or library for it is missing.
    """
    if not run.options.attach.attaches:
        return None
    from regpush.flow.attachments import Attachments  # most pushes attach nothing

    return Attachments.of(run)


def _remember(images: Sequence[Assembled], run: Run) -> None:
    """Record in the local index that all destinations hold the layers that were packed here.

    Reused layers are left out: others vouch for their recipes, and their word counts in the
    repository alone to which they pushed.
    """
    made = [
        placed.layer
        for image in images
        for placed in image.placed
        if placed.action is Action.UPLOADED
    ]
    for destination in run.destinations:
        run.index.remember(made, destination.name)
