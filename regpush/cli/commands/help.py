"""`regpush help`: show the text of `--help`."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from regpush.cli.app import run
from regpush.cli.entries import ENTRIES, meant
from regpush.errors import UsageError, printable


def help(  # noqa: A001  the command's name
    command: Annotated[
        str | None,
        typer.Argument(metavar="[COMMAND]", help="Command whose help to show. Default: regpush."),
    ] = None,
) -> None:
    """Show the help of regpush, or of one command."""
    if command is not None and command not in ENTRIES:
        near = meant(command)
        advice = f"; did you mean 'regpush help {near}'?" if near else ""
        raise UsageError(f"regpush has no command '{printable(command)}'{advice}")
    raise typer.Exit(run([command, "--help"] if command else ["--help"], os.environ))
