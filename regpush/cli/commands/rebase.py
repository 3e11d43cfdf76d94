"""`regpush rebase`: put the app layers of an image on another base image."""

from __future__ import annotations

from typing import Annotated

import typer

from regpush.cli import table
from regpush.cli.connection import sending
from regpush.cli.console import width
from regpush.cli.flags import SendingFlags, with_flags
from regpush.cli.present import sent
from regpush.commands import rebase as rebasing
from regpush.report import Tense


@with_flags
def rebase(
    flags: SendingFlags,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="An image or an index.", show_default=False)
    ],
    base: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NEWBASE",
            help="The new base. Default: the newest image of the base that REF's annotations name.",
            show_default=False,
        ),
    ] = None,
    old_base: Annotated[
        str | None,
        typer.Option(
            "--old-base",
            metavar="REF",
            help="The present base of the image, if the image's annotations do not name it.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, without sending it.")
    ] = False,
) -> None:
    """Put an image on another base, without its sources: its own layers stay as they are.

    An index is rebased with all its images. Configuration from the old base is replaced by that of
    the new one. Access flags apply to REF; bases are read with stored logins.
    """
    with sending(flags) as at:
        result = rebasing.rebase(
            reference,
            onto=base,
            old=old_base,
            tense=Tense.PLANNED if dry_run else Tense.DONE,
            settings=at.settings,
            options=at.options,
            notify=at.notify,
            cancel=at.cancel,
        )
    rows = table.styled(table.changes(result, width()))
    sent(result.to_json(), [*rows, table.summary(result)], flags)
