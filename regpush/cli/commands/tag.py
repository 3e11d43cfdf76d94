"""`regpush tag`: add tags to an image in its repository."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from regpush.cli.commands.copy import copied
from regpush.cli.connection import sending
from regpush.cli.flags import SendingFlags, with_flags
from regpush.cli.present import sent
from regpush.commands import tag as tagging


@with_flags
def tag(
    flags: SendingFlags,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="An image or an index.", show_default=False)
    ],
    new: Annotated[
        list[str],
        typer.Argument(metavar="NEW...", help="Tags to add to the image.", show_default=False),
    ],
) -> None:
    """Add tags to an image or an index in its repository.

    Only its manifest is sent. `--if-exists` and `--if-current` decide which tags may move.
    """
    with sending(flags) as at:
        result = tagging.tag(
            reference,
            (*new, *at.options.tags),
            settings=at.settings,
            options=replace(at.options, tags=()),
            notify=at.notify,
            cancel=at.cancel,
        )
    sent(result.to_json(), [copied(result)], flags)
