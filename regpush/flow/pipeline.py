"""The whole flow of a push: target, closure, plan, layers, image, tags.

The command line and library users call `push` and `plan`. Both may run in any thread, report by
events, and end within moments of `Cancellation.cancel`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from regpush.concurrency import Cancellation
from regpush.events import Listener, ignore
from regpush.flow.context import running
from regpush.options import PushOptions
from regpush.report import PushResult
from regpush.settings import Settings


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
        # The registry answers the first request while these 50 modules are imported.
        from regpush.flow import steps

        return steps.push(_targets(target), run)


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
    options, settings = options or PushOptions(), settings or Settings.from_environ(os.environ)
    with running(to, options, settings, notify, cancel) as run:
        from regpush.flow.forecast import forecast  # imported while the registry answers

        return forecast(_targets(target), run, exact=exact)


def _targets(target: str | Sequence[str]) -> Sequence[str]:
    return [target] if isinstance(target, str) else target
