"""`regpush tags`: what the tags of a repository name."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from regpush.cli.access import AccessFlags
from regpush.cli.console import OnStdout, print_json, print_lines, read_password, stoppable, width
from regpush.cli.flags import Format, Progress, with_flags


@with_flags
def tags(
    flags: AccessFlags,
    reference: Annotated[str, typer.Argument(metavar="REPOSITORY", show_default=False)],
    format: OnStdout = Format.TEXT,  # noqa: A002  the flag's name
) -> None:
    """List the tags of a repository with digest, platforms, size and date: 1,000 at most.

    Tags are deleted by the registry's own tools: many registries delete nothing by request,
    and where they do, a digest takes all its tags along.
    """
    from regpush.cli import table
    from regpush.cli.progress import showing
    from regpush.commands.tags import list_tags
    from regpush.reference import Reference
    from regpush.registry.client import Access, Client
    from regpush.settings import Settings

    options = flags.access(read_password(flags.username, flags.password_stdin))
    parsed, settings = Reference.parse(reference), Settings.from_environ(os.environ)
    with (
        stoppable() as cancel,
        showing(Progress.NONE, flags.voice, sys.stderr) as notify,
        Client(options, settings, notify=notify, cancel=cancel) as client,
    ):
        found = list_tags(client.repository(parsed, Access.PULL), cancel)
    if format is Format.JSON:
        told = [one.to_json() for one in found.tags]
        about = {"schema": 1, "repository": str(parsed.name), "complete": found.complete}
        print_json({**about, "tags": told})
    else:
        print_lines(*table.tags(found.tags, width()))
