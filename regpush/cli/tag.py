"""`regpush tag`: further names for an image that stands in a repository."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from typing import Annotated

import typer

from regpush.cli.console import read_password, stoppable
from regpush.cli.copying import show
from regpush.cli.flags import SendingFlags, with_flags
from regpush.cli.outcome import check_files


@with_flags
def tag(
    flags: SendingFlags,
    reference: Annotated[
        str, typer.Argument(metavar="REF", help="An image or an index.", show_default=False)
    ],
    new: Annotated[
        list[str],
        typer.Argument(metavar="NEW...", help="Tags in its repository.", show_default=False),
    ],
) -> None:
    """Let further tags name an image, or an index, where it stands.

    Nothing of it is sent but its manifest. `--if-exists` and `--if-current` say which tags may
    move.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands import tag as tagging
    from regpush.settings import Settings

    options = flags.sending(read_password(flags.username, flags.password_stdin))
    settings = Settings.from_environ(os.environ)
    check_files(flags)
    with stoppable() as cancel, showing(flags.progress, flags.voice, sys.stderr) as notify:
        result = tagging.tag(
            reference,
            (*new, *options.tags),
            settings=settings,
            options=replace(options, tags=()),
            notify=flags.heard(notify),
            cancel=cancel,
        )
    show(result.to_json(), result.ref, [table.copied(result)], flags)
