"""The whole flow of a push: target, closure, plan, layers, image, tags.

The command line and library users call `push` and `plan`. Both may run in any thread, report by
events, and end within moments of `Cancellation.cancel`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from regpush.concurrency import Cancellation
from regpush.events import Action, Listener, ignore
from regpush.flow import reports
from regpush.flow.assemble import Assembled, assemble
from regpush.flow.context import Run, running
from regpush.flow.gather import Identify, Overflow
from regpush.flow.prepare import prepare, tell_unused
from regpush.flow.release import Release
from regpush.flow.transaction import TagTransaction
from regpush.options import PushOptions
from regpush.report import PushResult
from regpush.settings import Settings

if TYPE_CHECKING:
    from regpush.flow.attachments import Attachments


def push(
    target: str | Sequence[str],
    *,
    to: str,
    options: PushOptions | None = None,
    settings: Settings | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
) -> PushResult:
    """Push `target` into the registry as the image `to`, and move its tags.

    Several targets, all in stores, make one image; none, where options name Guix packages.
    `settings` default to the environment. Raises a RegpushError; no tag was moved then, unless the
    error is about the tags themselves, which move last. With `max_upload` the layers to be sent are
    packed and hashed first, and BudgetExceededError is raised before anything is sent.
    """
    options, settings = options or PushOptions(), settings or Settings.from_environ(os.environ)
    with running(to, options, settings, notify, cancel) as run:
        attachments = _attachments(run)
        overflow = Overflow.SENT if options.registry.max_upload is None else Overflow.REFUSED
        prepared = prepare(_targets(target), run, Identify.WHERE_USEFUL, overflow)
        transaction = TagTransaction.begin(run, prepared[0].origin.tags_seen)
        if transaction.skips():
            return reports.of_nothing(prepared, transaction, run)
        if (limit := options.registry.max_upload) is not None:
            from regpush.flow.forecast import check_upload  # few pushes have a limit

            check_upload(prepared, run, limit)
        images = assemble(prepared, run)
        tell_unused(prepared, run)
        release, tagged = transaction.carry_out(Release.of(images, attachments, run))
        _remember(release.images, run)
        return reports.of_push(release, transaction.reported(release.whole.digest, tagged), run)


def plan(
    target: str | Sequence[str],
    *,
    to: str,
    options: PushOptions | None = None,
    settings: Settings | None = None,
    notify: Listener = ignore,
    cancel: Cancellation | None = None,
    exact: bool = False,
) -> PushResult:
    """Predict what `push` would do; sends nothing.

    Layers that would be uploaded have estimated sizes and no digests; with `exact` they are packed
    to find these out. Raises the errors of `push`, except BudgetExceededError: the caller compares
    the sizes with `max_upload`.
    """
    from regpush.flow.forecast import forecast  # a push predicts nothing

    options, settings = options or PushOptions(), settings or Settings.from_environ(os.environ)
    with running(to, options, settings, notify, cancel) as run:
        return forecast(_targets(target), run, exact=exact)


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


def _targets(target: str | Sequence[str]) -> Sequence[str]:
    return [target] if isinstance(target, str) else target
